"""Tiny corpora and a way to call the command lines in this process."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 16000


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * rate)).clip(-5, 5)


@pytest.fixture
def make_corpus(tmp_path):
    """Return a function that writes a corpus: two speakers, `size` utterances in all."""

    def make(
        size: int = 4,
        name: str = "tiny-train",
        extension: str = "flac",
        rate: int = RATE,
        first: int = 0,
    ) -> Path:
        for n in range(first, first + size):
            speaker, chapter = ("11", "5") if n % 2 else ("7", "30")
            folder = tmp_path / "corpus" / "LibriSpeech" / name / speaker / chapter
            folder.mkdir(parents=True, exist_ok=True)
            utt = f"{speaker}-{chapter}-{n:04d}"
            # At least 0.2 s, each of another length.
            audio = noise(0.2 + 0.01 * n, rate, seed=n)
            if extension == "opus":
                soundfile.write(folder / f"{utt}.opus", audio, rate, format="OGG", subtype="OPUS")
            else:
                soundfile.write(folder / f"{utt}.{extension}", audio, rate)
            with open(folder / f"{speaker}-{chapter}.trans.txt", "a", encoding="utf-8") as f:
                f.write(f"{utt} WORD{n} OF  TEST\n")
        return tmp_path / "corpus"

    return make


@pytest.fixture
def cli(monkeypatch, capsys):
    """Return a function that runs `espnet_kd.bin.<verb>` and returns (exit code, stderr)."""

    def run(verb: str, *argv: object) -> "tuple[int, str]":
        module = importlib.import_module(f"espnet_kd.bin.{verb}")
        monkeypatch.setattr(sys, "argv", [f"{verb}.py", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            module.main()
        return exit_.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def ok(cli):
    """Like `cli`, for a call that must succeed."""

    def run(verb: str, *argv: object) -> str:
        code, err = cli(verb, *argv)
        assert code == 0, err
        return err

    return run


@pytest.fixture
def shared_data() -> Path:
    path = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return path
