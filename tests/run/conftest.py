"""What `check_options` tells of a recipe's options."""

import zipfile
from pathlib import Path

import pytest

from espnet_kd.bin import check_options
from espnet_kd.run import prerequisites
from tests.run.right_options import GOOD, KEPT, PLAN, STAGES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe's folder in which nothing is wrong with `GOOD`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prerequisites, "torch_is_cpu_build", lambda: False)
    monkeypatch.setattr(prerequisites, "gpus", lambda: 1)
    Path("conf").mkdir()
    for name in "train_teacher", "train_student":
        Path(f"conf/{name}.yaml").write_text(f"optim: adam\nmax_epoch: 3\n{KEPT}")
    Path("conf/decode.yaml").write_text("beam_size: 2\n")
    Path("conf/compression.yaml").write_text(PLAN)
    Path("theirs").mkdir()
    Path("theirs/config.yaml").write_text(
        "joint_network_conf: {}\nfrontend_conf: {fs: 16k}\ntoken_list: [a]\n"
    )
    with zipfile.ZipFile("theirs/a.pth", "w") as z:
        z.writestr("data.pkl", "x" * 5000)
    return tmp_path


@pytest.fixture
def told(folder, capsys):
    """A function that checks options and returns the lines it prints."""

    def check(backend="local", **values):
        words = [f"--{name}={value}" for name, value in {**GOOD, **values}.items()]
        words += ["--known_stages", *map(str, STAGES), "--cmd_backend", backend]
        with pytest.raises(SystemExit) as e:
            check_options.main(words)
        out, err = capsys.readouterr()
        lines = err.splitlines()
        assert bool(lines) == (out == "") and e.value.code == bool(lines)
        assert all(line.startswith("check_options: error: ") for line in lines), err
        return [line.removeprefix("check_options: error: ") for line in lines]

    return check
