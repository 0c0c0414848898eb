"""Kaldi's tables."""

import random

import pytest

from espnet_kd import fileio
from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table


def test_blanks_and_tabs_part_the_columns(tmp_path):
    path = tmp_path / "text"
    path.write_text("a HELLO  WORLD \n\nb\tGOOD\tBYE\nc\n d  E\n")
    assert read_table(path) == {"a": "HELLO  WORLD", "b": "GOOD\tBYE", "c": "", "d": "E"}


def test_a_file_of_windows_reads_as_any_other(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa HELLO  WORLD\r\n\r\nb\tX\r\nc")
    assert read_table(path) == {"a": "HELLO  WORLD", "b": "X", "c": ""}


def test_separators_of_unicode_end_no_line(tmp_path):
    path = tmp_path / "text"
    texts = {"a": "X\u2028Y", "b": "X\u2029Y", "c": "X\xa0Y", "d": "\u3000X\u200bY\xa0"}
    path.write_text("".join(f"{utt} {text}\n" for utt, text in texts.items()), encoding="utf-8")
    assert read_table(path) == texts


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a 1\nb 2\na\t3\n", "text:3: duplicate key 'a'"),
        (b"a \xff\n", "text:1: not UTF-8"),
        ("a HELLO\n".encode("utf-16"), "text:1: not UTF-8"),
        (b"a 1\nb HELLO\rWORLD\n", r"text:2: a carriage return .* after 'b HELLO'"),
        (b"a 1\nb HELLO\rc WORLD\r\n", "text:2: a carriage return"),
        (b"a 1\nb 2\n\0\0\0\0", r"text:3: the control character U\+0000"),
        (b"a X\x0cY\n", r"text:1: the control character U\+000C"),
        ("a X\x85Y\n".encode(), r"text:1: the control character U\+0085"),
        (b"a X\x1cY\n", r"text:1: the control character U\+001C"),
        ("a\xa0X Y\n".encode(), r"text:1: the key 'a\\xa0X' holds white space"),
        (None, "text: no such file; run the stage that makes it first"),
    ],
)
def test_refuses(tmp_path, content, message):
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "text")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path)


def test_the_fast_reading_is_the_careful_one(tmp_path, monkeypatch):
    """Of random files; most of them hold nothing unusual, or one thing."""
    rng, path = random.Random(0), tmp_path / "text"

    def outcome():
        try:
            return list(read_table(path).items())
        except UserError as e:
            return str(e)

    fast = 0
    for _ in range(1000):
        parts = rng.choices(["a", "é", "b1 ", " ", "\n", "c X\n"], k=rng.randint(0, 12))
        if rng.random() < 0.5:
            parts.insert(rng.randint(0, len(parts)), rng.choice(["\t", "\r", "\ufeff", "\xa0"]))
        path.write_bytes("".join(parts).encode())
        before = outcome()
        with monkeypatch.context() as patch:
            fast += fileio._plain_table(path.read_bytes()) is not None
            patch.setattr(fileio, "_plain_table", lambda content: None)
            assert outcome() == before
    assert fast > 50
