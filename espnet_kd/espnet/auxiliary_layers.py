"""Auxiliary layers of full context on a streaming student, in training alone (`auxiliary`).

A streaming block cannot say what a full-context teacher's says: it has not heard the rest. So a
layer is put on it that has, and that is compared with the teacher instead; what the block knows
of the past decides how well the layer does. Decoding has none of it (arXiv 2308.16415).
"""

import contextlib
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import torch
from espnet2.asr_transducer.encoder.encoder import Encoder

from espnet_kd.errors import UserError
from espnet_kd.espnet.layers import Pairs, block_width, check_pairs
from espnet_kd.losses.auxiliary import frames_inside, future_distance, l1_cosine, relation_kl
from espnet_kd.methods.protocol import Term

PREFIX = "kd_auxiliary"  # of the names of its parameters
Heads = Tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # queries, keys, values, (B, T, D) each


class Heard(NamedTuple):
    """What an auxiliary layer makes of a block.

    Attributes:
        out: Its output z. (B, T, D)
        heads: Its queries, keys and values. (B, T, D) each
        future: What it takes the teacher to say N frames later; None: it is not asked. (B, T, D)
    """

    out: torch.Tensor
    heads: Heads
    future: Any


class AuxiliaryLayer(torch.nn.Module):
    """A transformer layer that hears the whole utterance, but for a hole.

    Frame t does not see frames t + 1 to t + `ahead`: the teacher's frame t + `ahead` is to be
    predicted from it. The recurrent part runs over the student's own frames, not over the
    layer's: the layer's frame t - 1 sees beyond t + `ahead` - 1, and would tell (ours).

    Args:
        width: Width of the student's block.
        teacher_width: Width D of the teacher's.
        heads: Heads of the teacher's block.
        ahead: Frames N of the hole.
        predicts: Whether the future is predicted.
    """

    def __init__(self, width: int, teacher_width: int, heads: int, ahead: int, predicts: bool):
        super().__init__()
        D = teacher_width
        self.heads, self.ahead = heads, ahead
        self.project = torch.nn.Linear(width, D)
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(D) for _ in range(2))
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            torch.nn.Linear(D, D) for _ in range(4)
        )
        self.feed_forward = torch.nn.Sequential(
            torch.nn.Linear(D, 2 * D), torch.nn.SiLU(), torch.nn.Linear(2 * D, D)
        )
        self.past = torch.nn.LSTM(D, D, batch_first=True) if predicts else None
        self.predict = torch.nn.Linear(2 * D, D) if predicts else None

    def forward(self, x: torch.Tensor, t_len: torch.Tensor) -> Heard:
        """Hear the output of a block.

        Args:
            x: (B, T, D of the student)
            t_len: (B,)
        """
        B, T, _ = x.shape
        inside = frames_inside(t_len, T)  # (B, T)
        x = x.masked_fill(~inside[..., None], 0.0)
        u = self.project(x)  # (B, T, D)
        normed = self.norms[0](u)  # (B, T, D)
        heads = self.linear_q(normed), self.linear_k(normed), self.linear_v(normed)
        split = [h.view(B, T, self.heads, -1).transpose(1, 2) for h in heads]
        seen = inside[:, None, None, :] & ~hole(T, self.ahead, x.device)  # (B, 1, T, T)
        mask = torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, -1e4)  # (B, 1, T, T)
        attention = torch.nn.functional.scaled_dot_product_attention
        attended = attention(split[0], split[1], split[2], mask)  # (B, heads, T, D / heads)
        z = u + self.linear_out(attended.transpose(1, 2).reshape(B, T, -1))  # (B, T, D)
        z = z + self.feed_forward(self.norms[1](z))  # (B, T, D)
        future = None
        if self.past is not None and self.predict is not None:
            future = self.predict(torch.cat([self.past(u)[0], z], -1))  # (B, T, D)
        return Heard(z, heads, future)


def hole(n_frames: int, ahead: int, device: torch.device) -> torch.Tensor:
    """Return True where frame t (row) must not see frame k: t < k <= t + ahead. (T, T)"""
    frame = torch.arange(n_frames, device=device)  # (T,)
    later = frame - frame[:, None]  # (T, T), k - t
    return (later > 0) & (later <= ahead)


@contextlib.contextmanager
def attention_inputs(encoder: Encoder, numbers: Iterable[int]) -> Iterator[Dict[int, Heads]]:
    """Keep queries, keys and values of some blocks while the encoder runs inside the `with`.

    Args:
        encoder: ESPnet's encoder.
        numbers: The blocks, from 0.

    Yields:
        Number of a block -> its projections without positions, once it has run.
    """
    kept: Dict[int, Dict[str, torch.Tensor]] = {}
    outputs: Dict[int, Heads] = {}
    with contextlib.ExitStack() as stack:
        for number in sorted(set(numbers)):
            attention = encoder.encoders.blocks[number].self_att
            parts = kept.setdefault(number, {})
            for name in ("linear_q", "linear_k", "linear_v"):

                def keep(_layer, _inputs, output, number=number, parts=parts, name=name) -> None:
                    parts[name] = output
                    if len(parts) == 3:
                        outputs[number] = parts["linear_q"], parts["linear_k"], parts["linear_v"]

                stack.callback(getattr(attention, name).register_forward_hook(keep).remove)
        yield outputs


