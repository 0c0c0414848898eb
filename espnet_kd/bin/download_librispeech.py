"""Fetch and unpack parts of LibriSpeech; what is there already is left alone."""

import argparse
import logging
import re
import urllib.parse
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from espnet_kd.cli import new_parser, str2bool
from espnet_kd.data.download import check, download, refuse_without_space
from espnet_kd.data.librispeech_parts import PARTS, find_parts
from espnet_kd.data.unpack import unpack, working_folder
from espnet_kd.errors import UserError, nearest, run_main

# As openslr.org lists them; without a choice all are tried in this order.
MIRRORS = {
    "main": "https://www.openslr.org/resources",
    "us": "https://us.openslr.org/resources",
    "eu": "https://openslr.elda.org/resources",
    "cn": "https://openslr.magicdatatech.com/resources",
}
# FLAC does not get smaller by gzip; the rest is what 4 kB blocks leave unused.
UNPACKED = 1.05


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--out", required=True, help="folder in which LibriSpeech/ is made")
    parser.add_argument("--parts", required=True, nargs="+", help="such as train-clean-100")
    parser.add_argument(
        "--mirror",
        default="",
        help=f"{', '.join(MIRRORS)}, or the address of a folder with 12/<part>.tar.gz; "
        "default: each of them until one works",
    )
    parser.add_argument(
        "--keep_archives", type=str2bool, default=False, help="leave <part>.tar.gz in --out"
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Fetch and unpack."""
    args = get_parser().parse_args(cmd)
    root = Path(args.out)
    wanted = find_parts(args.parts)
    parts = [name for name in wanted if not (root / "LibriSpeech" / name).is_dir()]
    if not parts:
        logging.info(f"{root}/LibriSpeech: {' '.join(wanted)} are there already")
        return
    if args.mirror and not (args.mirror in MIRRORS or is_address(args.mirror)):
        raise UserError(
            f"--mirror '{args.mirror}' is neither an address (http://host/folder, https://...) "
            f"nor one of {', '.join(MIRRORS)}{nearest(args.mirror, MIRRORS)}"
        )
    bases = [MIRRORS.get(args.mirror, args.mirror)] if args.mirror else list(MIRRORS.values())
    refuse_without_space(
        root, space_needed(root, parts, args.keep_archives), f"downloading {' '.join(parts)}"
    )
    for name in parts:
        part = PARTS[name]
        archive, partial = _archives(root, name)
        if archive.exists():  # the user's
            check(archive, part.checksum)
            unpack(archive, root, name)
        else:
            urls = [f"{base.rstrip('/')}/{part.resource}/{name}.tar.gz" for base in bases]
            download(urls, partial, part.size, part.checksum)
            unpack(partial, root, name)
            if args.keep_archives:
                partial.rename(archive)
            else:
                partial.unlink()
        logging.info(f"{root}/LibriSpeech/{name} is complete")


def is_address(text: str) -> bool:
    """Say whether `text` is the address of a folder on a web server."""
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:  # a bracket of IPv6 or a port that is none
        return False
    sound = re.fullmatch(r"[!-~]+", text) and not parts.query and not parts.fragment
    return bool(sound and parts.scheme in ("http", "https") and parts.hostname and port != 0)


def space_needed(root: Path, parts: List[str], keep_archives: bool) -> int:
    """Return the most bytes that will lie in `root` at once, less those that lie there now."""
    lies = most = 0.0
    for name in parts:
        size = PARTS[name].size
        archive, partial = _archives(root, name)
        if not archive.exists():
            lies += size - (partial.stat().st_size if partial.exists() else 0)
        unpacked = sum(p.stat().st_size for p in working_folder(root, name).rglob("*"))
        lies += max(0.0, UNPACKED * size - unpacked)
        most = max(most, lies)
        if not archive.exists() and not keep_archives:
            lies -= size
    return int(most)


def _archives(root: Path, name: str) -> Tuple[Path, Path]:
    """Return the archive that the user has or keeps, and the one that comes and goes."""
    return root / f"{name}.tar.gz", root / f"{name}.tar.gz.part"


if __name__ == "__main__":
    main()
