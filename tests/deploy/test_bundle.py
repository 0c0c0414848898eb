"""The files of a model as they will lie in its archive."""

import os
from pathlib import Path

import pytest
import yaml

from espnet_kd.deploy.bundle import lay_out
from espnet_kd.errors import UserError


@pytest.fixture
def exp(tmp_path, monkeypatch):
    """An experiment with a BPE model, in a recipe's folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/bpe/bpe.model", "conf/nlsyms.txt", "exp/m/best.pth"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    write(bpemodel="data/bpe/bpe.model")
    return Path("exp/m")


def write(**config):
    config = {"encoder_conf": {}, "token_list": ["<blank>", "▁A"], "normalize": None, **config}
    Path("exp/m/config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))


def read(root):
    return yaml.safe_load((root / "exp/m/config.yaml").read_text())


def test_files_lie_beside_the_config_that_names_them(exp, tmp_path):
    write(bpemodel=str(tmp_path / "data/bpe/bpe.model"), non_linguistic_symbols="conf/nlsyms.txt")
    before = Path("exp/m/config.yaml").read_text()
    bundle = lay_out(exp, "best.pth", None, tmp_path / "out")
    config = read(bundle.root)
    assert config["bpemodel"] == "exp/m/bpe.model"
    assert config["non_linguistic_symbols"] == "exp/m/nlsyms.txt"
    assert config["token_list"] == ["<blank>", "▁A"]
    assert list(map(str, bundle.others)) == ["exp/m/bpe.model", "exp/m/nlsyms.txt"]
    for path, source in [("bpe.model", "data/bpe/bpe.model"), ("best.pth", "exp/m/best.pth")]:
        assert (bundle.root / "exp/m" / path).read_text() == source
    assert Path("exp/m/config.yaml").read_text() == before


def test_a_link_to_a_checkpoint_is_packed_under_its_own_name(exp, tmp_path):
    Path("exp/m/ave.pth").symlink_to("best.pth")
    bundle = lay_out(exp, "ave.pth", None, tmp_path / "out")
    assert not (bundle.root / bundle.checkpoint).is_symlink()
    assert (bundle.root / "exp/m/ave.pth").read_text() == "exp/m/best.pth"


def test_files_are_copied_where_they_cannot_be_linked(exp, tmp_path, monkeypatch):
    def refuse(source, to):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    bundle = lay_out(exp, "best.pth", None, tmp_path / "out")
    assert (bundle.root / bundle.checkpoint).read_text() == "exp/m/best.pth"


@pytest.mark.parametrize(
    "config, message",
    [
        ({"bpemodel": "data/no.model"}, "exp/m/config.yaml: bpemodel: data/no.model is not there"),
        ({"normalize_conf": {"stats_file": "a.npz"}}, "normalize_conf.stats_file: a.npz is not"),
        (
            {"bpemodel": "data/bpe/bpe.model", "token_list": "data/bpe/bpe.model"},
            "token_list: a second file would be called bpe.model",
        ),
    ],
)
def test_what_is_missing_is_named(exp, tmp_path, config, message):
    write(**config)
    with pytest.raises(UserError, match=message):
        lay_out(exp, "best.pth", None, tmp_path / "out")


def test_a_missing_checkpoint(exp, tmp_path):
    with pytest.raises(UserError, match="checkpoint: exp/m/no.pth is not there"):
        lay_out(exp, "no.pth", None, tmp_path / "out")
