r"""Time and peak memory of a whole training step: ESPnet's own against ours.

    python tools/bench_step.py --quick                 # does it work?
    python tools/bench_step.py --csv step.csv          # the table of docs/benchmarks.md
    python tools/bench_step.py --times_only --batches sorted --cells 30 --repeats 2 \
        --variants plain ours_band_cached              # two variants: a minute or two
    python tools/bench_step.py --check_memory          # 16 utterances, V of 5,000, within 4 GB

Front end, encoder, predictor, joint network, loss, backward pass and the optimizer's update
of a conformer transducer of ESPnet; ratios are to `plain`:

    plain              ESPnet's forward with torchaudio's rnnt_loss on materialised logits
    ours               espnet_kd without distillation
    ours_cached        collapsed, the teacher from a cache
    ours_collapsed     collapsed, teacher on-line
    ours_full          full vocabulary, teacher on-line
    ours_band_cached   as ours_cached, in the band of the teacher's paths
    ours_band          as ours_collapsed, in the band of the teacher's paths
    teacher_forward    the teacher's front end, encoder and predictor alone, without gradients

The lengths of a batch are those of real speech, its content is noise. The memory is what the
process holds beyond its imports: both models, the optimizer, activations, gradients. Weights are
random; for the bands alone an alignment is added to what both joint networks are given (`align`),
since without one there would be no paths to make a band around.
"""

import argparse
import functools
import math
import warnings
from argparse import Namespace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import benchcli
import benchlib
import torch
from bench_lattice import SLOPE, SURE
from benchdata import Length, draw, lattice, read_lengths

from espnet_kd.errors import run_main
from espnet_kd.espnet.versions import quiet_import
from espnet_kd.progress import Progress

with quiet_import():
    from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
    from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.model import DistilTransducer
from espnet_kd.espnet.teacher import FrozenTeacher
from espnet_kd.lattice import node_stats
from espnet_kd.spec.distillation import Distillation
from espnet_kd.teachers import pack

# ESPnet's, at every step, about how it spells autocast.
warnings.filterwarnings("ignore", category=FutureWarning, module="espnet2")

OBJECTIVES = {
    "ours_cached": "collapsed",
    "ours_collapsed": "collapsed",
    "ours_full": "full",
    "ours_band_cached": "collapsed",
    "ours_band": "collapsed",
}
VARIANTS = ("plain", "ours", *OBJECTIVES, "teacher_forward")
BANDED = ("ours_band_cached", "ours_band")
LIMIT_GB = 4
SAMPLES = 640  # of audio for an encoder frame: 16 kHz, 25 Hz
WARM_UP = (Length(20, 4), Length(12, 2))  # a batch that is not measured


