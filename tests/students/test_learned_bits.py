"""Learned bits: the mean holds, and what needs bits gets them."""

import pytest
import torch

from espnet_kd.students.grid import candidates
from espnet_kd.students.learned_bits import constrained, hardened, learn_bits

GRIDS = candidates([2, 4, 8], 0)


@pytest.mark.parametrize("mean", [2.5, 4.0, 7.5])
def test_shares_have_the_mean_and_no_gradient_along_it(mean):
    torch.manual_seed(0)
    scores = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    bits = torch.tensor([2.0, 4.0, 8.0], dtype=torch.float64)
    sizes = torch.tensor([10.0, 20.0, 3.0, 7.0, 60.0], dtype=torch.float64)
    shares = constrained(scores, bits, sizes, mean)
    assert torch.allclose(shares.sum(1), torch.ones(5, dtype=torch.float64))
    total = sizes @ (shares @ bits) / sizes.sum()
    assert float(total.detach()) == pytest.approx(mean, abs=1e-9)
    (gradient,) = torch.autograd.grad(total, scores, retain_graph=True)
    assert gradient.abs().max() < 1e-9
    assert torch.autograd.gradcheck(lambda s: constrained(s, bits, sizes, mean), scores)


class Toy(torch.nn.Module):
    """Three layers, of which the second is heard a thousand times as loud as the others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(24, n, bias=False) for n in (8, 8, 16))
        self.heard = torch.randn(40, 24)
        self.expected = [layer(self.heard).detach() for layer in self.layers]

    def losses(self, net):
        for weights in ((1, 1000, 1), (2, 2000, 2)):
            parts = zip(weights, net.layers, self.expected)
            yield sum(w * (layer(self.heard) - y).square().mean() for w, layer, y in parts)


@pytest.mark.parametrize("mean", [4.0, 3.3])
def test_the_layer_that_needs_bits_gets_them(mean):
    toy = Toy()
    names = [f"layers.{i}.weight" for i in range(3)]
    before = [toy.get_parameter(name).clone() for name in names]
    bits = learn_bits(toy, GRIDS, names, toy.losses, mean, 40)
    assert bits["layers.1.weight"] == max(bits.values()) > min(bits.values())
    spent = 8 * bits[names[0]] + 8 * bits[names[1]] + 16 * bits[names[2]]
    assert spent / 32 <= mean
    assert all(torch.equal(toy.get_parameter(n), w) for n, w in zip(names, before))
    assert learn_bits(toy, GRIDS, names, toy.losses, mean, 40) == bits


def test_what_is_to_spare_is_spent():
    counts = {"a": 10, "b": 10, "c": 5}
    scores = torch.tensor([[0.0, 3.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.1, 0.2]], dtype=torch.float64)
    for mean in (2.0, 3.0, 4.4, 5.2, 8.0):
        bits = hardened(scores, [2, 4, 8], counts, mean)
        spare = mean * 25 - sum(bits[name] * counts[name] for name in counts)
        more = {2: 2, 4: 4}
        assert spare >= 0 and all(
            more[b] * counts[name] > spare for name, b in bits.items() if b < 8
        )
    assert hardened(scores, [2, 4, 8], counts, 4.0) == {"a": 4, "b": 2, "c": 8}
