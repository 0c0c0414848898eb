"""NIST's sclite: find it, run it, read its summary."""

import os
import re
import shutil
import subprocess
from typing import List, Mapping, Optional

from espnet_kd.errors import UserError
from espnet_kd.fileio import PathLike

_DEBIAN = "/usr/lib/sctk/bin/sclite"  # `apt install sctk` leaves it out of PATH
_NUMBER = re.compile(r"[\d.]+")


class ScliteError(Exception):
    """sclite did not score: its own words."""


def find_sclite(environ: Mapping[str, str] = os.environ) -> Optional[str]:
    """Return the path of sclite: `$SCLITE`, else PATH, else Debian's place, else None.

    `SCLITE=none` turns it off.

    Raises:
        UserError: `$SCLITE` names something that cannot be run.
    """
    named = environ.get("SCLITE")
    if named:
        program = shutil.which(named, path=environ.get("PATH"))
        if program or named == "none":
            return program
        raise UserError(f"SCLITE={named}: no such program; correct it, or SCLITE=none")
    return shutil.which("sclite", path=environ.get("PATH")) or shutil.which(_DEBIAN)


def run_sclite(program: str, ref: PathLike, hyp: PathLike) -> str:
    """Score two trn files exactly as asr.sh does and return what sclite prints.

    Raises:
        ScliteError: it ended with an error or without a summary.
    """
    command = [program, "-r", str(ref), "trn", "-h", str(hyp), "trn"]
    command += ["-i", "rm", "-o", "all", "stdout"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    except OSError as e:
        raise ScliteError(f"{program}: {e.strerror}") from None
    if done.returncode or sum_row(done.stdout) is None:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no summary"]
        raise ScliteError(" ".join(lines[:2]))
    return done.stdout


def sum_row(result: str, label: str = "Sum/Avg") -> Optional[List[float]]:
    """Read a summary row of `result.txt`.

    Args:
        result: The text of the file.
        label: `Sum/Avg` for percentages, `Sum` for the plain counts.

    Returns:
        `[sentences, words, correct, sub, del, ins, err, sentence errors]`, or None if the
        row is not there.
    """
    for line in result.splitlines():
        cells = line.strip().strip("|").split("|")
        if cells[0].strip() == label:
            return [float(x) for x in _NUMBER.findall(" ".join(cells[1:]))]
    return None
