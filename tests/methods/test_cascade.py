"""Two students of one training: a streaming one, and one with blocks on top that hears more."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from espnet_kd.bin.plan import _second_exit
from espnet_kd.errors import UserError
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.moments import read_moments
from espnet_kd.espnet.plan_checks import check_plan
from espnet_kd.espnet.stock import build, read_model, sizes_of
from espnet_kd.methods import method_named
from espnet_kd.methods.cascade import read_cascade, with_upper
from espnet_kd.plan.planned_sizes import sizes_of_way
from espnet_kd.report.paths import lineage
from espnet_kd.spec.plan import parse_plan
from espnet_kd.spec.training_config import TrainingConfig
from tests.espnet.tiny import tiny_config
from tests.methods.toy_students import (
    EPOCHS,
    MODEL,
    derive,
    train,
    weights,
    write_trained,
)
from tests.recipe.toy import call, inside, train_words

CHUNK, AHEAD = 3, 4
SIZES = {"encoder": {"num_blocks": 2, "linear_size": 12}}
CASCADE = {"lookahead_blocks": 1, "lookahead": AHEAD}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a teacher of four blocks, and a cascade of two and one, trained."""
    with inside(tmp_path_factory.mktemp("cascade")) as folder:
        write_trained({"student": SIZES, "method_conf": {"cascade": CASCADE}})
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def trained_form(checkpoint):
    config = yaml.safe_load(Path("student/student.yaml").read_text())
    model = build(config)
    method_named("cut").attach(model, config["method_conf"])
    model.load_state_dict(weights(checkpoint))
    return model.eval(), config


def exits(model, feats):
    """The outputs of both exits in training's form. (B, T, D), (B, T, D)"""
    lengths = torch.tensor([feats.size(1)] * len(feats))
    whole = with_upper(model.encoder, model.kd_cascade)
    with torch.no_grad():
        return (
            encode(model.encoder, feats, lengths, CHUNK)[0],
            encode(whole, feats, lengths, CHUNK + AHEAD)[0],
        )


def test_both_exits_are_stock_models_bit_for_bit(here):
    checkpoint = f"run/{EPOCHS}epoch.pth"
    model, config = trained_form(checkpoint)
    exported = method_named("cut").export(weights(checkpoint), config["method_conf"])
    assert not [name for name in exported.state if name.startswith("kd_")]
    sibling = exported.siblings["lookahead"]
    torch.manual_seed(1)
    feats = torch.randn(2, 120, 20)
    ours, lengths = exits(model, feats), torch.tensor([120, 120])
    parts = (({}, exported.state, CHUNK), (*vars(sibling).values(), CHUNK + AHEAD))
    for out, (changes, state, chunk) in zip(ours, parts):
        stock = build({**config, **changes})
        stock.load_state_dict(state)
        with torch.no_grad():
            assert torch.equal(encode(stock.encoder, feats, lengths, chunk)[0], out)
    assert not torch.allclose(*ours)


def test_no_exit_hears_beyond_its_chunk(here):
    model, _ = trained_form(f"run/{EPOCHS}epoch.pth")
    torch.manual_seed(2)
    feats = torch.randn(1, 160, 20)
    before = exits(model, feats)
    frame = 2 * (CHUNK + AHEAD)  # a chunk of exit 2 begins here
    other = feats.clone()
    other[:, 4 * frame + 7 :] += 1.0  # beyond what is subsampled to this frame
    after = exits(model, other)
    for chunk, a, b in zip((CHUNK, CHUNK + AHEAD), before, after):
        first = int((a != b).any(-1)[0].nonzero()[0])
        # Nothing before the first chunk that holds the frame, which is heard from there on.
        assert first == (frame + 1) // chunk * chunk, (chunk, first)


