"""The set of files that sherpa-onnx reads: shaped like a streaming transducer of NeMo's.

Its other kinds of transducers take predictors without states alone, and emit one token a frame
at most, which models of characters cannot do with. This kind takes both of ours, and up to ten
tokens a frame. It hears with Kaldi's features, which differ from ESPnet's by little more than an
offset and a scale of each bin: these are measured on training utterances, and put into the
encoder's graph. Source: sherpa-onnx 1.13.4, `online-transducer-nemo-model.cc`, `features.cc`.
"""

from pathlib import Path
from typing import Any, Collection, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch

from espnet_kd.device.description import GRAPHS, PREDICTOR_STATES
from espnet_kd.device.spelling import MARK, SPACE
from espnet_kd.errors import UserError
from espnet_kd.export import formats
from espnet_kd.export.exportable import Chunks, Exportable
from espnet_kd.export.folder import Graphs, parts
from espnet_kd.export.graphs import PREDICTORS, Joiner, StreamingEncoder
from espnet_kd.export.parity import Reference, Utterance, count, wer, words_of
from espnet_kd.export.tracing import Port, Traced, state_shapes, streaming_encoder, traced
from espnet_kd.fileio import atomic_open, atomic_path
from espnet_kd.scoring.counts import Counts

FILES = ("encoder.onnx", "decoder.onnx", "joiner.onnx")
WINDOW, HOP = 0.025, 0.010  # seconds: its features have no others
TAIL = 1.0  # seconds of silence behind an utterance: it never decodes a chunk that is not full
MEASURED = 300  # utterances on which the features are compared


class NemoEncoder(torch.nn.Module):
    """`StreamingEncoder` with NeMo's order of axes."""

    def __init__(self, encoder: StreamingEncoder, subsampling: int) -> None:
        super().__init__()
        self.encoder, self.subsampling = encoder, subsampling

    def forward(self, x: torch.Tensor, length: torch.Tensor, *states: torch.Tensor) -> Any:
        """Encode a chunk.

        Args:
            x: Features. (B, F, T_in)
            length: Feature frames. (B,)
            *states: `att` (B, N, L, D), `conv` (B, N, D, K - 1), `processed` (B,).

        Returns:
            Encoder frames (B, J, T), their number (B,), the states after the chunk.
        """
        att, conv, processed = states
        y, att, conv, processed = self.encoder(
            x.transpose(1, 2), att.transpose(0, 1), conv.transpose(0, 1), processed
        )
        n_frames = torch.div(length + 1, self.subsampling, rounding_mode="floor") - 1  # (B,)
        return y.transpose(1, 2), n_frames, att.transpose(0, 1), conv.transpose(0, 1), processed


