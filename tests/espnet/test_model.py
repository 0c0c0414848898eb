"""The model class: ESPnet's own with distillation off, and what the teacher may not do."""

import copy

import pytest
import torch
import yaml
from espnet2.asr_transducer.utils import make_chunk_mask
from torchaudio.functional import rnnt_loss

from espnet_kd.errors import UserError
from espnet_kd.espnet.encode import chunk_mask, encode
from espnet_kd.espnet.mixed_precision import autocast
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.spec.distillation import read_kd_conf
from tests.espnet.tiny import TOKENS, build, tiny_config, write_experiment


def capture(model, monkeypatch):
    """Record what teacher and student are given."""
    seen = {}
    joint = model.teacher.joint

    def spy(feats, feats_len, decoder_in, chunk_size):
        seen.update(teacher=feats.clone(), teacher_chunk=chunk_size)
        return joint(feats, feats_len, decoder_in, chunk_size)

    def spy_encode(encoder, feats, feats_len, chunk_size):
        if encoder is model.encoder:
            seen.update(student=feats.clone(), student_chunk=chunk_size)
        return encode(encoder, feats, feats_len, chunk_size)

    monkeypatch.setattr(model.teacher, "joint", spy)
    monkeypatch.setattr("espnet_kd.espnet.model.encode", spy_encode)
    return seen


def test_without_distillation_the_loss_is_espnets(batch):
    """Each utterance alone, stock encoder, torchaudio's loss on the whole lattice."""
    config = tiny_config(model_conf={})
    config["encoder_conf"]["main_conf"]["dynamic_chunk_training"] = False
    model = build(config).eval()
    loss, stats, weight = model(**batch)
    expected = []
    for b in range(3):
        n, u = batch["speech_lengths"][b : b + 1], batch["text_lengths"][b]
        enc, enc_len = model.encode(batch["speech"][b : b + 1, :n], n)
        labels = batch["text"][b : b + 1, :u]
        model.decoder.set_device(enc.device)
        dec = model.decoder(torch.nn.functional.pad(labels, (1, 0)))
        logits = model.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))
        expected.append(
            rnnt_loss(logits, labels.int(), enc_len.int(), torch.tensor([u]).int(), blank=0)
        )
    # Features at the end of a padded utterance see zeros where reflection would be.
    torch.testing.assert_close(loss[0], torch.stack(expected).mean(), rtol=2e-3, atol=0)
    assert weight == 3
    assert set(stats) == {"loss", "loss_transducer"}


def test_padding_does_not_count(batch, kd):
    """A batch gives the mean of its utterances alone, on every supported ESPnet."""
    model = build(tiny_config(), kd, seed=3).eval()
    together = model(**batch)[1]
    alone = []
    for b in range(3):
        n, u = batch["speech_lengths"][b], batch["text_lengths"][b]
        # Padding of the audio stays: only padding of the lattice is compared.
        stats = model(
            batch["speech"][b : b + 1],
            batch["speech_lengths"][b : b + 1],
            batch["text"][b : b + 1, :u],
            batch["text_lengths"][b : b + 1],
        )[1]
        assert n > 0
        alone.append(stats)
    for key in ("loss_transducer", "loss_kd", "loss_aux_ctc"):
        mean = sum(float(s[key].sum()) for s in alone) / 3
        assert float(together[key].sum()) == pytest.approx(mean, rel=2e-3), key


def test_lengths_are_those_of_the_utterance_alone():
    """The defect of 202511: padded to 400 frames, all would have 99."""
    model = build(tiny_config())
    lengths = torch.tensor([400, 200, 60])
    _, t_len = encode(model.encoder, torch.randn(3, 400, 20), lengths, None)
    assert t_len.tolist() == [99, 49, 14]


def test_encoder_equals_stock_encoder():
    model = build(tiny_config()).eval()
    x = torch.randn(1, 90, 20)
    mine, t_len = encode(model.encoder, x, torch.tensor([90]), None)
    model.encoder.dynamic_chunk_training = False
    theirs, n = model.encoder(x, torch.tensor([90]))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert t_len.tolist() == n.tolist()


