"""Write a web page that transcribes in the browser with an exported model.

The folder holds the page, the model and onnxruntime-web, which npm fetches. Whoever opens the
page drops a sound file on it or speaks; nothing leaves the browser. Browsers load such a page
from a server alone, and allow the microphone on https and on this machine:

  python -m espnet_kd.bin.demo_page exp/model/onnx --out page
  python -m http.server --directory page --bind 127.0.0.1 8000    # http://127.0.0.1:8000
"""

import argparse
import logging
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser
from espnet_kd.device.demo_folder import write_demo
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("model_dir", type=Path, help="exported model: a folder with model.json")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--onnxruntime_web",
        type=Path,
        help="folder with the files of onnxruntime-web (its dist/); without it, npm fetches them",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Write the folder."""
    args = get_parser().parse_args(cmd)
    files = write_demo(args.model_dir, args.out, args.onnxruntime_web)
    size = sum(path.stat().st_size for path in files) / 1e6
    logging.info(f"wrote {args.out}: {len(files)} files, {size:.1f} MB")


if __name__ == "__main__":
    main()
