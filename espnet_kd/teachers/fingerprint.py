"""Fingerprint of a cache. One that does not fit is refused, not used."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, Tuple, TypedDict

from espnet_kd.common.json_file import Record, check_shape
from espnet_kd.errors import UserError
from espnet_kd.teachers.record import FORMAT

__all__ = ["FORMAT", "Fingerprint", "list_digest"]


class _Head(TypedDict):
    """Fields of the record of every format; the others are those of `Fingerprint`."""

    format: int
    sha256: str


RECORD: Record[Any] = Record("fingerprint.json", _Head, "make the cache again")


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """All that determines the numbers of a cache, besides audio and transcripts.

    Attributes:
        teacher_model: SHA-256 of the checkpoint.
        teacher_config: SHA-256 of what makes the model in its `config.yaml`.
        tokens: SHA-256 of the token list.
        features: The front end: kind, sizes, sampling rate.
        subsampling: Facts about the making of encoder frames from feature frames.
        chunk_size: Encoder frames a chunk; 0: full context.
        band: Rows kept of each frame; 0: all.
        temperature: Always 1: a collapsed distribution cannot be made softer afterwards.
        format: Layout of the records.
        made_from: The teacher's files; for the reader, never compared.
    """

    teacher_model: str
    teacher_config: str
    tokens: str
    features: Mapping[str, Any]
    subsampling: Mapping[str, Any]
    chunk_size: int
    band: int
    temperature: float = 1.0
    format: int = FORMAT
    made_from: str = dataclasses.field(default="", compare=False)

    def digest(self) -> str:
        """One SHA-256 over all fields that count."""
        return hashlib.sha256(_canonical(self.fields()).encode()).hexdigest()

    def fields(self) -> Dict[str, Any]:
        """Return the fields that count."""
        fields = dataclasses.asdict(self)
        del fields["made_from"]
        return fields

    def claim(self, folder: Path) -> None:
        """Begin a cache, or go on with one.

        Raises:
            UserError: the directory holds a cache that was made from something else.
        """
        if (folder / RECORD.file).exists():
            hint = "remove it or choose another --out"
            Fingerprint.load(folder).check(folder, self.fields(), hint)
            return
        RECORD.write(folder, {**dataclasses.asdict(self), "sha256": self.digest()})

    @classmethod
    def load(cls, folder: Path) -> "Fingerprint":
        """Read `fingerprint.json`.

        Raises:
            UserError: there is none, it is damaged, or of another format.
        """
        path = folder / RECORD.file
        fields = RECORD.read_if_there(folder)
        if fields is None:
            raise UserError(
                f"{folder}: not a teacher cache, it has no {RECORD.file}; make one with "
                "espnet_kd.bin.cache_teacher"
            )
        if fields["format"] != FORMAT:
            raise UserError(
                f"{path}: format is {fields['format']} in the cache, {FORMAT} here; "
                f"remove {folder} and make the cache again"
            )
        digest = fields.pop("sha256")
        try:
            check_shape(fields, cls, "")
        except UserError as e:
            raise UserError(f"{path}: {e}; {RECORD.remake}") from None
        fingerprint = cls(**fields)
        if fingerprint.digest() != digest:
            raise UserError(f"{path}: was changed by hand; make the cache again")
        return fingerprint

    def check(self, folder: Path, expected: Mapping[str, Any], hint: str) -> None:
        """Compare with what is expected.

        Args:
            folder: Folder of the fingerprint, for the message.
            expected: Some of the fields; the others may be anything.
            hint: Remedy, the end of the message.

        Raises:
            UserError: a field differs; the first one is named.
        """
        fields = self.fields()
        for name, value in expected.items():
            for key, stored, wanted in _differences(name, fields[name], value):
                stored, wanted = _short(stored), _short(wanted)
                raise UserError(f"{folder}: {key} is {stored} in the cache, {wanted} here; {hint}")


def list_digest(items: Iterable[Any]) -> str:
    """SHA-256 of a list or mapping of plain values."""
    return hashlib.sha256(_canonical(items).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _differences(name: str, a: Any, b: Any) -> Iterator[Tuple[str, Any, Any]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            yield from _differences(f"{name}.{key}", a.get(key), b.get(key))
    elif a != b:
        yield name, a, b


def _short(value: Any) -> Any:
    """A digest in a few letters."""
    return value[:8] if isinstance(value, str) and len(value) == 64 else value
