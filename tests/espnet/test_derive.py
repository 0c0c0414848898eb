"""A student's experiment, with and without utterances to measure on."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.asr_transducer.decoder.stateless_decoder import StatelessDecoder

from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.measure import BATCH, Sample, only_blocks
from espnet_kd.espnet.stock import build, read_model
from espnet_kd.methods.cutter import Cutter
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.size_table import SHAPES
from espnet_kd.spec.target import parse_target
from tests.espnet.tiny import build as build_ours
from tests.espnet.tiny import tiny_config
from tests.recipe.toy import TRAINING, call, inside, write_data, write_teacher, write_yaml

WORDS = ["--plan", "plan.yaml", "--stage", "1", "--teacher_exp", "teacher"]
WORDS += ["--teacher_model", "model.pth", "--train_config", "train.yaml"]
DATA = ["--data", "dump/train", "--utterances", "9"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data and an untrained teacher whose third block does nearly nothing."""
    with inside(tmp_path_factory.mktemp("derive")) as folder:
        write_data()
        write_teacher(Path("teacher"))
        write_yaml("train.yaml", TRAINING)
        state = torch.load("teacher/model.pth", weights_only=True)
        block = "encoder.encoders.blocks.2."
        last = ("feed_forward.w_2", "feed_forward_macaron.w_2", "self_att.linear_out")
        for name in (*last, "conv_mod.pointwise_conv2"):
            for part in (".weight", ".bias"):
                state[block + name + part] *= 1e-3
        torch.save(state, "teacher/model.pth")
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture
def derive(here, tmp_path, capsys):
    """Return a function: a stage and options in; facts and what was printed out."""

    def run(stage, *options):
        write_yaml("plan.yaml", {"stages": [{"name": "s", **stage}]})
        code, err = call("derive_student", [*WORDS, *options, "--out", str(tmp_path / "out")])
        assert code == 0, err
        return json.loads((tmp_path / "out/student.json").read_text()), capsys.readouterr().out

    return run


@pytest.fixture
def sample(here):
    teacher = read_model(Path("teacher"), "model.pth")
    return Sample(teacher.net, Path("teacher/config.yaml"), Path("dump/train"), 9), teacher.net


def test_without_data_nothing_is_measured(derive):
    facts, said = derive({"target": 0.6})
    assert "before_training" not in facts and "importance" not in facts
    assert "before training" not in said


def test_a_teacher_that_is_not_there_is_told_before_anything_is_written(here, tmp_path):
    write_yaml("plan.yaml", {"stages": [{"name": "s", "target": 0.6}]})
    out = tmp_path / "out"
    code, err = call("derive_student", [*WORDS, "--taught_by_exp", "no", "--out", str(out)])
    assert code == 1 and "--taught_by_exp no: no/config.yaml: no such file; name the" in err
    assert not out.exists()


def test_what_survives_is_measured_and_said(derive):
    facts, said = derive({"target": 0.6}, *DATA)
    found = facts["before_training"]
    assert found["utterances"] == 9
    assert found["loss"] > 0 and found["wer"] >= 0 and found["teacher_loss"] != found["loss"]
    assert f"RNN-T loss {found['loss']:.2f} nats an utterance" in said
    assert said.splitlines()[-1].startswith("s: ")
    passes = facts["derivation"]
    assert passes["utterances"] == 9 and passes["audio_seconds"] > 0
    # Three passes of the teacher (one finds utterances that are too short), two of the student.
    least = 9 * (3 * facts["teacher_params"] + 2 * facts["params"])
    assert least <= passes["work"] < 1.5 * least  # heads that decoding does not use count, too


def test_the_same_sizes_survive_whole(derive):
    facts, _ = derive({"student": {}, "objective": "none"}, *DATA)
    found = facts["before_training"]
    assert facts["params"] == facts["teacher_params"]
    assert found["loss"] == found["teacher_loss"] and found["wer"] == found["teacher_wer"]


@pytest.mark.parametrize("blocks", ["influence", "skip_loss"])
def test_the_block_that_does_nothing_goes_first(derive, blocks):
    facts, _ = derive({"student": {"encoder": {"num_blocks": 3}}, "blocks": blocks}, *DATA)
    scores = facts["importance"][blocks]
    assert len(scores) == 4 and 2 == min(range(4), key=lambda i: abs(scores[i]))
    assert facts["kept_blocks"] == sorted(sorted(range(4), key=lambda i: -scores[i])[:3])


def test_units_by_taylor_are_inherited(derive, tmp_path):
    stage = {"student": {"encoder": {"hidden_size": 8, "linear_size": 8}}, "units": "taylor"}
    by_taylor, _ = derive(stage, *DATA)
    by_weight, _ = derive({**stage, "units": "weight"}, *DATA)
    assert by_taylor["sizes"] == by_weight["sizes"]
    assert by_taylor["before_training"]["loss"] != by_weight["before_training"]["loss"]


def test_sizes_by_sensitivity(derive):
    facts, _ = derive({"target": 0.6, "allocate": "sensitivity"}, *DATA)
    assert 0.45 * facts["teacher_params"] < facts["params"] <= 0.6 * facts["teacher_params"]
    again, _ = derive({"target": 0.6, "allocate": "sensitivity"}, *DATA)
    assert again == facts


