"""Segments as text, JSON lines, SRT and WebVTT."""

import json
from typing import Any, Dict, Iterator, List, Optional

from espnet_kd.device.recogniser import Segment, Word

FORMATS = ("text", "json", "srt", "vtt")
SUFFIX = {"text": ".txt", "json": ".jsonl", "srt": ".srt", "vtt": ".vtt"}
CUE_LETTERS = 84  # of a subtitle: two lines
CUE_SECONDS = 7.0


class Writer:
    """Makes lines of one source's segments.

    Args:
        output_format: One of `FORMATS`.
        name: Name of the source, where there are several.
    """

    def __init__(self, output_format: str, name: Optional[str] = None) -> None:
        self.format, self.name, self._cues = output_format, name, 0

    def head(self) -> str:
        """Return what stands before all segments."""
        return "WEBVTT\n\n" if self.format == "vtt" else ""

    def segment(self, segment: Segment) -> str:
        """Return the lines of a segment that has ended."""
        if self.format == "text":
            return f"{self.name} {segment.text}\n" if self.name else f"{segment.text}\n"
        if self.format == "json":
            return self._json("final", segment)
        lines = ""
        for cue in cues(segment.words):
            self._cues += 1
            point = "," if self.format == "srt" else "."
            times = f"{clock(cue[0].start, point)} --> {clock(cue[-1].end, point)}"
            number = f"{self._cues}\n" if self.format == "srt" else ""
            lines += f"{number}{times}\n{' '.join(w.text for w in cue)}\n\n"
        return lines

    def partial(self, segment: Segment) -> str:
        """Return the line of a segment that goes on: what is stable, then a bar, then the rest."""
        if self.format == "json":
            return self._json("partial", segment)
        if self.format == "text":
            return f"{segment.stable} |{segment.text[len(segment.stable) :]}"
        return ""

    def _json(self, kind: str, segment: Segment) -> str:
        fields: Dict[str, Any] = {"type": kind}
        if self.name:
            fields["source"] = self.name
        fields.update(text=segment.text, start=round(segment.start, 3), end=round(segment.end, 3))
        if kind == "partial":
            fields["stable"] = segment.stable
        else:
            fields["words"] = [
                {"text": w.text, "start": round(w.start, 3), "end": round(w.end, 3)}
                for w in segment.words
            ]
            fields["tokens"] = [{"text": t.text, "time": round(t.time, 3)} for t in segment.tokens]
        return json.dumps(fields, ensure_ascii=False) + "\n"


def cues(words: List[Word]) -> Iterator[List[Word]]:
    """Split words into subtitles: as many as two lines hold, no longer than some seconds."""
    cue: List[Word] = []
    letters = 0
    for word in words:
        too_long = letters + 1 + len(word.text) > CUE_LETTERS
        if cue and (too_long or word.end - cue[0].start > CUE_SECONDS):
            yield cue
            cue, letters = [], 0
        cue.append(word)
        letters += 1 + len(word.text)
    if cue:
        yield cue


def clock(seconds: float, point: str) -> str:
    """Write a time as `hours:minutes:seconds` with thousandths behind `point`."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
