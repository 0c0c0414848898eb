"""Take over a transducer that was trained with ESPnet, as the teacher of a recipe."""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, sampling_rate
from espnet_kd.errors import run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--teacher_exp", required=True, help="experiment directory (exp/asr_...)")
    parser.add_argument(
        "--teacher_model", default="valid.loss_transducer.ave.pth", help="checkpoint in it"
    )
    parser.add_argument(
        "--fs", type=sampling_rate, default="16k", help="sampling rate of the recipe's audio"
    )
    parser.add_argument(
        "--template", help="training config of a conformer, for a teacher that cannot be cut"
    )
    parser.add_argument("--token_dir", required=True, help="folder for the token list")
    parser.add_argument("--out", required=True, help="experiment directory to make")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Import and say what was imported."""
    args = get_parser().parse_args(cmd)
    from espnet_kd.espnet.import_teacher import import_teacher

    print(
        import_teacher(
            Path(args.teacher_exp),
            args.teacher_model,
            args.fs,
            Path(args.token_dir),
            Path(args.out),
            Path(args.template) if args.template else None,
        )
    )


if __name__ == "__main__":
    main()
