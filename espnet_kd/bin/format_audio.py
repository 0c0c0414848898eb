"""Stage 3: a data directory -> one mono sound file at one sampling rate an utterance.

Transcripts get one blank between words, whatever white space of Unicode parts them.
"""

import argparse
import logging
import signal
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import (
    new_parser,
    positive_int,
    sampling_rate,
    seconds,
    share,
    str2bool,
)
from espnet_kd.data.audio_source import announce
from espnet_kd.data.bad_items import BadItems
from espnet_kd.data.format import Settings, format_audio, remove, unused_files
from espnet_kd.data.identity import NAME, audio_files, lines_of, write_record
from espnet_kd.data.kaldi_dir import read_data_dir, write_data_dir
from espnet_kd.data.transcripts import CHOICES, clean_transcripts, read_symbols
from espnet_kd.errors import run_main
from espnet_kd.espnet.text_cleaner import text_cleaner
from espnet_kd.fileio import atomic_open


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--data", required=True, help="data directory to read")
    parser.add_argument("--out", required=True, help="directory to write, such as dump/raw/X")
    parser.add_argument("--fs", type=sampling_rate, default="16k", help="sampling rate")
    parser.add_argument(
        "--audio_format", choices=("flac", "wav"), default="flac", help="format of the files"
    )
    parser.add_argument("--nj", type=positive_int, default=1, help="parallel processes")
    parser.add_argument(
        "--resample", type=str2bool, default=False, help="convert other sampling rates to --fs"
    )
    parser.add_argument(
        "--min_wav_duration",
        type=seconds,
        default=0.025,
        help="shorter files are unusable (seconds)",
    )
    parser.add_argument(
        "--check_audio",
        type=str2bool,
        default=True,
        help="decode files that need no conversion too; else FLAC that was cut off, and samples "
        "that are no numbers, are found in training only",
    )
    parser.add_argument(
        "--max_bad_share",
        type=share,
        default=0.02,
        help="refuse if a larger share lacks audio, transcript or speaker, or is unreadable, "
        "zero-length or too short",
    )
    parser.add_argument(
        "--text_symbols",
        choices=CHOICES,
        default="refuse",
        help="treatment of markup in transcripts, such as <noise> or [laughter]; keep: it is "
        "spelled out like a word",
    )
    parser.add_argument(
        "--cleaner",
        default="none",
        help="cleaner of transcripts, as in ESPnet (tacotron, jaconv, vietnamese, korean_cleaner, "
        "whisper_en, whisper_basic), or module:function; all sets are learnt and scored cleaned",
    )
    parser.add_argument(
        "--nlsyms_txt", default="none", help="file of words to be taken out, such as <noise>"
    )
    parser.add_argument(
        "--force",
        type=str2bool,
        default=False,
        help="make files again that an earlier run has made of the same audio",
    )
    parser.add_argument(
        "--untranscribed",
        type=str2bool,
        default=False,
        help="transcripts may be missing: a teacher's take their place",
    )
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Format the audio."""
    args = get_parser().parse_args(cmd)
    # The recipe ends its jobs with TERM: close the worker processes as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = Path(args.out)
    settings = Settings(
        args.fs, args.audio_format, args.resample, args.min_wav_duration, args.check_audio,
        args.force,
    )  # fmt: skip
    bad = BadItems(args.data, args.max_bad_share)
    tables = read_data_dir(args.data, bad, args.untranscribed)
    clean = None if args.cleaner == "none" else text_cleaner(args.cleaner)
    removed = set() if args.nlsyms_txt == "none" else read_symbols(args.nlsyms_txt)
    written = tables["text"]
    if args.untranscribed:
        written = {utt: text for utt, text in written.items() if text}
    if written:
        written = clean_transcripts(written, args.text_symbols, args.data, clean, removed)
        tables["text"] = {**tables["text"], **written}
    announce(tables["wav.scp"].values(), f"{args.data}/wav.scp")
    # What the sources hold decides which files of an earlier run are still right.
    files = audio_files(args.data, may_miss=True)
    tables[NAME] = lines_of(tables["wav.scp"], files)
    tables = format_audio(tables, out, settings, args.nj, bad)
    unused = unused_files(out, tables["wav.scp"])
    with atomic_open(out / "feats_type") as f:  # ESPnet's asr.sh asks for it
        f.write("raw\n")
    write_data_dir(out, tables)
    bad.write(out)
    write_record(args.data, files)
    remove(unused)
    logging.info(f"wrote {args.out}")


if __name__ == "__main__":
    main()
