r"""Make one student: derive it from its teacher, distil, judge, decode, score, write it down.

    python -m espnet_kd.bin.compress --compression_stage 2 --train_set train --valid_set dev ...
    python -m espnet_kd.bin.compress --compression_stage 2 --only decode ...

Stage 16 of asr_kd.sh calls it once for each student. It takes all options of asr_kd.sh; jobs run
where the environment variables of cmd.sh (train_cmd, cuda_cmd, decode_cmd) say, or here. Finished
work is recognised and skipped, part by part. Compression stage 0 is the first teacher, whose
parts (train, decode, score) are stages 11 to 13.

Exit code: 0: done, another student follows; 10: done, it is the last there is.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.errors import UserError, run_main
from espnet_kd.run.settings import recipe_parser
from espnet_kd.run.stage_main import recipe_of, run_stage

LAST = 10
PARTS = ("derive", "labels", "cache", "train", "gate", "decode", "score", "manifest")
# Of the first teacher: the stages that they are, and their names.
TEACHER_PARTS = {
    "train": ("11", "training of the teacher"),
    "decode": ("12", "decoding with the teacher"),
    "score": ("13", "scoring of the teacher"),
}


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = recipe_parser("compress", __doc__)
    parser.add_argument("--only", choices=PARTS, help="this part alone; by default all")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Make a student, or a part of the first teacher."""
    args = get_parser().parse_args(cmd)
    if args.compression_stage == "0":
        return _teacher(args)
    recipe = recipe_of(args, "16", f"compression stage {args.compression_stage}")

    def make() -> int:
        from espnet_kd.run.turn import Turn  # reads the plan

        turn = Turn(recipe, recipe.settings.compression_stage)
        getattr(turn, args.only or "run")()
        return LAST if turn.last else 0

    return run_stage(recipe, make)


def _teacher(args) -> int:
    if args.only not in TEACHER_PARTS:
        parts = ", ".join(TEACHER_PARTS)
        raise UserError(f"--compression_stage 0: --only must name one of its parts: {parts}")
    from espnet_kd.run import first_teacher

    args.compression_stage = "1"
    recipe = recipe_of(args, *TEACHER_PARTS[args.only])
    return run_stage(recipe, lambda: getattr(first_teacher, args.only)(recipe))


if __name__ == "__main__":
    main()