class PlainTransducer(ESPnetASRTransducerModel):
    """ESPnet's model with a loss that can be installed, and lengths that are right.

    Up to 202511 ESPnet counts padding as speech (`espnet/versions.py`), which would make
    its lattices larger than ours.
    """

    def encode(self, speech: torch.Tensor, lengths: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        """(B, S) -> encoder output (B, T, D) and its lengths (B,)"""
        feats, lengths = self._extract_feats(speech, lengths)
        return encode(self.encoder, feats, lengths, None)


def torchaudio_criterion(logits: torch.Tensor, *lattice: torch.Tensor) -> torch.Tensor:
    """RNN-T loss as ESPnet calls it. (B, T, U + 1, V), labels, t_len, u_len -> ()"""
    from torchaudio.functional import rnnt_loss

    return rnnt_loss(logits, *(x.int() for x in lattice), blank=0, reduction="mean")


def build(blocks: int, size: int, joint: int, vocabulary: int) -> ESPnetASRTransducerModel:
    """Build a conformer transducer by ESPnet's own Task."""
    body: Dict[str, Any] = {"block_type": "conformer", "num_blocks": blocks, "hidden_size": size}
    body.update(linear_size=4 * size, heads=4, conv_mod_kernel_size=31)
    tokens = ["<blank>", "<unk>", *(f"t{i}" for i in range(vocabulary - 3)), "<sos/eos>"]
    frontend = {"fs": "16k", "n_fft": 640, "win_length": 400, "hop_length": 160, "n_mels": 80}
    config: Dict[str, Any] = {
        "token_list": tokens,
        "input_size": None,
        "init": None,
        "frontend": "default",
        "frontend_conf": frontend,
        "specaug": None,
        "specaug_conf": {},
        "normalize": None,
        "normalize_conf": {},
        "encoder_conf": {
            "input_conf": {"vgg_like": False, "subsampling_factor": 4, "conv_size": 64},
            "body_conf": [body],
        },
        "decoder": "rnn",
        "decoder_conf": {
            "rnn_type": "lstm",
            "num_layers": 1,
            "embed_size": size,
            "hidden_size": size,
        },
        "joint_network_conf": {"joint_space_size": joint},
        "model_conf": {},
    }
    return ASRTransducerTask.build_model(Namespace(**config))


class Step:
    """A variant, ready to be trained.

    Args:
        variant: Its name.
        args: The command line.
        vocabulary: V
        lengths: The batch.
        entries: What a teacher cache gives for the batch. (B, L, 1)
    """

    def __init__(
        self,
        variant: str,
        args: Namespace,
        vocabulary: int,
        lengths: Sequence[Length],
        entries: Optional[torch.Tensor] = None,
    ) -> None:
        torch.manual_seed(args.seed)
        self.student = build(args.student_blocks, args.student_size, args.joint, vocabulary)
        self.variant, teacher = variant, None
        self.student.to(args.device).train()
        self.batch = make_batch(lengths, vocabulary, args.device, args.seed)
        cached = variant.endswith("_cached")
        if variant not in ("plain", "ours") and not cached:
            teacher = make_teacher(args, vocabulary)
        if variant in BANDED:
            for model in [self.student] if teacher is None else [self.student, teacher.model]:
                align(model, lengths, self.batch["text"])
        if variant == "plain":
            self.student.__class__ = PlainTransducer
            self.student.criterion_transducer = torchaudio_criterion
        else:
            options: Dict[str, Any] = {"objective": OBJECTIVES.get(variant, "none")}
            if variant in BANDED:
                options["lattice"] = "band"
            if cached:
                if entries is None:
                    raise RuntimeError(f"{variant}: the batch has no cache")
                self.batch["teacher"] = entries.to(args.device)
                options["teacher_cache"] = "in memory"
            DistilTransducer.wrap(self.student, Distillation(**options), teacher)
            self.in_the_middle()
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=1e-4)

    def in_the_middle(self) -> None:
        """Let it be the middle of an epoch.

        One batch of 25 goes over the whole lattice of a band, and is asked for its agreement.
        """
        if self.variant != "plain":
            self.student.batches = 1
            self.student.band_watch.batches, self.student.band_watch.inside = 1, 1.0

    def __call__(self) -> Tuple[float, float]:
        """Train one update. RNN-T loss and distillation loss."""
        if self.variant == "teacher_forward":
            run_teacher(self.student.teacher, self.batch)
            return math.nan, math.nan
        self.optimizer.zero_grad()
        loss, stats, _ = self.student(**self.batch)
        loss.backward()
        self.optimizer.step()
        rnnt, kd = (float(stats.get(f"loss_{x}", math.nan)) for x in ("transducer", "kd"))
        return rnnt, kd


def make_teacher(args: Namespace, vocabulary: int) -> FrozenTeacher:
    """Build a teacher of random weights."""
    torch.manual_seed(args.seed + 1)
    model = build(args.teacher_blocks, args.teacher_size, args.joint, vocabulary)
    return FrozenTeacher(model.to(args.device))


def align(model: ESPnetASRTransducerModel, lengths: Sequence[Length], text: torch.Tensor) -> None:
    """Make a model's paths follow an alignment, as `bench_lattice.make_case` does. text: (B, U)"""
    joint = model.joint_network
    with torch.no_grad():
        weight = joint.lin_out.weight  # (V, D)
        codes = 2.0 * weight[text.clamp_min(0)] / weight.std()  # (B, U, D)
        weight[:, 0], weight[0, 0] = SURE, -SURE
    T = max(x.frames for x in lengths) + 2
    t_len, u_len = (torch.tensor(x, device=text.device)[:, None] for x in zip(*lengths))
    enc = SLOPE * torch.arange(T, device=text.device) / t_len * (u_len + 1)  # (B, T)
    dec = -SLOPE * (torch.arange(text.size(1) + 1, device=text.device) + 1.0)  # (U + 1,)

    def of_enc(_: torch.nn.Module, __: Any, out: torch.Tensor) -> torch.Tensor:
        return torch.cat([enc[:, : out.size(1), None], out[..., 1:]], -1)

    def of_dec(_: torch.nn.Module, __: Any, out: torch.Tensor) -> torch.Tensor:
        coded = out + torch.nn.functional.pad(codes, (0, 0, 0, 1))  # the last row has no label
        return torch.cat([dec.expand(len(out), -1)[..., None], coded[..., 1:]], -1)

    joint.lin_enc.register_forward_hook(of_enc)
    joint.lin_dec.register_forward_hook(of_dec)


