"""Every kind of teacher in README's table: imported, a student derived, trained and decoded."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_kd.errors import UserError
from espnet_kd.espnet.cache_teacher import Settings, cache_teacher
from espnet_kd.espnet.derive import derive
from espnet_kd.espnet.import_teacher import import_teacher
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.espnet.teacher import FrozenTeacher, load_transducer
from espnet_kd.espnet.timed_inference import TimedSpeech2Text
from espnet_kd.plan.student import Student
from espnet_kd.spec.plan import parse_plan
from espnet_kd.spec.teacher_kinds import check_teacher
from espnet_kd.spec.training_config import read_config
from tests.espnet.teacher_table import CONV1D, TABLE, offline, write_teacher
from tests.espnet.tiny import build, tiny_config

# In `make test`; the others, together more than half a minute, are marked `slow`.
QUICK = ("gru", "vgg", "conv1d", "mega", "asr e_branchformer", "asr conformer")
PLAN = """
stages:
  - {name: small, target: 0.8, allocate: deep, objective: full, weight: 0.5}
  - {name: smaller, target: 0.4, objective: collapsed, weight: 0.5}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A working folder with a template and a plan."""
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_text(yaml.safe_dump(tiny_config()))
    return tmp_path


def student_of(number, teacher):
    """Derive the student of a stage from an experiment."""
    stages = parse_plan(PLAN, "plan.yaml").stages
    out = Path(f"exp/{stages[number].name}")
    first = Path("exp/asr")
    stage = Student.of(stages[number])
    base, template = read_config(None), Path("train.yaml")
    args = (first, "model.pth", base, out)
    derive(stage, teacher, "model.pth", *args, planned=stages, template=template)
    return out


def train(exp, batch):
    """Train two updates, and save what ESPnet would."""
    config = yaml.safe_load((exp / "student.yaml").read_text())
    config = {"init": None, "specaug": None, **config}
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    model = DistilTransducerTask.build_model(Namespace(**config))
    model.load_state_dict(torch.load(exp / "init.pth", weights_only=True))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        loss, stats, _ = model.train()(**batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(stats["loss_kd"]))
    torch.save(model.state_dict(), exp / "model.pth")
    assert np.isfinite(losses).all() and losses[0] > 0
    return model


@pytest.mark.parametrize(
    "kind",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TABLE],
)
def test_a_teacher_of_every_kind_of_the_table_teaches_two_students(kind, recipe, batch):
    config, cut = TABLE[kind]
    theirs = write_teacher(Path("theirs/exp/asr_theirs"), config)
    out = Path("exp/asr")
    text = import_teacher(theirs, "model.pth", "16k", Path("tokens"), out, Path("train.yaml"))
    assert ("are not cut" not in text) == cut, text
    streams = kind != "conv1d" and not kind.startswith("asr")
    teacher, exp = load_transducer(str(out / "config.yaml"), str(out / "model.pth")), out
    for number in range(1 if cut else 2):
        exp = student_of(number, exp)
        student = train(exp, batch)
        if cut or number:
            continue
        # What fits is inherited: with the predictor's own widths, its very weights.
        init = torch.load(exp / "init.pth", weights_only=True)
        for name, tensor in teacher.state_dict().items():
            if name.startswith(("decoder.", "joint_network.lin_out")) and name in init:
                if init[name].shape == tensor.shape:
                    assert torch.equal(init[name], tensor), name
        assert student.encoder.dynamic_chunk_training
    for folder, chunks in ((out, streams), (exp, True)):
        files = dict(asr_train_config=str(folder / "config.yaml"))
        files["asr_model_file"] = str(folder / "model.pth")
        decoder = TimedSpeech2Text(**files, token_type="char", streaming=True, beam_size=2)
        assert decoder.streaming == chunks
        hyps = decoder.decode_batch([0, 1], [0.1 * np.random.randn(9000).astype("float32")] * 2)
        assert len(hyps) == 2


def test_an_offline_transducer_computes_what_espnet_computes(tmp_path):
    """Frames, predictor and joint network of the stock parts, in padded batches, too."""
    exp = write_teacher(tmp_path / "asr", TABLE["asr conformer"][0])
    model = load_transducer(str(exp / "config.yaml"), str(exp / "model.pth"))
    state = torch.load(exp / "model.pth", weights_only=True)
    lengths = torch.tensor([80, 43])
    feats = torch.randn(2, 80, 20)
    teacher = FrozenTeacher(model)
    decoder_in = torch.tensor([[0, 3, 4], [0, 5, 0]])
    out = teacher.joint(
        feats, lengths, decoder_in, chunk_size=4
    )  # of whole utterances in any case
    assert out.t_len.tolist() == [19, 10]
    inner = model.encoder.inner
    for b, n in enumerate(lengths.tolist()):
        with torch.no_grad():
            enc, t_len, _ = inner(feats[b : b + 1, :n], lengths[b : b + 1])
        assert int(t_len) == out.t_len[b]
        torch.testing.assert_close(out.enc[b, : int(t_len)], enc[0])
    with torch.no_grad():
        dec = stock_predictor(state)(decoder_in)
    projected = dec @ state["joint_network.lin_dec.weight"].T + state["joint_network.lin_dec.bias"]
    torch.testing.assert_close(out.joint.dec, projected)
    torch.testing.assert_close(out.joint.weight, state["joint_network.lin_out.weight"])
    ctc = out.enc @ state["ctc.ctc_lo.weight"].T + state["ctc.ctc_lo.bias"]
    torch.testing.assert_close(out.ctc, ctc)


def stock_predictor(state):
    """Load ESPnet's own predictor of `espnet2.asr`."""
    from espnet2.asr.decoder.transducer_decoder import TransducerDecoder

    decoder = TransducerDecoder(7, hidden_size=16).eval()
    prefix = "decoder."
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    decoder.load_state_dict(own)
    return decoder


