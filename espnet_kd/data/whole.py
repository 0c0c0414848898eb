"""Was a sound file cut off? Its header says how long it is meant to be.

libsndfile reads what is there of a WAV, AIFF, AU or Ogg file and does not mention the rest.
FLAC and MP3 show it when they are decoded. An MP3 without a Xing header says nothing, and the
rarest formats are not looked into.
"""

import os
import re
import struct
from typing import BinaryIO, Callable, Dict, Optional

from espnet_kd.fileio import PathLike

# What is written to a pipe cannot know its length: ffmpeg leaves 2**32 - 1, sox 2**31 - 4096.
UNKNOWN = 0x7FFFF000
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most
LAST_PAGE = 4


def cut_off(path: PathLike, audio_format: str) -> str:
    """Return what is missing of a file, or nothing.

    Args:
        path: The sound file.
        audio_format: libsndfile's name of its format, such as `WAV`.
    """
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        if audio_format == "OGG":
            return "" if _ogg_ends(f, size) else "its last Ogg page is not the end of the stream"
        end = PROMISED[audio_format](f) if audio_format in PROMISED else None
    return f"{size} of {end} bytes" if end is not None and end > size else ""


def _riff(f: BinaryIO) -> Optional[int]:
    """Return where the samples of a RIFF, RIFX, RF64, AIFF or SVX file end by its header."""
    order = ">" if f.read(4) in (b"FORM", b"RIFX") else "<"
    f.seek(12)
    long_size = None
    while len(head := f.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", head)
        if name in (b"data", b"SSND", b"BODY"):
            if long_size is not None and length == 0xFFFFFFFF:
                return f.tell() + long_size
            return f.tell() + length if 0 < length < UNKNOWN else None
        if name == b"ds64":
            long_size = struct.unpack("<QQ", f.read(16))[1]
            length -= 16
        f.seek(length + length % 2, os.SEEK_CUR)
    return None


def _w64(f: BinaryIO) -> Optional[int]:
    f.seek(40)
    while len(head := f.read(24)) == 24:
        name, length = struct.unpack("<4s12xQ", head)
        if name == b"data":
            return f.tell() - 24 + length if 24 < length < 2**63 else None
        f.seek(max(0, (length + 7) // 8 * 8 - 24), os.SEEK_CUR)
    return None


def _au(f: BinaryIO) -> Optional[int]:
    order = ">" if f.read(4) == b".snd" else "<"
    start, length = struct.unpack(f"{order}II", f.read(8))
    return start + length if 0 < length < UNKNOWN else None


def _nist(f: BinaryIO) -> Optional[int]:
    text = f.read(1024)
    start = re.match(rb"NIST_1A\n *(\d+)\n", text)
    sizes = [
        re.search(rb"^%s -i (\d+)" % name, text, re.MULTILINE)
        for name in (b"sample_count", b"channel_count", b"sample_n_bytes")
    ]
    if start is None or not all(sizes):
        return None
    count, channels, width = (int(size[1]) for size in sizes)
    return int(start[1]) + count * channels * width


def _ogg_ends(f: BinaryIO, size: int) -> bool:
    f.seek(max(0, size - OGG_PAGE))
    tail = f.read()
    at = tail.rfind(b"OggS")
    while at >= 0:
        page = tail[at:]
        if len(page) >= 27 and page[4] == 0:
            length = 27 + page[26] + sum(page[27 : 27 + page[26]])
            return bool(page[5] & LAST_PAGE) and length <= len(page)
        at = tail.rfind(b"OggS", 0, at)
    return False


PROMISED: Dict[str, Callable[[BinaryIO], Optional[int]]] = {
    "WAV": _riff, "WAVEX": _riff, "RF64": _riff, "AIFF": _riff, "SVX": _riff,
    "W64": _w64, "AU": _au, "NIST": _nist,
}  # fmt: skip
