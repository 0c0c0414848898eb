"""Is a sound file as long as its header says? It may have been cut off, or hold more.

libsndfile reads what is there of a WAV, AIFF, AU or Ogg file and does not mention the rest.
FLAC and MP3 show it when they are decoded. An MP3 without a Xing header says nothing, and the
rarest formats are not looked into. What lies behind the length of a header is never read: an
utterance would lose its end.
"""

import functools
import math
import os
import re
import struct
from typing import BinaryIO, Callable, Dict, List, Optional

# What is written to a pipe cannot know its length: ffmpeg leaves 2**32 - 1, sox 2**31 - 4096.
UNKNOWN = 0x7FFFF000
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most
LAST_PAGE = 4
# What programs append to a file, such as a title, is shorter.
APPENDED, APPENDED_SHARE = 4096, 0.05
FLAC_TAIL = 2**16  # bytes, in which the last frame begins


def cut_off(f: BinaryIO, audio_format: str) -> str:
    """Return what is missing of a file, or nothing.

    Args:
        f: The sound file, open.
        audio_format: libsndfile's name of its format, such as `WAV`.
    """
    size = f.seek(0, os.SEEK_END)
    if audio_format == "OGG":
        return "" if _ogg_ends(f, size) else "its last Ogg page is not the end of the stream"
    f.seek(0)
    end = PROMISED[audio_format](f) if audio_format in PROMISED else None
    return f"{size} of {end} bytes" if end is not None and end > size else ""


def behind(f: BinaryIO, audio_format: str, frames: int) -> str:
    """Return what a file holds behind the length that its header gives, or nothing.

    Args:
        f: The sound file, open.
        audio_format: See `cut_off`.
        frames: Length by its header.
    """
    size = f.seek(0, os.SEEK_END)
    if audio_format == "FLAC":
        held = _flac_frames(f, size, frames)
        return f"{held} samples, {frames} by its header" if held > frames else ""
    end = _riff(f) if PROMISED.get(audio_format) is _riff else None
    if end is None or size - end <= max(APPENDED, APPENDED_SHARE * size):
        return ""
    if _is_chunk(f, end + end % 2, size):
        return ""
    return f"{size} bytes, {end} by its header"


def _is_chunk(f: BinaryIO, start: int, size: int) -> bool:
    """Say whether another part of a RIFF file begins somewhere."""
    f.seek(start)
    head = f.read(8)
    if len(head) < 8 or not re.fullmatch(rb"[ -~]{4}", head[:4]):
        return False
    return min(int.from_bytes(head[4:], order) for order in ("little", "big")) <= size - start


def _flac_frames(f: BinaryIO, size: int, frames: int) -> int:
    """Return the length of a FLAC by its last frame, if that lies behind `frames`, or 0."""
    f.seek(0)
    head = f.read(26)
    if head[:4] != b"fLaC":  # in another file, or behind a title
        return 0
    block = int.from_bytes(head[10:12], "big")
    start = max(0, size - FLAC_TAIL)
    f.seek(start)
    tail = f.read()
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        frame = _flac_frame(tail[at : at + 16], block)
        # The first that fits is the last of the file, unless it only looks like a frame.
        if frame and (frame <= frames or _crc(tail[at:], 0x8005, 16) == 0):
            return frame if frame > frames else 0
    return 0


def _flac_frame(head: bytes, block: int) -> int:
    """Return the number of the first sample behind a frame of a FLAC; 0: none begins here."""
    if len(head) < 9 or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[3] >> 4 > 10:
        return 0
    code, rate = head[2] >> 4, head[2] & 15
    if code == 0 or rate == 15:
        return 0
    head = head.ljust(16, b"\0")
    more = next((n for n in range(8) if not head[4] << n & 0x80), 8)  # bytes of the number
    more = 1 if more == 0 else more
    number = head[4] & (0xFF >> (more + 1)) if more > 1 else head[4]
    for byte in head[5 : 4 + more]:
        number = number << 6 | byte & 0x3F
    at = 4 + more
    length = {1: 192, 6: head[at] + 1, 7: (head[at] << 8 | head[at + 1]) + 1}.get(code)
    if length is None:
        length = 576 << code - 2 if code < 6 else 256 << code - 8
    at += {6: 1, 7: 2}.get(code, 0) + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if _crc(head[: at + 1], 0x07, 8):
        return 0
    return (number if head[1] & 1 else number * block) + length


def _crc(content: bytes, polynomial: int, bits: int) -> int:
    """Checksum as FLAC has it: 0 for what ends in its own."""
    table = _crc_table(polynomial, bits)
    crc, mask = 0, (1 << bits) - 1
    for byte in content:
        crc = (crc << 8 & mask) ^ table[crc >> bits - 8 ^ byte]
    return crc


@functools.lru_cache(maxsize=None)
def _crc_table(polynomial: int, bits: int) -> List[int]:
    table, mask = [], (1 << bits) - 1
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = (crc << 1 & mask) ^ (polynomial if crc >> bits - 1 else 0)
        table.append(crc)
    return table


def _riff(f: BinaryIO) -> Optional[int]:
    """Return where the samples of a RIFF, RIFX, RF64, AIFF or SVX file end by its header."""
    f.seek(0)
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
    numbers = [int(size[1]) for size in sizes if size is not None]
    if start is None or len(numbers) < len(sizes):
        return None
    return int(start[1]) + math.prod(numbers)


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
