"""The first student of a teacher that cannot be cut: a conformer as a template describes it.

The template is a training config of the recipe (`--asr_config`). Predictor, joint network, front
end, normalisation and tokens are the teacher's; the predictor is cut as any other. Of the encoder
it inherits what has its name and shape, mostly nothing: it learns the rest, in chunks if the
template is trained in chunks.
"""

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.offline import predictor_conf
from espnet_kd.espnet.whole_encoder import Frames, compare_frames
from espnet_kd.methods.protocol import Build, Model
from espnet_kd.spec.named_sizes import PREDICTORS
from espnet_kd.spec.teacher_kinds import check_cuttable, is_offline
from espnet_kd.students.model_config import architecture_of
from espnet_kd.students.stand_in import StandIn

# Options of the template; what is not named here or in FROM_TEACHER is nobody's.
FROM_TEMPLATE = ("encoder_conf", "decoder", "decoder_conf", "joint_network_conf", "model_conf")
FROM_TEACHER = (
    "token_list",
    "input_size",
    "frontend",
    "frontend_conf",
    "normalize",
    "normalize_conf",
    "use_preprocessor",
    "token_type",
    "bpemodel",
    "non_linguistic_symbols",
    "cleaner",
    "g2p",
)
PARTS = ("encoder.", "decoder.", "joint_network.")
# Inherited where name and shape are the teacher's: they depend on the encoder's output.
OF_ENCODER = ("encoder.", "ctc_lin.", "joint_network.lin_enc.")


def stand_in(
    net: ESPnetASRTransducerModel, config: Mapping[str, Any], template: Path, build: Build
) -> Model:
    """Build a conformer that students are cut from in the teacher's place.

    Args:
        net: The teacher.
        config: Its `config.yaml`.
        template: Path of a training config with a conformer.
        build: Builds a stock ESPnet model of a config.

    Raises:
        UserError: the template has no conformer, or its frames are not the teacher's.
    """
    made = _config(config, read_yaml(template, "the first student is as it says"), template)
    embed = net.encoder.embed
    if not isinstance(embed, Frames) or embed.vgg_like is not None:
        _same_frames(made["encoder_conf"], embed, template)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conformer = build(made)
    apart = compare_frames(net.encoder, conformer.encoder)
    if apart.offset is None:
        raise UserError(
            f"{template}: encoder_conf.input_conf: frames differ: the teacher makes "
            f"{apart.example}"
        )
    state, theirs = conformer.state_dict(), net.state_dict()
    for name, tensor in state.items():
        given = theirs.get(name)
        if given is not None and given.shape == tensor.shape:
            state[name] = given
    conformer.load_state_dict(state)
    features = conformer.frontend.output_size() if conformer.frontend else made["input_size"]
    sizes = architecture_of(made, features, conformer.vocab_size)
    count = sum(p.numel() for name, p in net.named_parameters() if name.startswith(PARTS))
    standing = StandIn(**dataclasses.asdict(sizes), teacher_params=count)
    return Model(made, conformer, standing, taught_by=net)


def first_weights(
    cut: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor], teacher: torch.nn.Module
) -> Dict[str, torch.Tensor]:
    """Compose the first student's weights.

    Args:
        cut: Weights cut from the stand-in.
        fresh: Weights that were drawn for the student's sizes.
        teacher: The teacher.
    """
    theirs = teacher.state_dict()
    weights = {}
    for name, tensor in cut.items():
        given = theirs.get(name)
        if name.startswith(OF_ENCODER) and (given is None or given.shape != tensor.shape):
            tensor = fresh[name]
        weights[name] = tensor
    return weights


def _config(config: Mapping[str, Any], template: Mapping[str, Any], path: Path) -> Dict[str, Any]:
    """Return the config of the stand-in."""
    try:
        check_cuttable({**template, "decoder": "rnn"})
    except UserError as e:
        raise UserError(f"{path}: {e}; the first student is made from it") from None
    made = {key: config[key] for key in FROM_TEACHER if key in config}
    for key in FROM_TEMPLATE:
        value = template.get(key)
        made[key] = dict(value) if isinstance(value, Mapping) else value
    if is_offline(config):
        made.update(decoder="rnn", decoder_conf=predictor_conf(config))
        made["joint_network_conf"] = dict(config.get("joint_net_conf") or {})
        return made
    made["joint_network_conf"] = dict(config.get("joint_network_conf") or {})
    kind = config.get("decoder") or "rnn"
    if kind in PREDICTORS:
        made.update(decoder=kind, decoder_conf=dict(config.get("decoder_conf") or {}))
    elif (made["decoder"] or "rnn") not in PREDICTORS:
        raise UserError(f"{path}: decoder: the template's must be {' or '.join(PREDICTORS)}")
    made["decoder"] = made["decoder"] or "rnn"
    made["decoder_conf"] = made["decoder_conf"] or {}
    return made


def _same_frames(encoder_conf: Dict[str, Any], embed: Any, template: Path) -> None:
    """Give the template the subsampling of the teacher, if they differ."""
    front = dict(encoder_conf.get("input_conf") or {})
    if bool(front.get("vgg_like")) != bool(embed.vgg_like):
        raise UserError(
            f"{template}: encoder_conf.input_conf.vgg_like: the teacher's frames are those of "
            f"vgg_like: {str(bool(embed.vgg_like)).lower()}; write that, with a conv_size for it"
        )
    front["subsampling_factor"] = embed.subsampling_factor
    encoder_conf["input_conf"] = front
