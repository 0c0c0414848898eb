"""Transcribe sources one after another and write what is heard as it is heard."""

import logging
import resource
import sys
import time
from pathlib import Path
from typing import Optional, TextIO

from espnet_kd.device.recogniser import Listener, Pauses, Recogniser, Segment
from espnet_kd.device.sources import Source
from espnet_kd.device.subtitles import SUFFIX, Writer
from espnet_kd.errors import UserError
from espnet_kd.fileio import atomic_open

CLEAR = "\r\x1b[K"  # a terminal's line
FAINT, PLAIN = "\x1b[2m", "\x1b[0m"


class Transcription:
    """Writes what is heard in each source.

    Args:
        recogniser: The model.
        pauses: Rules by which a segment ends.
        output_format: See `subtitles.FORMATS`.
        partials: Whether to write segments that go on; None: where a terminal reads them, and
            in JSON.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        pauses: Pauses,
        output_format: str = "text",
        partials: Optional[bool] = None,
    ) -> None:
        self.recogniser, self.pauses, self.format = recogniser, pauses, output_format
        self.terminal = sys.stdout.isatty() and output_format == "text"
        if partials is None:
            partials = self.terminal or output_format == "json"
        self.partials = partials and output_format in ("text", "json")
        self.audio_seconds = self.busy_seconds = 0.0

    def to_stdout(self, source: Source, name: str, show_name: bool) -> None:
        """Transcribe a source and print it.

        Args:
            source: The sound.
            name: Name of the source, for messages.
            show_name: Whether its lines hold the name.
        """
        self._run(source, name, Writer(self.format, name if show_name else None), sys.stdout)

    def to_file(self, source: Source, name: str, path: Path) -> None:
        """Transcribe a source into a file, which is there when it is complete.

        Args:
            source: The sound.
            name: Name of the source, for messages.
            path: The file.
        """
        with atomic_open(path) as f:
            self._run(source, name, Writer(self.format), f)

    def _run(self, source: Source, name: str, writer: Writer, out: TextIO) -> None:
        d = self.recogniser.description
        listener = Listener(self.recogniser, self.pauses)
        shown = ""
        out.write(writer.head())
        try:
            for block in source:
                started = time.perf_counter()
                segments = listener.push(block)
                partial = listener.partial() if self.partials and out is sys.stdout else None
                self.busy_seconds += time.perf_counter() - started
                self.audio_seconds += len(block) / d.sampling_rate
                for segment in segments:
                    self._write(writer.segment(segment), out)
                if partial is not None and (partial.text or shown):
                    shown = self._show(writer, partial, shown, out)
            started = time.perf_counter()
            segments = listener.end()
            self.busy_seconds += time.perf_counter() - started
        except FloatingPointError as e:
            raise UserError(f"{name}: {e}: the model is damaged; export it again") from None
        for segment in segments:
            self._write(writer.segment(segment), out)
        if self.terminal and out is sys.stdout:
            out.write(CLEAR)
        out.flush()
        for words in source.health.words():
            logging.warning(f"{name}: {words}")

    def _write(self, text: str, out: TextIO) -> None:
        out.write((CLEAR if self.terminal and out is sys.stdout else "") + text)
        out.flush()

    def _show(self, writer: Writer, partial: Segment, shown: str, out: TextIO) -> str:
        """Show a segment that goes on, if it has changed."""
        text = writer.partial(partial)
        if text == shown:
            return shown
        if self.terminal:
            rest = partial.text[len(partial.stable) :]
            out.write(f"{CLEAR}{partial.stable}{FAINT}{rest}{PLAIN}")
        else:
            out.write(text if text.endswith("\n") else f"... {text}\n")
        out.flush()
        return text

    def log_speed(self) -> None:
        """Log what it took."""
        if self.audio_seconds == 0:
            return
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
        logging.info(
            f"{self.audio_seconds:.1f} s of audio in {self.busy_seconds:.2f} s: RTF "
            f"{self.busy_seconds / self.audio_seconds:.4f}; peak memory {memory:.0f} MB"
        )


def target_files(folder: Path, files: list, output_format: str) -> list:
    """Return where the transcript of each file goes.

    Args:
        folder: Folder for all of them.
        files: Sound files.
        output_format: See `subtitles.FORMATS`.

    Raises:
        UserError: two files would get the same one.
    """
    targets = [folder / f"{path.stem}{SUFFIX[output_format]}" for path in files]
    for i, target in enumerate(targets):
        if target in targets[:i]:
            raise UserError(
                f"{files[targets.index(target)]} and {files[i]}: both would be written to "
                f"{target}; transcribe them into folders of their own"
            )
    return targets
