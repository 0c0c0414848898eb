"""The joint network as a lattice walk needs it: already projected."""

from typing import Callable, NamedTuple, Optional

import torch

from espnet_kd.lattice.chunks import Chunk


class Joint(NamedTuple):
    """logits(t, u) = weight @ activation(enc[t] + dec[u]) + bias.

    Attributes:
        enc: Projected encoder output, `lin_enc(encoder_out)` in ESPnet. (B, T, D)
        dec: Projected predictor output, `lin_dec(decoder_out)`. (B, U + 1, D)
        weight: Output layer. (V, D)
        bias: (V,)
        activation: Elementwise; None is tanh, which is the fastest.
    """

    enc: torch.Tensor
    dec: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    activation: Optional[Callable[[torch.Tensor], torch.Tensor]] = None

    def hidden(self, chunk: Chunk) -> torch.Tensor:
        """Compute activation(enc + dec) at the nodes of a chunk. (n, D)"""
        z = self._sum(chunk)
        return z.tanh_() if self.activation is None else self.activation(z)

    def hidden_grad(self, chunk: Chunk, hidden: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
        """Turn the gradient of `hidden` into that of enc + dec. (n, D) -> (n, D)"""
        if self.activation is None:
            return grad.mul_(1 - hidden.to(grad.dtype).square())
        with torch.enable_grad():
            z = self._sum(chunk).requires_grad_()
            return torch.autograd.grad(self.activation(z), z, grad.to(z.dtype))[0].to(grad.dtype)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the output layer; float32 or better. (n, D) -> (n, V)"""
        out = torch.addmm(self.bias, hidden, self.weight.t())
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def tempered(self, temperature: float) -> "Joint":
        """Return the joint network whose logits are divided by `temperature`."""
        if temperature == 1.0:
            return self
        return self._replace(weight=self.weight / temperature, bias=self.bias / temperature)

    def detach(self) -> "Joint":
        """Return the same joint network without gradients."""
        enc, dec, weight, bias = (part.detach() for part in self[:4])
        return Joint(enc, dec, weight, bias, self.activation)

    def _sum(self, chunk: Chunk) -> torch.Tensor:
        b, t0, t1, rows = chunk
        z = self.enc[b, t0:t1, None] + self.dec[b, None, :rows]  # (t1 - t0, rows, D)
        return z.view(-1, z.size(-1))
