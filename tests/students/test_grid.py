"""Weights on a grid: exact, once and for all, and with the gradient of what is not rounded."""

import pytest
import torch
from torch.nn.utils import parametrize

from espnet_kd.students.grid import Grid, Rounding, candidates, mean_bits, noise, share_bits

SHAPES = [(6, 40), (5, 33, 1), (4, 3, 3, 3), (7, 2)]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("block", [0, 32])
def test_rounding_is_exact_and_twice_is_once(bits, block):
    torch.manual_seed(bits)
    grid = Grid(bits, block)
    for shape in SHAPES:
        weight = torch.randn(shape) * torch.logspace(-6, 3, shape[0]).view(
            -1, *[1] * (len(shape) - 1)
        )
        weight[0] = 0  # a channel that is not used
        scales, values = grid.scales(weight), grid.round(weight)
        codes = grid.codes(weight, scales)
        columns = weight[0].numel()
        assert scales.shape == (shape[0], -(-columns // block) if block else 1)
        assert torch.equal(codes, codes.round()) and codes.abs().max() <= 2 ** (bits - 1) - 1
        spread = scales.repeat_interleave(block or columns, 1)[:, :columns].view(shape)
        assert torch.equal(values, codes * spread)
        assert torch.equal(values.double(), codes.double() * spread.double())  # no digit is lost
        assert torch.equal(scales, scales.bfloat16().float())
        assert torch.equal(grid.round(values), values)
        assert torch.equal(grid.scales(values)[1:], scales[1:])
        if bits > 4:
            assert ((values - weight).abs() <= 0.51 * spread).all()


def test_a_grid_by_hand():
    weight = torch.tensor([[3.0, -1.4, 0.6, 0.0], [0.75, 0.2, -0.25, 0.1]])
    assert Grid(3).round(weight).tolist() == [[3.0, -1.0, 1.0, 0.0], [0.75, 0.25, -0.25, 0.0]]
    assert Grid(8).codes(torch.tensor([[127.0, -63.6]]), torch.tensor([[1.0]])).tolist() == [
        [127, -64]
    ]


def test_few_bits_may_end_below_the_largest_weight():
    weight = torch.cat([torch.full((1, 31), 0.55), torch.ones(1, 1)], 1)
    values = Grid(2, 32).round(weight)
    assert (values - weight).square().sum() < 31 * 0.45**2  # what codes of 1 with scale 1 lose


@pytest.mark.parametrize("module", [torch.nn.Linear(5, 6), torch.nn.LSTM(5, 4, batch_first=True)])
def test_the_gradient_goes_straight_through(module):
    """It is that of a layer whose weights are the rounded ones."""
    torch.manual_seed(0)
    names = [n for n, p in module.named_parameters() if p.dim() > 1]
    plain = type(module)(*((5, 6) if isinstance(module, torch.nn.Linear) else (5, 4)))
    grid = Grid(4)
    state = {n: grid.round(p) if n in names else p for n, p in module.state_dict().items()}
    plain.load_state_dict(state)
    for name in names:
        parametrize.register_parametrization(module, name, Rounding(grid))
    x = torch.randn(2, 7, 5)
    if isinstance(plain, torch.nn.LSTM):  # the fixture's may have been made batch first
        plain.batch_first = module.batch_first
    for net in (module, plain):
        out = net(x)
        (out[0] if isinstance(out, tuple) else out).square().sum().backward()
    for name in names:
        want = dict(plain.named_parameters())[name].grad
        original = module.parametrizations[name].original
        assert torch.equal(original.grad, want) and want.abs().sum() > 0
        assert not torch.equal(original, dict(plain.named_parameters())[name])


def test_the_gradient_in_double_precision_is_numeric_where_it_is_defined():
    """Of what comes after the rounding: the loss as a function of rounded weights."""
    weight = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    rounded = Grid(5).round(weight).requires_grad_()
    x = torch.randn(2, 4, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda w: torch.tanh(x @ w.T), rounded)
    torch.tanh(x @ rounded.T).sum().backward()
    torch.tanh(x @ Rounding(Grid(5))(weight).T).sum().backward()
    assert torch.equal(weight.grad, rounded.grad)


def test_an_evaluation_rounds_what_was_trained_last():
    layer = torch.nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", Rounding(Grid(4)))
    for _ in range(2):
        with torch.no_grad():
            assert layer.weight is layer.weight  # is rounded once
            assert torch.equal(layer.weight, Grid(4).round(layer.parametrizations.weight.original))
            layer.load_state_dict({k: 0.5 * t for k, t in layer.state_dict().items()})
            assert torch.equal(layer.weight, Grid(4).round(layer.parametrizations.weight.original))
        layer(torch.ones(1, 4)).sum().backward()
        layer.parametrizations.weight.original.data.add_(1.0)  # counts no version


def test_bits_go_where_the_noise_is_and_meet_the_mean():
    counts = {"loud": 100, "quiet": 100, "large": 200}
    grids = candidates(range(2, 9), 32)
    assert grids[4].block == 32 and grids[5].block == 0
    noises = {
        n: {b: {"loud": 64, "quiet": 1, "large": 4}[n] * 4.0**-b for b in grids} for n in counts
    }
    bits = share_bits(noises, counts, 4)
    assert mean_bits(bits, counts) == 4
    assert bits == {"loud": 6, "quiet": 4, "large": 3}  # a fourth bit for `large` costs too much
    assert sum(noises[n][bits[n]] for n in counts) < 0.5 * sum(of[4] for of in noises.values())
    assert share_bits(noises, counts, 2) == dict.fromkeys(counts, 2)
    assert share_bits(noises, counts, 8) == dict.fromkeys(counts, 8)
    best = _by_enumeration(noises, counts, 4)
    assert sum(noises[n][bits[n]] for n in counts) <= 1.25 * best


def _by_enumeration(noises, counts, mean):
    import itertools

    sums = []
    for choice in itertools.product(range(2, 9), repeat=len(counts)):
        bits = dict(zip(counts, choice))
        if mean_bits(bits, counts) <= mean:
            sums.append(sum(noises[name][bits[name]] for name in counts))
    return min(sums)


def test_noise_is_half_of_curvature_times_squared_error():
    weight, curvature = torch.randn(4, 40), torch.rand(4, 40).double()
    grids = candidates([2, 8], 32)
    found = noise({"w": weight}, {"w": curvature}, grids)["w"]
    lost = (grids[2].round(weight) - weight).double().square()
    assert found[2] == pytest.approx(0.5 * float((curvature * lost).sum()))
    assert found[8] < 0.01 * found[2]
