"""A teacher trained elsewhere: its files are copied, and an error leaves no trace."""

import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import yaml

from espnet_kd.errors import UserError
from espnet_kd.espnet.import_teacher import import_teacher
from espnet_kd.espnet.teacher import load_transducer
from tests.espnet.tiny import TOKENS, tiny_config, write_experiment

STATS = "exp/asr_stats/train/feats_stats.npz"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """An experiment in a recipe of its own, with a relative path in its config."""
    recipe = tmp_path / "theirs"
    (recipe / STATS).parent.mkdir(parents=True)
    mean, std = np.linspace(-9, -3, 20), np.linspace(1, 4, 20)
    np.savez(recipe / STATS, count=10.0, sum=10 * mean, sum_square=10 * (std**2 + mean**2))
    (tmp_path / "ours").mkdir()
    monkeypatch.chdir(recipe)  # where ESPnet trained it
    config = tiny_config(normalize="global_mvn", normalize_conf={"stats_file": STATS})
    exp = write_experiment(recipe / "exp/asr_theirs", config)
    monkeypatch.chdir(tmp_path / "ours")
    return exp


def files(folder):
    return {p: p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


@pytest.mark.parametrize("gone", [False, True], ids=["statistics", "statistics gone"])
def test_the_copy_is_the_same_model(theirs, gone):
    # A token list without a newline at its end has no token less.
    config = yaml.safe_load((theirs / "config.yaml").read_text())
    (theirs / "tokens.txt").write_text("\n".join(TOKENS) + ("" if gone else "\n"))
    config["token_list"] = str(theirs / "tokens.txt")
    (theirs / "config.yaml").write_text(yaml.safe_dump(config))
    if gone:  # they are in the checkpoint, too
        (theirs.parents[1] / STATS).unlink()
    before = files(theirs)
    said = import_teacher(theirs, "model.pth", "16k", Path("data/tokens"), Path("exp/asr"))
    assert "4 blocks of width 16, " in said and ", 7 tokens" in said and "16000 Hz" in said
    assert files(theirs) == before
    config = yaml.safe_load(Path("exp/asr/config.yaml").read_text())
    assert config["normalize_conf"] == {"stats_file": "exp/asr/feats_stats.npz"}
    assert config["token_list"] == Path("data/tokens/tokens.txt").read_text().split("\n")[:-1]
    assert config["token_list"] == TOKENS
    model = load_transducer("exp/asr/config.yaml", "exp/asr/model.pth")
    state = torch.load(theirs / "model.pth", weights_only=True)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0, msg=name)
    # What a new training would start from: the statistics as ESPnet reads them.
    with np.load("exp/asr/feats_stats.npz") as stats:
        mean = stats["sum"] / stats["count"]
        std = np.sqrt(stats["sum_square"] / stats["count"] - mean**2)
    np.testing.assert_allclose(mean, state["normalize.mean"], rtol=1e-5)
    np.testing.assert_allclose(std, state["normalize.std"], rtol=1e-5)


def test_an_error_leaves_an_earlier_import_alone(theirs):
    import_teacher(theirs, "model.pth", "16k", Path("data/tokens"), Path("exp/asr"))
    before = files(".")
    config = yaml.safe_load((theirs / "config.yaml").read_text())
    config["token_list"] = [*TOKENS, "more"]
    (theirs / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"has shape \(7, 8\); .*theirs/config.yaml asks for"):
        import_teacher(theirs, "model.pth", "16k", Path("data/tokens"), Path("exp/asr"))
    assert files(".") == before


def imported(exp, fs="16k"):
    return import_teacher(exp, "model.pth", fs, Path("data/tokens"), Path("exp/asr"))


def refused(exp, message, **kwargs):
    with pytest.raises(UserError, match=message) as e:
        imported(exp, **kwargs)
    assert "\n" not in str(e.value).strip()
    assert not [path for path in files(".") if "asr" in path.parts or "tokens" in path.parts]


def test_where_it_came_from_is_written_down(theirs):
    imported(theirs)
    facts = json.loads(Path("exp/asr/facts.json").read_text())
    sha = hashlib.sha256((theirs / "model.pth").read_bytes()).hexdigest()
    assert facts["imported_from"] == str(theirs) and facts["checkpoint_sha256"] == sha


def train_bpe(words):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, vocab_size=14, minloglevel=2
    )
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = [pieces.id_to_piece(i) for i in range(3, len(pieces))]
    return model.getvalue(), ["<blank>", "<unk>", *names, "<sos/eos>"]


BPE = "data/en_token_list/bpe_unigram14/bpe.model"


