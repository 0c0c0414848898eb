"""`model.json`: written, read, and refused in one line."""

import dataclasses
import json

import pytest

from espnet_kd.device.description import (
    Description,
    Source,
    check_files,
    read_description,
    write_description,
)
from espnet_kd.errors import UserError

FILES = ("encoder.onnx", "predictor.onnx", "joiner.onnx", "tokens.txt")


def a_description(**changes):
    fields = Description(
        format="float32",
        sampling_rate=16000,
        n_fft=640,
        win_length=400,
        hop_length=160,
        n_mels=20,
        fmin=0.0,
        fmax=8000.0,
        htk=False,
        log_floor=1e-10,
        subsampling=4,
        chunk_size=4,
        left_context=8,
        states={"att": [4, 8, 16], "conv": [4, 16, 4], "h": [1, 16], "c": [1, 16]},
        token_type="char",
        predictor="lstm",
        source=Source("teacher", "0" * 64),
        bytes=dict.fromkeys(FILES, 1),
        parity={"encoder": 1e-6, "wer": None},
    )
    return dataclasses.replace(fields, **changes)


def test_reads_what_it_wrote(tmp_path):
    write_description(tmp_path, a_description())
    assert read_description(tmp_path) == a_description()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "int9", "format: 'int9' is not one of float32, float16, int8, int4 (did"),
        ("win_length", 700, "win_length: expected at most n_fft (640), found '700'"),
        ("fmax", 8001, "fmin, fmax: expected a band below 8000 Hz, found 0 to 8001"),
        ("chunk_size", 0, "chunk_size: expected at least 1, found '0'"),
        ("log_floor", 0, "log_floor: expected more than 0"),
        ("htk", 1, "htk: expected true or false, found '1'"),
        ("states", {"att": [4, 8, 16]}, "states.conv: expected 3 sizes, found nothing"),
        ("bytes", {}, "bytes: no size of 'encoder.onnx'"),
        ("source", {"model": "x"}, "source: no field 'digest'"),
        ("beam", 4, "unknown field 'beam'"),
    ],
)
def test_refuses_what_cannot_be(tmp_path, field, value, message):
    write_description(tmp_path, a_description())
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(UserError) as e:
        read_description(tmp_path)
    assert str(e.value).startswith(f"{path}: {message}")
    assert str(e.value).endswith("; export the model again")


def test_the_folder_above_is_no_model(tmp_path):
    for form in ("int8", "float32"):
        (tmp_path / form).mkdir()
        write_description(tmp_path / form, a_description())
    with pytest.raises(UserError, match="name the folder of a format in it: float32, int8$"):
        read_description(tmp_path)


def test_a_file_that_was_cut_short_is_refused(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(b"x")
    check_files(tmp_path, a_description())
    (tmp_path / "joiner.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="joiner.onnx: 0 bytes, but 1 by model.json"):
        check_files(tmp_path, a_description())
    (tmp_path / "tokens.txt").unlink()
    with pytest.raises(UserError, match="no such file|0 bytes"):
        check_files(tmp_path, a_description())
