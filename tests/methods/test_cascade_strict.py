"""A second student whose blocks go on from the streaming one's states: `cascade`, strict."""

import copy
import functools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from espnet2.asr_transducer.encoder.encoder import Encoder

from espnet_kd.deploy.artifact import of_experiment
from espnet_kd.errors import UserError
from espnet_kd.espnet.aligned import AlignedStream, Grid
from espnet_kd.espnet.cascaded_encoder import CascadedEncoder, longer_chunk
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.espnet_runtime import EspnetRuntime
from espnet_kd.espnet.exportable_model import load_exportable
from espnet_kd.espnet.model import DistilTransducer
from espnet_kd.espnet.stock import build, read_model
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.methods import method_named
from espnet_kd.methods.cascade import CascadeOptions, second_exit_params, whole_sizes
from espnet_kd.spec.distillation import read_kd_conf
from espnet_kd.spec.plan import parse_plan
from tests.methods.toy_students import (
    EPOCHS,
    MODEL,
    as_trained,
    derive,
    train,
    weights,
    write_place,
    write_trained,
)
from tests.recipe.toy import call, inside, write_teacher

CHUNK, AHEAD = 3, 4
LONG = 9  # three whole chunks: the first that hold AHEAD frames more
SIZES = {"encoder": {"num_blocks": 2, "linear_size": 12}}
CASCADE = {"lookahead_blocks": 1, "lookahead": AHEAD, "strict": True}
FRAME = 640  # samples


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Data, a teacher of four blocks, and a strict cascade of two and one, trained."""
    with inside(tmp_path_factory.mktemp("strict")) as folder:
        write_trained({"student": SIZES, "method_conf": {"cascade": CASCADE}})
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def training_form(checkpoint=f"run/{EPOCHS}epoch.pth"):
    """The form that is trained, with the weights of the last epoch, and its config."""
    return as_trained(Path("student"), checkpoint)


def both_students(checkpoint=f"run/{EPOCHS}epoch.pth"):
    """The two models that are exported of it."""
    config = yaml.safe_load(Path("student/student.yaml").read_text())
    exported = method_named("cut").export(weights(checkpoint), config["method_conf"])
    models = []
    sibling = exported.siblings["lookahead"]
    for changes, state in (({}, exported.state), vars(sibling).values()):
        model = build(copy.deepcopy({**config, **changes}))
        model.load_state_dict(state)
        models.append(model)
    return models


def encoded(model, feats, size=CHUNK):
    """Output of a model's encoder in chunks of the streaming student. (B, T, D)"""
    with torch.no_grad():
        return encode(model.encoder, feats, torch.tensor([feats.size(1)] * len(feats)), size)[0]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_streaming_exit_is_a_plain_students_bit_for_bit(here):
    trained, config = training_form()
    stream, upper = both_students()
    assert type(stream.encoder) is Encoder and "cascade" not in config["encoder_conf"]
    feats = noise(2, 120, 20)
    want = encoded(trained, feats)
    assert torch.equal(encoded(stream, feats), want)
    # The other one computes the very states, which its own blocks go on from.
    below = []
    block = upper.encoder.encoders.blocks[1]
    block.register_forward_hook(lambda module, inputs, output: below.append(output[0]))
    encoded(upper, feats)
    assert torch.equal(stream.encoder.encoders.norm_blocks(below[0]), want)


def test_what_is_trained_is_what_is_decoded(here):
    """The loss of exit 2 is that of the model which is written, in whatever chunks."""
    trained, _ = training_form()
    _, upper = both_students()
    alone = DistilTransducer.wrap(upper, read_kd_conf({"objective": "none"}).complete())
    speech, text = 0.1 * noise(2, 9000), torch.tensor([[1, 2, 3], [2, 1, -1]])
    batch = (speech, torch.tensor([9000, 7000]), text, torch.tensor([3, 2]))
    for size in (2, CHUNK, 50, 0):  # 50: all of it; 0: full context
        losses = []
        for model, name in ((trained, "lookahead_transducer"), (alone, "loss_transducer")):
            model.options = model.options.changed(valid_chunk_size=size)
            with torch.no_grad():
                losses.append(model(*batch)[1][name])
        torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


def note(passed, name, *_):
    passed.append(name)


def test_one_pass_of_the_blocks_below_serves_both_exits(here):
    batch = (0.1 * noise(1, 9000), torch.tensor([9000]), torch.tensor([[1, 2]]), torch.tensor([2]))
    passes = {}
    for strict in (True, False):
        model, config = training_form()
        value = {**config["method_conf"]["cascade"], "strict": strict}
        attached = method_named("cut").attach(model, {"method": "cut", "cascade": value})
        model.terms = [*model.terms[:-1], *attached.terms]
        passed = []
        for name, part in (("below", model.encoder.encoders), ("above", model.kd_cascade)):
            part.blocks[0].register_forward_hook(functools.partial(note, passed, name))
        loss, _, _ = model.train()(*batch)
        loss.backward()
        assert model.kd_cascade.blocks[0].norm_final.weight.grad.abs().sum() > 0
        passes[strict] = sorted(passed)
    assert passes == {True: ["above", "below"], False: ["above", "below", "below"]}