def make_batch(
    lengths: Sequence[Length], vocabulary: int, device: str, seed: int
) -> Dict[str, Any]:
    """Make noise of the lengths of a batch."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.tensor([x.frames * SAMPLES + 480 for x in lengths])
    labels = torch.tensor([x.labels for x in lengths])
    text = torch.randint(2, vocabulary - 1, (len(lengths), int(labels.max())), generator=generator)
    text[torch.arange(text.size(1)) >= labels[:, None]] = -1
    speech = 0.1 * torch.randn(len(lengths), int(samples.max()), generator=generator)
    speech[torch.arange(speech.size(1)) >= samples[:, None]] = 0.0
    batch = {"speech": speech, "speech_lengths": samples, "text": text, "text_lengths": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()}


@torch.no_grad()
def run_teacher(teacher: FrozenTeacher, batch: Dict[str, Any]) -> Any:
    """Run the teacher on a batch, front end included."""
    feats, feats_len = teacher.model._extract_feats(batch["speech"], batch["speech_lengths"])
    decoder_in = torch.nn.functional.pad(batch["text"].clamp_min(0), (1, 0))  # (B, U + 1)
    return teacher.joint(feats, feats_len, decoder_in, None)


@torch.no_grad()
def cache_entries(teacher: FrozenTeacher, batch: Dict[str, Any]) -> torch.Tensor:
    """Make what a teacher cache would give for a batch. (B, L, 1)"""
    said = run_teacher(teacher, batch)
    labels, u_len = batch["text"].clamp_min(0), batch["text_lengths"]
    three = node_stats(said.joint, labels, said.t_len, u_len)  # (B, T, U + 1, 3)
    entries = []
    for b, (frames, n) in enumerate(zip(said.t_len.tolist(), u_len.tolist())):
        entry = pack(three[b, :frames, : n + 1], labels[b, :n], None, n + 1)
        entries.append(torch.from_numpy(entry).float()[:, None])
    return torch.nn.utils.rnn.pad_sequence(entries, batch_first=True).cpu()


class Bench:
    """The measurements of one batch; each method runs in a child.

    Args:
        args: The command line.
        vocabulary: V
        lengths: The batch.
    """

    def __init__(self, args: Namespace, vocabulary: int, lengths: Sequence[Length]) -> None:
        self.args, self.vocabulary, self.lengths = args, vocabulary, lengths
        self.entries: Dict[Any, torch.Tensor] = {}
        for variant in args.variants:
            # A cache that was made before: not in the process that is measured.
            for some in (lengths, WARM_UP) if variant.endswith("_cached") else ():
                made = benchlib.in_child(functools.partial(self._cached, some, variant in BANDED))
                self.entries[variant, tuple(some)] = torch.from_numpy(made)

    def step(self, variant: str, lengths: Optional[Sequence[Length]] = None) -> Step:
        """Make a variant ready."""
        lengths = lengths or self.lengths
        entries = self.entries.get((variant, tuple(lengths)))
        return Step(variant, self.args, self.vocabulary, lengths, entries)

    def memory(self, variant: str, updates: int = 2) -> Dict[str, Any]:
        """Peak memory, and the losses of every update. The first update is the warm-up."""
        self._prepare()
        if not self.args.check_memory:  # which is about the process as the user has it
            benchlib.return_freed_memory()
        self.step(variant, WARM_UP)()
        with benchlib.PeakMemory(self.args.device) as peak:
            step = self.step(variant)
            losses = [step() for _ in range(updates)]
        return {"bytes": peak.used, "absolute": peak.absolute, "losses": losses}

    def seconds(self) -> Dict[str, List[float]]:
        """Times of all variants, taken in turn."""
        self._prepare()
        steps = {name: self.step(name) for name in self.args.variants}
        for name in steps:
            self.step(name, WARM_UP)()
        return benchlib.interleaved(steps, self.args.repeats, self.args.device)

    def _cached(self, lengths: Sequence[Length], aligned: bool) -> Any:
        """Make a cache's entries for a batch (in a child); a NumPy array. (B, L, 1)"""
        self._prepare()
        args = self.args
        batch = make_batch(lengths, self.vocabulary, args.device, args.seed)
        teacher = make_teacher(args, self.vocabulary)
        if aligned:
            align(teacher.model, lengths, batch["text"])
        return cache_entries(teacher, batch).numpy()

    def _prepare(self) -> None:
        args = self.args
        benchlib.prepare(args.device, args.threads, args.flush_denormals)


