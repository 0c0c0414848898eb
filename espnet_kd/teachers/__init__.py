"""The teacher cache: what a teacher says of each utterance, computed once. No ESPnet.

In reading order:

    record       one utterance's collapsed posteriors as one row of 16-bit numbers
    band         the few label rows around the teacher's path that are worth keeping
    fingerprint  what a cache was made from, so that a wrong one is refused
    archive      a cache on disk: finished parts, the table of all, its size
"""

from espnet_kd.teachers.archive import Archive
from espnet_kd.teachers.band import band_starts
from espnet_kd.teachers.fingerprint import FORMAT, Fingerprint
from espnet_kd.teachers.record import DamagedEntry, pack, record_bytes, unpack

__all__ = [
    "FORMAT",
    "Archive",
    "DamagedEntry",
    "Fingerprint",
    "band_starts",
    "pack",
    "record_bytes",
    "unpack",
]