@pytest.mark.parametrize("size, chunk, left", [(9, 3, 0), (9, 4, 1), (5, 7, 2), (8, 1, 2)])
def test_chunk_mask_equals_stock(size, chunk, left):
    frames = left * chunk if left > 0 else None
    assert torch.equal(chunk_mask(size, chunk, frames, "cpu"), make_chunk_mask(size, chunk, left))


def test_nothing_of_the_teacher_is_in_the_student(kd):
    plain, student = build(tiny_config()), build(tiny_config(), kd)
    assert list(student.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in student.named_parameters()] == [n for n, _ in plain.named_parameters()]
    own = {id(p) for p in student.parameters()}
    assert not own & {id(p) for p in student.teacher.model.parameters()}
    assert "teacher" not in dict(student.named_modules())


def test_the_teacher_stays_frozen_in_eval_and_moves_with_the_student(kd, batch):
    student = build(tiny_config(), kd).train()
    teacher = student.teacher.model
    before = copy.deepcopy(teacher.state_dict())
    assert not any(m.training for m in teacher.modules())
    student(**batch)[0].backward()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    # ESPnet's attention keeps its weights, which would be most of what a teacher takes.
    kept = [m.attn for m in student.modules() if hasattr(m, "attn")]
    assert kept and all(x is not None for x in kept)
    assert all(m.attn is None for m in teacher.modules() if hasattr(m, "attn"))
    student.double()
    assert next(teacher.parameters()).dtype == torch.float64


def test_a_copy_of_the_teacher_has_nothing_to_learn_from_it(kd, batch, teacher_exp):
    student = build(tiny_config(), kd, seed=7).eval()
    before = float(student(**batch)[1]["loss_kd"].sum())
    student.load_state_dict(torch.load(teacher_exp / "model.pth", weights_only=True))
    after = float(student(**batch)[1]["loss_kd"].sum())
    assert before > 0.01
    assert after == pytest.approx(0, abs=1e-4)


SPECAUG = {
    "specaug": "specaug",
    "specaug_conf": {
        "apply_time_warp": False,
        "apply_freq_mask": True,
        "freq_mask_width_range": [5, 10],
        "apply_time_mask": True,
        "time_mask_width_range": [5, 10],
    },
}


def test_teacher_and_student_share_features_and_chunks(kd, batch, monkeypatch):
    student = build(tiny_config(**SPECAUG), kd).train()
    seen = capture(student, monkeypatch)
    chunks = set()
    for seed in range(6):
        torch.manual_seed(seed)
        student(**batch)
        assert torch.equal(seen["teacher"], seen["student"])
        assert seen["teacher_chunk"] == seen["student_chunk"]
        chunks.add(seen["student_chunk"])
    assert len(chunks) > 1  # drawn anew for each batch
    clean, _ = student._extract_feats(batch["speech"], batch["speech_lengths"])
    assert not torch.equal(seen["student"], clean)  # SpecAugment did something


def test_the_teacher_may_hear_clean_features_in_full_context(kd, batch, monkeypatch):
    options = {**kd, "teacher_features": "clean", "teacher_context": "full"}
    student = build(tiny_config(**SPECAUG), options).train()
    seen = capture(student, monkeypatch)
    student(**batch)
    clean, _ = student._extract_feats(batch["speech"], batch["speech_lengths"])
    assert torch.equal(seen["teacher"], clean)
    assert not torch.equal(seen["student"], clean)
    assert seen["teacher_chunk"] is None and seen["student_chunk"] is not None


@pytest.mark.parametrize("heard", ["shared", "clean"])
def test_the_teacher_hears_what_the_student_has_not_yet_normalised(
    kd, batch, monkeypatch, mvn, heard
):
    """ESPnet's global_mvn writes in place; the teacher has its own, or none."""
    student = build(tiny_config(**mvn), {**kd, "teacher_features": heard}).train()
    seen = capture(student, monkeypatch)
    student(**batch)
    raw, lengths = student._extract_feats(batch["speech"], batch["speech_lengths"])
    assert torch.equal(seen["teacher"], raw)
    for b, n in enumerate(lengths):
        torch.testing.assert_close(seen["student"][b, :n], (raw[b, :n] - 1.5) / 1.5)