@pytest.mark.parametrize("layer, frames", [("conv2d", 10), ("conv2d2", 19), ("conv2d6", 6)])
def test_frames_of_both_families_are_compared(tmp_path, layer, frames):
    exp = write_teacher(tmp_path / "asr", offline("conformer", input_layer=layer))
    teacher = FrozenTeacher(load_transducer(str(exp / "config.yaml"), str(exp / "model.pth")))
    assert int(teacher.model.encoder.embed(torch.tensor([43]))) == frames
    student = build(tiny_config())
    if layer == "conv2d":
        teacher.check_fits(student)
        assert teacher.offset == 0
        return
    counts = {"conv2d2": 97, "conv2d6": 32}
    message = f"makes {counts[layer]} frames of 200 feature frames, the student 49"
    with pytest.raises(UserError, match=message):
        teacher.check_fits(student)


@pytest.mark.parametrize("offset", [-2, -1, 0, 2])
def test_frames_that_differ_by_a_constant_are_aligned(tmp_path, offset):
    exp = write_teacher(tmp_path / "asr", TABLE["asr conformer"][0])
    teacher = FrozenTeacher(load_transducer(str(exp / "config.yaml"), str(exp / "model.pth")))
    feats, lengths = torch.randn(2, 80, 20), torch.tensor([80, 43])
    whole, t_len = teacher.encode(feats, lengths, None)
    teacher.offset = offset
    enc, aligned = teacher.encode(feats, lengths, None)
    assert aligned.tolist() == [19 - offset, 10 - offset] and enc.size(1) == 19 - offset
    for b in range(2):
        for t in range(int(aligned[b])):
            same = max(0, min(t + int(offset / 2), int(t_len[b]) - 1))
            assert torch.equal(enc[b, t], whole[b, same])


def test_a_convolution_without_padding_loses_frames_at_both_ends(tmp_path):
    """Where the teacher's frame hears what the student's hears; no cache holds it so."""
    config = TABLE["conv1d"][0]
    config = {**config, "encoder_conf": {**config["encoder_conf"], "body_conf": [CONV1D]}}
    exp = write_teacher(tmp_path / "asr", config)
    model = load_transducer(str(exp / "config.yaml"), str(exp / "model.pth"))
    teacher, student = FrozenTeacher(model), build(tiny_config()).eval()
    teacher.check_fits(student)
    feats, lengths = torch.zeros(1, 80, 20), torch.tensor([80])
    other = feats.clone()
    other[0, 43] = 5.0  # amid what frame 10 of the student's front end hears
    heard = [teacher.encode(x, lengths, None)[0][0] for x in (feats, other)]
    changed = (heard[0] - heard[1]).abs().sum(1).nonzero()[:, 0].float()
    assert teacher.offset == -2 and float(changed.mean()) == pytest.approx(10, abs=0.5), changed
    settings = Settings(exp, "model.pth", [], tmp_path / "cache")
    with pytest.raises(UserError, match="makes another number of frames than any student's"):
        cache_teacher(settings)


REFUSED = [
    ({"decoder": "transformer"}, "its decoder is 'transformer'"),
    ({"encoder": "rnn"}, "encoder: 'rnn' is not one of conformer, "),
    ({"preencoder": "sinc"}, "preencoder: a model with it cannot teach"),
    ({"frontend": "s3prl"}, "frontend: 's3prl' is not one of default, "),
    (
        {"model_conf": {"transducer_multi_blank_durations": [2]}},
        "transducer_multi_blank_durations",
    ),
    ({"encoder_conf": {"interctc_use_conditioning": True}}, "its encoder reads its CTC head"),
]


@pytest.mark.parametrize("changes, message", REFUSED)
def test_what_cannot_teach_is_named(changes, message):
    with pytest.raises(UserError, match=f"^exp/config.yaml: .*{message}"):
        check_teacher({**offline("conformer"), **changes}, "exp/config.yaml")


def test_a_template_is_asked_for_and_checked(recipe):
    theirs = write_teacher(Path("theirs/exp/asr_theirs"), TABLE["asr conformer"][0])
    args = (theirs, "model.pth", "16k", Path("tokens"), Path("exp/asr"))
    with pytest.raises(UserError, match="'conformer' of espnet2.asr cannot be cut; .*--template"):
        import_teacher(*args)
    Path("train.yaml").write_text(yaml.safe_dump({"encoder_conf": {"body_conf": []}}))
    with pytest.raises(UserError, match="train.yaml: encoder_conf.body_conf: no blocks"):
        import_teacher(*args, Path("train.yaml"))
    assert not Path("exp/asr").exists()
