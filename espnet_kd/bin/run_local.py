r"""Run a command, or an array of jobs, on this machine; called like Kaldi's run.pl.

    python -m espnet_kd.bin.run_local [--gpu N] [--mem X] [--num-threads N] [--max-jobs-run N] \
        [JOB=1:N] LOG command...

JOB stands for the number of the job in LOG and in the command. The words of the command are
passed as they are (no shell reads them). Options that only a scheduler can obey are accepted
and ignored. Lines of the log that begin with `[progress]` are copied to the terminal. If a job
fails, the others are ended. Ctrl-C and TERM end all of them.
"""

import re
import sys
from typing import List, NoReturn, Optional, Sequence

from espnet_kd.errors import run_main
from espnet_kd.run.jobs import Interrupted, JobError
from espnet_kd.run.local_jobs import Array, run_array

PROGRAM = "run_local"


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Run the jobs."""
    words = list(sys.argv[1:] if cmd is None else cmd)
    if words[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    try:
        run_array(read_call(words), PROGRAM)
    except JobError as e:
        return e.code
    except Interrupted as e:
        return 128 + e.number
    return 0


def read_call(words: List[str]) -> Array:
    """Read options, the range of jobs, the log and the command."""
    name, first, last, at_once = "", 1, 1, 0
    while words:
        word = words[0]
        array = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=([0-9]{1,9})(?::([0-9]{1,9}))?", word)
        if word == "-V":
            del words[0]
        elif word.startswith("-"):
            if len(words) < 2:
                _fail(f"option {word} needs a value")
            value = words[1]
            if word.replace("_", "-") == "--num-nodes" and value not in ("", "0", "1"):
                _fail(f"the local backend cannot use {value} machines; set cmd_backend in cmd.sh")
            if word.replace("_", "-") in ("--max-jobs-run", "-tc"):
                if not re.fullmatch("[1-9][0-9]{0,8}", value):
                    _fail(f"{word} must be a positive integer, not '{value}'")
                at_once = int(value)
            del words[:2]
        elif array and not name:
            name, first = array[1], int(array[2])
            last = int(array[3] or first)
            if not 1 <= first <= last:
                _fail(f"bad job range '{word}'")
            del words[0]
        else:
            break
    if len(words) < 2:
        _fail(f"usage: {PROGRAM} [options] [JOB=1:N] LOG command...")
    log, *command = words
    count = last - first + 1
    if count > 1 and name not in log:
        _fail(f"{count} jobs would write one log: put {name} into '{log}'")
    # As many at a time as asked: the caller knows how many threads a job has.
    return Array(name, first, last, at_once or count, log, command)


def _fail(message: str) -> NoReturn:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