def test_time_warp_is_refused_when_the_teacher_hears_clean_features(kd):
    conf = {**SPECAUG["specaug_conf"], "apply_time_warp": True}
    warped = {"specaug": "specaug", "specaug_conf": conf}
    build(tiny_config(**warped), kd)  # one draw for both is fine
    with pytest.raises(UserError, match="apply_time_warp: false or teacher_features: shared"):
        build(tiny_config(**warped), {**kd, "teacher_features": "clean"})


def test_validation_is_deterministic(kd, batch):
    student = build(tiny_config(), kd).eval()
    assert len({student(**batch)[0].item() for _ in range(4)}) == 1
    other = build(tiny_config(), {**kd, "valid_chunk_size": 2}).eval()
    other.load_state_dict(student.state_dict())
    assert other(**batch)[0].item() != student(**batch)[0].item()


@pytest.mark.parametrize("objective", ["collapsed", "full"])
def test_distillation_brings_the_student_closer(kd, batch, objective):
    # The KL alone: a random teacher knows nothing of the labels.
    config = tiny_config(model_conf={"transducer_weight": 0.0})
    student = build(config, {**kd, "objective": objective}, seed=9).train()
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        loss, stats, _ = student(**batch)
        losses.append(float(stats["loss_kd"].sum()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_auxiliary_losses_of_the_encoder(kd, batch, teacher_exp, tmp_path):
    config = tiny_config()
    config["encoder_conf"]["body_conf"][0]["hidden_size"] = 8
    options = {**kd, "weight": 0.5, "ctc_weight": 0.3, "encoder_weight": 2.0}
    student = build(config, options).train()
    loss, stats, _ = student(**batch)
    expected = stats["loss_transducer"] + 0.5 * (stats["loss_aux_ctc"] + stats["loss_kd"])
    expected = expected + 0.3 * stats["loss_kd_ctc"] + 2.0 * stats["loss_kd_encoder"]
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert student.kd_projection.weight.grad.abs().sum() > 0
    assert student.kd_projection.weight.shape == (16, 8)
    # What decoding needs can be loaded from a checkpoint that holds the projection too.
    torch.save(student.state_dict(), tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    load_transducer(str(tmp_path / "config.yaml"), str(tmp_path / "model.pth"))


def test_a_ctc_head_that_is_not_there_is_named(kd):
    config = tiny_config(model_conf={})
    with pytest.raises(UserError, match="ctc_weight: the student has no CTC head"):
        build(config, {**kd, "ctc_weight": 1.0})


def test_lambda_follows_its_schedule(kd, batch):
    options = {**kd, "weight": 0.5, "weight_schedule": [[10, 0], [20, 1], [40, 0.2]]}
    student = build(tiny_config(), options).eval()
    for update, factor in ((0, 0), (10, 0), (15, 0.5), (20, 1), (30, 0.6), (40, 0.2), (99, 0.2)):
        student.updates = update
        loss, stats, _ = student(**batch)
        assert stats["kd_weight"].item() == pytest.approx(0.5 * factor)
        expected = stats["loss_transducer"] + 0.5 * stats["loss_aux_ctc"]
        torch.testing.assert_close(loss, expected + 0.5 * factor * stats["loss_kd"])


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"weight_schedule": [[0, 1], [0, 2]]}, "updates must rise"),
        ({"weight_schedule": [1, 2]}, r"expected points \[\[update, factor\]"),
        ({"objectiv": "full"}, r"unknown key 'objectiv' \(did you mean 'objective'\?\)"),
        ({"objective": "colapsed"}, r"did you mean 'collapsed'"),
        ({"weight": "a lot"}, "expected a number, found 'a lot'"),
        ({"weight": -1}, "weight: expected a number from 0 to"),
        ({"temperature": 0}, "expected a number from 0.001 to 1000, found 0"),
        ({"valid_chunk_size": -2}, "whole number >= 0"),
        ({"objective": "full"}, "needs teacher_config and teacher_model"),
        ({"teacher_context": "half"}, "is not one of"),
        ({"objective": "top_k", "top_k": None}, "top_k: expected a whole number"),
        ({"frame_shift": None}, "frame_shift: expected a whole number"),
        ({"teacher_config": 5}, "teacher_config: expected text, found '5'; write it in quotes"),
    ],
)
def test_options_are_checked(conf, message):
    with pytest.raises(UserError, match=message):
        read_kd_conf(conf).complete()


