"""Transducers of `espnet2.asr` as standalone ones: same predictor, same joint network.

Their constructor imports `warprnnt_pytorch`, which is not on PyPI; here the parts that teach are
built without it, and loaded under the names of the standalone model.
"""

import importlib
import re
from typing import Any, Dict, Mapping

import torch
from espnet2.asr_transducer.decoder.rnn_decoder import RNNDecoder
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.asr_transducer.joint_network import JointNetwork
from espnet2.tasks.asr_transducer import frontend_choices, normalize_choices

from espnet_kd.espnet.whole_encoder import WholeEncoder
from espnet_kd.spec.teacher_kinds import ENCODERS

# Names of the same parameters: ours begin where theirs do.
NAMES = (
    (r"^encoder\.", "encoder.inner."),
    (r"^decoder\.decoder\.", "decoder.rnn."),
    (r"^ctc\.ctc_lo\.", "ctc_lin."),
)


def build_offline(config: Mapping[str, Any]) -> ESPnetASRTransducerModel:
    """Build an `espnet2.asr` transducer with random weights, in eval mode.

    Args:
        config: Its `config.yaml`, which `spec.teacher_kinds.check_teacher` has passed.

    Raises:
        Exception: a value that ESPnet refuses, in whatever way it does.
    """
    frontend, features = None, config.get("input_size")
    if features is None:
        kind = frontend_choices.get_class(config.get("frontend") or "default")
        frontend = kind(**_conf(config, "frontend_conf"))
        features = frontend.output_size()
    normalize = None
    if config.get("normalize") is not None:
        kind = normalize_choices.get_class(config["normalize"])
        normalize = kind(**_conf(config, "normalize_conf"))
    name = config["encoder"]
    module = importlib.import_module(f"espnet2.asr.encoder.{name}_encoder")
    inner = getattr(module, ENCODERS[name])(input_size=features, **_conf(config, "encoder_conf"))
    encoder = WholeEncoder(inner, features, inner.output_size())
    tokens = list(config["token_list"])
    decoder = RNNDecoder(len(tokens), **predictor_conf(config))
    joint = JointNetwork(
        len(tokens), encoder.output_size, decoder.output_size, **_conf(config, "joint_net_conf")
    )
    ctc_weight = _conf(config, "model_conf").get("ctc_weight", 0.5)  # ESPnet's default
    return ESPnetASRTransducerModel(
        len(tokens),
        tokens,
        frontend,
        None,
        normalize,
        encoder,
        decoder,
        joint,
        auxiliary_ctc_weight=float(ctc_weight),
    ).eval()


def predictor_conf(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the `decoder_conf` by which a standalone transducer has the same predictor."""
    conf = _conf(config, "decoder_conf")
    width = conf.get("hidden_size", 320)  # ESPnet's default; the embedding is as wide
    return {
        "rnn_type": conf.get("rnn_type", "lstm"),
        "num_layers": conf.get("num_layers", 1),
        "embed_size": width,
        "hidden_size": width,
        "dropout_rate": conf.get("dropout", 0.0),
        "embed_dropout_rate": conf.get("dropout_embed", 0.0),
    }


def renamed(state: Mapping[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Give a checkpoint's tensors the names of the standalone model."""
    names = {}
    for name in state:
        new = name
        for theirs, ours in NAMES:
            new = re.sub(theirs, ours, new)
        names[name] = new
    return {names[name]: tensor for name, tensor in state.items()}


def _conf(config: Mapping[str, Any], key: str) -> Dict[str, Any]:
    return dict(config.get(key) or {})
