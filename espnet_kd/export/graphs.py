"""Streaming encoder, predictor and joiner: modules over ESPnet's that a tracer can follow.

Same weights, same numbers up to rounding as ESPnet's own `forward` under a chunk mask. What
differs from ESPnet's `chunk_forward`: no frame is dropped, states go in and come out, any
batch, any chunk length, any left context, no `as_strided`, no table of positions, and every
product with a matrix is a `MatMul`: pointwise convolutions too, which stay large or become slow
as `Conv` where weights are integers.

Symbols beside those of the package: K is the largest kernel of a depthwise convolution, L the
left context in encoder frames, J the width of the joint space, H that of an LSTM.
"""

import math
from typing import Any, Dict, Optional, Tuple

import torch


def affine(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """Apply a linear layer, or a convolution of kernel 1, as a product with a matrix.

    Args:
        x: (..., n)
        layer: `Linear`, or `Conv1d` of kernel 1.

    Returns:
        (..., m)
    """
    weight = layer.weight
    x = torch.matmul(x, weight.reshape(weight.size(0), -1).t())  # (..., m)
    return x if layer.bias is None else x + layer.bias


def positions(n_frames: Any, left: Any, width: int) -> torch.Tensor:
    """Encode the distances of a chunk's frames to all that they see.

    ESPnet's `RelPositionalEncoding` without its table, which would be the largest array of a
    small model's file. One more row than ESPnet's, for `shifted`.

    Args:
        n_frames: Frames T of the chunk.
        left: Frames L before it.
        width: D

    Returns:
        From distance T + L - 1 down to -T. (2 * T + L, D)
    """
    distance = (n_frames + left - 1) - torch.arange(2 * n_frames + left)  # (2T + L,)
    steps = torch.arange(0, width, 2, dtype=torch.float32)  # (D / 2,)
    angles = distance[:, None].float() * torch.exp(steps * -(math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (2T + L, D)


def shifted(x: torch.Tensor, n_frames: Any, left: Any) -> torch.Tensor:
    """Move each frame's scores of distances to the frames that are so far away.

    Args:
        x: (B, heads, T, 2 * T + L)
        n_frames: T
        left: L

    Returns:
        (B, heads, T, T + L)
    """
    flat = x.reshape(x.size(0), x.size(1), -1)[:, :, n_frames - 1 : -1]
    rows = flat.reshape(x.size(0), x.size(1), -1, 2 * n_frames + left - 1)
    return rows[..., : n_frames + left]


class StreamingEncoder(torch.nn.Module):
    """The encoder, chunk by chunk, up to the joint space.

    Args:
        encoder: ESPnet's, of conformer blocks, trained with chunks.
        project: The joint network's projection of encoder frames.
        mean: Subtracted from the features; None: nothing. (F,)
        scale: Factors of the features then; None: ones. (F,)
    """

    mean: Optional[torch.Tensor]
    scale: Optional[torch.Tensor]

    def __init__(
        self,
        encoder: Any,
        project: torch.nn.Linear,
        mean: Optional[torch.Tensor] = None,
        scale: Optional[torch.Tensor] = None,
    ) -> None:
        super().__init__()
        self.embed, self.blocks = encoder.embed, encoder.encoders.blocks
        self.norm, self.project = encoder.encoders.norm_blocks, project
        self.width = encoder.encoders.blocks[0].block_size
        self.most = max(2, *(block.conv_mod.kernel_size for block in self.blocks), 2)
        # ESPnet's statistics are float64, which no convolution of float32 takes.
        self.register_buffer("mean", None if mean is None else mean.float())
        self.register_buffer("scale", None if scale is None else scale.float())

    def forward(
        self,
        x: torch.Tensor,
        att: torch.Tensor,
        conv: torch.Tensor,
        processed: torch.Tensor,
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode a chunk.

        Args:
            x: Features; subsampling by s makes T of (T * s + s - 1). (B, T_in, F)
            att: Frames that each block attended to before, zeros at first. (N, B, L, D)
            conv: Frames that each depthwise convolution heard before, zeros at first.
                (N, B, D, K - 1)
            processed: Encoder frames before the chunk. (B,)

        Returns:
            Encoder frames in the joint space (B, T, J), then the states after the chunk.
        """
        if self.mean is not None:
            x = x - self.mean
        if self.scale is not None:
            x = x * self.scale
        x, _ = self.embed(x, None)  # (B, T, D)
        left, n_frames = att.size(2), x.size(1)
        pos = positions(n_frames, left, self.width)  # (2T + L, D)
        # What is left of the first frame is zeros, which nobody must attend to.
        unheard = left - 1 - torch.arange(left) >= processed[:, None]  # (B, L)
        hidden = torch.cat([unheard, torch.zeros_like(x[..., 0], dtype=torch.bool)], 1)
        atts, convs = [], []
        for i, block in enumerate(self.blocks):
            x, att_out, conv_out = self._block(block, x, att[i], conv[i], pos, hidden)
            atts.append(att_out)
            convs.append(conv_out)
        y = affine(self.norm(x), self.project)  # (B, T, J)
        return y, torch.stack(atts), torch.stack(convs), processed + n_frames

    def _block(
        self,
        block: Any,
        x: torch.Tensor,
        att: torch.Tensor,
        conv: torch.Tensor,
        pos: torch.Tensor,
        hidden: torch.Tensor,
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        half = block.feed_forward_scale
        x = x + half * feed_forward(block.feed_forward_macaron, block.norm_macaron(x))
        query = block.norm_self_att(x)
        heard = torch.cat([att, query], dim=1)  # (B, L + T, D)
        x = x + attend(block.self_att, query, heard, pos, hidden)
        added, conv = self._convolve(block.conv_mod, block.norm_conv(x), conv)
        x = x + added
        x = x + half * feed_forward(block.feed_forward, block.norm_feed_forward(x))
        return block.norm_final(x), heard[:, x.size(1) :], conv

    def _convolve(
        self, module: Any, x: torch.Tensor, before: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        n_frames = x.size(1)
        x = torch.nn.functional.glu(affine(x, module.pointwise_conv1), dim=-1)  # (B, T, D)
        # All blocks keep K - 1 frames, so that one array holds the states of unlike kernels.
        heard = torch.cat([before, x.transpose(1, 2)], dim=2)  # (B, D, K - 1 + T)
        x = module.depthwise_conv(heard[..., self.most - module.kernel_size :])  # (B, D, T)
        x = module.activation(module.norm(x)).transpose(1, 2)  # (B, T, D)
        return affine(x, module.pointwise_conv2), heard[..., n_frames:]


def feed_forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply ESPnet's `PositionwiseFeedForward`. (B, T, D)"""
    return affine(module.activation(affine(x, module.w_1)), module.w_2)


def attend(
    module: Any, query: torch.Tensor, heard: torch.Tensor, pos: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Apply ESPnet's `RelPositionMultiHeadedAttention` to a chunk.

    Args:
        module: ESPnet's, with either of its kinds of scores.
        query: The chunk. (B, T, D)
        heard: Rest of the past, and the chunk. (B, L + T, D)
        pos: See `positions`. (2 * T + L, D)
        hidden: True where nobody may look. (B, L + T)

    Returns:
        (B, T, D)
    """
    heads, size, n_frames = module.num_heads, module.d_k, query.size(1)
    left = heard.size(1) - n_frames
    q, k, v = (
        affine(x, layer).reshape(x.size(0), -1, heads, size)  # (B, T or L + T, heads, d)
        for x, layer in zip(
            (query, heard, heard), (module.linear_q, module.linear_k, module.linear_v)
        )
    )
    k, v = k.permute(0, 2, 3, 1), v.transpose(1, 2)  # (B, heads, d, L + T), (B, heads, L + T, d)
    p = affine(pos, module.linear_pos)  # (2T + L, D), simplified: (2T + L, heads)
    if hasattr(module, "pos_bias_u"):
        p = p.reshape(-1, heads, size).permute(1, 2, 0)  # (heads, d, 2T + L)
        near = torch.matmul((q + module.pos_bias_u).transpose(1, 2), k)  # (B, heads, T, L + T)
        far = torch.matmul((q + module.pos_bias_v).transpose(1, 2), p)  # (B, heads, T, 2T + L)
    else:
        near = torch.matmul(q.transpose(1, 2), k)  # (B, heads, T, L + T)
        far = p.t()[None, :, None].expand(query.size(0), heads, n_frames, pos.size(0))
    scores = (near + shifted(far, n_frames, left)) / math.sqrt(size)  # (B, heads, T, L + T)
    weights = scores.masked_fill(hidden[:, None, None], float("-inf")).softmax(-1)
    context = torch.matmul(weights, v).transpose(1, 2).flatten(2)  # (B, T, D)
    return affine(context, module.linear_out)


class LstmPredictor(torch.nn.Module):
    """One step of ESPnet's LSTM predictor, up to the joint space.

    The cell is written out: its products are then `MatMul`s like all others.

    Args:
        decoder: ESPnet's `RNNDecoder` of LSTMs.
        project: The joint network's projection of predictor outputs.
        fold: See `folded`.
    """

    def __init__(self, decoder: Any, project: torch.nn.Linear, fold: bool = True) -> None:
        super().__init__()
        self.table, self.first = folded(
            decoder.embed.weight,
            decoder.rnn[0].weight_ih_l0,
            decoder.rnn[0].bias_ih_l0 + decoder.rnn[0].bias_hh_l0,
            fold,
        )
        self.layers, self.project = decoder.rnn, project

    def forward(
        self, y: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hear a label.

        Args:
            y: Labels; blank begins. (B,)
            h: Outputs of the layers, zeros at first. (layers, B, H)
            c: Cells of the layers, zeros at first. (layers, B, H)

        Returns:
            Output in the joint space (B, J), then `h` and `c` after the label.
        """
        x = torch.nn.functional.embedding(y, self.table)  # (B, E) or (B, 4 * H)
        hs, cs = [], []
        for i, layer in enumerate(self.layers):
            if i > 0:
                x = torch.matmul(x, layer.weight_ih_l0.t())  # (B, 4 * H)
                x = x + (layer.bias_ih_l0 + layer.bias_hh_l0)
            elif self.first is not None:
                x = affine(x, self.first)  # (B, 4 * H)
            gates = x + torch.matmul(h[i], layer.weight_hh_l0.t())  # (B, 4 * H)
            enter, keep, new, out = gates.chunk(4, dim=1)
            cell = keep.sigmoid() * c[i] + enter.sigmoid() * new.tanh()  # (B, H)
            x = out.sigmoid() * cell.tanh()  # (B, H)
            hs.append(x)
            cs.append(cell)
        return affine(x, self.project), torch.stack(hs), torch.stack(cs)


class StatelessPredictor(torch.nn.Module):
    """ESPnet's stateless predictor, up to the joint space.

    Args:
        decoder: ESPnet's `StatelessDecoder`.
        project: The joint network's projection of predictor outputs.
        fold: See `folded`.
    """

    def __init__(self, decoder: Any, project: torch.nn.Linear, fold: bool = True) -> None:
        super().__init__()
        self.table, self.project = folded(decoder.embed.weight, project.weight, project.bias, fold)

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Look up the last label: (B,) to (B, J)."""
        x = torch.nn.functional.embedding(y, self.table)  # (B, E) or (B, J)
        return x if self.project is None else affine(x, self.project)


class AveragedPredictor(torch.nn.Module):
    """One step of `AveragedDecoder`, up to the joint space.

    The layer behind the average is linear: a label's part of each of the next N averages is a row
    of a table, and what is passed on is as wide as the layer's output.

    Args:
        decoder: The decoder.
        project: The joint network's projection of predictor outputs.
        fold: See `folded`.
    """

    def __init__(self, decoder: Any, project: torch.nn.Linear, fold: bool = True) -> None:
        super().__init__()
        readers = [decoder.position.weight, decoder.output.weight]  # (N, E), (D, E)
        self.table, read = folded(decoder.embed.weight, torch.cat(readers), None, fold)
        # Apart, where the table does not have them: what is of two grids lies together on none.
        self.readers = torch.nn.ParameterList([] if read is None else readers)
        self.context, self.bias = decoder.context, decoder.output.bias
        self.norm, self.project = decoder.norm, project

    def forward(self, y: torch.Tensor, h: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Hear a label.

        Args:
            y: Labels; blank begins. (B,)
            h: Parts of the next N - 1 averages, zeros at first. (N - 1, B, D)

        Returns:
            Output in the joint space (B, J), then `h` after the label.
        """
        x = torch.nn.functional.embedding(y, self.table)  # (B, E) or (B, N + D)
        if len(self.readers):
            x = torch.cat([torch.matmul(x, weight.t()) for weight in self.readers], -1)
        shares = x[:, : self.context].t()[..., None] / self.context  # (N, B, 1)
        parts = shares * x[None, :, self.context :]  # (N, B, D)
        later = torch.cat([h[1:], torch.zeros_like(h[:1])]) + parts[1:]  # (N - 1, B, D)
        x = torch.nn.functional.silu(self.norm(h[0] + parts[0] + self.bias))  # (B, D)
        return affine(x, self.project), later


PREDICTORS: Dict[str, Any] = {
    "lstm": LstmPredictor,
    "stateless": StatelessPredictor,
    "averaged": AveragedPredictor,
}


def folded(
    table: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor], fold: bool = True
) -> Tuple[torch.nn.Parameter, Optional[torch.nn.Linear]]:
    """Multiply an embedding by the layer behind it, where that makes fewer numbers.

    Args:
        table: (V, n)
        weight: (m, n)
        bias: (m,)
        fold: Whether it may be: products of numbers on two grids lie on none.

    Returns:
        Table (V, m) and nothing, or the table as it was and the layer.
    """
    with torch.no_grad():
        if fold and table.size(0) * weight.size(0) < table.numel() + weight.numel():
            whole = table.double() @ weight.double().t()  # (V, m)
            whole = whole if bias is None else whole + bias.double()
            return torch.nn.Parameter(whole.float(), False), None
        layer = torch.nn.Linear(weight.size(1), weight.size(0), bias=bias is not None)
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
        return torch.nn.Parameter(table.detach().clone(), False), layer.requires_grad_(False)


class Joiner(torch.nn.Module):
    """The joint network behind its projections.

    Args:
        network: ESPnet's `JointNetwork`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.activation, self.output = network.joint_activation, network.lin_out

    def forward(self, enc: torch.Tensor, dec: torch.Tensor) -> torch.Tensor:
        """Score the next token: (B, J) and (B, J) to (B, V)."""
        return affine(self.activation(enc + dec), self.output)