@pytest.mark.parametrize("way", SHAPES)
def test_a_shape_needs_no_utterances_and_is_what_was_planned(derive, way):
    stage = {"target": 0.4, "allocate": way}
    facts, _ = derive(stage)
    teacher = read_model(Path("teacher"), "model.pth").sizes
    (planned,) = sizes_of_way(load_plan("plan.yaml").stages, teacher)
    assert facts["sizes"] == dataclasses.asdict(planned)
    assert (planned == teacher.shrink_to(int(0.4 * teacher.params), "plan")) == (way == "rule")


def test_a_stateless_student(derive, tmp_path):
    sizes = {"decoder": {"type": "stateless"}, "encoder": {"hidden_size": 8}}
    facts, _ = derive({"student": sizes}, *DATA)
    assert facts["sizes"]["decoder"] == "stateless" and facts["sizes"]["embed_size"] == 16
    config = yaml.safe_load((tmp_path / "out/student.yaml").read_text())
    assert config["decoder"] == "stateless" and config["decoder_conf"] == {"embed_size": 16}
    model = build(config)
    assert isinstance(model.decoder, StatelessDecoder)
    model.load_state_dict(torch.load(tmp_path / "out/init.pth", weights_only=True))


@pytest.mark.parametrize("target, most", [("150 kB", 37_500), (4321, 4321), (0.6, None)])
def test_targets_of_every_kind(here, target, most):
    write_yaml("plan.yaml", {"stages": [{"target": 0.5}]})
    stage = load_plan("plan.yaml").stage(1)
    stage = dataclasses.replace(stage, target=parse_target(target, "target"))
    teacher = read_model(Path("teacher"), "model.pth")
    # The first teacher of the run counts, not the stage's.
    first = dataclasses.replace(teacher.sizes, num_blocks=5)
    student = Cutter(stage, teacher, None, build).sizes(first)
    assert student.params <= (most or int(0.6 * first.params))


@pytest.mark.parametrize(
    "key, value, plain",
    [
        ("blocks", "influence", "spaced"),
        ("units", "taylor", "weight"),
        ("allocate", "sensitivity", "rule"),
    ],
)
def test_what_must_be_measured_needs_data(here, key, value, plain):
    write_yaml("plan.yaml", {"stages": [{"target": 0.5, key: value}]})
    code, err = call("derive_student", [*WORDS, "--out", "refused"])
    assert code == 1 and f"stages[0].{key}: '{value}' is measured on utterances" in err
    assert f"--data, or say '{plain}'" in err and not Path("refused").exists()


@pytest.mark.parametrize(
    "options, code, message",
    [
        (["--data", "dump/nothing"], 1, "dump/nothing/wav.scp: no such file"),
        (["--data", "dump/dev", "--utterances", "0"], 2, "--utterances: '0' is not a whole"),
    ],
)
def test_data_that_cannot_be_is_refused(here, options, code, message):
    write_yaml("plan.yaml", {"stages": [{"target": 0.5}]})
    ended, err = call("derive_student", [*WORDS, *options, "--out", "refused"])
    assert ended == code and message in err


