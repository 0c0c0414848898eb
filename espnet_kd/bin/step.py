r"""Decide whether a step of the recipe has to be done; note its beginning and its end.

    python -m espnet_kd.bin.step needed dump/raw/dev format_audio \
        fs=16k tables:data/dev out:wav.scp out:text
    python -m espnet_kd.bin.step done dump/raw/dev format_audio
    python -m espnet_kd.bin.step current exp/m/decode/dev decode exp/m/decode/dev score

`needed` ends with 0 if the step has to be done, with 10 if its finished work can be used again,
with 11 if only options that do not change what is learnt are to be brought up to date.
`current` looks at finished work only: 12 if it, or an input, is not what it was. What the words
after the step's name mean stands in espnet_kd/run/step.py.

`serve` answers such questions one after the other: the number of words and the words, each
ended by a zero byte, are read from stdin; exit code and, after a blank, what `current` says are
written to stdout, one line an answer.
"""

import argparse
import os
import signal
import sys
import time
from typing import List, Optional, Sequence, TextIO, Tuple, Union

from espnet_kd.cli import new_parser, str2bool
from espnet_kd.errors import UserError, run_main
from espnet_kd.run.step import decide, finish, make_record, problem_of

CODES = {"needed": 0, "finished": 10, "refresh": 11}
STALE = 12


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--program", default="step", help="name for messages")
    add("--stage", default="", help="stage of the recipe, for messages")
    add("--scope", default="", help="options that run that stage and nothing else")
    add("--force", type=str2bool, default=False, help="do it in any case")
    add("--log_fd", type=int, default=1, help="descriptor for what `serve` logs")
    add("what", choices=("needed", "done", "current", "serve"), help="question, or note")
    add("words", nargs="*", metavar="DIR STEP WORD", help="step, and what it is made from")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Decide, or note."""
    args = get_parser().parse_args(cmd)
    if args.what == "serve":
        return _serve(args.log_fd)
    code, line = answer(args, sys.stdout)
    if line:
        print(line)
    return code


def answer(args: argparse.Namespace, log: TextIO) -> Tuple[int, str]:
    """Answer one question.

    Returns:
        The exit code and, of `current`, why not.

    Raises:
        UserError: the step was done, or begun, otherwise; see `decide` and `finish`.
    """
    if len(args.words) < 2 or (args.what == "current" and len(args.words) % 2):
        raise UserError(f"a directory and a step are needed, found '{' '.join(args.words)}'")
    folder, step, *words = args.words
    if args.what == "current":
        for folder, step in zip(args.words[::2], args.words[1::2]):
            problem = problem_of(folder, step)
            if problem:
                return STALE, problem
        return 0, ""
    if args.what == "done":
        finish(folder, step, words, stage=args.stage, scope=args.scope)
        return 0, ""
    record = make_record(folder, step, words, stage=args.stage, scope=args.scope)
    decision = decide(record, args.force)
    for line in decision.lines:
        now = time.strftime("%Y-%m-%dT%H:%M:%S")  # as the recipe's own lines begin
        print(f"{now} ({args.program}) Stage {args.stage}: {line}", file=log, flush=True)
    return CODES[decision.verdict], ""


def _serve(log_fd: int) -> int:
    """Answer until stdin ends, as it does when the recipe has ended."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the recipe says that it was interrupted
    with open(log_fd, "w", encoding="utf-8") as log:
        while words := _read_request():
            reply: Tuple[Union[int, str], str] = (2, "")

            @run_main
            def reply_to(words=words):
                nonlocal reply
                reply = answer(get_parser().parse_args(words), log)

            try:
                reply_to()
            except SystemExit as e:
                if e.code:
                    reply = (e.code, "")
            print(*reply, flush=True)
    return 0


def _read_request() -> List[str]:
    """Read the words of a question; none at the end of stdin."""
    count = _read_word()
    return [_read_word() for _ in range(int(count))] if count else []


def _read_word() -> str:
    return os.fsdecode(b"".join(iter(_read_byte, b"\0")))


def _read_byte() -> bytes:
    return sys.stdin.buffer.read(1) or b"\0"  # the end of stdin ends a word, too


if __name__ == "__main__":
    main()
