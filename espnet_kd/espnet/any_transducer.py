"""ESPnet's `Speech2Text` of standalone transducers, for teachers of any kind."""

import contextlib
import logging
from argparse import Namespace
from typing import Any, Dict, Iterator

from espnet2.bin import asr_transducer_inference as stock
from espnet2.tasks.asr_transducer import ASRTransducerTask

from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.espnet.teacher import load_transducer
from espnet_kd.spec.teacher_kinds import hears_whole, is_offline

DEFAULTS = dict.fromkeys(("bpemodel", "non_linguistic_symbols", "cleaner", "g2p"))


@contextlib.contextmanager
def any_transducer(options: Dict[str, Any]) -> Iterator[None]:
    """Let `Speech2Text` load transducers of `espnet2.asr`, too.

    Args:
        options: Its arguments. A teacher that was trained on whole utterances, and is not cut,
            is decoded so: `streaming` is changed here.
    """
    path = options.get("asr_train_config")
    config = read_yaml(path, "train the model first") if path else {}
    if config and options.get("streaming") and hears_whole(config):
        logging.info(f"{path}: decoded as it was trained, whole utterances at a time")
        options["streaming"] = False
    if is_offline(config):
        stock.ASRTransducerTask = _AnyTask
    try:
        yield
    finally:
        stock.ASRTransducerTask = ASRTransducerTask


class _AnyTask(ASRTransducerTask):
    """A Task that loads what `load_transducer` does."""

    @classmethod
    def build_model_from_file(cls, config_file: Any, model_file: Any, device: str) -> Any:
        """Return the model and its options; see ESPnet's `AbsTask.build_model_from_file`."""
        model = load_transducer(str(config_file), str(model_file))
        config = read_yaml(config_file, "train the model first")
        return model.to(device), Namespace(**{**DEFAULTS, "use_preprocessor": True, **config})
