"""Stock ESPnet transducers: built from a config, read with their sizes, run once for a check."""

import copy
import dataclasses
import logging
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.first_conformer import stand_in
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.methods import method_named
from espnet_kd.methods.protocol import Attached, Model, kept_file
from espnet_kd.saved import load_state
from espnet_kd.spec.teacher_kinds import only_teaches
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.model_config import architecture_of

CLOSE = 1e-4  # of the largest logit: how far trained and decoded form may be apart


def read_model(exp: Path, checkpoint: str, template: Optional[Path] = None) -> Model:
    """Load an experiment's config and checkpoint, checked against each other.

    Args:
        exp: The experiment.
        checkpoint: File name of a checkpoint in it.
        template: Training config of a conformer, for teachers that cannot be cut; None: these
            are refused.

    Raises:
        UserError: see `load_transducer`, `architecture_of` and `stand_in`.
    """
    model = load_transducer(str(exp / "config.yaml"), str(exp / checkpoint))
    config = read_yaml(exp / "config.yaml", "a teacher is needed")
    read = model_of(model, config, exp / "config.yaml", template)
    if not config.get("method_conf"):
        return read
    # The model of an epoch holds itself what lies beside an average.
    kept = kept_file(exp / checkpoint)
    state = load_state(kept if kept.is_file() else exp / checkpoint)
    beside = {name: tensor for name, tensor in state.items() if name.startswith("kd_")}
    return dataclasses.replace(read, beside=beside)


def model_of(
    model: ESPnetASRTransducerModel,
    config: Dict[str, Any],
    path: Path,
    template: Optional[Path] = None,
) -> Model:
    """Return a built model with sizes, its own or those of its stand-in; see `read_model`."""
    reason = only_teaches(config)
    if reason is None:
        return Model(config, model, sizes_of(model, config))
    if template is None:
        raise UserError(
            f"{path}: {reason}; it can teach a conformer, which a training config describes: "
            "name one with --template"
        )
    return stand_in(model, config, template, build)


def sizes_of(model: ESPnetASRTransducerModel, config: Mapping[str, Any]) -> Architecture:
    """Read a built model's sizes.

    Raises:
        UserError: the model is not one that we can shrink.
    """
    features = model.frontend.output_size() if model.frontend else config["input_size"]
    sizes = architecture_of(config, features, model.vocab_size)
    built = sum(
        p.numel()
        for part in (model.encoder, model.decoder, model.joint_network)
        for p in part.parameters()
    )
    if built != sizes.params:
        raise UserError(
            f"the config gives {sizes.params:,} parameters by our count, the model has "
            f"{built:,}: it uses an option that cannot be distilled yet"
        )
    return sizes


def build(config: Dict[str, Any]) -> ESPnetASRTransducerModel:
    """Build a model as stock ESPnet would, in eval mode."""
    # ESPnet writes into the dicts it is given.
    args = Namespace(**copy.deepcopy({"init": None, "specaug": None, **config}))
    return ASRTransducerTask.build_model(args).eval()


def attach(model: ESPnetASRTransducerModel, conf: Mapping[str, Any]) -> Attached:
    """Turn a built model into the form that is trained.

    Args:
        model: The model, changed in place.
        conf: `method_conf` of a training config; empty: stock ESPnet's form is trained.
    """
    return method_named(conf["method"]).attach(model, conf) if conf else Attached()


def logits_of(model: ESPnetASRTransducerModel, features: Optional[int]) -> torch.Tensor:
    """Run a model on a second of noise, always the same one.

    Args:
        model: Model in eval mode.
        features: Width of its features; None: it hears samples.

    Returns:
        Logits of its lattice. (1, T, 2, V)
    """
    device = next(model.parameters()).device
    shape = (1, 16000) if features is None else (1, 100, features)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)  # of the noise, and of the chunk size that ESPnet draws
        speech = torch.randn(*shape).to(device) * (0.1 if features is None else 1.0)
        enc, _ = model.encode(speech, torch.tensor([speech.size(1)], device=device))
        model.decoder.set_device(enc.device)
        dec = model.decoder(torch.zeros(1, 2, dtype=torch.long, device=device))  # (1, 2, D)
        return model.joint_network(enc.unsqueeze(2), dec.unsqueeze(1))


def forward_check(
    config: Dict[str, Any],
    state: Optional[Mapping[str, torch.Tensor]],
    method_conf: Mapping[str, Any],
) -> ESPnetASRTransducerModel:
    """Build a student as it is trained, load its weights, run it, and what is exported of it.

    Args:
        config: The student's config.
        state: First weights in saved form; None leaves the random ones.
        method_conf: See `attach`.

    Returns:
        The model that was run.

    Raises:
        RuntimeError: the model cannot be built, its output is not finite, or stock ESPnet
            would compute something else: our mistake.
    """
    model = build(config)
    attach(model, method_conf)
    if state is not None:
        model.load_state_dict(state)
    logits = logits_of(model, _features(model, config))
    if not torch.isfinite(logits).all():
        raise RuntimeError("forward check failed: the student's output is not finite")
    if method_conf:
        method = method_named(method_conf["method"])
        exported = method.export(model.state_dict(), method_conf)
        check_forms(model, config, exported.state)
    logging.info("forward check passed: logits %s", tuple(logits.shape))
    return model


def check_forms(
    model: ESPnetASRTransducerModel, config: Dict[str, Any], exported: Mapping[str, torch.Tensor]
) -> None:
    """Check that the trained form computes what stock ESPnet computes with the exported one.

    Args:
        model: The trained form, with weights.
        config: The student's config.
        exported: Weights of the form that is decoded; `kd_*` are passed over.

    Raises:
        RuntimeError: it does not: our mistake.
    """
    stock = build(config)
    stock.load_state_dict({k: t for k, t in exported.items() if not k.startswith("kd_")})
    features, training = _features(stock, config), model.training
    device = next(model.parameters()).device
    ours, theirs = (logits_of(net, features) for net in (model.eval(), stock.to(device)))
    model.train(training)
    apart = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1.0))
    if not apart <= CLOSE:
        raise RuntimeError(
            f"forward check failed: the form that is trained and the one that is decoded differ "
            f"by {apart:.1e} of the largest logit"
        )


def _features(model: ESPnetASRTransducerModel, config: Mapping[str, Any]) -> Optional[int]:
    return config["input_size"] if model.frontend is None else None