def test_no_exit_hears_beyond_its_chunk(here):
    stream, upper = both_students()
    feats = noise(1, 200, 20)
    frame = 2 * LONG + 1  # of the second chunk below in the third above
    other = feats.clone()
    other[:, 4 * frame + 7 :] += 1.0  # beyond what is subsampled to this frame
    # 7 of 4 subsampled frames are heard by the one after it, too
    heard = frame + 1
    for model, chunk in ((stream, CHUNK), (upper, LONG)):
        apart = (encoded(model, feats) != encoded(model, other)).any(-1)[0]
        first = int(apart.nonzero()[0])
        assert first == heard // chunk * chunk, (chunk, first)
    assert longer_chunk(CHUNK, AHEAD) == LONG and longer_chunk(16, 16) == 32
    assert longer_chunk(4, 0) == 4 and longer_chunk(5, 1) == 10


@pytest.mark.parametrize("size, left", [(CHUNK, 6), (1, 0), (4, 8), (30, 5)])
def test_chunk_by_chunk_is_the_whole_under_both_masks(here, size, left):
    model = load_transducer("run/lookahead/config.yaml", f"run/lookahead/{MODEL}").eval()
    assert isinstance(model.encoder, CascadedEncoder)
    stream = AlignedStream(model, Grid(size, left))
    assert stream.at_once == longer_chunk(size, AHEAD)
    for samples, piece in ((31 * FRAME + 7, 1000), (5 * FRAME, 10**6), (60 * FRAME, 9000)):
        speech = 0.1 * noise(samples, seed=samples)
        pieces = speech.split(piece)
        ours = [stream.accept(x, k == len(pieces) - 1) for k, x in enumerate(pieces)]
        with torch.no_grad():
            feats, length = model._extract_feats(speech[None], torch.tensor([samples]))
            want = encode(model.encoder, feats, length, size, left)[0][0]
        torch.testing.assert_close(torch.cat(ours), want, rtol=0, atol=1e-5)
        out = [len(x) for x in ours[:-1]]
        assert all(n % stream.at_once == 0 for n in out)


def test_our_decoding_alone_streams_it(here, tmp_path):
    words = ["--ngpu", "0", "--beam_size", "2"]
    words += ["--data_path_and_name_and_type", "dump/dev/wav.scp,speech,sound"]
    words += ["--asr_train_config", "run/lookahead/config.yaml"]
    words += ["--asr_model_file", f"run/lookahead/{MODEL}"]
    in_chunks = ["--streaming", "true", "--decoding_window", "160"]
    ways = {"whole": [], "theirs": ["--decoding", "stock"], "chunks": in_chunks}
    tokens = {}
    for name, more in ways.items():
        out = tmp_path / name / "b/c"
        code, err = call("decode", [*words, *more, "--output_dir", str(out)])
        assert code == 0, err
        tokens[name] = (out / "1best_recog/token").read_text()
    assert tokens["whole"] == tokens["theirs"]
    code, err = call(
        "decode", [*words, *in_chunks, "--decoding", "stock", "--output_dir", str(tmp_path / "d")]
    )
    assert code == 1 and "take --decoding aligned, or decode whole utterances" in err
    artifact = of_experiment(Path("run/lookahead"), Path("run/lookahead") / MODEL)
    runtime = EspnetRuntime.load(artifact, ["--beam_size", "2", *in_chunks])
    assert runtime.timing.chunk_size == longer_chunk(4, AHEAD)  # what a token waits for
    # ESPnet's own encoder refuses it, in place of another one under its name.
    conf = yaml.safe_load(Path("run/lookahead/config.yaml").read_text())["encoder_conf"]
    assert conf["cascade"] == {"causal_blocks": 2, "lookahead": AHEAD}
    with pytest.raises(TypeError, match="cascade"):
        Encoder(20, **conf)


def test_what_cannot_carry_it_says_what_can_be_done(here, tmp_path):
    exp = Path("run/lookahead")
    with pytest.raises(UserError, match="export the streaming student .the folder above., train"):
        load_exportable(exp, MODEL)
    load_exportable(Path("run"), MODEL)
    with pytest.raises(UserError, match="it cannot be cut; the streaming student can"):
        read_model(exp, MODEL)
    model = load_transducer(str(exp / "config.yaml"), str(exp / MODEL))
    with pytest.raises(UserError, match="ESPnet's own streaming has one chunk for all blocks"):
        model.encoder.chunk_forward()


