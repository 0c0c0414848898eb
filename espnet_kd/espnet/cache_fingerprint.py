"""Fingerprint of a teacher cache, read off ESPnet's models and configs."""

from pathlib import Path
from typing import Any, Dict, Optional

from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError
from espnet_kd.espnet.teacher import front_end
from espnet_kd.fileio import file_digest
from espnet_kd.teachers.fingerprint import Fingerprint, list_digest

# What makes the teacher in its config. Statistics of the features are in its checkpoint,
# and where it was trained from does not matter.
MODEL_KEYS = (
    "input_size",
    "frontend",
    "frontend_conf",
    "normalize",
    "encoder_conf",
    "decoder",
    "decoder_conf",
    "joint_network_conf",
)
OFFLINE_KEYS = ("encoder", "joint_net_conf")  # which configs of `espnet2.asr` have, too


def fingerprint_of(
    model: ESPnetASRTransducerModel, config: Path, checkpoint: Path, chunk_size: int, band: int
) -> Fingerprint:
    """Describe a cache that is to be made.

    Args:
        model: The teacher.
        config: Path of its `config.yaml`.
        checkpoint: Path of its checkpoint.
        chunk_size: Encoder frames a chunk; 0: full context.
        band: Rows kept of each frame; 0: all.
    """
    return Fingerprint(
        **teacher_fields(config, checkpoint),
        **lattice_fields(model),
        chunk_size=chunk_size,
        band=band,
        made_from=str(checkpoint),
    )


def lattice_fields(model: ESPnetASRTransducerModel) -> Dict[str, Any]:
    """Digest what teacher and student must share."""
    embed = model.encoder.embed
    # Of a front end that no student has, the frames are no student's either.
    vgg_like = None if embed.vgg_like is None else bool(embed.vgg_like)
    features = {key: _plain(value) for key, value in front_end(model).items()}
    return {
        "tokens": list_digest(list(model.token_list)),
        "features": features,
        "subsampling": {"factor": embed.subsampling_factor, "vgg_like": vgg_like},
    }


def teacher_fields(config: Optional[Path], checkpoint: Optional[Path]) -> Dict[str, Any]:
    """Digest the teacher's files, those that are given.

    Raises:
        UserError: one of them is not there.
    """
    fields = {}
    for path in (config, checkpoint):
        if path is not None and not path.is_file():
            raise UserError(f"{path}: no such file; it is to be compared with the teacher cache")
    if checkpoint is not None:
        fields["teacher_model"] = file_digest(checkpoint)
    if config is not None:
        raw_config = read_yaml(config, "a teacher is needed")
        made_of = {key: raw_config.get(key) for key in MODEL_KEYS}
        made_of.update({key: raw_config[key] for key in OFFLINE_KEYS if key in raw_config})
        fields["teacher_config"] = list_digest(made_of)
    return fields


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