class NemoPredictor(torch.nn.Module):
    """A predictor whose blank is the last token; states that it does not have it passes on.

    Args:
        predictor: One of `graphs.PREDICTORS`.
        vocabulary: Number V of tokens, blank included.
        states: Number of its states.
    """

    def __init__(self, predictor: torch.nn.Module, vocabulary: int, states: int) -> None:
        super().__init__()
        self.predictor, self.vocabulary, self.states = predictor, vocabulary, states

    def forward(
        self, y: torch.Tensor, length: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> Any:
        """Hear a label: y (B, 1) to (B, J, 1), with its length and the states."""
        label = (y.long()[:, 0] + 1) % self.vocabulary  # (B,)
        known = (h, c)[: self.states]
        output = self.predictor(label, *known)
        outputs: Tuple[torch.Tensor, ...] = output if known else (output,)
        d, *after = outputs  # (B, J), states
        h, c = [*after, *(x + 0 for x in (h, c)[self.states :])]
        return d[:, :, None], length + 0, h, c


class NemoJoiner(torch.nn.Module):
    """A joiner that scores blank last."""

    def __init__(self, joiner: Joiner) -> None:
        super().__init__()
        self.joiner = joiner

    def forward(self, enc: torch.Tensor, dec: torch.Tensor) -> torch.Tensor:
        """Score the next token: (B, J, 1) and (B, J, 1) to (B, 1, 1, V)."""
        logits = self.joiner(enc[:, :, 0], dec[:, :, 0])  # (B, V)
        return torch.cat([logits[:, 1:], logits[:, :1]], dim=1)[:, None, None]


def check_features(source: Exportable) -> None:
    """Refuse a front end whose like sherpa-onnx does not have.

    Raises:
        UserError: windows, hops or the band are others.
    """
    front = source.front
    rate = front["sampling_rate"]
    wanted = {
        "win_length": round(WINDOW * rate),
        "hop_length": round(HOP * rate),
        "fmin": 0.0,
        "fmax": rate / 2,
        "htk": False,
    }
    for key, value in wanted.items():
        if front[key] != value:
            raise UserError(
                f"{source.source.model}: frontend_conf.{key} is {front[key]}; sherpa-onnx has "
                f"only {value} at {rate} Hz: export for onnxruntime, or train with that"
            )


def fbank(samples: np.ndarray, rate: int, bins: int) -> np.ndarray:
    """Compute features as sherpa-onnx does for a model of NeMo's.

    Args:
        samples: Samples in [-1, 1]. (S,)
        rate: Sampling rate in hertz.
        bins: F

    Returns:
        (T, F)
    """
    try:
        import kaldi_native_fbank
    except ImportError:
        raise UserError(
            "kaldi-native-fbank is not installed; install it: pip install '.[export]'"
        ) from None
    options = kaldi_native_fbank.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq, frame.dither, frame.snip_edges = rate, 0.0, False
    frame.frame_length_ms, frame.frame_shift_ms = 1000 * WINDOW, 1000 * HOP
    frame.window_type, frame.remove_dc_offset = "hann", False
    mel.num_bins, mel.low_freq, mel.high_freq, mel.is_librosa = bins, 0.0, 0.0, True
    stream = kaldi_native_fbank.OnlineFbank(options)
    stream.accept_waveform(rate, samples.tolist())
    stream.input_finished()
    frames = [stream.get_frame(i) for i in range(stream.num_frames_ready)]
    return np.stack(frames) if frames else np.zeros((0, bins), np.float32)


def fitted(source: Exportable, sounds: Sequence[np.ndarray]) -> Tuple[torch.Tensor, torch.Tensor]:
    """Find mean and scale that make of sherpa-onnx's features what the model expects.

    Args:
        source: The model.
        sounds: Training utterances. (S,) each

    Returns:
        What takes the place of the model's mean and scale. (F,) each
    """
    front, sums = source.front, []
    for samples in sounds:
        speech = torch.from_numpy(samples)[None]  # (1, S)
        ours, _ = source.model.frontend(speech, torch.tensor([len(samples)]))  # (1, T, F)
        theirs = fbank(samples, front["sampling_rate"], front["n_mels"])  # (T, F)
        sums.append([_sums(x) for x in (ours[0].double().numpy(), theirs.astype(np.float64))])
    (mean, deviation), (mean_theirs, deviation_theirs) = map(_moments, zip(*sums))
    ratio = deviation / deviation_theirs  # (F,)
    before = 0.0 if source.mean is None else source.mean.double().numpy()
    scale = 1.0 if source.scale is None else source.scale.double().numpy()
    # ((x - mean_theirs) * ratio + mean - before) * scale, written as (x - m) * s
    shift = mean_theirs - (mean - before) / ratio
    return torch.from_numpy(shift), torch.from_numpy(ratio * scale)


def _sums(x: np.ndarray) -> Tuple[int, np.ndarray, np.ndarray]:
    return len(x), x.sum(0), (x**2).sum(0)


def _moments(sums: Any) -> Tuple[np.ndarray, np.ndarray]:
    count, total, squares = (sum(column) for column in zip(*sums))
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean**2, 1e-10))


def write_set(
    graphs: Graphs,
    sounds: Sequence[np.ndarray],
    form: str,
    out: Path,
    keep: Collection[str] = (),
) -> Dict[str, int]:
    """Write the files.

    Args:
        graphs: The model.
        sounds: Training utterances. (S,) each
        form: Number format.
        out: Folder to make; files of these names in it are replaced.
        keep: Parts whose matrices stay float, or int8 in int4, see `folder.parts`.

    Returns:
        Bytes of each file.
    """
    source, chunks = graphs.source, graphs.chunks
    check_features(source)
    # The same products, inside of one more module.
    wrapped = {f"{name.removesuffix('.onnx')}.": name for name in GRAPHS}
    kept = [
        f"{prefix}{product}"
        for prefix, name in wrapped.items()
        for part, products in parts(graphs, name).items()
        for product in products
        if part in keep
    ]
    mean, scale = fitted(source, sounds)
    out.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for name, (what, facts) in zip(FILES, _graphs(source, chunks, mean, scale)):
        model = traced(what, facts)
        formats.name_weights(model, what.module)
        converted = formats.converted(model, form, kept, source.rounded)
        content = converted.SerializeToString(deterministic=True)
        sizes[name] = len(content)
        with atomic_path(out / name) as tmp:
            tmp.write_bytes(content)
    tokens = tokens_of(source.tokens, source.token_type)
    with atomic_open(out / "tokens.txt") as f:
        f.writelines(f"{token} {i}\n" for i, token in enumerate(tokens))
    return sizes


def tokens_of(tokens: Sequence[str], token_type: str) -> List[str]:
    """Return the tokens as sherpa-onnx wants them: blank last, `▁` for spaces, before words."""
    before = MARK if token_type == "word" else ""
    return [*(before + token.replace(SPACE, MARK) for token in tokens[1:]), "<blk>"]


