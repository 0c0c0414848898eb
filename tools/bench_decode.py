"""How fast is decoding? ESPnet's own against ours, in one process, in turn.

    python tools/bench_decode.py --exp exp/asr_x --data dump/raw/test --utterances 64
    python tools/bench_decode.py --exp exp/asr_x --data dump/raw/test --full_context

Ratios are to `stock` of the same run, which is ESPnet's `Speech2Text` as its command line uses
it, without the features of our own:

    stock      ESPnet, one utterance after the other; chunk by chunk unless --full_context
    stream     aligned, one utterance after the other, chunk by chunk
    single     the chunk-masked encoder and ESPnet's search, one utterance after the other
    batched    batches, beam search: what the recipe decodes with
    greedy     batches, greedy search by label looping: the WER of each epoch

Only `stock` may differ in its hypotheses: `single`, `stream` and `batched` are compared, and the
benchmark fails if they do not agree. CPU time of this process is measured, so that what else the
machine does counts little. A trained model is needed: hypotheses of others are no speech.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import soundfile
import torch

from espnet_kd.cli import new_parser, positive_int
from espnet_kd.errors import UserError, run_main
from espnet_kd.espnet.versions import quiet_import
from espnet_kd.fileio import read_table
from espnet_kd.machine import cpu_name
from espnet_kd.progress import Progress

with quiet_import():
    from espnet2.bin.asr_transducer_inference import Speech2Text

    from espnet_kd.espnet.greedy import greedy_search
    from espnet_kd.espnet.timed_inference import TimedSpeech2Text, decode, in_batches

VARIANTS = ("stock", "stream", "single", "batched", "greedy")
AGREE = ("stream", "single", "batched")


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--exp", type=Path, required=True, help="experiment of a trained transducer")
    add("--inference_model", default="valid.loss_transducer.ave.pth", help="its checkpoint")
    add("--data", type=Path, required=True, help="data directory; its first utterances are taken")
    add(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="NAME",
        help="which to measure; without 'stock' there are no ratios",
    )
    add("--utterances", type=positive_int, default=64, help="how many")
    add("--beam_size", type=positive_int, default=4, help="of all searches but the greedy one")
    add("--decoding_window", type=positive_int, default=640, help="milliseconds of a chunk")
    add("--left_context", type=int, default=32, help="encoder frames before a chunk")
    add("--full_context", action="store_true", help="whole utterances instead of chunks")
    add("--repeats", type=positive_int, default=3, help="timed rounds")
    add("--json", help="write the figures here")
    return parser


def measure(args: argparse.Namespace) -> List[Dict[str, Any]]:
    """Return a row for each variant.

    Raises:
        UserError: variants that compute the same disagree.
    """
    torch.set_num_threads(1)
    options = {
        "asr_train_config": str(args.exp / "config.yaml"),
        "asr_model_file": str(args.exp / args.inference_model),
        "beam_size": args.beam_size,
        "streaming": not args.full_context,
        "decoding_window": args.decoding_window,
        "left_context": args.left_context,
    }
    ours, stock = TimedSpeech2Text(**options), Speech2Text(**options)
    batches = ours.batches
    assert batches is not None
    table = list(read_table(args.data / "wav.scp").items())[: args.utterances]
    speech = {name: torch.from_numpy(_read(file)) for name, file in table}
    found: Dict[str, Dict[str, List[int]]] = {}

    def best(hyps: List[Any]) -> List[int]:
        return hyps[0].yseq[1:]

    def run_stock() -> None:
        found["stock"] = {k: best(decode(stock, x.numpy())) for k, x in speech.items()}

    def run_stream() -> None:
        found["stream"] = {k: best(decode(ours, x.numpy())) for k, x in speech.items()}

    def run_single() -> None:
        found["single"] = {}
        for name, x in speech.items():
            with torch.no_grad():
                enc, _ = batches.encode([x])
                found["single"][name] = best(ours.beam_search(enc[0]))

    def run_batched() -> None:
        found["batched"] = {k: best(hyps) for k, hyps in in_batches(ours, iter(speech.items()))}

    def run_greedy() -> None:
        found["greedy"] = {}
        names, sounds = list(speech), list(speech.values())
        for batch in batches.batches([len(x) for x in sounds]):
            with torch.no_grad():
                enc = batches.encode([sounds[k] for k in batch])
                outcome = greedy_search(ours.asr_model, *enc)
            found["greedy"].update(zip([names[k] for k in batch], outcome))

    known: Dict[str, Callable[[], None]] = {
        "stock": run_stock,
        "stream": run_stream,
        "single": run_single,
        "batched": run_batched,
        "greedy": run_greedy,
    }
    variants = {name: known[name] for name in args.variants}
    progress = Progress("bench_decode", (args.repeats + 1) * len(variants), unit="runs")
    seconds: Dict[str, List[float]] = {name: [] for name in variants}
    for round_ in range(args.repeats + 1):
        for name, run in variants.items():
            start = time.process_time()
            run()
            if round_:  # the first warms up
                seconds[name].append(time.process_time() - start)
            progress.update()
    progress.close()
    first, *others = [name for name in AGREE if name in variants] or list(variants)
    for name in set(others).intersection(AGREE):
        wrong = [k for k in speech if found[name][k] != found[first][k]]
        if wrong:
            raise UserError(f"{name} and {first} disagree on {len(wrong)}, e.g. {wrong[0]}")
    audio = sum(map(len, speech.values())) / 16000
    stock_times = seconds.get("stock", [math.nan] * args.repeats)
    base = statistics.median(stock_times)
    return [
        {
            "variant": name,
            "rtf": round(statistics.median(times) / audio, 5),
            "times_stock": round(base / statistics.median(times), 2),
            "ratios": [round(s / t, 2) for s, t in zip(stock_times, times)],
            "same": sum(found[name][k] == found[first][k] for k in speech),
            "utterances": len(speech),
            "audio_seconds": round(audio, 1),
            "processor": cpu_name(),
        }
        for name, times in seconds.items()
    ]


def _read(file: str) -> Any:
    return soundfile.read(file, dtype="float32")[0]


@run_main
def main(argv: Optional[Sequence[str]] = None) -> None:
    """Measure and print a table."""
    args = get_parser().parse_args(argv)
    rows = measure(args)
    print(f"{rows[0]['utterances']} utterances, {rows[0]['audio_seconds']} s, one thread")
    print("| variant | CPU time / audio | times stock | each round | hypotheses as aligned |")
    print("|---|--:|--:|---|--:|")
    for row in rows:
        rounds = " ".join(map(str, row["ratios"]))
        print(
            f"| {row['variant']} | {row['rtf']:.4f} | {row['times_stock']} | {rounds} | "
            f"{row['same']} |"
        )
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
