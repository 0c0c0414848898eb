"""An archive of LibriSpeech, unpacked beside its place and renamed."""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from espnet_kd.data.download import MB
from espnet_kd.errors import UserError
from espnet_kd.progress import Progress


def unpack(archive: Path, root: Path, name: str) -> None:
    """Unpack `LibriSpeech/<name>` of `archive` into `root`.

    The part appears under its name when the whole archive was read and gzip's checksum was
    right. After a kill, files that are there with their content are not written again.

    Raises:
        UserError: the archive is broken, or holds another part.
        OSError: the disk is full.
    """
    tmp = working_folder(root, name)
    tmp.mkdir(parents=True, exist_ok=True)
    progress = Progress(f"unpack {archive.name}", archive.stat().st_size // MB, unit="MB")
    try:
        with open(archive, "rb") as raw, gzip.GzipFile(fileobj=raw) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                # Refuses names that lead out of `tmp`; Pythons before 2023 do not have it.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
                for member in tar:
                    there = _is_there(tmp / member.name, member)
                    content = tar.extractfile(member) if there else None
                    if content is None:
                        tar.extract(member, tmp)
                    else:
                        _compare(tmp / member.name, content.read())
                    progress.update(raw.tell() // MB - progress.count)
            while stream.read(2**20):  # to the end, where gzip's checksum stands
                pass
    except (EOFError, zlib.error, tarfile.TarError, gzip.BadGzipFile) as e:
        raise UserError(
            f"{archive}: broken archive ({e}); remove it and run the same command again"
        ) from None
    progress.close()
    if not (tmp / "LibriSpeech" / name).is_dir():
        raise UserError(f"{archive}: holds no LibriSpeech/{name}")
    target = root / "LibriSpeech"
    target.mkdir(exist_ok=True)
    for path in (tmp / "LibriSpeech").iterdir():
        if path.is_file():  # CHAPTERS.TXT and the like, the same in every archive
            os.replace(path, target / path.name)
    os.replace(tmp / "LibriSpeech" / name, target / name)
    shutil.rmtree(tmp)


def working_folder(root: Path, name: str) -> Path:
    """Return the folder that holds what is unpacked of a part so far."""
    return root / f".unpack-{name}"


def _is_there(path: Path, member: tarfile.TarInfo) -> bool:
    return member.isfile() and path.is_file() and path.stat().st_size == member.size


def _compare(path: Path, content: bytes) -> None:
    """Write a file that has the right length, but, after a power cut, other content."""
    if path.read_bytes() != content:
        path.write_bytes(content)
