"""An experiment that is to be exported, or why it cannot be; and what it says itself."""

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from espnet2.asr_transducer.utils import TooShortUttError

from espnet_kd.device.description import TOKEN_TYPES, Source
from espnet_kd.errors import UserError, check_choice
from espnet_kd.espnet.aligned import grid_of
from espnet_kd.espnet.cascaded_encoder import CascadedEncoder
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.greedy import greedy_search
from espnet_kd.espnet.standalone import read_standalone
from espnet_kd.espnet.teacher import front_end
from espnet_kd.export.exportable import Chunks, Exportable
from espnet_kd.fileio import file_digest
from espnet_kd.spec.not_stock import CASCADE, ENCODER

LOG_FLOOR = 1e-10  # `LogMel` of ESPnet clamps to it
# Milliseconds of a chunk, encoder frames before it: the defaults of ESPnet's own inference.
WINDOW, LEFT_CONTEXT = 640, 32


def load_exportable(exp: Path, checkpoint: str) -> Exportable:
    """Load an experiment.

    Args:
        exp: The experiment, with `config.yaml`.
        checkpoint: File name of a checkpoint in it.

    Raises:
        UserError: it is no standalone transducer, see `read_standalone`; or something in it has
            no counterpart in an exported folder.
    """
    config, model, _ = read_standalone(exp, checkpoint, ("--exp", "--checkpoint"))
    model = model.requires_grad_(False).eval()
    where = exp / "config.yaml"
    token_type = str(config.get("token_type"))
    check_choice(f"{where}: token_type", token_type, TOKEN_TYPES)
    _check_encoder(where, model.encoder)
    _check_predictor(where, model.decoder)
    if model.frontend is None:
        raise UserError(
            f"{where}: input_size: the model is given features, not audio, so that no runtime "
            "can know how they are made; train with raw audio"
        )
    mean, scale = _normalisation(where, config.get("normalize"), model.normalize)
    return Exportable(
        model,
        [str(token) for token in config["token_list"]],
        token_type,
        _front(where, front_end(model), model.frontend),
        mean,
        scale,
        Source(exp.resolve().name, file_digest(exp / checkpoint)),
        model.encoder.num_left_chunks,
    )


def _check_encoder(where: Path, encoder: Any) -> None:
    if isinstance(encoder, CascadedEncoder):
        raise UserError(
            f"{where}: encoder_conf.{CASCADE}: {ENCODER.why}: no exported format has chunks of "
            "two lengths; export the streaming student (the folder above), train it with "
            "'strict: false', or decode with espnet_kd.bin.decode"
        )
    if not encoder.dynamic_chunk_training:
        raise UserError(
            f"{where}: encoder_conf.main_conf.dynamic_chunk_training: not set: the model must "
            "hear an utterance to its end; only streaming models can be exported"
        )
    kinds = {type(block).__name__ for block in encoder.encoders.blocks} - {"Conformer"}
    if kinds:
        raise UserError(
            f"{where}: encoder_conf.body_conf: blocks of kind {', '.join(sorted(kinds))} cannot "
            "be exported; conformer can"
        )
    if encoder.embed.vgg_like or encoder.embed.subsampling_factor not in (4, 6):
        raise UserError(
            f"{where}: encoder_conf.input_conf: only subsampling_factor 4 or 6 with vgg_like "
            f"false can be exported, found {encoder.embed.subsampling_factor} with vgg_like "
            f"{str(encoder.embed.vgg_like).lower()}"
        )


def _check_predictor(where: Path, decoder: Any) -> None:
    kind = type(decoder).__name__
    rnn_type = getattr(decoder, "dtype", "lstm")
    if kind not in ("RNNDecoder", "StatelessDecoder", "AveragedDecoder") or rnn_type != "lstm":
        name = kind if kind != "RNNDecoder" else f"rnn_type {rnn_type}"
        raise UserError(
            f"{where}: decoder: {name} cannot be exported; rnn with rnn_type lstm, "
            "stateless and averaged can"
        )


