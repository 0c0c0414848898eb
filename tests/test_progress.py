"""What progress lines say."""

import io
import logging

import pytest

from espnet_kd.cli import new_parser
from espnet_kd.errors import UserError, run_main
from espnet_kd.progress import Progress, clock, pace


@pytest.mark.parametrize(
    "speed, said",
    [(2.5, "2.5 utt/s"), (0.2, "0.2 utt/s"), (0.025, "40 s/utt"), (0.0, "0.0 utt/s")],
)
def test_slow_items_are_told_in_seconds(speed, said):
    assert pace(speed, "utt") == said


def test_clock():
    assert [clock(s) for s in (5.4, 65, 3600)] == ["0:05", "1:05", "1:00:00"]


class Terminal(io.StringIO):
    """A terminal of so many columns."""

    def isatty(self):
        return True


def test_in_a_terminal_one_line_changes(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress("train " + 60 * "x", 20, interval=0)
    progress.update(note="loss 12.34, tokens 100")
    progress.update()
    progress.close()
    shown = terminal.getvalue().split("\r\x1b[K")[1:]
    assert [line[-1] for line in shown] == ["\r", "\r", "\n"]
    assert all(len(line) <= 80 for line in shown)  # with what ends it


def test_in_a_log_every_line_is_marked(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    progress = Progress("train", 2, interval=0)
    progress.update()
    progress.close()
    assert [line.split(",")[0] for line in log.getvalue().splitlines()] == [
        "[progress] train: 1/2 utt",
        "[progress] train: 1/2 utt",
    ]


def test_lines_of_a_log_are_short(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    progress = Progress("train kd_train_student_raw_en_char_stage1", 7200, "batch", interval=0)
    progress.start -= 1500
    progress.update(6930, note="epoch 58/60, loss 15.32, transducer 9.20, 390 tokens/s")
    short = Progress("train asr_x", 12, "batch", interval=0)
    short.start -= 3
    short.update(note="epoch 1/2")
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("[progress] train \u2026_stage1: 6930/7200 batch, ")
    assert lines[1].startswith("[progress] train asr_x: 1/12 batch, ")
    assert all(len(line) <= 80 and "ETA" in line for line in lines)
    # What is left out stands in the training's own lines, and in history.json.
    assert [line.count(", epoch ") for line in lines] == [1, 1]


def test_what_is_said_between_stands_on_a_line_of_its_own(monkeypatch):
    """Else the end of the line that it takes the place of would stay."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.argv", ["verb.py"])
    monkeypatch.setattr(logging.root, "handlers", [])

    @run_main
    def main():
        new_parser("A verb.").parse_args()
        progress = Progress("format", 9, interval=0)
        progress.update()
        logging.warning("short")
        progress.update()
        raise UserError("no")

    with pytest.raises(SystemExit):
        main()
    for line in ("short", "verb.py: error: no"):
        before, _, _ = terminal.getvalue().partition(line)
        assert "\r" not in before[before.rindex("\r\x1b[K") + 1 :]
