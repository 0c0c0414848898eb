"""Tiny teachers of every kind in README's table, built of stock ESPnet's parts."""

import importlib

import torch
import yaml

from espnet_kd.spec.teacher_kinds import ENCODERS
from tests.espnet.tiny import TOKENS, tiny_config, write_experiment

WIDE = {"output_size": 16, "attention_heads": 2, "num_blocks": 1}
OFFLINE = {
    "conformer": {**WIDE, "linear_units": 16, "cnn_module_kernel": 5},
    "e_branchformer": {**WIDE, "linear_units": 16, "cgmlp_linear_units": 16},
    "branchformer": {**WIDE, "cgmlp_linear_units": 16},
    "transformer": {**WIDE, "linear_units": 16},
}


def _standalone(main=None, front=None, body=None, **changes):
    config = tiny_config(**changes)
    conf = config["encoder_conf"]
    conf["main_conf"] = {**conf["main_conf"], **(main or {})}
    conf["input_conf"] = {**conf["input_conf"], **(front or {})}
    conf["body_conf"] = body or [{**conf["body_conf"][0], "num_blocks": 2}]
    return config


def _block(kind="conformer", **sizes):
    block = {"block_type": kind, "hidden_size": 16, "linear_size": 24, "heads": 2}
    return {**block, "conv_mod_kernel_size": 5, "num_blocks": 1, **sizes}


def offline(encoder, **conf):
    """Config of an `espnet2.asr` transducer, as its `config.yaml` has it."""
    apart = ("encoder_conf", "joint_network_conf", "model_conf", "decoder_conf")
    config = {key: value for key, value in tiny_config().items() if key not in apart}
    return {
        **config,
        "encoder": encoder,
        "encoder_conf": {**OFFLINE[encoder], **conf},
        "decoder": "transducer",
        "decoder_conf": {"rnn_type": "lstm", "num_layers": 1, "hidden_size": 16},
        "joint_net_conf": {"joint_space_size": 16},
        "ctc_conf": {"dropout_rate": 0.0},
        "model_conf": {"ctc_weight": 0.3, "report_cer": False, "report_wer": False},
        "preencoder": None,
        "postencoder": None,
    }


MEGA = {"block_size": 16, "linear_size": 16, "qk_size": 8, "v_size": 16, "num_blocks": 1}
MEGA = {**MEGA, "num_heads": 2, "chunk_size": -1}
CONV1D = {"block_type": "conv1d", "output_size": 16, "kernel_size": 3}
# Name -> config, and whether it is cut. The others teach a conformer of a template.
TABLE = {
    "conformer": (_standalone(), True),
    "groups": (_standalone(body=[_block(), _block(linear_size=16)]), True),
    "gru": (
        _standalone(decoder_conf={"rnn_type": "gru", "embed_size": 8, "hidden_size": 16}),
        True,
    ),
    "vgg": (_standalone(front={"vgg_like": True, "conv_size": [4, 8]}), True),
    "stateless": (_standalone(decoder="stateless", decoder_conf={"embed_size": 16}), True),
    "branchformer": (_standalone(body=[_block("branchformer")]), False),
    "ebranchformer": (
        _standalone(body=[_block("ebranchformer", depthwise_conv_kernel_size=3)]),
        False,
    ),
    "conv1d": (_standalone({"dynamic_chunk_training": False}, body=[CONV1D, _block()]), False),
    "rms_norm": (_standalone({"norm_type": "rms_norm"}), False),
    "simplified": (_standalone({"simplified_att_score": True}), False),
    "widths": (_standalone(body=[_block(), _block(heads=4)]), False),
    "mega": (_standalone(decoder="mega", decoder_conf=MEGA), False),
    **{f"asr {name}": (offline(name), False) for name in OFFLINE},
    "asr conv2d6": (offline("conformer", input_layer="conv2d6"), False),
}


def write_teacher(path, config, seed=0):
    """Write an experiment: `config.yaml` and `model.pth` under ESPnet's own names."""
    if "joint_network_conf" in config:
        return write_experiment(path, config, seed)
    from espnet2.asr.ctc import CTC
    from espnet2.asr.decoder.transducer_decoder import TransducerDecoder
    from espnet2.asr.frontend.default import DefaultFrontend
    from espnet2.asr_transducer.joint_network import JointNetwork

    torch.manual_seed(seed)
    name = config["encoder"]
    module = importlib.import_module(f"espnet2.asr.encoder.{name}_encoder")
    encoder = getattr(module, ENCODERS[name])(input_size=20, **config["encoder_conf"])
    decoder = TransducerDecoder(len(TOKENS), embed_pad=0, **config["decoder_conf"])
    joint = JointNetwork(len(TOKENS), 16, decoder.dunits, **config["joint_net_conf"])
    parts = {"encoder": encoder, "decoder": decoder, "joint_network": joint}
    parts["frontend"] = DefaultFrontend(**config["frontend_conf"])
    parts["ctc"] = CTC(len(TOKENS), 16)
    path.mkdir(parents=True)
    torch.save(torch.nn.ModuleDict(parts).state_dict(), path / "model.pth")
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path