@pytest.fixture
def bpe(tmp_path, monkeypatch):
    """A teacher with BPE, and a recipe of ours that has another model under the same name."""
    model, tokens = train_bpe(["ABBA CAB", "BACA AB", "CABA CC", "ABAB CAC BB"] * 30)
    other, _ = train_bpe(["XYYX ZXY", "YXZ ZZY", "XXYZ YZX", "ZYX XZ YY"] * 30)
    for folder, content in (("theirs", model), ("ours", other)):
        (tmp_path / folder / BPE).parent.mkdir(parents=True)
        (tmp_path / folder / BPE).write_bytes(content)
    config = tiny_config(token_list=tokens, token_type="bpe", bpemodel=BPE)
    exp = write_experiment(tmp_path / "theirs/exp/asr_theirs", config)
    monkeypatch.chdir(tmp_path / "ours")
    return exp


def test_the_teachers_bpe_model_is_taken_not_ours(bpe):
    theirs = (bpe.parents[1] / BPE).read_bytes()
    imported(bpe)
    assert Path("data/tokens/bpe.model").read_bytes() == theirs


@pytest.mark.parametrize("gone", [False, True])
def test_pieces_are_compared_with_the_tokens(bpe, gone):
    """Another model is refused, and one that is gone is not replaced by ours."""
    if gone:
        (bpe.parents[1] / BPE).unlink()
        refused(bpe, "bpemodel is data/en_token_list/.*, which is neither")
        return
    os.replace(BPE, bpe.parents[1] / BPE)
    refused(bpe, r"theirs/.*bpe.model: not the BPE model of .*config.yaml: token_list: \d+ of")
    (bpe.parents[1] / BPE).write_bytes(b"text")
    refused(bpe, "bpe.model: not a BPE model of sentencepiece")


def test_statistics_are_those_of_the_checkpoint(theirs):
    """Whatever lies under the name in the config: here, ours."""
    Path(STATS).parent.mkdir(parents=True)
    np.savez(STATS, count=1.0, sum=np.full(20, 5.0), sum_square=np.full(20, 26.0))
    (theirs.parents[1] / STATS).unlink()
    imported(theirs)
    state = torch.load(theirs / "model.pth", weights_only=True)
    with np.load("exp/asr/feats_stats.npz") as stats:
        np.testing.assert_allclose(stats["sum"], state["normalize.mean"], rtol=1e-6)


def test_statistics_of_other_features(theirs):
    state = torch.load(theirs / "model.pth", weights_only=True)
    for name in ("normalize.mean", "normalize.std"):
        state[name] = torch.cat([state[name], state[name]])
    torch.save(state, theirs / "model.pth")
    refused(theirs, "model.pth: has statistics of 40 features, the front end of .* makes 20")


class Runs:
    """What a checkpoint must not bring about."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def spoiled(state):
    state["decoder.embed.weight"][2, 1] = float("nan")
    return state


@pytest.mark.parametrize(
    "change, message",
    [
        (spoiled, "model.pth: 'decoder.embed.weight' holds NaN or infinity"),
        (lambda state: {**state, "extra": Runs()}, r"could run code; only tensors are read"),
        (lambda state: [state], r"model.pth: not the parameters of a model"),
        (lambda state: dict(list(state.items())[5:]), "model.pth: lacks '"),
        (lambda state: {}, "model.pth: lacks '"),
    ],
)
def test_checkpoints_that_are_none(theirs, change, message):
    state = torch.load(theirs / "model.pth", weights_only=True)
    torch.save(change(state), theirs / "model.pth")
    refused(theirs, message)
    assert not Path("ran").exists()


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 0.999])
def test_checkpoints_that_were_cut_short(theirs, share):
    data = (theirs / "model.pth").read_bytes()
    (theirs / "model.pth").write_bytes(data[: int(share * len(data))])
    refused(theirs, r"model.pth: not a readable checkpoint \(")


def test_a_checkpoint_with_a_flipped_bit(theirs):
    data = bytearray((theirs / "model.pth").read_bytes())
    data[len(data) // 2] ^= 1
    (theirs / "model.pth").write_bytes(bytes(data))
    refused(theirs, "model.pth: not a readable checkpoint .*checksum")


@pytest.mark.parametrize("fs", ["abc", "", "16 parsecs", "nan"])
def test_rates_that_are_none(theirs, fs):
    refused(theirs, f"--fs: '{fs}' is not a sampling rate", fs=fs)


def test_statistics_that_are_none(theirs):
    state = torch.load(theirs / "model.pth", weights_only=True)
    del state["normalize.mean"]
    torch.save(state, theirs / "model.pth")
    (theirs.parents[1] / STATS).write_text("text")
    with pytest.raises(UserError, match="feats_stats.npz: not the statistics of features"):
        import_teacher(theirs, "model.pth", "16k", Path("data/tokens"), Path("exp/asr"))
    assert not files(".")