def _graphs(
    source: Exportable, chunks: Chunks, mean: torch.Tensor, scale: torch.Tensor
) -> "list[Tuple[Traced, Dict[str, Any]]]":
    shapes, vocabulary = state_shapes(source, chunks.left_context), len(source.tokens)
    encoder = streaming_encoder(source)
    encoder.mean, encoder.scale = mean.float(), scale.float()
    step = source.subsampling
    n_frames, network = step * (chunks.chunk_size + 1) - 1, source.model.joint_network
    layers, hidden = shapes.get("h", [1, 1])
    facts: Dict[str, Any] = {
        "vocab_size": vocabulary - 1,
        "window_size": n_frames,
        "chunk_shift": step * chunks.chunk_size,
        "subsampling_factor": step,
        "normalize_type": "NA",
        "pred_rnn_layers": layers,
        "pred_hidden": hidden,
    }
    for axis, name in (("channel", "att"), ("time", "conv")):
        for i, size in enumerate(shapes[name], 1):
            facts[f"cache_last_{axis}_dim{i}"] = size
    batch, single = 2, 1
    caches = [torch.zeros(batch, *shapes[name]) for name in ("att", "conv")]  # (B, N, ...)
    x = torch.zeros(batch, source.front["n_mels"], n_frames)  # (B, F, T)
    lengths = torch.full((batch,), n_frames)  # (B,)
    first = {0: "B"}
    ins = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")
    chunk = Traced(
        NemoEncoder(encoder, step).eval(),
        (x, lengths, *caches, torch.zeros(batch, dtype=torch.long)),
        [Port("audio_signal", {0: "B", 2: "T"}), *(Port(n, first) for n in ("length", *ins))],
        [
            Port("outputs", {0: "B", 2: "U"}),
            *(Port(n, first) for n in ("encoded_lengths", *(f"{n}_next" for n in ins))),
        ],
    )
    kind = PREDICTORS[source.predictor]
    state = torch.zeros(layers, single, hidden)  # (layers, 1, H)
    label = (torch.zeros(single, 1, dtype=torch.int32), torch.ones(single, dtype=torch.int32))
    states = [Port(n, {1: "B"}) for n in ("h", "c")]
    heard = kind(source.model.decoder, network.lin_dec, not source.rounded)
    predictor = Traced(
        NemoPredictor(heard, vocabulary, len(PREDICTOR_STATES[source.predictor])).eval(),
        (*label, state, state),
        [Port("targets", first), Port("target_length", first), *states],
        [
            Port("outputs", first),
            Port("prednet_lengths", first),
            *(Port(n, {1: "B"}) for n in ("h_next", "c_next")),
        ],
    )
    frame = torch.zeros(single, network.lin_out.in_features, 1)  # (1, J, 1)
    joiner = Traced(
        NemoJoiner(Joiner(network)).eval(),
        (frame, frame),
        [Port("encoder_outputs", first), Port("decoder_outputs", first)],
        [Port("outputs", first)],
    )
    return [(chunk, facts), (predictor, {}), (joiner, {})]


class Recogniser:
    """sherpa-onnx on a set of files.

    Args:
        folder: The set.
        source: The model it is from.

    Raises:
        UserError: sherpa-onnx is not installed.
    """

    def __init__(self, folder: Path, source: Exportable) -> None:
        try:
            import sherpa_onnx
        except ImportError:
            raise UserError(
                "sherpa-onnx is not installed; install it: pip install sherpa-onnx"
            ) from None
        self.rate = source.front["sampling_rate"]
        self.engine = sherpa_onnx.OnlineRecognizer.from_transducer(
            *(str(folder / name) for name in ("tokens.txt", *FILES)),
            num_threads=1,
            sample_rate=self.rate,
            feature_dim=source.front["n_mels"],
            decoding_method="greedy_search",
        )

    def text(self, samples: np.ndarray, tail: Optional[float] = TAIL) -> str:
        """Transcribe an utterance (S,), with so many seconds of silence behind it."""
        stream = self.engine.create_stream()
        stream.accept_waveform(self.rate, samples)
        if tail:
            stream.accept_waveform(self.rate, np.zeros(int(tail * self.rate), np.float32))
        stream.input_finished()
        while self.engine.is_ready(stream):
            self.engine.decode_stream(stream)
        return self.engine.get_result(stream)


def compare(
    folder: Path, reference: Reference, utterances: Sequence[Utterance]
) -> Tuple[float, Optional[float], Optional[float]]:
    """Let sherpa-onnx decode.

    Args:
        folder: The set of files.
        reference: The model in PyTorch.
        utterances: Utterances to decode.

    Returns:
        Share of transcripts that are equal, WER of sherpa-onnx and WER of PyTorch in percent,
        None without transcripts.
    """
    recogniser, equal = Recogniser(folder, reference.source), 0
    counts: Tuple[List[Counts], List[Counts]] = ([], [])
    for utterance in utterances:
        words = recogniser.text(utterance.samples).split()
        expected = words_of(reference.source, reference.run(utterance.samples)[2])
        equal += words == expected
        if utterance.words is not None:
            counts[0].append(count(utterance.words, words))
            counts[1].append(count(utterance.words, expected))
    return equal / len(utterances), wer(counts[0]), wer(counts[1])
