r"""Export a trained transducer as ONNX graphs that run without torch and ESPnet.

    python -m espnet_kd.bin.export --exp exp/kd_stage3 --format float32 int8 \
        --data dump/raw/test --valid dump/raw/valid --out exp/kd_stage3/exported

Writes a folder for each format, and compares what it computes with the model in PyTorch. The
exit code is 3 if a format is beyond the margin; its `model.json` says so, too. Any experiment
of a streaming conformer of `espnet2.asr_transducer` can be exported. docs/device.md describes
formats and folders.
"""

import argparse
import contextlib
import importlib.util
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Sequence, Tuple

from espnet_kd.cli import new_parser, positive_int, whole
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.device.description import FORMATS
from espnet_kd.errors import UserError, run_main, shown

if TYPE_CHECKING:  # torch takes seconds
    from espnet_kd.export.exportable import Chunks, Exportable
    from espnet_kd.export.folder import Graphs
    from espnet_kd.export.parity import Reference, Utterance
    from espnet_kd.export.sensitivity import Choice

BEYOND = 3  # exit code of a format beyond the margin
RUNTIMES = ("onnxruntime", "sherpa-onnx")


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--exp", required=True, help="experiment directory, with config.yaml")
    parser.add_argument(
        "--checkpoint", default="valid.loss_transducer.ave.pth", help="checkpoint in it"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        default=["float32"],
        choices=FORMATS,
        metavar="FORMAT",
        help=f"number formats, of {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--for",
        dest="runtime",
        default=RUNTIMES[0],
        choices=RUNTIMES,
        help="runtime that reads the files",
    )
    parser.add_argument("--out", required=True, help="folder to make; one in it for each format")
    parser.add_argument(
        "--inference_config", help="decoding config whose decoding_window and left_context count"
    )
    parser.add_argument(
        "--decoding_window", type=positive_int, help="milliseconds of audio of a chunk, else 640"
    )
    parser.add_argument(
        "--left_context",
        type=positive_int,
        help="encoder frames before a chunk that are seen; else as in training, or 32 if that "
        "was all",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        help="test sets (dump/raw/...) on which transcripts are compared; none: noise",
    )
    parser.add_argument(
        "--valid",
        help="validation set: by it, parts stay float that int8 would cost too much, and int8 "
        "that int4 would",
    )
    parser.add_argument(
        "--train", help="training set (with --for sherpa-onnx): its features are measured anew"
    )
    parser.add_argument(
        "--utterances",
        type=whole,
        default=500,
        help="at most so many of each set, chosen by their names; 0: all",
    )
    parser.add_argument(
        "--wer_margin",
        type=float,
        default=0.5,
        help="points of WER that a format may lose, or one word of the set",
    )
    return parser


@run_main
def main(cmd=None) -> int:
    """Export, compare, and say on a line for each format what came of it."""
    args = get_parser().parse_args(cmd)
    if not args.wer_margin >= 0:
        raise UserError(f"--wer_margin: expected 0 or more, found {args.wer_margin}")
    if args.runtime == "sherpa-onnx" and not args.train:
        raise UserError(
            "--for sherpa-onnx needs --train: its features are measured on training utterances"
        )
    _check_installed(args)
    from espnet_kd.espnet.exportable_model import load_exportable

    source = load_exportable(Path(args.exp), args.checkpoint)
    _check_place(args, source)
    return _export(args, source, _chunks(args, source))


def _chunks(args: argparse.Namespace, source: "Exportable") -> "Chunks":
    """Take the chunks of the options, of the decoding config, or of ESPnet's decoding."""
    from espnet_kd.espnet.exportable_model import WINDOW, chunks_for

    sizes = {"decoding_window": args.decoding_window, "left_context": args.left_context}
    if args.inference_config:
        config = read_yaml(args.inference_config, "--inference_config names it")
        for key in sizes:
            value = config.get(key)
            if value is not None and not (isinstance(value, int) and value > 0):
                raise UserError(
                    f"{args.inference_config}: {key}: expected a whole number of at least 1, "
                    f"found {shown(value)}"
                )
            sizes[key] = sizes[key] or value
    return chunks_for(source, sizes["decoding_window"] or WINDOW, sizes["left_context"])


def _check_installed(args: argparse.Namespace) -> None:
    """Refuse to begin without the packages of the extra `export`."""
    packages = ["onnx", "onnxruntime"]
    packages += ["onnx_ir"] if "int4" in args.format else []
    packages += ["kaldi_native_fbank"] if args.runtime == "sherpa-onnx" else []
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{package} is not installed; install it: pip install '.[export]'")


