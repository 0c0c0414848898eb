"""The commands of README.md are ones that run: files, targets, options and extras are there.

`make demo` and `make test` are run by whoever checks a commit (.ci/run), the example by
test_examples.py; of the others everything but hours of training is run here or in tests/recipe.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BEGINNINGS = ("make ", "cd ", "./run.sh", "pip install", "python ", ". ")


def commands():
    """List the commands of the fenced blocks, and those between backquotes."""
    lines = []
    for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S):
        lines.append(" && ".join(line.partition("  #")[0].strip() for line in block.splitlines()))
    plain = re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S)
    lines += [code for code in re.findall(r"`([^`]+)`", plain) if code.startswith(BEGINNINGS)]
    return list(dict.fromkeys(lines))


def parts():
    """Yield every command with the folder that it runs in."""
    for line in commands():
        folder = ROOT
        for command in line.split(" && "):
            words = shlex.split(command)
            if words[0] == "cd":
                folder = ROOT / words[1]
            else:
                yield folder, words


def test_there_are_commands():
    verbs = {words[0] for _, words in parts()}
    assert {"make", "./run.sh", "pip", "python"} <= verbs
    assert len(TEXT.splitlines()) < 200


@pytest.mark.parametrize("folder, words", list(parts()), ids=lambda value: str(value)[-40:])
def test_a_command(folder, words, tmp_path):
    words = [re.sub(r"<\w+>", "x", word) for word in words]
    if words[0] == "make":
        run(["make", "--dry-run", *words[1:]], folder)
    elif words[0] == "./run.sh":
        if folder == ROOT:  # of any recipe
            folder = ROOT / "egs2/own_corpus/asr_kd"
        run([*words, "--help"], folder)
    elif words[:2] == ["python", "-m"]:
        known = run([sys.executable, *words[1:3], "--help"], folder)
        for word in words[3:]:
            assert not word.startswith("--") or word in known, word
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
        assert Path(words[1]).stem in (ROOT / "tests/test_examples.py").read_text()
    elif words[0] == "pip":
        for extra in re.findall(r"\[([\w,]+)\]", words[-1]):
            for name in extra.split(","):
                assert f'"{name}": [' in (ROOT / "setup.py").read_text()
        for word in words:
            assert not word.startswith("constraints/") or (ROOT / word).is_file()
    else:
        assert words == [".", ".venv/bin/activate"]


def run(words, folder):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "VIRTUAL_ENV": sys.prefix}
    done = subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