@pytest.mark.parametrize(
    "value, message",
    [
        (3, r"encoder_conf.cascade: expected \{causal_blocks: 2, lookahead: 16\}, found '3'"),
        ({"causal_blocks": 1}, "encoder_conf.cascade: expected"),
        (
            {"causal_blocks": 3, "lookahead": 4},
            "cascade.causal_blocks: expected at most 2, found 3",
        ),
        ({"causal_blocks": 1, "lookahead": -1}, "lookahead: expected a whole number >= 0"),
    ],
)
def test_a_config_that_was_edited(here, tmp_path, value, message):
    config = yaml.safe_load(Path("run/lookahead/config.yaml").read_text())
    config["encoder_conf"]["cascade"] = value
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=message):
        load_transducer(str(path), f"run/lookahead/{MODEL}")


@pytest.mark.parametrize("value", ["1", "no way", "[true]"])
def test_strict_is_true_or_false(value):
    with pytest.raises(UserError, match="cascade.strict: expected true or false"):
        parse_plan(
            f"stages: [{{target: 0.5, method_conf: {{cascade: {{strict: {value}}}}}}}]", "p"
        )


def test_blocks_that_are_not_there_or_dropped_are_told(here, tmp_path):
    stage = {"student": SIZES, "method_conf": {"cascade": {**CASCADE, "lookahead_blocks": 4}}}
    code, err = derive(tmp_path / "s", stage)
    assert code == 1 and "it must be fewer than that" in err and "Traceback" not in err
    main_conf = {"dynamic_chunk_training": True, "blockdrop_rate": 0.1}
    body = yaml.safe_load(Path("teacher/config.yaml").read_text())["encoder_conf"]
    with inside(tmp_path):
        write_place()
        write_teacher(Path("teacher"), encoder_conf={**body, "main_conf": main_conf})
        code, err = derive("s", {**stage, "method_conf": {"cascade": CASCADE}})
        assert code == 1 and "blockdrop_rate is 0.1: a block that is dropped" in err
        loose = {"cascade": {**CASCADE, "strict": False}}
        code, err = derive("t", {**stage, "method_conf": loose})
        assert code == 0, err


def test_not_strict_is_what_it_was_before_there_was_the_word(here, tmp_path):
    loose = {key: value for key, value in CASCADE.items() if key != "strict"}
    for name, value in (("a", loose), ("b", {**loose, "strict": False})):
        code, err = derive(tmp_path / name, {"student": SIZES, "method_conf": {"cascade": value}})
        assert code == 0, err
    a, b = (tmp_path / name for name in "ab")
    assert (a / "student.yaml").read_text() == (b / "student.yaml").read_text()
    facts = yaml.safe_load((a / "student.yaml").read_text())["method_conf"]["cascade"]
    assert sorted(facts) == ["encoder_conf", "features", "lookahead", "weight"]
    states = [weights(folder / "init.pth") for folder in (a, b, Path("student"))]
    for state in states[1:]:
        assert list(state) == list(states[0])
        assert all(torch.equal(state[k], states[0][k]) for k in state)


def test_what_an_update_computes_is_counted(here):
    facts = json.loads(Path("student/student.json").read_text())
    teacher, stream = read_model(Path("teacher"), "model.pth"), read_model(Path("run"), MODEL)
    above = load_transducer("run/lookahead/config.yaml", f"run/lookahead/{MODEL}")
    parts = (above.encoder.encoders.blocks[2], above.encoder.encoders.norm_blocks)
    extra = sum(x.numel() for part in (*parts, above.joint_network) for x in part.parameters())
    assert facts["update_params"] == facts["params"] + extra
    counts = {
        strict: second_exit_params(stream.sizes, teacher.sizes, CascadeOptions(strict=strict))
        for strict in (True, False)
    }
    whole = whole_sizes(stream.sizes, teacher.sizes, CascadeOptions()).params
    assert counts == {True: extra, False: whole} and extra < whole
    options = SimpleNamespace(weight=0.0, strict=True)
    assert second_exit_params(stream.sizes, teacher.sizes, options) == 0


def test_it_goes_on_from_a_checkpoint(here, tmp_path):
    out = tmp_path / "run"
    for words in (["--max_epoch", "1"], []):
        code, err = train(str(out), *words)
        assert code == 0, err
    want, state = weights(f"run/{EPOCHS}epoch.pth"), weights(out / f"{EPOCHS}epoch.pth")
    assert list(want) == list(state) and all(torch.equal(want[k], state[k]) for k in want)
    history = json.loads((out / "history.json").read_text())[-1]["valid"]
    assert history["lookahead_transducer"] != history["loss_transducer"]
