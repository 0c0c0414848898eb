"""A teacher trained elsewhere: its files are copied, and an error leaves no trace."""

from pathlib import Path

import numpy as np
import pytest
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
    assert "4 blocks of width 16, 7 tokens" in said and "16000 Hz" in said
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


def test_statistics_that_are_none(theirs):
    (theirs.parents[1] / STATS).write_text("text")
    state = torch.load(theirs / "model.pth", weights_only=True)
    del state["normalize.mean"]
    torch.save(state, theirs / "model.pth")
    with pytest.raises(UserError, match="feats_stats.npz: not the statistics of features"):
        import_teacher(theirs, "model.pth", "16k", Path("data/tokens"), Path("exp/asr"))
    assert not files(".")
