"""Hostile and unlucky YAML, through everything that reads it without torch."""

import time

import pytest
import yaml

from espnet_kd.cli import check_configs
from espnet_kd.deploy.bundle import read_config as read_model_config
from espnet_kd.errors import UserError
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import read_config

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi")
)
APPLY = "!!python/object/apply:os.system ['touch payload']"
CASES = {
    "latin-1": (b"# ok\nstages: [{name: Gr\xf6\xdfe}]\n", ":2: not UTF-8: byte 0xf6 at offset 23"),
    "utf-16": ("stages: []".encode("utf-16"), ":1: not UTF-8: byte 0xff at offset 0"),
    "recursion": (b"stages: &s [*s]\n", ":1: stages[0]: '*s' contains itself"),
    "recursion in a key": (b"stages: &s {train: {x: *s}}\n", "stages.train.x: '*s' contains its"),
    "aliases": (LAUGHS.encode(), ":5: more than 100,000 values, aliases expanded"),
    "depth": (b"stages: " + b"[" * 3000, ":1: nested more than 40 levels deep"),
    "depth in blocks": (b"- " * 3000 + b"a", ":1: nested more than 40 levels deep"),
    "mixed keys": (b"stages: []\n1: a\nb: c\n", ":2: the key '1' is not text; write it in quotes"),
    "a boolean key": (b"on: 3\n", ":1: the key 'on' is not text"),
    "a null key": (b"stages:\n  ~: 3\n", ":2: stages: the key '~' is not text"),
    "a list as key": (b"? [a]\n: 3\n", ":1: the key of several values is not text"),
    "10^400": (b"max_epoch: 1" + b"0" * 400, ":1: max_epoch: '1000"),
    "too many digits": (b"max_epoch: " + b"9" * 9000, "99...' is not a usable number"),
    "digits in base 60": (b"max_epoch: " + b":".join([b"59"] * 9000), "is not a usable number"),
    "overflow": (b"seed: 1.0e+400\n", ":1: seed: '1.0e+400' is not a usable number"),
    "nan": (b"kd_conf:\n  weight: .nan\n", ":2: kd_conf.weight: '.nan' is not a usable number"),
    "a date": (b"seed: 2026-11-26\n", ":1: seed: YAML reads '2026-11-26' as no text"),
    "no date": (b"seed: 2026-99-99\n", ":1: seed: YAML reads '2026-99-99' as no text"),
    "tab": (b"stages:\n\t- a\n", ":2: not valid YAML: while scanning for the next token"),
    "control": (b"seed: \x00\n", ":1: not valid YAML: unacceptable character"),
    "python": (f"seed: {APPLY}\n".encode(), ":1: seed: the tag 'tag:yaml.org,2002:python/object/"),
    "python key": (f"? {APPLY}\n: 3\n".encode(), ":1: the tag 'tag:yaml.org,2002:python/object/"),
    "binary": (b"seed: !!binary AAAA\n", ":1: seed: the tag 'tag:yaml.org,2002:binary' is not"),
    "tag": (b"seed: !int 3\n", ":1: seed: the tag '!int' is not accepted"),
    "duplicate": (b"seed: 1\nx: 2\nseed: 3\n", ":3: duplicate key 'seed', first in line 1; rem"),
    "nested duplicate": (b"kd_conf: {weight: 1,\n weight: 2}\n", ":2: kd_conf: duplicate key"),
    "two documents": (b"seed: 1\n---\nseed: 2\n", ":2: not valid YAML: expected a single docu"),
    "unknown alias": (b"seed: *s\n", ":1: not valid YAML: found undefined alias 's'"),
    "cut": (b"stages:\n- {target: 0.5,\n", ":3: not valid YAML: while parsing a flow node, exp"),
    "a list": (b"- a\n- b\n", ": expected options by name ('key: value'), found '['a', 'b']'"),
    "text": (b"stages\n", ": expected options by name ('key: value'), found 'stages'"),
    "nothing": (b"", ": the file is empty; "),
    "comments": (b"# stages\n", ": the file is empty; "),
    "large": (b"#" * 2**22, ": larger than 2,097,152 bytes, which no config is"),
}  # fmt: skip
READERS = {
    "plan": load_plan,
    "training": read_config,
    "model": lambda path: read_model_config(path.parent),
    "command line": lambda path: check_configs(["--config", str(path)], "--config"),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("content, message", CASES.values(), ids=CASES)
def test_one_line_names_file_line_and_field(content, message, reader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(UserError) as e:
        reader(path)
    assert message in str(e.value) and "config.yaml:" in str(e.value)
    assert len(str(e.value)) < 400 and "\n" not in str(e.value)
    assert time.process_time() - start < 5
    assert not (tmp_path / "payload").exists()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_file(reader, tmp_path):
    with pytest.raises(UserError, match="config.yaml: no such file; "):
        reader(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(UserError, match="config.yaml: a directory, not a file; "):
        reader(tmp_path / "config.yaml")


def test_a_stage_that_lost_its_dash_is_refused(tmp_path):
    """It would swallow the stage before it, and the plan would be one stage shorter."""
    path = tmp_path / "plan.yaml"
    path.write_text(
        "stages:\n- name: one\n  target: 0.7\n\n  name: two\n  target: 0.5\n- target: 0.3\n"
    )
    with pytest.raises(UserError, match=r"plan.yaml:5: stages\[0\]: duplicate key 'name', first"):
        load_plan(path)


def test_what_is_read_is_what_espnet_reads(tmp_path):
    """ESPnet calls `yaml.safe_load`; anchors and merge keys are for those who use them."""
    path = tmp_path / "train.yaml"
    path.write_bytes(
        b"\xef\xbb\xbf# byte order mark\r\nseed: 0o7\r\nnames: [yes, no, '1', 1:30, 1e-4, ~]\r\n"
        b"grad_clip_type: .inf\nbatch_bins: 18446744073709551616\n"
        b"optim_conf: &optim\n  lr: 1.0e-3\n  betas: [0.9, 0.98]\n"
        b"scheduler_conf:\n  <<: *optim\n  lr: 2\n  both: *optim\n"
        b"text: |\n  two\n  lines\n"
    )
    config = read_config(path).options
    assert config == yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["scheduler_conf"]["lr"] == 2


def test_a_large_vocabulary_is_read(tmp_path):
    tokens = [f"token{n}" for n in range(20_000)]
    (tmp_path / "config.yaml").write_text(
        yaml.dump({"encoder_conf": {}, "token_list": tokens}, Dumper=yaml.CSafeDumper)
    )
    assert read_model_config(tmp_path)["token_list"] == tokens
