"""What a teacher may be, read off its `config.yaml` alone: the table of README.

Two families of ESPnet's have transducers: `espnet2.asr_transducer` (standalone) and `espnet2.asr`
with `decoder: transducer`. All of those named here teach; only standalone conformers are cut.
"""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

from espnet_kd.errors import UserError, check_choice
from espnet_kd.spec.named_sizes import PREDICTORS
from espnet_kd.spec.not_stock import CASCADE, ENCODER, parts_of_ours
from espnet_kd.spec.size_table import IN_BLOCK

# Encoders of `espnet2.asr`, by the name and the class of ESPnet's module.
ENCODERS = {
    "conformer": "ConformerEncoder",
    "e_branchformer": "EBranchformerEncoder",
    "branchformer": "BranchformerEncoder",
    "transformer": "TransformerEncoder",
}
BLOCKS = ("conformer", "branchformer", "ebranchformer", "conv1d")  # of a standalone encoder
TEACHING = (*PREDICTORS, "mega", "rwkv")  # predictors of a standalone transducer
FRONTENDS = ("default", "sliding_window")
# Options of `encoder_conf.main_conf` whose models we cannot cut, and the values that we can.
CUT = {
    "simplified_att_score": (False, None),
    "norm_type": ("layer_norm", None),
    "conv_mod_norm_type": ("layer_norm", "batch_norm", None),
}
# Parts of an `espnet2.asr` model that students could not share, or that change the lattice.
REFUSED = {
    "preencoder": "it changes the features, which students share",
    "postencoder": "it changes the frames, which students share",
    "transducer_multi_blank_durations": "its blanks skip frames",
    "interctc_use_conditioning": "its encoder reads its CTC head",
    "ctc_trim": "it leaves out frames",
}


def is_offline(config: Mapping[str, Any]) -> bool:
    """Tell whether a config is one of `espnet2.asr`, whose encoders hear whole utterances."""
    return "joint_network_conf" not in config and "ctc_conf" in config


def hears_whole(config: Mapping[str, Any]) -> bool:
    """Tell whether a teacher that is not cut was trained on whole utterances only."""
    main = _mapping(_mapping(config, "encoder_conf"), "main_conf")
    return only_teaches(config) is not None and not main.get("dynamic_chunk_training")


def check_teacher(config: Mapping[str, Any], path: Union[Path, str]) -> None:
    """Refuse what cannot teach.

    Args:
        config: The teacher's `config.yaml`.
        path: Its file, for messages.

    Raises:
        UserError: no transducer, or one with a part that students cannot share.
    """
    if "joint_network_conf" in config:
        check_choice(f"{path}: decoder", config.get("decoder") or "rnn", TEACHING)
        for i, block in enumerate(_body(config)):
            where = f"{path}: encoder_conf.body_conf[{i}].block_type"
            check_choice(where, block.get("block_type"), BLOCKS)
    elif not is_offline(config):
        raise UserError(
            f"{path}: not a standalone transducer (another task); it must come from "
            "espnet2.bin.asr_transducer_train, or from espnet2.bin.asr_train with decoder: "
            "transducer"
        )
    elif config.get("decoder") != "transducer":
        raise UserError(
            f"{path}: not a standalone transducer (espnet2.asr), and its decoder is "
            f"'{config.get('decoder')}'; a teacher of espnet2.asr has decoder: transducer"
        )
    else:
        check_choice(f"{path}: encoder", config.get("encoder"), tuple(ENCODERS))
        parts = {**_mapping(config, "model_conf"), **_mapping(config, "encoder_conf"), **config}
        for key, reason in REFUSED.items():
            if parts.get(key):
                raise UserError(f"{path}: {key}: a model with it cannot teach: {reason}")
    if config.get("token_type") == "phn":
        raise UserError(
            f"{path}: token_type: phn: only models of char, bpe or word tokens are decoded, "
            "scored and exported; write phonemes as words and train with --token_type word"
        )
    if config.get("input_size") is None:
        check_choice(f"{path}: frontend", config.get("frontend") or "default", FRONTENDS)


def only_teaches(config: Mapping[str, Any]) -> Optional[str]:
    """Say why a teacher cannot be cut, so that its first student is a conformer of a template.

    Args:
        config: The teacher's `config.yaml`.

    Returns:
        The reason; None: it can be cut.
    """
    if is_offline(config):
        return f"encoder: '{config.get('encoder')}' of espnet2.asr cannot be cut"
    try:
        check_cuttable(config)
    except UserError as e:
        return str(e)
    return None


def check_cuttable(config: Mapping[str, Any]) -> None:
    """Refuse a standalone transducer that has no place in the table of sizes.

    Args:
        config: Its config.

    Raises:
        UserError: it has none, naming the option.
    """
    blocks = _body(config)
    if not blocks:
        raise UserError("encoder_conf.body_conf: no blocks; a conformer transducer is needed")
    for b in blocks:
        if b.get("block_type") != "conformer":
            raise UserError(
                f"encoder_conf.body_conf: block_type '{b.get('block_type')}' cannot be cut; "
                "all blocks must be 'conformer'"
            )
        for key in (axis.key for axis in IN_BLOCK if not axis.per_block):
            if b.get(key) != blocks[0].get(key):
                raise UserError(
                    f"encoder_conf.body_conf: {key} differs between blocks "
                    f"({blocks[0].get(key)}, {b.get(key)}); all must be alike"
                )
    if ENCODER in parts_of_ours(config):
        raise UserError(
            f"encoder_conf.{CASCADE}: {ENCODER.why}: it cannot be cut; the streaming student can, "
            "whose experiment is the folder above"
        )
    main = _mapping(_mapping(config, "encoder_conf"), "main_conf")
    for key, values in CUT.items():
        if main.get(key) not in values:
            raise UserError(
                f"encoder_conf.main_conf.{key}: {str(main[key]).lower()} cannot be cut"
            )
    decoder = config.get("decoder") or "rnn"
    if decoder not in PREDICTORS:
        raise UserError(f"decoder: '{decoder}' cannot be cut; only {' and '.join(PREDICTORS)} can")


def _body(config: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the entries of `body_conf`."""
    body = _mapping(config, "encoder_conf").get("body_conf") or []
    return [block for block in body if isinstance(block, dict)]


def _mapping(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = config.get(key)
    return value if isinstance(value, Mapping) else {}
