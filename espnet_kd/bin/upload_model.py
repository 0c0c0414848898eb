r"""Upload a packed model to the Hugging Face hub.

python -m espnet_kd.bin.upload_model --archive exp/m/packed/m.zip --repo user/name --dry_run
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.deploy.hub import check_repo, contents, upload
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--archive", type=Path, required=True, help="archive of pack_model")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="made if not there")
    parser.add_argument("--dry_run", action="store_true", help="only print what would be uploaded")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    check_repo(args.repo)
    if not args.dry_run:
        print(f"uploaded {args.archive} to {upload(args.archive, args.repo)}")
        return
    files = contents(args.archive)
    total = sum(file.file_size for file in files) / 1e6
    print(f"would upload to {args.repo}: {len(files)} files, {total:.2f} MB")
    for file in files:
        print(f"    {file.filename} ({file.file_size:,} bytes)")


if __name__ == "__main__":
    main()