class Auxiliary(Term):
    """Mean over pairs of alpha L_DIS + beta L_KLD + gamma L_APC."""

    name = "loss_kd_auxiliary"
    needs = ("teacher",)

    def prepare(self, model: Any, teacher: Any) -> None:
        """Add `kd_auxiliary`, which no average and no archive has."""
        pairs, theirs = model.options.auxiliary, teacher.model.encoder
        check_pairs(model.encoder, theirs, pairs, "auxiliary")
        _check_attention(theirs, [t for _, t in pairs], "auxiliary")
        last = len(pairs) - 1  # the future is predicted there alone: it is the cheapest
        predicts = model.options.auxiliary_weights[2] > 0
        model.kd_auxiliary = torch.nn.ModuleList(
            AuxiliaryLayer(
                block_width(model.encoder, s),
                block_width(theirs, t),
                theirs.encoders.blocks[t].self_att.num_heads,
                model.options.auxiliary_future,
                predicts and k == last,
            )
            for k, (s, t) in enumerate(pairs)
        )

    def weight(self, model: Any) -> float:
        """Return 1: its parts have weights of their own."""
        return 1.0 if model.options.auxiliary else 0.0

    def value(self, out: Any) -> torch.Tensor:
        """Compare the layers with the teacher's blocks. ()"""
        options, total = out.model.options, out.enc.new_zeros(len(out.t_len))  # (B,)
        alpha, beta, gamma = options.auxiliary_weights
        for layer, (s, t) in zip(out.model.kd_auxiliary, options.auxiliary):
            heard = layer(out.blocks[s].float(), out.t_len)
            theirs = out.teacher_blocks[t].float()  # (B, T, D)
            total = total + alpha * l1_cosine(heard.out, theirs, out.t_len)
            if beta:
                projected = [x.float() for x in out.teacher_heads[t]]
                total = total + beta * relation_kl(heard.heads, projected, out.t_len, layer.heads)
            if heard.future is not None:
                ahead = options.auxiliary_future
                total = total + gamma * future_distance(heard.future, theirs, out.t_len, ahead)
        return total.mean() / len(options.auxiliary)


class CausalRelations(Term):
    """The rival without layers: relations to the past alone, which both models have heard."""

    name = "loss_kd_relations"
    needs = ("teacher",)

    def prepare(self, model: Any, teacher: Any) -> None:
        """Refuse blocks without attention, or heads that do not divide."""
        pairs, theirs = model.options.relations, teacher.model.encoder
        check_pairs(model.encoder, theirs, pairs, "relations")
        for encoder, numbers in zip((model.encoder, theirs), zip(*pairs)):
            _check_attention(encoder, list(numbers), "relations")
        for s, t in pairs:
            heads, width = (
                theirs.encoders.blocks[t].self_att.num_heads,
                block_width(model.encoder, s),
            )
            if width % heads:
                raise UserError(
                    f"kd_conf.relations: [{s}, {t}]: the teacher has {heads} heads, which do not "
                    f"divide the student's width {width}"
                )

    def weight(self, model: Any) -> float:
        """Return `relation_weight`."""
        return model.options.relation_weight

    def wanted(self, model: Any) -> bool:
        """Tell whether there are pairs."""
        return bool(model.options.relations)

    def value(self, out: Any) -> torch.Tensor:
        """Compare the relations. ()"""
        T, pairs = out.enc.size(1), out.model.options.relations
        frame = torch.arange(T, device=out.enc.device)  # (T,)
        past = frame <= frame[:, None]  # (T, T)
        total = out.enc.new_zeros(len(out.t_len))  # (B,)
        blocks = out.model.teacher.model.encoder.encoders.blocks
        for s, t in pairs:
            both: List[List[torch.Tensor]] = [
                [x.float() for x in heads] for heads in (out.heads[s], out.teacher_heads[t])
            ]
            count = blocks[t].self_att.num_heads
            total = total + relation_kl(both[0], both[1], out.t_len, count, past)
        return total.mean() / len(pairs)


def _check_attention(encoder: Encoder, numbers: List[int], key: str) -> None:
    for number in numbers:
        attention = getattr(encoder.encoders.blocks[number], "self_att", None)
        if not hasattr(attention, "linear_q") or not hasattr(attention, "num_heads"):
            raise UserError(
                f"kd_conf.{key}: encoder block {number} has no attention; name another block"
            )


def taken_pairs(*lists: Any) -> Pairs:
    """Join lists of pairs, some of which may be None."""
    return [pair for pairs in lists for pair in pairs or ()]