def test_the_loss_is_that_of_validation(sample):
    """The same number that training writes as `loss_transducer` of the validation set."""
    measure, teacher = sample
    ours = build_ours(tiny_config()).eval()
    ours.load_state_dict(teacher.state_dict())
    from espnet_kd.espnet.cache_data import Utterances

    names = [line.split()[0] for line in open("dump/train/wav.scp")]
    names = [names[i * len(names) // 9] for i in range(9)]
    data = Utterances([Path("dump/train")], "sound", Path("teacher/config.yaml"))
    total = 0.0
    with torch.no_grad():
        for _, batch in data.load([[(0, name)] for name in names], 0):
            total += float(ours(**batch)[1]["loss_transducer"])
    assert measure.loss(teacher) == pytest.approx(total / 9, rel=2e-3)  # padding of the audio
    assert len(measure.batches) == -(-9 // BATCH)


def test_padding_has_no_part_in_block_influence(sample):
    """One utterance at a time, without padding, gives the mean over the same frames."""
    measure, teacher = sample
    blocks = teacher.encoder.encoders.blocks
    turned = torch.zeros(len(blocks))
    frames = 0
    with torch.no_grad():
        for batch in measure.batches:
            for feats, n in zip(batch.feats, batch.feats_len):
                # What goes into block i comes out of the encoder cut off before it.
                outs = []
                for i in range(len(blocks) + 1):
                    with only_blocks(teacher, range(i)):
                        encoders = teacher.encoder.encoders
                        norm, encoders.norm_blocks = encoders.norm_blocks, torch.nn.Identity()
                        out, t_len = encode(teacher.encoder, feats[None, :n], n[None], 4)
                        encoders.norm_blocks = norm
                    outs.append(out)
                frames += int(t_len)
                for i, (x, y) in enumerate(zip(outs, outs[1:])):
                    turned[i] += (1 - torch.cosine_similarity(x, y, dim=-1)).sum()
    found = torch.tensor(measure.influence(teacher))
    torch.testing.assert_close(found, turned / frames, rtol=1e-4, atol=1e-6)


def test_a_skipped_block_is_skipped(sample):
    measure, teacher = sample
    whole = measure.loss(teacher)
    found = measure.skip_loss(teacher)
    with only_blocks(teacher, [0, 2, 3]):
        assert measure.loss(teacher) - whole == found[1]
    assert measure.loss(teacher) == whole


def test_taylor_scores_are_weight_times_gradient(sample):
    measure, teacher = sample
    name = "joint_network.lin_out.bias"
    found = measure.taylor(teacher)[name]
    expected = 0
    for batch in measure.batches:
        p = dict(teacher.named_parameters())[name]
        (grad,) = torch.autograd.grad(measure._losses(teacher, batch).mean(), p)
        expected = expected + (p * grad).detach().double().square() / len(measure.batches)
    torch.testing.assert_close(found, expected)
    assert not any(k.startswith("ctc_lin") for k in measure.taylor(teacher))


def test_an_averaged_student_is_derived_and_decoded(derive, tmp_path):
    sizes = {"decoder": {"type": "averaged", "context": 3}, "encoder": {"hidden_size": 8}}
    facts, _ = derive({"student": sizes}, *DATA)
    assert facts["sizes"]["decoder"] == "averaged" and facts["sizes"]["context"] == 3
    assert facts["before_training"]["loss"] > 0
    out = tmp_path / "out"
    config = yaml.safe_load((out / "student.yaml").read_text())
    assert config["decoder"] == "averaged" and config["decoder_conf"]["context"] == 3
    absent = ("init", "specaug", "non_linguistic_symbols", "cleaner", "g2p", "bpemodel")
    write_yaml(str(out / "config.yaml"), {**dict.fromkeys(absent), **config})
    words = ["--ngpu", "0", "--beam_size", "2"]
    words += ["--data_path_and_name_and_type", "dump/dev/wav.scp,speech,sound"]
    words += ["--asr_train_config", str(out / "config.yaml")]
    words += ["--asr_model_file", str(out / "init.pth")]
    tokens = []
    for way in ("aligned", "stock"):  # batches, and ESPnet's own loop
        folder = tmp_path / "decoded/of" / way
        code, err = call("decode", [*words, "--decoding", way, "--output_dir", str(folder)])
        assert code == 0, err
        tokens.append((folder / "1best_recog/token").read_text())
    assert tokens[0] == tokens[1] and tokens[0]


def test_a_student_of_shorter_chunks_has_all_else_of_its_teacher(derive, tmp_path):
    chunks = {"encoder_conf": {"main_conf": {"short_chunk_size": 2}}}
    derive({"student": {}, "objective": "none", "train": chunks})
    student, teacher = (
        yaml.safe_load(path.read_text())["encoder_conf"]
        for path in (tmp_path / "out/student.yaml", Path("teacher/config.yaml"))
    )
    assert teacher["main_conf"].pop("short_chunk_size") == 4
    assert student["main_conf"].pop("short_chunk_size") == 2
    assert student == teacher


def test_a_training_config_that_holds_a_model_is_refused(here, tmp_path):
    """A teacher's config as the students' would give every student the teacher's encoder."""
    write_yaml("whole.yaml", {**TRAINING, "encoder_conf": tiny_config()["encoder_conf"]})
    write_yaml("plan.yaml", {"stages": [{"target": 0.5}]})
    words = [*WORDS, "--train_config", "whole.yaml", "--out", str(tmp_path / "out")]
    code, err = call("derive_student", words)
    assert code == 1
    assert "whole.yaml:" in err and "encoder_conf" in err and "a student has its teacher's" in err
    assert not (tmp_path / "out").exists()


def test_chunks_of_a_teacher_that_is_trained_in_none_are_refused(here, tmp_path):
    """The words would stand in the student's config, and mean nothing."""
    conf = {**tiny_config()["encoder_conf"], "main_conf": {}}
    write_teacher(tmp_path / "whole", encoder_conf=conf)
    chunks = {"encoder_conf": {"main_conf": {"short_chunk_size": 2}}}
    stages = [{"target": 0.7}, {"target": 0.5, "train": chunks}]
    write_yaml("plan.yaml", {"stages": stages})
    words = [*WORDS, "--teacher_exp", str(tmp_path / "whole"), "--out", str(tmp_path / "out")]
    code, err = call("derive_student", words)
    assert code == 1 and "stages[1].train: encoder_conf.main_conf.short_chunk_size: no chu" in err


@pytest.mark.parametrize(
    "chunk, objective, warned", [(2, "full", True), (2, "none", False), (4, "full", False)]
)
def test_a_teacher_of_longer_chunks_is_warned_of(derive, chunk, objective, warned):
    chunks = {"encoder_conf": {"main_conf": {"short_chunk_size": chunk}}}
    _, printed = derive({"target": 0.5, "objective": objective, "train": chunks})
    told = (
        "; warning: it trains for chunks of up to 2 frames, and is taught by a model of up to 4,"
    )
    assert (told in printed) == warned
