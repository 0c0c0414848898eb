"""Known contents of the parts of LibriSpeech and mini LibriSpeech."""

import logging
import os
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional

from espnet_kd.errors import UserError, nearest

NAMED = 5  # missing chapters named in a warning


class Part(NamedTuple):
    """One archive of openslr.org.

    Attributes:
        resource: Number of the resource there: 12 LibriSpeech, 31 mini LibriSpeech.
        size: Bytes of the archive.
        checksum: `sha256:` or `md5:` and the digest of the archive.
        utterances: Utterances inside.
        hours: Hours of speech, where a source says so.
    """

    resource: int
    size: int
    checksum: str
    utterances: int
    hours: Optional[float]


# Sizes: ESPnet's and Kaldi's local/download_and_untar.sh. SHA-256: torchaudio's
# datasets/librispeech.py. MD5: PaddleSpeech's script for mini LibriSpeech. Utterances: the
# catalogue of TensorFlow Datasets (training), ESPnet's tables of results (the other sets of
# LibriSpeech), counted (train-clean-5), as it is commonly given (dev-clean-2). Hours: the
# minutes of CHAPTERS.TXT, which is part of the corpus.
# fmt: off
PARTS: Dict[str, Part] = {
    "train-clean-100": Part(
        12, 6387309499,
        "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
        28539, 100.59),
    "train-clean-360": Part(
        12, 23049477885,
        "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
        104014, 363.61),
    "train-other-500": Part(
        12, 30593501606,
        "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
        148688, 496.86),
    "dev-clean": Part(
        12, 337926286,
        "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
        2703, 5.39),
    "dev-other": Part(
        12, 314305928,
        "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
        2864, 5.12),
    "test-clean": Part(
        12, 346663984,
        "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
        2620, 5.40),
    "test-other": Part(
        12, 328757843,
        "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
        2939, 5.34),
    "train-clean-5": Part(
        31, 332954390, "md5:5df7d4e78065366204ca6845bb08f490", 1519, None),
    "dev-clean-2": Part(
        31, 126046265, "md5:6d7ab67ac6a1d2c993d050e16d61080d", 1089, None),
}
# fmt: on
TRAIN_960 = ("train-clean-100", "train-clean-360", "train-other-500")


def find_parts(names: Iterable[str]) -> List[str]:
    """Return the names as openslr.org spells them, each once.

    Raises:
        UserError: one that is no part of LibriSpeech.
    """
    parts = [name.replace("_", "-") for name in names]
    for name in parts:
        if name not in PARTS:
            raise UserError(
                f"no corpus named, and '{name}' is no part of LibriSpeech that could be "
                f"downloaded{nearest(name, PARTS)}; give the folder that holds LibriSpeech/ with "
                "--corpus DIR, or set LIBRISPEECH=DIR in db.sh or the environment"
            )
    return list(dict.fromkeys(parts))


def warn_if_incomplete(
    root: Path, name: str, utterances: int, hours: float, chapters: set
) -> None:
    """Warn if a part holds fewer or more utterances than LibriSpeech's does.

    Args:
        root: The folder of the sets, with `CHAPTERS.TXT` in it or not.
        name: Name of the set; one that LibriSpeech does not have is passed over.
        utterances: Number of its utterances.
        hours: Length of its audio.
        chapters: Numbers of its chapters.
    """
    part = PARTS.get(name)
    if part is None or utterances == part.utterances:
        return
    known = f"{part.utterances} utterances" + (f" ({part.hours:g} h)" if part.hours else "")
    if utterances > part.utterances:
        missing = f"{utterances - part.utterances} too many"
    else:
        missing = f"{part.utterances - utterances} missing"
    absent = sorted(_chapters(root, name) - chapters, key=int)
    if absent:
        more = ", ..." if len(absent) > NAMED else ""
        missing += f", among them {len(absent)} chapters ({', '.join(absent[:NAMED])}{more})"
    logging.warning(
        f"{name}: {utterances} utterances ({hours:.2f} h) found, LibriSpeech has {known}: "
        f"{missing}; "
        f"if that is not on purpose, remove {os.path.join(root, name)} and unpack it again, "
        "then redo stage 1: --stage 1 --stop_stage 1 --force true"
    )


def _chapters(root: Path, name: str) -> set:
    """Return the chapters that `CHAPTERS.TXT` lists for a part; mini's lists another's."""
    try:
        with open(root / "CHAPTERS.TXT", encoding="utf-8", errors="replace") as f:
            rows = [[cell.strip() for cell in line.split("|")] for line in f if line[0] != ";"]
    except OSError:
        return set()
    return {row[0] for row in rows if len(row) > 3 and row[3] == name and row[0].isdecimal()}
