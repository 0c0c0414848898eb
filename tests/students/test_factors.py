"""Narrowed products: nearer to the teacher's than any choice of its units."""

import dataclasses
from itertools import combinations

import pytest
import torch

from espnet_kd.students.factors import narrow_product
from espnet_kd.students.inherit import inherit
from espnet_kd.students.model_config import architecture_of
from tests.espnet.tiny import build, tiny_config

ATT = "encoder.encoders.blocks.1.self_att."


def product_of(left, right):
    return (left.double() @ right.double()).float()


@pytest.mark.parametrize("kind", ["random", "structured"])
def test_no_choice_of_units_is_nearer(kind):
    torch.manual_seed(0)
    left, right = torch.randn(12, 6), torch.randn(6, 20)
    if kind == "structured":  # units that say nearly the same, as trained embeddings do
        left = left[:, :2] @ torch.randn(2, 6) + 0.05 * left
    whole = product_of(left, right)
    a, b = narrow_product(left, right, 3)
    assert a.shape == (12, 3) and b.shape == (3, 20)
    loss = (product_of(a, b) - whole).norm()
    sliced = min(
        (product_of(left[:, units], right[list(units)]) - whole).norm()
        for units in combinations(range(6), 3)
    )
    assert loss < (0.1 if kind == "structured" else 0.9) * sliced


def test_what_has_that_rank_is_kept_whole():
    torch.manual_seed(0)
    left, right = torch.randn(12, 3) @ torch.randn(3, 6), torch.randn(6, 20)
    left[0] = 0
    a, b = narrow_product(left, right, 3)
    torch.testing.assert_close(product_of(a, b), product_of(left, right), rtol=1e-4, atol=1e-4)
    assert not a[0].any()


def test_a_small_vocabulary_has_rank_to_spare():
    torch.manual_seed(0)
    left, right = torch.randn(3, 8), torch.randn(8, 20)
    a, b = narrow_product(left, right, 5)
    torch.testing.assert_close(product_of(a, b), product_of(left, right), rtol=1e-4, atol=1e-4)
    assert b[3:].norm(dim=1).min() > 0.1  # can be learnt


def teacher_of(config):
    model = build(config)
    features = config["frontend_conf"]["n_mels"]
    return model, architecture_of(config, features, model.vocab_size)


@pytest.mark.parametrize("decoder", ["rnn", "stateless"])
def test_the_embedding_is_factored_with_its_readers(decoder):
    config = tiny_config(model_conf={"auxiliary_lm_loss_weight": 0.1})
    readers = ["decoder.rnn.0.weight_ih_l0"]
    if decoder == "stateless":
        config["decoder"], config["decoder_conf"] = "stateless", {"embed_size": 8}
        readers = ["joint_network.lin_dec.weight", "lm_lin.weight"]
    model, teacher = teacher_of(config)
    whole = model.state_dict()
    # Units that matter together: their directions are mixed, the rank is 4.
    embed = "decoder.embed.weight"
    whole[embed] = torch.randn(7, 4) @ torch.linalg.qr(torch.randn(8, 8))[0][:4]
    whole[embed][0] = 0
    student = dataclasses.replace(teacher, embed_size=4)
    if decoder == "stateless":
        student = dataclasses.replace(student, decoder_size=4)
    found = inherit(whole, teacher, student, [0, 1, 2, 3])
    for name in readers:
        torch.testing.assert_close(
            product_of(found[embed], found[name].T),
            product_of(whole[embed], whole[name].T),
            rtol=1e-4,
            atol=1e-5,
        )
    assert not found[embed][0].any()


def test_values_of_a_low_rank_survive():
    """Half of what each head's values can say is never read: nothing is lost."""
    model, teacher = teacher_of(tiny_config())
    whole = model.state_dict()
    whole[ATT + "linear_v.bias"] = torch.randn(16)
    for h in range(2):
        units = slice(8 * h, 8 * h + 8)
        mix = torch.randn(4, 8)
        whole[ATT + "linear_out.weight"][:, units] = torch.randn(16, 4) @ mix
    student = dataclasses.replace(teacher, hidden_size=8)
    found = inherit(whole, teacher, student, [0, 1, 2, 3])
    norm = "encoder.encoders.norm_blocks.weight"
    marked = {**whole, norm: torch.arange(16.0)}  # tells which channels were kept
    kept = inherit(marked, teacher, student, [0, 1, 2, 3])[norm].long()

    def head(state, h, d, rows):
        units = slice(d * h, d * h + d)
        return product_of(
            state[ATT + "linear_out.weight"][rows, units],
            state[ATT + "linear_v.weight"][units][:, rows],
        )

    every = torch.arange(8)
    for h in range(2):
        torch.testing.assert_close(
            head(found, h, 4, every), head(whole, h, 8, kept), rtol=1e-4, atol=1e-5
        )
    constant = whole[ATT + "linear_out.bias"] + (
        whole[ATT + "linear_out.weight"] @ whole[ATT + "linear_v.bias"]
    )
    torch.testing.assert_close(found[ATT + "linear_out.bias"], constant[kept])
    assert not found[ATT + "linear_v.bias"].any()
