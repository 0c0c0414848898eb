"""Kaldi's tables."""

import pytest

from espnet_kd.errors import UserError
from espnet_kd.fileio import read_table


def test_blanks_and_tabs_part_the_columns(tmp_path):
    path = tmp_path / "text"
    path.write_text("a HELLO  WORLD \n\nb\tGOOD\tBYE\nc\n d  E\n")
    assert read_table(path) == {"a": "HELLO  WORLD", "b": "GOOD\tBYE", "c": "", "d": "E"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a 1\nb 2\na\t3\n", "text:3: the key 'a' stands there twice"),
        (b"a \xff\n", "text: not UTF-8"),
        (None, "text: no such file; run the stage that makes it first"),
    ],
)
def test_refuses(tmp_path, content, message):
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "text")