def _normalisation(where: Path, name: Optional[str], layer: Any) -> Any:
    if layer is None:
        return None, None
    if name != "global_mvn":
        raise UserError(
            f"{where}: normalize: {name} needs the whole utterance; only global_mvn, or none, "
            "can be exported"
        )
    mean = layer.mean if layer.norm_means else None
    return mean, 1 / layer.std.double() if layer.norm_vars else None


def _front(where: Path, facts: Dict[str, Any], front: Any) -> Dict[str, Any]:
    """Describe ESPnet's `default` front end, or say what of it a runtime does not do."""
    stft, extra = getattr(front, "stft", None), getattr(front, "frontend", None)
    others = {
        "frontend": facts["frontend"] == "DefaultFrontend",
        "frontend_conf.apply_stft": stft is not None,
        "frontend_conf.window": facts.get("window") == "hann",
        "frontend_conf.center": getattr(stft, "center", True),
        "frontend_conf.normalized": not getattr(stft, "normalized", False),
        "frontend_conf.frontend_conf": not any(
            getattr(extra, f"use_{kind}", False) for kind in ("wpe", "beamformer")
        ),
        "frontend_conf.n_fft": facts.get("n_fft", 0) % 2 == 0,
    }
    for key, fits in others.items():
        if not fits:
            raise UserError(
                f"{where}: {key}: only the front end `default` with a Hann window, centred, and "
                "its mel features can be exported"
            )
    return {
        "sampling_rate": int(facts["sr"]),
        "n_fft": facts["n_fft"],
        "win_length": facts["win_length"],
        "hop_length": facts["hop_length"],
        "n_mels": facts["n_mels"],
        "fmin": float(facts["fmin"]),
        "fmax": float(facts["fmax"]),
        "htk": bool(facts["htk"]),
        "log_floor": LOG_FLOOR,
    }


def chunks_for(source: Exportable, window: int, left_context: Optional[int]) -> Chunks:
    """Return the chunks of a decoding window.

    Args:
        source: The model.
        window: Milliseconds of audio of a chunk.
        left_context: Encoder frames before it; None: as in training.
    """
    grid = grid_of(source.model, window, left_context or 0, source.front["sampling_rate"])
    left = left_context or source.left_chunks * grid.chunk_size or LEFT_CONTEXT
    return Chunks(grid.chunk_size, left)


class Reference:
    """The model that is exported, in PyTorch.

    Args:
        source: The model.
        chunks: Chunks of the model.
    """

    def __init__(self, source: Exportable, chunks: Chunks) -> None:
        self.source, self.chunks = source, chunks

    @torch.no_grad()
    def run(self, samples: np.ndarray) -> Tuple[np.ndarray, np.ndarray, List[int]]:
        """Decode an utterance: all of it at once, under the chunk mask, greedily.

        Args:
            samples: At the model's rate. (S,)

        Returns:
            Features before normalisation (T_in, F), encoder frames in the joint space (T, J),
            labels; nothing of an utterance that is too short for a frame.
        """
        model, front = self.source.model, self.source.front
        nothing = np.zeros((0, 0), np.float32)  # (0, 0)
        if len(samples) <= front["n_fft"] // 2:  # torch cannot mirror it
            return nothing, nothing, []
        speech = torch.from_numpy(np.asarray(samples, np.float32))[None]  # (1, S)
        feats, lengths = model.frontend(speech, torch.tensor([len(samples)]))  # (1, T_in, F)
        x = feats
        if model.normalize is not None:
            x, _ = model.normalize(feats.clone(), lengths)  # (1, T_in, F)
        try:
            enc, t_len = encode(model.encoder, x, lengths, *self.chunks)  # (1, T, D)
        except TooShortUttError:
            return feats[0].numpy(), nothing, []
        labels = greedy_search(model, enc, t_len)[0]
        y = model.joint_network.lin_enc(enc)  # (1, T, J)
        return feats[0].numpy(), y[0].numpy(), labels