def measure(args: Namespace, kind: str, vocabulary: int, progress: Progress) -> List[benchcli.Row]:
    """Measure all variants on one batch; one row a variant."""
    found = read_lengths(args.corpus, vocabulary)
    utterances = [x.shorter(args.shrink) for x in found.utterances]
    batch = draw(kind, utterances, args.batch, args.cells * 1e6, vocabulary, args.seed)
    bench = Bench(args, vocabulary, batch)
    peaks: Dict[str, Any] = {}
    for name in args.variants:
        if args.times_only:
            peaks[name] = {"bytes": math.nan, "losses": [(math.nan, math.nan)]}
        else:
            peaks[name] = benchlib.in_child(functools.partial(bench.memory, name))
        progress.update()
    trained = {name: peaks[name] for name in peaks if name != "teacher_forward"}
    same = [] if args.times_only else [name for name in trained if name not in BANDED]
    losses = {name: dict(zip(("rnnt", "kd"), peaks[name]["losses"][0])) for name in peaks}
    benchcli.check_losses({name: losses[name] for name in same})
    seconds: Dict[str, List[float]] = {name: [] for name in args.variants}
    if args.repeats:
        seconds = benchlib.in_child(bench.seconds)
        progress.update(args.repeats * len(args.variants))
    rows = []
    for name in args.variants:
        measured = trained.get(name) and not args.times_only
        rows.append(
            {
                "batch": kind,
                "V": vocabulary,
                "B": len(batch),
                "T": max(x.frames for x in batch),
                "U": max(x.labels for x in batch),
                "lattice_mb": round(4 * lattice(batch) * vocabulary / benchlib.MB, 1),
                "student": f"{args.student_blocks}x{args.student_size}",
                "teacher": f"{args.teacher_blocks}x{args.teacher_size}",
                "joint": args.joint,
                "variant": name,
                # The teacher alone is there for its time.
                "peak_mb": round(peaks[name]["bytes"] / benchlib.MB, 1) if measured else None,
                **benchcli.times(seconds[name]),
                "repeats": args.repeats,
                **({} if args.times_only else benchcli.loss_columns(losses[name])),
                "flush_denormals": args.flush_denormals,
                "lengths": found.source,
                **benchcli.machine(args.device, args.threads),
            }
        )
    return rows


def check_memory(args: Namespace, vocabulary: int = 5000, batch: int = 16) -> int:
    """Train on 16 utterances with V = 5,000; exit code 1 if it takes more than 4 GB."""
    found = read_lengths(args.corpus, vocabulary)
    utterances = [x.shorter(args.shrink) for x in found.utterances]
    lengths = draw("unsorted", utterances, batch, float("inf"), vocabulary, args.seed)
    whole = 4 * lattice(lengths) * vocabulary / 2**30
    print(f"{len(lengths)} utterances ({found.source}), V {vocabulary}: {whole:.1f} GB a lattice")
    failed = 0
    for variant in [name for name in args.variants if name in ("ours", *OBJECTIVES)]:
        bench = Bench(args, vocabulary, lengths)
        result = benchlib.in_child(functools.partial(bench.memory, variant, 2))
        # Without distillation there is no second loss, which is NaN then.
        first, last = (sum(x for x in losses if x == x) for losses in result["losses"])
        used = result["absolute"] / 2**30
        good = used <= LIMIT_GB and last < first
        failed += not good
        print(
            f"{variant}: loss {first:.2f} -> {last:.2f} in one update; the process took "
            f"{used:.2f} GB at its peak, imports included{'' if good else ': NOT GOOD'}"
        )
    return 1 if failed else 0


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = benchcli.get_parser(__doc__, VARIANTS, [500, 1000], ["sorted", "unsorted"])
    add = parser.add_argument
    add("--student_blocks", type=int, default=6, help="conformer blocks")
    add("--student_size", type=int, default=144, help="width of its encoder and predictor")
    add("--teacher_blocks", type=int, default=12, help="conformer blocks")
    add("--teacher_size", type=int, default=256, help="width of its encoder and predictor")
    add("--joint", type=int, default=256, help="width of both joint spaces")
    add("--times_only", action="store_true", help="measure no memory, and compare no losses")
    add(
        "--check_memory",
        action="store_true",
        help=f"only check that 16 utterances with V of 5,000 train within {LIMIT_GB} GB",
    )
    return parser


COLUMNS = {
    "batch": "batch",
    "V": "V",
    "B": "B",
    "variant": "variant",
    "peak_mb": "peak MB",
    "peak_ratio": "peak / plain",
    "time_ms": "ms",
    "time_ratio": "time / plain",
}


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> Optional[int]:
    """Run the command line."""
    args = benchcli.parse(get_parser(), cmd)
    if args.quick:
        args.vocabularies, args.batch, args.shrink, args.repeats = [100], 3, 8, 1
        args.student_blocks, args.student_size, args.joint = 2, 32, 32
        args.teacher_blocks, args.teacher_size = 2, 48
    if args.check_memory:
        return check_memory(args)
    benchcli.run("bench_step", args, functools.partial(measure, args), COLUMNS)
    return 0


if __name__ == "__main__":
    main()
