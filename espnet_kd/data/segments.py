"""Kaldi's `segments` and `reco2file_and_channel`: utterances that are parts of recordings.

A line of `segments` is `<utt> <recording> <start> <end>`, in seconds; the end -1 is that of the
recording.
"""

import logging
import math
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Tuple

from espnet_kd.data.audio import BadAudio, Header, read_header
from espnet_kd.data.audio_source import is_command
from espnet_kd.errors import UserError

OVERSHOOT = 0.5  # seconds that an end may lie behind the recording's, as Kaldi allows it


class Segment(NamedTuple):
    """Place of an utterance in its recording.

    Attributes:
        recording: Name of the recording in `wav.scp`.
        start: Beginning in seconds.
        end: End in seconds; -1: the end of the recording.
    """

    recording: str
    start: float
    end: float

    @property
    def times(self) -> str:
        """Start and end as they stand in the table."""
        return f"{self.start} {self.end}"

    def frames(self, header: Header) -> range:
        """Return which sample frames of a file with this header the utterance has.

        Raises:
            BadAudio: the file is too short for that.
        """
        seconds = header.frames / header.rate
        if self.start >= seconds or self.end > seconds + OVERSHOOT:
            raise BadAudio(
                f"its segment, {self.start:g} to {self.end:g} s, goes beyond the end of the "
                f"recording, {seconds:.2f} s"
            )
        end = header.frames if self.end < 0 else min(header.frames, round(self.end * header.rate))
        return range(round(self.start * header.rate), end)


def parse_segment(utt: str, value: str, where: str) -> Segment:
    """Read `<recording> <start> <end>`.

    Args:
        utt: The utterance, for messages.
        value: Words behind it in `segments`.
        where: Name of the file, for messages.

    Raises:
        UserError: there are other fields, or the times are no times.
    """
    fields = value.split()
    if len(fields) == 4:
        raise UserError(
            f"{where}: '{utt}' names a channel ({fields[3]}); this recipe averages the channels "
            "of a file: write each channel to a file of its own"
        )
    try:
        recording, start, end = fields[0], *map(float, fields[1:])
    except (IndexError, ValueError):
        recording, start, end = "", math.nan, math.nan
    if not (0 <= start < math.inf and (start < end < math.inf or end == -1)):
        raise UserError(
            f"{where}: '{utt}' has '{value}'; <recording> <start> <end> are needed, in seconds, "
            "with the end behind the start, or -1"
        )
    return Segment(recording, start, end)


def by_utterance(
    segments: Mapping[str, str], wav: Mapping[str, str], where: str
) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Name the recording of each utterance like the utterance.

    Args:
        segments: The table.
        wav: Recording -> path.
        where: Name of the table, for messages.

    Returns:
        The same two tables, keyed by utterance; without a path for recordings that `wav` lacks.

    Raises:
        UserError: a line is wrong.
    """
    parts = {utt: parse_segment(utt, value, where) for utt, value in segments.items()}
    unused = len(wav.keys() - {part.recording for part in parts.values()})
    if unused:
        logging.warning(f"{where}: names no part of {unused} of the {len(wav)} recordings")
    files = {utt: wav[part.recording] for utt, part in parts.items() if part.recording in wav}
    return {utt: f"{utt} {part.times}" for utt, part in parts.items()}, files


def refuse_choice_of_channel(folder: Path, wav: Mapping[str, str]) -> None:
    """Refuse files of several channels where a data directory chooses one.

    Args:
        folder: The data directory.
        wav: Content of its `wav.scp`.

    Raises:
        UserError: there is such a file; its channels would be averaged.
    """
    table = folder / "reco2file_and_channel"
    if not table.exists():
        return
    for recording, path in wav.items():
        if is_command(path):  # which chooses itself, as sph2pipe's `-c 1` does
            continue
        try:
            channels = read_header(path).channels
        except BadAudio:
            continue  # counted when the audio is formatted
        if channels > 1:
            raise UserError(
                f"{table}: chooses a channel of {path} ('{recording}'), which has {channels}; "
                "this recipe would average them: write that channel to a file of its own"
            )