def test_what_stays_on_disk_are_two_experiments(here, tmp_path):
    facts = json.loads(Path("student/student.json").read_text())
    stream, lookahead = (read_model(Path(exp), MODEL) for exp in ("run", "run/lookahead"))
    assert stream.sizes.params == facts["params"] < facts["lookahead_params"]
    assert lookahead.sizes.params == facts["lookahead_params"]
    assert lookahead.sizes.num_blocks == 3 and stream.sizes.num_blocks == 2
    # The plan's estimate knows it before.
    teacher = read_model(Path("teacher"), "model.pth")
    for weight, params in ((0.5, facts["lookahead_params"]), (0, 0)):
        conf = SimpleNamespace(cascade=read_cascade("", {**CASCADE, "weight": weight}))
        assert _second_exit(SimpleNamespace(method_conf=conf), teacher, stream) == params
    # The blocks above keep the teacher's units; those below were cut.
    assert lookahead.sizes.linear_size == (12, 12, 24)
    assert facts["kept_blocks"] == [0, 2]  # below the teacher's last
    shared = lookahead.net.state_dict()
    for name, tensor in stream.net.state_dict().items():
        assert torch.equal(shared[name], tensor) != name.startswith("encoder.encoders.norm"), name
    past = lineage(Path("run/lookahead"), Path("teacher"), 1)
    assert (past.path, past.teacher, past.steps) == ("lookahead", "teacher", 1)
    both = past.cost, lineage(Path("run"), Path("teacher"), 1).cost
    assert both[0].updates == both[1].updates > 0 and both[0].seconds == both[1].seconds
    assert both[1].teacher_epochs > EPOCHS * (facts["params"] + facts["lookahead_params"])
    words = ["--ngpu", "0", "--beam_size", "2", "--streaming", "true"]
    words += ["--data_path_and_name_and_type", "dump/dev/wav.scp,speech,sound"]
    words += ["--asr_train_config", "run/lookahead/config.yaml"]
    words += ["--asr_model_file", f"run/lookahead/{MODEL}"]
    code, err = call("decode", [*words, "--output_dir", str(tmp_path / "a/b/c")])
    assert code == 0, err
    assert (tmp_path / "a/b/c/1best_recog/token").read_text()
    history = json.loads(Path("run/history.json").read_text())[-1]["valid"]
    assert history["lookahead_transducer"] != history["loss_transducer"]
    both = history["loss_transducer"], history["loss_lookahead"]
    assert history["loss_lookahead"] > history["lookahead_transducer"] and all(both)


def test_to_begin_with_all_blocks_are_cut_as_one_student_is(here, tmp_path):
    narrow = {"hidden_size": 8, "linear_size": [12, 12, 12, 24]}
    code, err = derive(tmp_path / "plain", {"student": {"encoder": narrow}})
    assert code == 0, err
    upper = {"num_blocks": 3, "hidden_size": 8, "linear_size": 12}
    stage = {"student": {"encoder": upper}, "method_conf": {"cascade": CASCADE, "tied": False}}
    code, err = derive(tmp_path / "cascade", stage)
    assert code == 0, err
    conf = yaml.safe_load((tmp_path / "cascade/student.yaml").read_text())["method_conf"]
    state = weights(tmp_path / "cascade/init.pth")
    whole = method_named("cut").export(state, conf).siblings["lookahead"].state
    want = weights(tmp_path / "plain/init.pth")
    assert whole.keys() == want.keys() and all(torch.equal(whole[k], want[k]) for k in want)


def test_what_stands_in_the_blocks_way_is_told_before_the_stage_before(here):
    text = "stages: [{target: 0.8}, {student: {decoder: {hidden_size: 8}}, method_conf: {cascade: "
    stages = parse_plan(text + "{}}}]", "plan").stages
    first = read_model(Path("teacher"), "model.pth").sizes
    with pytest.raises(UserError, match="the last 1 of the teacher's . blocks look ahead"):
        check_plan(stages, first, TrainingConfig())


@pytest.mark.parametrize("target", ["0.1", "0.6 MB"])
def test_all_blocks_but_one_may_look_ahead(target):
    config = tiny_config()
    config["encoder_conf"]["body_conf"][0]["num_blocks"] = 4
    first = sizes_of(build(config), config).resized(hidden_size=32, linear_size=4000)
    cascade = "method_conf: {cascade: {lookahead_blocks: 3}}"
    stages = parse_plan(f"stages: [{{target: {target}, {cascade}}}]", "plan").stages
    (sizes,) = sizes_of_way(stages, first)
    assert sizes.num_blocks == 1
    stages = parse_plan(f"stages: [{{target: 0.6, {cascade}}}]", "plan").stages
    with pytest.raises(UserError, match="the streaming student is to keep 3 of those below"):
        sizes_of_way(stages, first)
    for above in (1, 3):
        deep = f"allocate: deep, {cascade}".replace("3", str(above))
        stages = parse_plan(f"stages: [{{target: {target}, {deep}}}]", "plan").stages
        (sizes,) = sizes_of_way(stages, first)
        assert sizes.num_blocks == 4 - above


