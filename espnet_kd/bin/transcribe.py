"""Transcribe files, a folder, a pipe or the microphone with an exported model.

Needs numpy and onnxruntime, soundfile for files, soxr for sound at another rate than the
model's, sounddevice for the microphone; neither torch nor ESPnet. A pause ends a line, and
the model's states begin anew behind it, so that hours take no more memory than minutes.

  python -m espnet_kd.bin.transcribe exp/model/onnx talk.wav
  python -m espnet_kd.bin.transcribe exp/model/onnx talks/ --output_format srt --output_dir srt
  arecord -t raw -f S16_LE -r 16000 | python -m espnet_kd.bin.transcribe exp/model/onnx -
"""

import argparse
import logging
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import new_parser, positive_int, sampling_rate, seconds
from espnet_kd.device.recogniser import Pauses, Recogniser
from espnet_kd.device.sources import RAW, from_file, from_microphone, from_raw, sound_files
from espnet_kd.device.subtitles import FORMATS
from espnet_kd.device.transcription import Transcription, target_files
from espnet_kd.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("model_dir", type=Path, help="exported model: a folder with model.json")
    parser.add_argument(
        "sources", nargs="*", help="sound files, folders of them, or - for raw samples on stdin"
    )
    parser.add_argument("--microphone", action="store_true", help="listen until Ctrl-C")
    parser.add_argument(
        "--beam_size",
        type=positive_int,
        default=1,
        help="hypotheses to keep; 1: greedy search, from 2 on ESPnet's beam search",
    )
    parser.add_argument("--threads", type=positive_int, default=1, help="CPU threads")
    parser.add_argument("--output_format", choices=FORMATS, default="text", help="output format")
    parser.add_argument(
        "--output_dir", type=Path, help="folder for a file a source; without it: stdout"
    )
    parser.add_argument(
        "--partials",
        choices=("auto", "true", "false"),
        default="auto",
        help="also print lines that go on, with a bar (in JSON a field) between what is stable "
        "and what may change; auto: on a terminal, and in JSON",
    )
    parser.add_argument(
        "--pause", type=seconds, default=1.0, help="seconds without a token that end a line"
    )
    parser.add_argument(
        "--silence",
        type=seconds,
        default=2.4,
        help="seconds without any token after which the model's states begin anew",
    )
    parser.add_argument(
        "--longest",
        type=seconds,
        default=20.0,
        help="seconds of a line from which on a short pause ends it; twice of them end it",
    )
    parser.add_argument(
        "--channel", type=int, default=0, help="channel to take, from 1 on; 0: the mean of all"
    )
    parser.add_argument(
        "--raw_rate", type=sampling_rate, help="sampling rate of - (default: the model's)"
    )
    parser.add_argument("--raw_channels", type=positive_int, default=1, help="channels of -")
    parser.add_argument(
        "--raw_format", choices=tuple(RAW), default="int16", help="samples of -, little-endian"
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Transcribe all sources."""
    parser = get_parser()
    args = parser.parse_args(cmd)
    if args.microphone == bool(args.sources):
        parser.error("name sound files, folders or -, or write --microphone")
    if args.channel < 0:
        parser.error(f"--channel: {args.channel} is not a channel, nor 0")
    if args.pause == 0 or args.silence == 0 or args.longest == 0:
        parser.error("--pause, --silence, --longest: expected more than 0 seconds")
    live = args.microphone or "-" in args.sources
    if "-" in args.sources and len(args.sources) > 1:
        parser.error("- cannot stand beside other sources")
    if live and args.output_dir is not None:
        raise UserError("--output_dir: for files alone; redirect stdout instead")
    files = [] if live else sound_files([Path(source) for source in args.sources])
    if len(files) > 1 and args.output_dir is None and args.output_format in ("srt", "vtt"):
        raise UserError(
            f"{len(files)} files: subtitles of more than one need --output_dir, a folder for them"
        )
    targets = target_files(args.output_dir, files, args.output_format) if args.output_dir else []

    recogniser = Recogniser.load(args.model_dir, args.beam_size, args.threads)
    partials = {"auto": None, "true": True, "false": False}[args.partials]
    pauses = Pauses(args.pause, args.silence, args.longest)
    work = Transcription(recogniser, pauses, args.output_format, partials)
    rate = recogniser.description.sampling_rate
    if args.microphone:
        work.to_stdout(from_microphone(rate), "microphone", False)
    elif live:
        source = from_raw(
            args.raw_rate or rate, args.raw_channels, args.raw_format, rate, args.channel
        )
        work.to_stdout(source, "stdin", False)
    failed = 0
    for i, path in enumerate(files):
        try:
            source = from_file(path, rate, args.channel)
            if targets:
                work.to_file(source, str(path), targets[i])
            else:
                work.to_stdout(source, str(path), len(files) > 1)
        except UserError as e:
            if len(files) == 1:
                raise
            failed += 1
            logging.error(str(e))
    work.log_speed()
    if failed:
        raise UserError(f"{failed} of {len(files)} files were not transcribed, see above")


if __name__ == "__main__":
    main()
