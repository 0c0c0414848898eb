"""The joint network as a lattice walk needs it: already projected."""

import functools
from typing import Callable, List, NamedTuple, Optional, Tuple

import torch

from espnet_kd.lattice.chunks import Nodes

# Activations that are another function at each call while they are trained.
RANDOM = (torch.nn.modules.dropout._DropoutNd, torch.nn.RReLU)


class Joint(NamedTuple):
    """logits(t, u) = weight @ activation(enc[t] + dec[u]) + bias.

    Attributes:
        enc: Projected encoder output, `lin_enc(encoder_out)` in ESPnet. (B, T, D)
        dec: Projected predictor output, `lin_dec(decoder_out)`. (B, U + 1, D)
        weight: Output layer. (V, D)
        bias: (V,)
        activation: A function of each node's (D,); None is tanh, which is the fastest. One with
            parameters must be a `torch.nn.Module`, which then get their gradients.
    """

    enc: torch.Tensor
    dec: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    activation: Optional[Callable[[torch.Tensor], torch.Tensor]] = None

    def hidden(self, nodes: Nodes) -> torch.Tensor:
        """Compute activation(enc + dec) at some nodes. (n, D)"""
        return self.activated(nodes.sums(self.enc, self.dec))

    def activated(self, z: torch.Tensor) -> torch.Tensor:
        """Apply the activation to enc + dec, which is overwritten. (n, D)"""
        if self.activation is not None:
            return self._activate(z)
        if z.device.type == "cpu" and z.dtype == torch.float32:
            # tanh within 2e-7, in less than half of its time.
            return z.mul_(2).sigmoid_().mul_(2).sub_(1)
        return z.tanh_()

    def hidden_grad(
        self, nodes: Nodes, hidden: torch.Tensor, grad: torch.Tensor
    ) -> Tuple[torch.Tensor, List[torch.Tensor]]:
        """Turn the gradient of `hidden` into that of enc + dec, and of `parameters`.

        Args:
            nodes: Which nodes.
            hidden: Their hidden layer. (n, D)
            grad: Its gradient; overwritten. (n, D)

        Returns:
            (n, D), and a gradient for each parameter of the activation.
        """
        if self.activation is None:
            return grad.addcmul_(grad, hidden.to(grad.dtype).square(), value=-1.0), []
        with torch.enable_grad():
            z = nodes.sums(self.enc, self.dec).requires_grad_()
            # Of a copy: an activation that works in place would overwrite a leaf.
            out = self._activate(z.clone())
            d_z, *d = torch.autograd.grad(out, [z, *self.parameters()], grad.to(out.dtype))
        return d_z.to(grad.dtype), d

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the output layer; float32 or better. (n, D) -> (n, V)"""
        out = self.output(hidden)
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def output(self, hidden: torch.Tensor) -> torch.Tensor:
        """Apply the output layer, in its own type. (n, D) -> (n, V)"""
        return torch.addmm(self.bias, hidden, self.weight.t())

    def parameters(self) -> List[torch.Tensor]:
        """List the parameters of the activation that want a gradient."""
        if not isinstance(self.activation, torch.nn.Module):
            return []
        return [x for x in self.activation.parameters() if x.requires_grad]

    def check_sizes(self) -> None:
        """Refuse parts that do not fit each other: nothing is broadcast, or left out.

        Raises:
            ValueError: they do not.
        """
        sizes = [tuple(part.shape) for part in self[:4]]
        fits = [len(size) for size in sizes] == [3, 3, 2, 1]
        if fits:
            (B, _, D), (B_dec, _, D_dec), (V, D_out), (V_bias,) = sizes
            fits = (B, D, D, V) == (B_dec, D_dec, D_out, V_bias)
        if not fits:
            raise ValueError(
                "enc, dec, weight and bias must have shapes (B, T, D), (B, U + 1, D), (V, D) and "
                f"(V,): got {', '.join(map(str, sizes))}"
            )

    def check_activation(self) -> None:
        """Refuse an activation that the walk would give a wrong gradient.

        Raises:
            ValueError: it hides parameters, or is another function at each call.
        """
        if self.activation is None:
            return
        if isinstance(self.activation, torch.nn.Module):
            for module in self.activation.modules():
                if isinstance(module, RANDOM) and module.training:
                    raise ValueError(
                        f"activation: {type(module).__name__} gives other values each time, and "
                        "the lattice is walked over twice; put it into evaluation mode"
                    )
            return
        with torch.enable_grad():
            probe = self.activation(self.enc.detach().new_zeros(1, self.enc.size(2)))  # (1, D)
        if probe.requires_grad:
            raise ValueError(
                "activation: has parameters, which would get no gradient; give it as a "
                "torch.nn.Module"
            )

    def in_one_dtype(self) -> "Joint":
        """Return the same joint network in one dtype: autocast's where it is on."""
        dtype = functools.reduce(torch.promote_types, (x.dtype for x in self[:4]))
        device = self.enc.device.type
        if dtype == torch.float32 and torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        enc, dec, weight, bias = (part.to(dtype) for part in self[:4])
        return Joint(enc, dec, weight, bias, self.activation)

    def tempered(self, temperature: float) -> "Joint":
        """Return the joint network whose logits are divided by `temperature`."""
        if temperature == 1.0:
            return self
        return self._replace(weight=self.weight / temperature, bias=self.bias / temperature)

    def detach(self) -> "Joint":
        """Return the same joint network without gradients."""
        enc, dec, weight, bias = (part.detach() for part in self[:4])
        return Joint(enc, dec, weight, bias, self.activation)

    def _activate(self, z: torch.Tensor) -> torch.Tensor:
        """Apply the activation in the dtype of its parameters, if it has any. (n, D)"""
        assert self.activation is not None
        if not isinstance(self.activation, torch.nn.Module):
            return self.activation(z)
        dtype = next((x.dtype for x in self.activation.parameters()), z.dtype)
        return self.activation(z.to(dtype)).to(z.dtype)
