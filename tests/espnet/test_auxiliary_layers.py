"""Auxiliary layers: what frame t must not know, where they are saved, what is refused."""

import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.espnet.auxiliary_layers import PREFIX, AuxiliaryLayer, attention_inputs, hole
from espnet_kd.espnet.exports import averages
from espnet_kd.spec.distillation import read_kd_conf
from tests.espnet.tiny import build, tiny_config, write_experiment

BATCH = (
    torch.randn(2, 16000, generator=torch.Generator().manual_seed(1)) * 0.1,
    torch.tensor([16000, 12000]),
    torch.tensor([[3, 4, 5], [4, 3, -1]]),
    torch.tensor([3, 2]),
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = write_experiment(tmp_path_factory.mktemp("teacher"), seed=3)
    return {
        "teacher_config": str(folder / "config.yaml"),
        "teacher_model": str(folder / "model.pth"),
    }


def losses(kd, seed=0):
    model = build(tiny_config(), kd, seed)
    torch.manual_seed(5)
    loss, stats, _ = model(*BATCH)
    loss.backward()
    return model, float(loss.detach()), stats


def test_the_prediction_does_not_know_the_hole():
    """The gradient of r_t with respect to s_{t+1..t+N} is 0; beyond it and before it is not."""
    torch.manual_seed(0)
    layer = AuxiliaryLayer(8, 16, 4, ahead=2, predicts=True)
    s = torch.randn(1, 9, 8, requires_grad=True)
    for t in range(9):
        future = layer(s, torch.tensor([9])).future
        (grad,) = torch.autograd.grad(future[0, t].square().sum(), s)
        norms = grad[0].abs().sum(-1)  # (T,)
        assert not norms[t + 1 : t + 3].any()
        assert (norms[: t + 1] > 0).all() and (norms[t + 3 :] > 0).all()
    assert hole(3, 0, torch.device("cpu")).sum() == 0


def test_padding_changes_nothing():
    torch.manual_seed(0)
    layer = AuxiliaryLayer(8, 16, 4, ahead=1, predicts=True)
    s = torch.randn(2, 7, 8)
    longer = torch.cat([s[1:, :5], torch.full((1, 2, 8), 9.0)], 1)
    alone, padded = layer(s[1:, :5], torch.tensor([5])), layer(longer, torch.tensor([5]))
    for a, b in ((alone.out, padded.out), (alone.future, padded.future)):
        assert torch.allclose(a, b[:, :5], atol=1e-5)


FULL = {"objective": "full", "weight": 0.5, "teacher_context": "full"}


def test_the_layers_are_trained_with_the_student_and_both_losses_fall_on_its_blocks(teacher):
    kd = {**FULL, **teacher, "auxiliary": [[1, 2], [3, 3]], "relations": [[3, 3]],
          "relation_weight": 0.01}  # fmt: skip
    model, loss, stats = losses(kd)
    plain = float(stats["loss_transducer"] + 0.5 * stats["loss_kd"] + 0.5 * stats["loss_aux_ctc"])
    both = float(stats["loss_kd_auxiliary"] + 0.01 * stats["loss_kd_relations"])
    assert loss == pytest.approx(plain + both, rel=1e-5) and both > 0
    assert all(p.grad is not None for p in model.kd_auxiliary.parameters())
    assert model.kd_auxiliary[0].past is None  # the future is the last pair's


def test_all_layers_have_a_gradient_where_no_utterance_reaches_the_future(teacher):
    """Training in several processes asks for it (`DistributedDataParallel`)."""
    kd = {**FULL, **teacher, "auxiliary": [[3, 3]], "auxiliary_future": 50}
    model, _, _ = losses(kd)
    assert all(p.grad is not None for p in model.parameters())


def test_attention_inputs_are_the_blocks_own():
    model = build(tiny_config())
    with attention_inputs(model.encoder, [2]) as kept:
        model.encoder(torch.randn(1, 40, 20), torch.tensor([40]))
    q, k, v = kept[2]
    assert q.shape == k.shape == v.shape and q.shape[-1] == 16


@pytest.mark.parametrize("method_conf", [{}, {"method": "quantise", "bits": {}, "block": 32}])
def test_no_average_has_the_layers(teacher, tmp_path, method_conf):
    from argparse import Namespace

    from espnet_kd.espnet.exports import ExportAverages

    model, _, _ = losses({**FULL, **teacher, "auxiliary": [[3, 3]]})
    model.method_conf = method_conf
    write_experiment(tmp_path)
    torch.save(model.state_dict(), tmp_path / "valid.loss.ave_2best.pth")
    options = Namespace(best_model_criterion=[("valid", "loss", "min")], no_forward_run=False)
    assert averages(tmp_path, options)
    ExportAverages().on_end(Namespace(model=model, main=True, options=options, folder=tmp_path))
    state = torch.load(tmp_path / "valid.loss.ave_2best.pth")
    wanted = [name for name in model.state_dict() if not name.startswith(PREFIX)]
    assert list(state) == wanted and len(wanted) < len(model.state_dict())


@pytest.mark.parametrize(
    "kd, told",
    [
        ({"teacher_context": "shared"}, "say 'teacher_context: full'"),
        ({"auxiliary": [[4, 3]]}, "the student has 4 encoder blocks, 0 to 3; found 4"),
        ({"auxiliary_weights": [1, 2]}, "expected three numbers"),
        ({"auxiliary_weights": [0, 0, 0]}, "no loss of 'auxiliary' counts"),
        ({"relations": [[3, 3]]}, "relation_weight 0.0: give both or neither"),
        ({"teacher_cache": "x", "objective": "collapsed"}, "holds nothing of the encoder"),
    ],
)
def test_what_is_refused_is_said_in_one_line(teacher, kd, told):
    with pytest.raises(Exception) as e:
        build(tiny_config(), {**FULL, **teacher, "auxiliary": [[3, 3]], **kd})
    assert told in str(e.value) and "\n" not in str(e.value)


def test_words_on_layers_that_nobody_has_named_are_refused():
    for key, value in {"auxiliary_future": 3, "auxiliary_weights": [1, 0, 0]}.items():
        with pytest.raises(UserError, match=f"kd_conf.{key}: found .* without 'auxiliary'"):
            read_kd_conf({key: value}).check_together("kd_conf")
        read_kd_conf({key: value, "auxiliary": None}).check_together("kd_conf")
