"""Blocks, heads and units by score."""

import dataclasses

import pytest
import torch

from espnet_kd.students.importance import TaylorScores, change_of_direction, most_important
from espnet_kd.students.inherit import inherit
from espnet_kd.students.model_config import architecture_of
from tests.espnet.tiny import build, tiny_config

ALL = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def state():
    return build(tiny_config()).state_dict()


@pytest.fixture(scope="module")
def teacher():
    return architecture_of(tiny_config(), 20, 7)


@pytest.mark.parametrize(
    "scores, n, kept",
    [
        ([0.3, 0.1, 0.2, 0.4], 2, [0, 3]),
        ([-1.0, -3.0, 2.0], 2, [0, 2]),
        ([1.0, 1.0, 1.0], 2, [0, 1]),
        ([0.2, 0.1], 2, [0, 1]),
    ],
)
def test_the_most_important_blocks_in_their_order(scores, n, kept):
    assert most_important(scores, n) == kept


def test_change_of_direction():
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]], [[1.0, 1.0], [7.0, 7.0], [7.0, 7.0]]])
    y = torch.tensor([[[3.0, 0.0], [2.0, 0.0], [0.0, 0.0]], [[-1.0, -1.0], [5.0, 0.0], [0, 0]]])
    turned = change_of_direction(x, y, torch.tensor([2, 1]))
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 2.0]))


def test_taylor_scores():
    """For a quadratic loss sum a_i w_i^2, weight times gradient is 2 a_i w_i^2."""
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    unused = torch.nn.Parameter(torch.ones(2))
    scores = TaylorScores({"w": w, "unused": unused})
    for a in (1.0, 3.0):
        scores.add((a * w.square()).sum())
    expected = ((2 * w**2) ** 2 + (6 * w**2) ** 2) / 2
    torch.testing.assert_close(scores.mean()["w"], expected.detach().double())
    assert not scores.mean()["unused"].any()


def test_scores_choose_the_units_and_the_channels_of_every_layer(state, teacher):
    """Channels 1, 4, 6, ... matter in one parameter of one block: all layers keep them."""
    channels, units = [1, 4, 6, 7, 8, 9, 13, 14], [0, 2, 3, 9, 11, 17, 20, 23]
    scores = {name: torch.zeros_like(t).double() for name, t in state.items()}
    block = "encoder.encoders.blocks."
    scores[block + "2.feed_forward.w_1.weight"][0, channels] = 1.0
    scores[block + "3.feed_forward.w_2.bias"] = torch.zeros(16).double()
    scores[block + "3.feed_forward.w_1.bias"][units] = 1.0
    student = dataclasses.replace(teacher, hidden_size=8, linear_size=8)
    found = inherit(state, teacher, student, ALL, scores=scores)
    for b in ALL:
        name = f"{block}{b}.norm_final.weight"
        marked = {**state, name: torch.arange(16.0)}
        cut = inherit(marked, teacher, student, ALL, scores=scores)[name]
        assert cut.tolist() == channels
    whole = state[block + "3.feed_forward.w_1.weight"]
    cut = found[block + "3.feed_forward.w_1.weight"]
    assert torch.equal(cut, whole[units][:, channels])


def test_scores_follow_their_blocks(state, teacher):
    scores = {name: torch.zeros_like(t).double() for name, t in state.items()}
    name = "encoder.encoders.blocks.{}.feed_forward.w_1.bias"
    scores[name.format(3)][16:] = 1.0
    student = dataclasses.replace(teacher, num_blocks=2, linear_size=8)
    found = inherit(state, teacher, student, [0, 3], scores=scores)
    assert torch.equal(found[name.format(1)], state[name.format(3)][16:])


def attention(state, x, heads, block=1):
    """Attention logits by content of a block's heads. (H, T, T)"""
    prefix = f"encoder.encoders.blocks.{block}.self_att."
    d_k = state[prefix + "pos_bias_u"].size(1)
    q = x @ state[prefix + "linear_q.weight"].T + state[prefix + "linear_q.bias"]
    k = x @ state[prefix + "linear_k.weight"].T + state[prefix + "linear_k.bias"]
    q, k = (z.view(len(x), heads, d_k).transpose(0, 1) for z in (q, k))
    q = q + state[prefix + "pos_bias_u"][:, None]
    return q @ k.transpose(1, 2) / d_k**0.5


def test_dimensions_of_a_head_that_do_nothing_go_first(state, teacher):
    """Half of the channels, and other dimensions in each head, are silent: no logit changes."""
    state = {name: t.clone() for name, t in state.items()}
    silent = [1, 2, 4, 7, 9, 10, 12, 15]  # 4 of each head's 8
    for name, t in state.items():
        if ".self_att." in name:
            if "linear_out" not in name and t.dim() == 2 and "pos_bias" not in name:
                t[:, 8:] = 0  # channels
                t[silent] = 0
            elif "linear_out.weight" in name:
                t[:, silent] = 0
            elif "pos_bias" in name or ".bias" in name and "out" not in name:
                t.view(-1)[silent] = 0
    scores = {k: v.double().square() for k, v in state.items() if ".self_att." in k}
    scores["encoder.encoders.norm_blocks.weight"] = 1e3 * (torch.arange(16) < 8).double()
    student = dataclasses.replace(teacher, hidden_size=8)
    found = inherit(state, teacher, student, ALL, scores=scores)
    x = torch.randn(5, 16)
    torch.testing.assert_close(
        attention(found, x[:, :8], 2), attention(state, x, 2), rtol=1e-4, atol=1e-5
    )


def test_the_best_head_stays(state, teacher):
    state = {name: t.clone() for name, t in state.items()}
    for name, t in state.items():
        if "self_att.linear_q.weight" in name:
            t[8:] *= 10  # of the second head
    student = dataclasses.replace(teacher, heads=1, hidden_size=8)
    found = inherit(state, teacher, student, ALL)
    bias = "encoder.encoders.blocks.0.self_att.pos_bias_u"
    assert torch.equal(found[bias], state[bias][1:])


def test_with_fewer_heads_of_the_same_width_nothing_is_kept_twice(state, teacher):
    """The head that stays is filled up with the dimensions of the one that goes."""
    student = dataclasses.replace(teacher, heads=1)
    name = "encoder.encoders.blocks.0.self_att.linear_k.bias"
    marked = {**state, name: torch.arange(16.0)}
    found = inherit(marked, teacher, student, ALL)[name]
    assert sorted(found.tolist()) == list(range(16))