def test_a_schedule_goes_on_with_the_moments_of_the_streaming_student(here):
    net = read_model(Path("run"), MODEL).net
    moments = read_moments(Path("run/checkpoint.pth"), net)
    assert set(moments["exp_avg"]) == {name for name, _ in net.named_parameters()}


def test_a_weight_of_zero_is_the_training_without(here, tmp_path):
    config = yaml.safe_load(Path("student/student.yaml").read_text())
    plain = {key: value for key, value in config.items() if key != "method_conf"}
    config["method_conf"]["cascade"]["weight"] = 0.0
    state = weights("student/init.pth")
    torch.save({k: x for k, x in state.items() if not k.startswith("kd_")}, tmp_path / "i.pth")
    for name, conf, init in (("a", config, "student/init.pth"), ("b", plain, tmp_path / "i.pth")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(conf))
        words = train_words(str(tmp_path / name), "--init_param", str(init), config=str(path))
        code, err = call("train", words)
        assert code == 0, err
    ours, want = (weights(tmp_path / name / MODEL) for name in "ab")
    assert list(ours) == list(want) and all(torch.equal(ours[k], want[k]) for k in want)
    upper = weights(tmp_path / "a" / f"{EPOCHS}epoch.pth")
    assert torch.equal(upper["kd_cascade.norm.weight"], state["kd_cascade.norm.weight"])


def test_it_goes_on_from_a_checkpoint(here, tmp_path):
    out = tmp_path / "run"
    for words in (["--max_epoch", "1"], []):
        code, err = train(str(out), *words)
        assert code == 0, err
    want, state = weights(f"run/{EPOCHS}epoch.pth"), weights(out / f"{EPOCHS}epoch.pth")
    assert list(want) == list(state) and all(torch.equal(want[k], state[k]) for k in want)


@pytest.mark.parametrize(
    "stage, message",
    [
        ("{student: {}, method_conf: {cascad: {}}}", "'cascad' (did you mean 'cascade'?)"),
        ("{target: 0.5, method_conf: {cascade: 1}}", "expected {lookahead_blocks: 1, lookahead"),
        (
            "{target: 0.5, method_conf: {cascade: {strikt: true}}}",
            "cascade: unknown key 'strikt' (did you mean 'strict'?)",
        ),
        (
            "{target: 0.5, method_conf: {cascade: {lookahead_blocks: 0}}}",
            "lookahead_blocks: expected a whole number >= 1, found '0'",
        ),
        ("{target: 0.5, init: random, method_conf: {cascade: {}}}", "needs inherited weights"),
        (
            "{target: 0.5, allocate: sensitivity, method_conf: {cascade: {}}}",
            "cascade: does not go with 'allocate: sensitivity', which begins with all of the",
        ),
        ("{target: 0.5, method_conf: {cascade: {}, gates: 0.4}}", "does not go with 'gates'"),
        (
            "{method: retrain, method_conf: {cascade: {}}}",
            "which method 'retrain' keeps in the streaming student; say 'method: cut'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(stage, message):
    with pytest.raises(UserError) as error:
        parse_plan(f"stages: [{stage}]", "plan")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "size, blocks, message",
    [
        (SIZES, 4, "is to keep 2 of those below; it must be fewer than that"),
        (SIZES, 3, "the last 3 of the teacher's 4 blocks look ahead, and the streaming student is "
         "to keep 2 of those below; name encoder.num_blocks 1 or fewer"),
        ({"encoder": {"linear_size": 8}}, 1, "is to keep 4 of those below"),
    ],
)  # fmt: skip
def test_blocks_that_are_not_there_are_told(here, tmp_path, size, blocks, message):
    conf = {"cascade": {**CASCADE, "lookahead_blocks": blocks}}
    code, err = derive(tmp_path / "s", {"student": size, "method_conf": conf})
    assert code == 1 and message in err and "Traceback" not in err
