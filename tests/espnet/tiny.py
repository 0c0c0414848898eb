"""A tiny conformer transducer that stands for a trained one."""

import copy
from argparse import Namespace
from pathlib import Path

import torch
import yaml

TOKENS = ["<blank>", "<unk>", "<space>", "A", "B", "C", "<sos/eos>"]


def tiny_config(**changes):
    """A config as ESPnet writes it, small enough for tests."""
    config = {
        "token_list": list(TOKENS),
        "token_type": "char",
        "bpemodel": None,
        "input_size": None,
        "init": None,
        "frontend": "default",
        "frontend_conf": {
            "fs": "16k",
            "n_fft": 640,
            "win_length": 400,
            "hop_length": 160,
            "n_mels": 20,
        },
        "specaug": None,
        "specaug_conf": {},
        "normalize": None,
        "normalize_conf": {},
        "encoder_conf": {
            "main_conf": {
                "dynamic_chunk_training": True,
                "short_chunk_size": 4,
                "num_left_chunks": 2,
            },
            "input_conf": {"vgg_like": False, "subsampling_factor": 4, "conv_size": 8},
            "body_conf": [
                {
                    "block_type": "conformer",
                    "hidden_size": 16,
                    "linear_size": 24,
                    "heads": 2,
                    "conv_mod_kernel_size": 5,
                    "num_blocks": 4,
                }
            ],
        },
        "decoder": "rnn",
        "decoder_conf": {"rnn_type": "lstm", "num_layers": 1, "embed_size": 8, "hidden_size": 16},
        "joint_network_conf": {"joint_space_size": 16},
        "model_conf": {"auxiliary_ctc_weight": 0.5},
        "use_preprocessor": True,
    }
    return {**config, **changes}


def build(config, kd=None, seed=0):
    """Build a model of ours from a config."""
    from espnet_kd.espnet.task import DistilTransducerTask

    torch.manual_seed(seed)
    return DistilTransducerTask.build_model(Namespace(**copy.deepcopy(config), kd_conf=kd or {}))


def write_experiment(path: Path, config=None, seed=0):
    """Write config.yaml and model.pth with random weights and moved batch statistics."""
    config = config or tiny_config()
    path.mkdir(parents=True, exist_ok=True)
    model = build(config, seed=seed)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    torch.save(model.state_dict(), path / "model.pth")
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path
