"""Whether models were scored on the same references: the same utterances, and the same words."""

from pathlib import Path
from typing import Dict, List, Optional

from espnet_kd.scoring.counts import Counts
from espnet_kd.scoring.units import as_sclite

FILE = "ref.trn"


def read_texts(folder: Path, counts: Dict[str, Counts]) -> Optional[Dict[str, List[str]]]:
    """Return the tokens of each reference as they are compared.

    Args:
        folder: A folder of scores, such as `score_wer`.
        counts: Its counts, whose order is that of the references.

    Returns:
        Utterance -> tokens; None where the references are not there, or of other utterances.
    """
    try:
        text = (folder / FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    lines = text.split("\n")[:-1]
    if len(lines) != len(counts):
        return None
    texts = (line.rpartition("\t(")[0].split(" ") for line in lines)
    return {utt: as_sclite(tokens) for utt, tokens in zip(counts, texts)}


def same_references(
    folder: Path, counts: Dict[str, Counts], other: Path, theirs: Dict[str, Counts]
) -> bool:
    """Tell whether two scorings have the same references.

    Args:
        folder: A folder of scores.
        counts: Its counts.
        other: The other folder of scores.
        theirs: Its counts.

    Returns:
        Whether utterances, numbers of tokens and, where both folders hold them, texts agree.
    """
    if [(u, c.ref_words) for u, c in counts.items()] != [
        (u, c.ref_words) for u, c in theirs.items()
    ]:
        return False
    files = [place / FILE for place in (folder, other)]
    if not all(file.is_file() for file in files):
        return True
    if files[0].read_bytes() == files[1].read_bytes():
        return True
    texts = read_texts(folder, counts)
    return texts is not None and texts == read_texts(other, theirs)
