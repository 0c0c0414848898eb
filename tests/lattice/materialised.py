"""Random joint networks, and the lattice that the walk never makes."""

import torch

from espnet_kd.lattice import Joint


def random_joint(B=3, T=47, U=31, V=123, D=16, dtype=torch.float64, seed=0, scale=1.0):
    """Return a joint network whose logits are of the size of `scale`."""
    g = torch.Generator().manual_seed(seed)

    def randn(*size):
        return torch.randn(*size, generator=g, dtype=torch.float64).to(dtype).requires_grad_()

    weight = (scale * torch.randn(V, D, generator=g, dtype=torch.float64) / D**0.5).to(dtype)
    return Joint(randn(B, T, D), randn(B, U + 1, D), weight.requires_grad_(), randn(V))


def logits_of(joint):
    """(B, T, U + 1, V)"""
    activation = joint.activation or torch.tanh
    z = activation(joint.enc[:, :, None] + joint.dec[:, None])
    return z @ joint.weight.t() + joint.bias


def three_of(logits, labels, u_len):
    """log p of {blank, next label, rest}, node by node as they are defined."""
    p = logits.softmax(-1)
    B, T, U1, _ = logits.shape
    out = torch.full((B, T, U1, 3), float("-inf"), dtype=logits.dtype)
    for b in range(B):
        for u in range(int(u_len[b]) + 1):
            classes = [0] if u == u_len[b] else [0, int(labels[b, u])]
            rest = [v for v in range(p.size(-1)) if v not in classes]
            out[b, :, u, 0] = p[b, :, u, 0].log()
            if u < u_len[b]:
                out[b, :, u, 1] = p[b, :, u, classes[1]].log()
            out[b, :, u, 2] = p[b, :, u, rest].sum(-1).log()
    return out


def random_labels(B, U, V, seed=0):
    """(B, U), never blank"""
    return torch.randint(1, V, (B, U), generator=torch.Generator().manual_seed(seed))
