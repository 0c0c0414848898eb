"""Sizes of a model in ESPnet's config: read there, and written there.

Names are ESPnet's, as they stand in `encoder_conf`, `decoder_conf` and `joint_network_conf` of a
standalone transducer's config.
"""

import copy
from typing import Any, Dict, Mapping, Sequence

from espnet_kd.spec.size_table import IN_BLOCK
from espnet_kd.spec.teacher_kinds import check_cuttable
from espnet_kd.students.architecture import Architecture
from espnet_kd.students.predictors import PREDICTORS


def architecture_of(config: Mapping[str, Any], features: int, vocab: int) -> Architecture:
    """Read the sizes of an ESPnet config.

    Args:
        config: `config.yaml` of an `asr_transducer` experiment.
        features: Input features F.
        vocab: Vocabulary V.

    Raises:
        UserError: the model is not one that we can shrink, naming what it has instead.
    """
    check_cuttable(config)
    encoder = config.get("encoder_conf") or {}
    body = encoder.get("body_conf") or []
    blocks = [b for b in body for _ in range(b.get("num_blocks") or 1)]
    front = encoder.get("input_conf") or {}
    block = blocks[0]
    conv_size = front.get("conv_size") or block["hidden_size"]
    conv_size1 = 0
    if front.get("vgg_like"):
        pair = front.get("conv_size", (64, 128))  # ESPnet's default
        conv_size1, conv_size = (pair, pair) if isinstance(pair, int) else pair
    elif not isinstance(conv_size, int):
        conv_size = conv_size[0]
    decoder = config.get("decoder") or "rnn"
    joint = config.get("joint_network_conf") or {}
    return Architecture(
        features=features,
        vocab=vocab,
        num_blocks=len(blocks),
        hidden_size=block["hidden_size"],
        linear_size=tuple(b["linear_size"] for b in blocks),
        heads=block.get("heads", 4),
        kernel_size=tuple(b["conv_mod_kernel_size"] for b in blocks),
        conv_size=conv_size,
        conv_size1=conv_size1,
        subsampling=front.get("subsampling_factor") or 4,
        decoder=decoder,
        **PREDICTORS[decoder].read(config.get("decoder_conf") or {}),
        joint_size=joint.get("joint_space_size", 256),
        lin_dec_bias=joint.get("lin_dec_bias", True),
    )


def config_of(
    model: Architecture, teacher: Mapping[str, Any], kept: Sequence[int]
) -> Dict[str, Any]:
    """Write sizes into a copy of the teacher's model configuration.

    Args:
        model: The student's sizes.
        teacher: The teacher's config.
        kept: The teacher's blocks, by number, that the student's come from.

    Returns:
        `encoder_conf`, `decoder`, `decoder_conf` and `joint_network_conf` of the student.
    """
    encoder = copy.deepcopy(teacher["encoder_conf"])
    blocks = [b for b in encoder["body_conf"] for _ in range(b.get("num_blocks") or 1)]
    body = []
    for b, i in enumerate(kept):
        sizes = {axis.key: model.size_of(axis, b) for axis in IN_BLOCK}
        body.append({**blocks[i], **sizes, "num_blocks": 1})
    merged = [body[0]]
    for block in body[1:]:  # equal neighbours become one entry again
        if {**block, "num_blocks": 0} == {**merged[-1], "num_blocks": 0}:
            merged[-1]["num_blocks"] += 1
        else:
            merged.append(block)
    encoder["body_conf"] = merged
    conv_size = [model.conv_size1, model.conv_size] if model.conv_size1 else model.conv_size
    encoder["input_conf"] = {
        **(encoder.get("input_conf") or {}),
        "conv_size": conv_size,
        "subsampling_factor": model.subsampling,
    }
    # ESPnet's validation fills this in with the width; a stale one would win over it.
    encoder["input_conf"].pop("output_size", None)
    decoder = PREDICTORS[model.decoder].write(model, teacher.get("decoder_conf") or {})
    joint = {**(teacher.get("joint_network_conf") or {}), "joint_space_size": model.joint_size}
    return {
        "encoder_conf": encoder,
        "decoder": model.decoder,
        "decoder_conf": decoder,
        "joint_network_conf": joint,
    }