def test_more_likeliest_tokens_than_there_are(kd):
    with pytest.raises(UserError, match=r"kd_conf.top_k: must be below the vocabulary, 7 tokens"):
        build(tiny_config(), {**kd, "objective": "top_k", "top_k": 7})


def _with(path, **conf):
    config = tiny_config()
    for key, value in conf.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return write_experiment(path, config)


@pytest.mark.parametrize(
    "conf, message",
    [
        ({"token_list": TOKENS[:4] + ["X"] + TOKENS[5:]}, "token 4 is 'X' for the teacher, 'B'"),
        ({"token_list": TOKENS[:-1] + ["D", "<sos/eos>"]}, "token 6 is 'D'"),
        ({"frontend_conf": {"hop_length": 128}}, "hop_length is 128 for the teacher"),
        ({"frontend_conf": {"fs": "8k"}}, "sr is 8000 for the teacher"),
    ],
)
def test_a_teacher_of_another_kind_is_refused(tmp_path, conf, message):
    exp = _with(tmp_path / "other", **conf)
    kd = {
        "objective": "full",
        "teacher_config": str(exp / "config.yaml"),
        "teacher_model": str(exp / "model.pth"),
    }
    with pytest.raises(UserError, match=message):
        build(tiny_config(), kd)


def test_another_subsampling_is_refused(tmp_path):
    config = tiny_config()
    config["encoder_conf"]["input_conf"]["subsampling_factor"] = 2
    exp = write_experiment(tmp_path / "other", config)
    kd = {
        "objective": "full",
        "teacher_config": str(exp / "config.yaml"),
        "teacher_model": str(exp / "model.pth"),
    }
    with pytest.raises(UserError, match="subsampling differs: teacher 2"):
        build(tiny_config(), kd)


@pytest.mark.parametrize("objective", ["collapsed", "full", "top_k", "full_sum"])
def test_under_autocast_losses_and_gradients_stay_finite(kd, batch, objective):
    nodes = "all" if objective == "full_sum" else "occupancy"
    options = {**kd, "objective": objective, "top_k": 2, "nodes": nodes}
    student = build(tiny_config(), options, seed=9).eval()
    exact = student(**batch)[1]
    with autocast("cpu", torch.bfloat16):
        loss, stats, _ = student(**batch)
    loss.sum().backward()
    for name in ("loss_transducer", "loss_kd"):
        assert stats[name].dtype == torch.float32
        torch.testing.assert_close(stats[name], exact[name], rtol=0.1, atol=0.02)
    for name, p in student.named_parameters():
        assert p.grad is not None and p.grad.dtype == torch.float32, name
        assert torch.isfinite(p.grad).all(), name


def test_in_a_band_the_loss_is_that_of_the_paths_inside(kd, batch):
    """A whole batch first; then the band. Validation and checkpoints know the whole lattice."""
    options = {**kd, "objective": "collapsed"}
    plain = build(tiny_config(), options, seed=9)
    banded = build(tiny_config(), {**options, "lattice": "band", "band_kept": 0.6}, seed=9)
    banded.load_state_dict(plain.state_dict())
    for model in (plain, banded):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    losses = []
    for model in (plain, banded, banded):
        torch.manual_seed(0)
        losses.append(model(**batch)[1])
        banded.band_watch.inside = 1.0
    whole, first, second = losses
    assert whole["loss_transducer"] == first["loss_transducer"] and first["band_whole"] == 1
    assert second["band_whole"] == 0 and second["band_nodes"] < 1
    assert second["loss_transducer"] > first["loss_transducer"]  # of fewer paths
    assert {"band_kept", "band_rows", "band_inside", "band_gap"} <= set(second)
    banded.load_state_dict(plain.state_dict())  # running means included
    valid = [model.eval()(**batch)[1] for model in (plain, banded)]
    assert valid[0]["loss_transducer"] == valid[1]["loss_transducer"]
    assert "band_kept" not in valid[1]