def _check_place(args: argparse.Namespace, source: "Exportable") -> None:
    """Refuse before the work what could not be written after it."""
    from espnet_kd.export.folder import check_place
    from espnet_kd.export.sherpa import check_features

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=out):
        pass
    if args.runtime == "sherpa-onnx":
        check_features(source)
        return
    for form in args.format:
        check_place(out / form)


def _export(args: argparse.Namespace, source: "Exportable", chunks: "Chunks") -> int:
    from espnet_kd.espnet.exportable_model import Reference
    from espnet_kd.export.folder import trace_all
    from espnet_kd.export.parity import Utterances, noise
    from espnet_kd.export.sensitivity import choose

    rate, most = source.front["sampling_rate"], args.utterances
    heard = Utterances([Path(data) for data in args.data or ()], rate, most)
    valid = Utterances([Path(args.valid)] if args.valid else [], rate, most)
    reference, graphs = Reference(source, chunks), trace_all(source, chunks)
    choices = {}
    for form in dict.fromkeys(args.format):
        choices[form] = choose(graphs, form, reference, valid, args.wer_margin)
        for part, ratio in choices[form].noise.items():
            logging.info("%s: %s alone: logits at %.1f dB", form, part, ratio)
        lost = choices[form].lost
        if lost is not None:
            kept = ", ".join(choices[form].keep) or "nothing"
            kind = "int8" if form == "int4" else "float"
            enough = "" if lost.within(args.wer_margin) else ", which is not enough"
            print(
                f"{form}: WER {lost.wer:.2f} % on {args.valid}, PyTorch {lost.wer_float:.2f} %, "
                f"at most {lost.most:.2f} points lost (95 %), {100 * lost.changed:.2f} % of "
                f"tokens changed; stays {kind}: {kept}{enough}"
            )
    write = _for_sherpa if args.runtime == "sherpa-onnx" else _for_onnxruntime
    problems = write(args, graphs, reference, choices, heard or noise(rate))
    for name, problem in problems:
        print(f"{name}: beyond the margin: {problem}")
    return BEYOND if problems else 0


def _for_onnxruntime(
    args: argparse.Namespace,
    graphs: "Graphs",
    reference: "Reference",
    choices: "Dict[str, Choice]",
    utterances: "Sequence[Utterance]",
) -> "List[Tuple[str, str]]":
    """Write a folder for each format; return what of which is beyond the margin."""
    from espnet_kd.export.folder import new_folder, with_parity, write_files
    from espnet_kd.export.parity import compare, line, too_far

    problems = []
    with contextlib.ExitStack() as folders:  # they take their places when all are compared
        places = {form: Path(args.out) / form for form in choices}
        trials = {form: folders.enter_context(new_folder(out)) for form, out in places.items()}
        described = {
            form: write_files(graphs, form, trials[form], choice.keep)
            for form, choice in choices.items()
        }
        for form, figures in compare(trials, reference, utterances).items():
            summary, out = figures.summary(), str(places[form])
            summary["known_utterances"] = getattr(utterances, "known", None)
            print(line(out, described[form], summary))
            problem = too_far(form, summary, args.wer_margin)
            with_parity(trials[form], described[form], summary, problem or "")
            if problem:
                problems.append((out, problem))
    return problems


def _for_sherpa(
    args: argparse.Namespace,
    graphs: "Graphs",
    reference: "Reference",
    choices: "Dict[str, Choice]",
    utterances: "Sequence[Utterance]",
) -> "List[Tuple[str, str]]":
    """Write sherpa-onnx's files for each format, and let it decode with them."""
    from espnet_kd.export import sherpa
    from espnet_kd.export.parity import Utterances, at_least_a_word

    source = graphs.source
    training = Utterances([Path(args.train)], source.front["sampling_rate"], sherpa.MEASURED)
    sounds, problems = [utterance.samples for utterance in training], []
    for form, choice in choices.items():
        out = Path(args.out) / f"sherpa-onnx-{form}"
        sizes = sherpa.write_set(graphs, sounds, form, out, choice.keep)
        text = f"{out}: {sum(sizes.values()):,} bytes; "
        if importlib.util.find_spec("sherpa_onnx") is None:
            print(f"{text}not compared: sherpa-onnx is not installed (pip install sherpa-onnx)")
            continue
        equal, ours, theirs = sherpa.compare(out, reference, utterances)
        text += f"{100 * equal:.1f} % of {len(utterances)} "
        text += "transcripts equal"
        if ours is not None and theirs is not None:
            text += f"; WER {ours:.2f} %, PyTorch {theirs:.2f} %"
            words = sum(len(utterance.words or []) for utterance in utterances)
            if ours - theirs > at_least_a_word(args.wer_margin, words):
                problems.append((str(out), f"WER is {ours - theirs:.2f} points higher"))
        print(text)
    return problems


if __name__ == "__main__":
    main()
