"""A stateless predictor that knows what its recurrent teacher says of each label."""

import dataclasses

import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.spec import named_sizes
from espnet_kd.spec.named_sizes import read_sizes
from espnet_kd.students import predictors
from espnet_kd.students.halfway import halfway
from espnet_kd.students.inherit import inherit
from espnet_kd.students.model_config import architecture_of, config_of
from tests.espnet.tiny import build, tiny_config

ALL = [0, 1, 2, 3]
STATELESS = {"decoder": {"type": "stateless"}}


def derived(config, sizes):
    """Teacher, student, and the student's architecture."""
    model = build(config).eval()
    teacher = architecture_of(config, 20, model.vocab_size)
    student = teacher.with_sizes(read_sizes("plan", sizes), "plan")
    small = build({**config, **config_of(student, config, ALL)}, seed=3).eval()
    small.load_state_dict(inherit(model.state_dict(), teacher, student, ALL))
    built = sum(p.numel() for p in small.decoder.parameters())
    assert student.count()["decoder"] == built
    return model, small, student


@pytest.mark.parametrize("rnn_type, layers", [("lstm", 1), ("gru", 2)])
@torch.no_grad()
def test_contexts_of_one_label_are_the_teachers_exactly(rnn_type, layers):
    config = tiny_config()
    config["decoder_conf"].update(rnn_type=rnn_type, num_layers=layers, dropout_rate=0.3)
    model, small, student = derived(config, STATELESS)
    assert student.embed_size == student.decoder_size == 16
    v = model.vocab_size
    labels = torch.stack([torch.zeros(v, dtype=torch.long), torch.arange(v)], dim=1)  # (V, 2)
    ours, theirs = small.decoder(labels), model.decoder(labels)  # (V, 2, D)
    assert torch.equal(ours[:, 0], theirs[:, 0])  # after the blank alone
    assert torch.equal(ours[1:, 1], theirs[1:, 1])  # after the blank and a label
    enc = torch.randn(v, 1, 1, 16)
    assert torch.equal(
        small.joint_network(enc, ours[:, None])[1:], model.joint_network(enc, theirs[:, None])[1:]
    )


def test_a_narrower_one_stays_near():
    config = tiny_config(model_conf={"auxiliary_lm_loss_weight": 0.1})
    sizes = {"decoder": {"type": "stateless", "embed_size": 7}}
    model, small, _ = derived(config, sizes)
    labels = torch.tensor([[0, 3]])
    with torch.no_grad():
        # Seven tokens span no more than seven dimensions.
        torch.testing.assert_close(
            small.joint_network.lin_dec(small.decoder(labels)),
            model.joint_network.lin_dec(model.decoder(labels)),
            rtol=1e-4,
            atol=1e-5,
        )


def test_other_sizes_shrink_with_it():
    sizes = {**STATELESS, "encoder": {"hidden_size": 8}, "joint_network": {"joint_space_size": 8}}
    _, small, student = derived(tiny_config(), sizes)
    assert small.decoder.embed.weight.shape == (7, 16) and student.joint_size == 8
    smaller = student.shrink_to(student.params // 2, "plan")
    assert smaller.decoder == "stateless" and smaller.embed_size == smaller.decoder_size


def test_halfway_to_a_stateless_predictor():
    config = tiny_config(decoder_conf={"embed_size": 32, "hidden_size": 16})
    teacher = architecture_of(config, 20, 7)
    half = halfway(teacher, teacher.with_sizes(read_sizes("plan", STATELESS), "plan"))
    small = build({**config, **config_of(half, config, ALL)}).eval()
    model = build(config)
    small.load_state_dict(inherit(model.state_dict(), teacher, half, ALL))


def test_a_stateless_student_of_a_stateless_teacher():
    config = tiny_config(decoder="stateless", decoder_conf={"embed_size": 8})
    _, small, student = derived(config, STATELESS)
    assert student == architecture_of(config, 20, 7)
    assert small.decoder.embed.weight.shape == (7, 8)


@pytest.mark.parametrize(
    "decoder, wanted, message",
    [
        ("rnn", {"type": "statless"}, r"'statless' is not one of .* \(did you mean 'stateless'"),
        ("rnn", {"tpye": "stateless"}, r"unknown key 'tpye' \(did you mean 'type'\?\)"),
        ("rnn", {"type": "stateless", "embed_size": 17}, "17 is larger than the teacher's 16"),
        ("rnn", {"type": "stateless", "hidden_size": 8}, "a stateless predictor has none"),
        ("stateless", {"type": "rnn"}, "one of type 'rnn' cannot be made of it"),
        ("averaged", {"type": "stateless"}, "is averaged; one of type 'stateless' cannot be made"),
        ("averaged", {"type": "rnn"}, "one of type 'rnn' cannot be made of it"),
        ("averaged", {"type": "averaged", "context": 3}, "3, but the teacher's .* averages 2 la"),
    ],
)
def test_predictors_that_cannot_be_are_refused(decoder, wanted, message):
    teacher = dataclasses.replace(
        architecture_of(tiny_config(), 20, 7), decoder=decoder, decoder_size=16, context=2
    )
    with pytest.raises(UserError, match=message):
        teacher.with_sizes(read_sizes("plan", {"decoder": wanted}), "plan")


def test_a_plan_may_name_what_students_may_have():
    assert tuple(predictors.PREDICTORS) == named_sizes.PREDICTORS
    wide = {k for k, kind in predictors.PREDICTORS.items() if "decoder_size" in kind.fixed}
    assert wide == set(named_sizes.WIDE_AS_EMBEDDING)
