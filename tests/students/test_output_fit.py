"""The output layer nearest to another model's logits, and what tanh leaves to it."""

import pytest
import torch

from espnet_kd.students.output_fit import OutputFit

D, J, V, N = 24, 16, 7, 500


def nodes(copies):
    """Inputs, weights of a joint network some of whose units are others' copies, and logits."""
    torch.manual_seed(0)
    rows = torch.randn(J, D) / D**0.5
    for k in range(copies):  # the last units, of either sign
        rows[J - 1 - k] = rows[k] * (-1) ** k
    rows[J - 1 - copies] = 0  # constant
    hidden = torch.tanh(torch.randn(N, D) @ rows.T + 0.1 * (rows != 0).any(1) + 0.3)
    for k in range(copies):
        hidden[:, J - 1 - k] = hidden[:, k] * (-1) ** k
    weight, bias = torch.randn(V, J), torch.randn(V)
    return hidden, weight, bias, hidden @ weight.T + bias


@pytest.mark.parametrize("copies", [1, 7])
def test_nothing_is_lost_of_units_that_others_span(copies):
    hidden, weight, bias, logits = nodes(copies)
    kept = J - 1 - copies
    fit = OutputFit(weight[:, :kept], bias)
    for part in range(0, N, 100):
        rows = slice(part, part + 100)
        fit.add(hidden[rows, :kept], logits[rows], torch.rand(100) + 0.1)
    fitted = fit.solve()
    out = hidden[:, :kept] @ fitted.weight.T + fitted.bias
    torch.testing.assert_close(out, logits, rtol=0, atol=1e-5)
    assert fitted.before > 0.1 and fitted.after < 1e-4


def test_the_error_is_the_weighted_one_and_least():
    hidden, weight, bias, logits = nodes(0)
    visits = torch.rand(N)
    fit = OutputFit(weight[:, :8], bias)
    fit.add(hidden[:, :8], logits, visits)
    fitted = fit.solve()

    def error(layer, offset):
        missing = logits - hidden[:, :8] @ layer.T - offset
        return float(((visits[:, None] * missing.square()).sum() / visits.sum() / V).sqrt())

    assert fitted.before == pytest.approx(error(weight[:, :8], bias), rel=1e-4)
    assert fitted.after == pytest.approx(error(fitted.weight, fitted.bias), rel=1e-4)
    assert 0 < fitted.after < 0.9 * fitted.before
    for _ in range(5):
        step = 0.01 * torch.randn(V, 8)
        assert error(fitted.weight + step, fitted.bias) > fitted.after


def test_what_no_node_shows_stays():
    weight, bias = torch.randn(V, 4), torch.randn(V)
    fit = OutputFit(weight, bias)
    fit.add(torch.zeros(3, 4), torch.zeros(3, V), torch.ones(3))
    fitted = fit.solve()
    assert torch.equal(fitted.weight, weight)
    torch.testing.assert_close(fitted.bias, torch.zeros(V), rtol=0, atol=1e-5)
    empty = OutputFit(weight, bias).solve()
    assert torch.equal(empty.weight, weight) and empty.before == empty.after == 0


def test_tanh_makes_full_rank_of_low_rank():
    """Why the joint network cannot be narrowed as a product of two matrices is."""
    torch.manual_seed(0)
    before = torch.randn(N, 4).double() @ torch.randn(4, J).double()
    ranks = [int(torch.linalg.matrix_rank(h)) for h in (before, torch.tanh(before))]
    assert ranks == [4, J]
