r"""Compute once what a teacher says of each utterance; students then train without it.

    python -m espnet_kd.bin.cache_teacher --teacher_exp exp/asr_teacher \
        --data dump/raw/train dump/raw/dev --out exp/kd_stage1/teacher_cache
    python -m espnet_kd.bin.train --config exp/kd_stage1/student.yaml \
        --kd_conf teacher_cache=exp/kd_stage1/teacher_cache \
        --train_data_path_and_name_and_type \
        exp/kd_stage1/teacher_cache/train/teacher.scp,teacher,kaldi_ark ...

A run that was ended goes on with the rest. With `--nj N --job J` it does a share of the
work, beside N - 1 others; the call without `--job` then does what is left and writes
`<out>/<set>/teacher.scp`.

A training reads the cache as one more data stream, of the validation set too if that stream
is given; without it validation has no `loss_kd`, and its loss is that of the labels alone.
The cache is refused if teacher, tokens, front end, an utterance or its transcript is another
one. SpecAugment may mask but not warp time; perturbed speeds are utterances of their own.
"""

import argparse
import signal
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, positive_int, whole
from espnet_kd.errors import UserError, run_main

AUDIO_TYPES = ("sound", "multi_columns_sound", "variable_columns_sound", "kaldi_ark", "npy")


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--teacher_exp", required=True, help="experiment of the teacher")
    parser.add_argument(
        "--teacher_model", default="valid.loss_transducer.ave.pth", help="checkpoint in it"
    )
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        required=True,
        help="data directories, e.g. dump/raw/train and dump/raw/dev",
    )
    parser.add_argument("--out", required=True, help="the cache; a folder for each data directory")
    parser.add_argument(
        "--chunk_size",
        type=whole,
        help="encoder frames a chunk of the teacher, 0: full context; by default its "
        "short_chunk_size, or full context if it was not trained with chunks",
    )
    parser.add_argument(
        "--band",
        type=whole,
        default=0,
        help="keep only so many labels of each frame, around the teacher's path; 0: all",
    )
    parser.add_argument("--nj", type=positive_int, default=1, help="processes that share the work")
    parser.add_argument("--job", type=positive_int, help="number of this process, from 1")
    parser.add_argument(
        "--batch_bins",
        type=positive_int,
        default=2_000_000,
        help="audio samples of a batch, padding included",
    )
    parser.add_argument(
        "--audio_type", choices=AUDIO_TYPES, default="sound", help="kind of wav.scp, as in ESPnet"
    )
    parser.add_argument(
        "--num_workers", type=whole, default=1, help="processes that read the audio"
    )
    parser.add_argument("--ngpu", type=whole, default=0, help="0: CPU, 1: GPU")
    parser.add_argument(
        "--student_config",
        help="training config of the student: is checked before the work begins; nothing is "
        "done if it does not distil",
    )
    parser.add_argument(
        "--student_args", default="", help="more options of its training, in one string"
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Make the cache."""
    args = get_parser().parse_args(cmd)
    # The recipe ends its jobs with TERM: end the readers of audio as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.job is not None and args.job > args.nj:
        raise UserError(f"--job {args.job}: there are {args.nj} (--nj)")

    import torch

    from espnet_kd.espnet.cache_teacher import Settings, cache_teacher
    from espnet_kd.espnet.cache_wanted import cache_wanted

    if args.ngpu and not torch.cuda.is_available():
        raise UserError(f"--ngpu {args.ngpu}: no GPU is available; --ngpu 0 uses the CPU")
    student = args.student_config
    if student and not cache_wanted(student, args.student_args, args.out, args.band):
        print(f"{student}: does not distil, no teacher cache is needed")
        return
    settings = Settings(
        teacher_exp=Path(args.teacher_exp),
        teacher_model=args.teacher_model,
        data=[Path(folder) for folder in args.data],
        out=Path(args.out),
        chunk_size=args.chunk_size,
        band=args.band,
        nj=args.nj,
        job=args.job or 0,
        batch_bins=args.batch_bins,
        audio_type=args.audio_type,
        num_workers=args.num_workers,
        device="cuda" if args.ngpu else "cpu",
    )
    cache_teacher(settings, say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
