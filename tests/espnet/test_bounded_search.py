"""Decoding ends and says so, whatever the model, its file or the audio is."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from espnet2.asr_transducer.beam_search_transducer import BeamSearchTransducer

from tests.espnet.tiny import build, tiny_config
from tests.recipe.toy import TRAINING, call, inside, train_words, write_data, write_yaml

MODEL = "model/1epoch.pth"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with inside(tmp_path_factory.mktemp("decode")) as folder:
        write_data()
        config = {k: v for k, v in tiny_config().items() if k != "token_list"}
        write_yaml("train.yaml", {**config, **TRAINING, "max_epoch": 1})
        code, err = call("train", train_words("model"))
        assert code == 0, err
    return folder


@pytest.fixture(autouse=True)
def clock():
    """A search without an end fails its test."""

    def ring(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def decode(place, tmp_path, monkeypatch):
    """Return a function that decodes the development set: (exit code, stderr, texts, facts)."""
    monkeypatch.chdir(place)
    state = torch.load(MODEL, weights_only=True)

    def run(change=None, search=None, scp="dump/dev/wav.scp", damage=None, more=""):
        out, model = tmp_path / "out", tmp_path / "model.pth"
        weights = {name: tensor.clone() for name, tensor in state.items()}
        if change:
            change(weights)
        torch.save(weights, model)
        if damage:
            model.write_bytes(damage(model.read_bytes()))
        write_yaml(str(tmp_path / "decode.yaml"), {"beam_search_config": search or {}})
        words = ["--asr_train_config", "model/config.yaml", "--asr_model_file", str(model)]
        words += ["--config", str(tmp_path / "decode.yaml"), "--output_dir", str(out)]
        words += ["--data_path_and_name_and_type", f"{scp},speech,sound", "--beam_size", "4"]
        words += more.split()
        code, err = call("decode", [*words, "--num_workers", "0", "--log_level", "ERROR"])
        if code:
            return code, err.splitlines()[-1]
        texts = (out / "1best_recog/token").read_text().splitlines()
        return code, err, texts, json.loads((out / "rtf.json").read_text())

    return run


def hardly_blank(weights):
    weights["joint_network.lin_out.bias"][0] = -100


def seldom_blank(weights):
    weights["joint_network.lin_out.bias"][0] = 1


@pytest.mark.parametrize("search", ["default", "tsd", "alsd", "maes"])
def test_a_model_that_hardly_says_blank_is_decoded_to_an_end(decode, search):
    code, err, texts, facts = decode(hardly_blank, {"search_type": search})
    assert code == 0 and len(texts) == facts["utterances"] == 4
    assert facts["hit_limit"] == (4 if search == "default" else 0)
    assert ("4 of them cut short by the limit" in err) == (search == "default")


def test_a_model_that_says_blank_never_comes_to_the_limit(decode):
    code, _, texts, facts = decode(seldom_blank)
    assert (code, facts["hit_limit"]) == (0, 0) and len(texts) == 4


@pytest.mark.parametrize("part", ["decoder.embed", "encoder."])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(decode, part, value):
    def change(weights):
        key = next(k for k in weights if k.startswith(part))
        weights[key].view(-1)[3] = value

    code, line = decode(change)
    assert code == 1 and "model.pth: '" in line and "holds NaN or infinity; train" in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        # One bit of a weight: torch itself reads on.
        lambda data: data[:20_000] + bytes([data[20_000] ^ 4]) + data[20_001:],
    ],
    ids=["cut", "empty", "flipped"],
)
def test_a_damaged_model(decode, damage):
    code, line = decode(damage=damage)
    assert code == 1 and line.startswith("decode: error: "), line
    assert "model.pth: not a readable checkpoint" in line and line.endswith("model again")


def test_audio_that_is_no_numbers(decode, tmp_path):
    audio, rate = soundfile.read("audio/dev-02.wav")
    audio[3000] = float("nan")
    soundfile.write(tmp_path / "nan.wav", audio, rate, subtype="FLOAT")
    lines = Path("dump/dev/wav.scp").read_text().replace("audio/dev-02.wav", f"{tmp_path}/nan.wav")
    (tmp_path / "wav.scp").write_text(lines)
    code, line = decode(seldom_blank, scp=str(tmp_path / "wav.scp"))
    assert code == 1 and "utterance dev-02: the encoder's output holds NaN" in line


def no_numbers(weights):
    """Finite weights, infinite logits."""
    weights["joint_network.lin_out.weight"].fill_(3e38)


STREAMING = "--streaming true"
STOCK = "--decoding stock"


@pytest.mark.parametrize("more", ["", STREAMING, f"{STREAMING} {STOCK}"])
def test_a_joint_network_that_computes_no_numbers(decode, more):
    code, line = decode(no_numbers, more=more)
    assert code == 1 and "the joint network's output holds NaN or infinity; check" in line


@pytest.mark.parametrize(
    "search, more, told",
    [
        ({"search_type": "foo"}, "", "beam_search_config: Specified search type (foo) is not"),
        ({"search_type": "maes", "expansion_beta": 9}, "", "beam_search_config: beam_size (4) + "),
        ({"search_type": "alsd", "streaming": True}, "", "ALSD is not available in streaming"),
        ({"serach_type": "tsd"}, "", "unknown key 'serach_type' (did you mean 'search_type'?)"),
        ({"search_type": "tsd", "max_sym_exp": "3"}, "", "max_sym_exp: expected a whole number"),
        ({"search_type": "maes", "expansion_gamma": "a"}, "", "expansion_gamma: expected a numb"),
        ({"score_norm": "no"}, "", "beam_search_config: score_norm: expected true or false"),
        ({"nbest": 2}, "", "beam_search_config: 'nbest' is an option beside it, not in it"),
        ({}, "--beam_search_config a=1", "beam_search_config: expected a mapping, in a YAML"),
        ({}, "--data_path_and_name_and_type a,b,sound", "--data_path_and_name_and_type: "),
        ({}, "--dtype float16", "--dtype float16: ESPnet keeps the states"),
        ({}, f"{STREAMING} --decoding_window 0", "--decoding_window 0: at least 1 is possible"),
        ({}, f"{STREAMING} {STOCK} --decoding_window 40", "ESPnet's own streaming fails with"),
    ],
)
def test_settings_that_espnet_cannot_decode_with(decode, search, more, told):
    code, line = decode(seldom_blank, search, more=more)
    assert code == 1 and told in line, line


@pytest.mark.parametrize("more", ["", STOCK, "--quantize_asr_model true"])
def test_an_utterance_too_short_to_be_mirrored(decode, tmp_path, more):
    soundfile.write(tmp_path / "short.wav", [0.1] * 300, 16000)
    (tmp_path / "wav.scp").write_text(f"dev-01 audio/dev-01.wav\nshort {tmp_path}/short.wav\n")
    code, err, texts, facts = decode(seldom_blank, scp=str(tmp_path / "wav.scp"), more=more)
    assert code == 0 and facts["utterances"] == 2 and texts[1] == "short <space>"
    two_channels = np.zeros((9000, 2))  # are computed one by one
    soundfile.write(tmp_path / "stereo.wav", two_channels, 16000)
    lines = "".join(f"{name} {tmp_path}/{name}.wav\n" for name in ("short", "stereo"))
    (tmp_path / "wav.scp").write_text(lines)
    if not more:
        code, err, texts, _ = decode(seldom_blank, scp=str(tmp_path / "wav.scp"))
        assert code == 0 and texts[0] == "short <space>"


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("chunk", [1, 7, 60])
def test_below_the_limit_nothing_changes(beam, chunk):
    """Hypotheses and scores are ESPnet's own, bit by bit, whole or chunk by chunk."""
    from espnet_kd.espnet.bounded_search import BoundedBeamSearch

    model = build(tiny_config(), seed=2).eval()
    with torch.no_grad():
        model.joint_network.lin_out.weight.mul_(4)
        model.joint_network.lin_out.bias[0] += 2
    enc = torch.randn(60, 16, generator=torch.Generator().manual_seed(beam))  # (T, D)
    found = []
    stock = BeamSearchTransducer(model.decoder, model.joint_network, beam, nbest=beam)
    for search in (stock, BoundedBeamSearch.of(stock)):
        with torch.no_grad():
            for part in enc.split(chunk):
                hyps = search(part, is_final=False)
            hyps = search(enc[:0], is_final=True)
        found.append([(hyp.yseq, hyp.score) for hyp in hyps])
    assert found[0] == found[1]
    assert len(found[0]) == beam and not search.hit_limit
    assert search.frames == 60 < search.expansions < search.limit() / 2
