"""Write a training set with a teacher's hypotheses in the place of the transcripts."""

import argparse
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from espnet_kd.cli import new_parser, share, whole
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.data.frames import samples_of_frame
from espnet_kd.data.hard_labels import HardLabels, hard_labels
from espnet_kd.data.kaldi_dir import Tables, read_data_dir, select, write_data_dir
from espnet_kd.data.label_selection import (
    Label,
    best_share,
    confidences,
    median_labels,
    source_count,
    voted_labels,
)
from espnet_kd.data.sampling import by_name
from espnet_kd.data.tokens import tokenizer
from espnet_kd.errors import UserError, run_main
from espnet_kd.fileio import atomic_open, read_table, write_table
from espnet_kd.spec.pseudo_labels import FEWEST_VOTERS, MEDIAN, VOTE


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    help_ = "decoded text of the set; several are put together, the best teacher's first"
    parser.add_argument("--hyp", action="append", required=True, help=help_)
    help_ = f"{MEDIAN}: the one nearest to all others; {VOTE}: word by word"
    parser.add_argument("--combine", choices=(MEDIAN, VOTE), default=MEDIAN, help=help_)
    parser.add_argument("--data", required=True, help="the training set, of dump/raw")
    parser.add_argument("--speech_shape", required=True, help="lengths of its utterances")
    parser.add_argument("--config", required=True, help="training config: samples of a frame")
    parser.add_argument("--token_list", required=True, help="tokens.txt of the models")
    parser.add_argument("--token_type", required=True, choices=("char", "bpe", "word"))
    parser.add_argument("--bpemodel", default="none", help="model of --token_type bpe")
    parser.add_argument(
        "--out",
        required=True,
        help="directory to write, with the speech_shape and text_shape.<type> of its utterances",
    )
    parser.add_argument(
        "--max_dropped_share",
        type=share,
        default=0.1,
        help="refuse to leave out a larger share of the utterances",
    )
    add = parser.add_argument
    add("--select", choices=("agreement", "confidence", "none"), help="score of an utterance")
    add("--keep", type=share, default=1.0, help="share with the best scores that is kept")
    add("--score", action="append", default=[], help="scores beside each --hyp, for confidence")
    add("--least", type=whole, default=1, help="refuse if fewer utterances are left")
    add("--source", help="data directory whose transcripts are trained on, too")
    add("--source_shapes", help="folder of its shape files")
    add("--keep_source", type=share, default=0.0, help="share that its utterances have")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Write the data directory."""
    args = get_parser().parse_args(cmd)
    _check_together(args)
    tables = read_data_dir(args.data)
    shapes = read_table(args.speech_shape)
    samples = samples_of_frame(read_yaml(args.config, "derive the student first"), args.config)
    frames = _frames(args.speech_shape, shapes, tables["text"], samples)
    tokens = tokenizer(args.token_type, args.bpemodel)
    decoded = [read_table(path) for path in args.hyp]
    chosen = median_labels(decoded, args.hyp)
    if args.combine == VOTE:
        chosen = voted_labels(decoded, chosen)
    hyps = {utt: label.text for utt, label in chosen.items()}
    labels = hard_labels(tables, hyps, frames, tokens, args.hyp[0])
    labels.refuse_beyond_share(args.max_dropped_share, args.hyp[0])
    out, vocabulary = Path(args.out), _count_lines(args.token_list)
    kept = _selected(args, labels, chosen)
    if len(kept) < args.least:
        raise UserError(
            f"{args.data}: {len(kept)} utterances are left to train on, and {args.least} are "
            "needed; raise 'keep', or label more"
        )
    made = select(labels.tables, set(kept))
    # ESPnet's batch sampler counts elements: length and width.
    text_shapes = {utt: f"{labels.lengths[utt]},{vocabulary}" for utt in kept}
    speech_shapes = {utt: shapes[utt] for utt in kept}
    if args.keep_source:
        added = _add_source(args, made, text_shapes, speech_shapes)
        part = added / (added + len(kept))
        print(f"{added} utterances of {args.source} with their transcripts, {part:.0%} of all")
        if part < args.keep_source - 0.01:
            print(
                f"warning: {args.source} has no more; --keep_source {args.keep_source:g} asks for "
                f"{source_count(len(kept), args.keep_source)}"
            )
    write_table(out / f"text_shape.{args.token_type}", text_shapes)
    write_table(out / "speech_shape", speech_shapes)
    write_data_dir(out, made)
    chose = f"; {len(kept)} kept by {args.select}" if args.select else ""
    print(f"hard labels {out}: {labels.summary()}{chose}")


def _check_together(args: argparse.Namespace) -> None:
    """Refuse options that others would have to be beside.

    Raises:
        UserError: a share of labels without a choice, scores that nothing is chosen by or not of
            each hypothesis, or a source without its share, shapes or folder.
    """
    by_score = args.select == "confidence"
    if args.combine == VOTE and (by_score or len(args.hyp) < FEWEST_VOTERS):
        raise UserError(
            f"--combine {VOTE}: needs three --hyp or more, and no --select confidence: what is "
            "put together has no probability"
        )
    if args.keep != 1.0 and not args.select:
        raise UserError("--keep: needs --select, which says what is best")
    if len(args.score) != (len(args.hyp) if by_score else 0):
        need = f"{len(args.score)} for {len(args.hyp)} --hyp; name one each"
        raise UserError(f"--score: {need if by_score else 'needs --select confidence'}")
    if args.keep_source >= 1:
        raise UserError("--keep_source 1: leaves no room for the labels; name a share below 1")
    given = [bool(args.keep_source), args.source is not None, args.source_shapes is not None]
    if any(given) and not all(given):
        raise UserError("--source, --source_shapes and --keep_source: give all of them, or none")


def _selected(
    args: argparse.Namespace, labels: HardLabels, chosen: Mapping[str, Label]
) -> List[str]:
    """Choose utterances by a score, and write down how (`selection.tsv`)."""
    if not args.select:
        return list(labels.lengths)
    if args.select == "confidence":
        tables = [read_table(path) for path in args.score]
        scores = confidences(chosen, tables, labels.lengths, args.score)
    else:
        scores = {utt: chosen[utt].agreement for utt in labels.lengths}
    kept = best_share(scores, 1.0 if args.select == "none" else args.keep)
    taken = set(kept)
    with atomic_open(Path(args.out) / "selection.tsv") as f:
        print("utt", "teacher", "score", "kept", sep="\t", file=f)
        for utt, score in scores.items():
            row = (utt, chosen[utt].teacher, f"{score:.4f}", int(utt in taken))
            print(*row, sep="\t", file=f)
    return kept


def _add_source(
    args: argparse.Namespace,
    made: Tables,
    text_shapes: Dict[str, str],
    speech_shapes: Dict[str, str],
) -> int:
    """Add labelled utterances, chosen by their names, to tables and shapes; return their number.

    Raises:
        UserError: an utterance is in both sets.
    """
    source = read_data_dir(args.source)
    names = sorted(source["wav.scp"])
    both = [utt for utt in names if utt in text_shapes]
    if both:
        raise UserError(f"{args.source}: '{both[0]}' is an utterance of {args.data}, too")
    chosen = by_name(names, source_count(len(text_shapes), args.keep_source))
    files = (f"text_shape.{args.token_type}", "speech_shape")
    for name, shapes in zip(files, (text_shapes, speech_shapes)):
        table = read_table(f"{args.source_shapes}/{name}")
        lacking = [utt for utt in chosen if utt not in table]
        if lacking:
            raise UserError(f"{args.source_shapes}/{name}: lacks '{lacking[0]}'; run stage 10")
        shapes.update((utt, table[utt]) for utt in chosen)
    more = select(source, set(chosen))
    for name in list(made):
        if name not in more:
            del made[name]  # what only some have
        else:
            made[name].update(more[name])
    return len(chosen)


def _count_lines(path: str) -> int:
    try:
        with open(path, "rb") as f:
            return sum(1 for _ in f)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make the token list first") from None


def _frames(
    path: str, shapes: Dict[str, str], utts: Dict[str, str], samples: int
) -> Dict[str, int]:
    """Encoder frames of each utterance, rounded down."""
    frames = {}
    for utt in utts:
        if utt not in shapes:
            raise UserError(f"{path}: lacks '{utt}'; collect the statistics of this set again")
        length = shapes[utt].partition(",")[0]
        if not length.isdecimal():
            raise UserError(f"{path}: '{utt}' has the length '{shapes[utt]}', not a number")
        frames[utt] = int(length) // samples
    return frames


if __name__ == "__main__":
    main()
