"""A place that no file can be written to is refused before anything is read for it."""

import argparse
import importlib

import pytest

from espnet_kd.common.records import DELAY, SPEED
from espnet_kd.deploy.measuring import decoding_words
from espnet_kd.errors import UserError

COMMANDS = {
    "compare_arms": ("--pair=a/b=a/c",),
    "report_seeds": ("--run=a", "--run=b"),
    "check_text": ("--token_list=a", "--token_type=char", "--config=a", "--data=a"),
    "plan": ("--teacher_exp=a", "--target=0.5", "--force=true"),
}


def told(capsys, name, *words):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"espnet_kd.bin.{name}").main(list(words))
    assert end.value.code == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_or_a_place_in_a_file(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "file").write_text("")
    line = told(capsys, name, *COMMANDS[name], "--out=folder.md")
    assert "--out folder.md: a" in line and "file is expected, such as" in line
    line = told(capsys, name, *COMMANDS[name], "--out=file/x.md")
    assert "--out file/x.md: file is a file; a folder is expected" in line


@pytest.mark.parametrize("record", [SPEED, DELAY], ids=["speed", "delay"])
def test_the_record_of_a_measurement(tmp_path, record):
    out = tmp_path / record.file
    out.mkdir()
    args = argparse.Namespace(inference_args="", inference_config=None, out=out)
    with pytest.raises(UserError, match=f"--out {out}: a JSON file is expected"):
        decoding_words(args, record)


def test_the_folder_of_a_page_on_robustness(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    words = ("--model=a=a", "--model=b=b", "--test_sets=a", "--inference_tag=a", "--exp=file")
    assert "file is a file; a folder is expected" in told(capsys, "robustness", *words)
