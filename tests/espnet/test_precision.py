"""bfloat16: of a whole training, and of its teacher alone."""

import copy

import pytest
import torch

from espnet_kd.errors import UserError
from espnet_kd.espnet.mixed_precision import autocast, autocast_dtype
from tests.espnet.tiny import build, tiny_config

ALL_LOSSES = {"ctc_weight": 0.3, "encoder_weight": 0.5, "layers": [[1, 2]], "layer_weight": 0.2}


def losses(kd, batch, dtype=None):
    """Statistics and gradients of a step."""
    model = build(tiny_config(), kd, seed=3).train()
    model.autocast_dtype = dtype
    torch.manual_seed(0)
    loss, stats, _ = model(**batch)
    loss.backward()
    return model, stats, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", ["collapsed", "full", "top_k", "full_sum"])
def test_a_step_in_bfloat16_is_that_of_float32(kd, batch, objective):
    options = {**kd, **ALL_LOSSES, "objective": objective, "top_k": 3}
    _, exact, exact_grads = losses(options, batch)
    model, stats, grads = losses(options, batch, torch.bfloat16)
    assert set(stats) == set(exact) and set(grads) == set(exact_grads)
    for key, value in stats.items():
        assert value.dtype == torch.float32 and torch.isfinite(value).all()
        # Of full_sum it is a difference of sums over the whole lattice, squared.
        tolerance = 0.2 if key == "loss_kd" else 0.02
        assert value.item() == pytest.approx(exact[key].item(), rel=tolerance, abs=1e-3), key
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    together = [torch.cat([g.flatten() for g in gs.values()]) for gs in (grads, exact_grads)]
    assert torch.cosine_similarity(*together, dim=0) > 0.99


def test_whoever_hears_a_batch_again_computes_as_before(kd, batch):
    config = tiny_config()
    above = tiny_config()["encoder_conf"]
    above["body_conf"][0]["num_blocks"] = 5
    cascade = {"lookahead": 4, "weight": 0.5, "features": 20, "encoder_conf": above}
    config["method_conf"] = {"method": "cut", "cascade": cascade}
    model, seen = build(config, {**kd, "two_modes": [1.0, 0.6]}).train(), []
    for encoder in (model.encoder, model.teacher.model.encoder):
        layer = encoder.encoders.blocks[0].feed_forward.w_1
        layer.register_forward_hook(lambda _layer, _given, out: seen.append(out.dtype))
    with autocast("cpu", torch.bfloat16):  # around the model, as ESPnet's trainer has it
        model(**batch)
    assert seen == [torch.bfloat16] * 5  # three times the student, twice its teacher


@pytest.mark.parametrize("objective", ["collapsed", "full"])
def test_a_teacher_in_bfloat16_says_the_same(kd, batch, objective):
    options = {**kd, **ALL_LOSSES, "objective": objective}
    _, exact, _ = losses(options, batch)
    for dtype in (None, torch.bfloat16):
        model, stats, _ = losses({**options, "teacher_dtype": "bfloat16"}, batch, dtype)
        for key in ("loss_kd", "agreement", "loss_kd_ctc", "loss_kd_encoder", "loss_kd_layers"):
            assert stats[key].item() == pytest.approx(exact[key].item(), rel=0.03), key
    assert not any("teacher" in name for name in model.state_dict())


def test_a_teacher_in_bfloat16_stays_so(kd, batch):
    student = build(tiny_config(), {**kd, "teacher_dtype": "bfloat16"})
    teacher = student.teacher.model
    before = copy.deepcopy(teacher.state_dict())

    def check(predictor):
        for part in ("encoder", "joint_network", "ctc_lin"):
            assert {p.dtype for p in getattr(teacher, part).parameters()} == {torch.bfloat16}
        assert {p.dtype for p in teacher.decoder.parameters()} == {predictor}

    check(torch.float32)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    # As ESPnet moves a model to its device.
    student.to(device="cpu", dtype=torch.float32)
    check(torch.float32)
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.isfinite(student(**batch)[0])
    student.double()
    check(torch.float64)


def test_the_format_is_checked(kd):
    assert autocast_dtype(True, "auto", "cpu") is None
    assert autocast_dtype(True, "bfloat16", "cpu") == torch.bfloat16
    with pytest.raises(UserError, match="no effect without --use_amp true"):
        autocast_dtype(False, "bfloat16", "cpu")
    with pytest.raises(UserError, match=r"did you mean 'bfloat16'"):
        build(tiny_config(), {**kd, "teacher_dtype": "bfloat"})
