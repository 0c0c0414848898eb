"""Tiny experiments whose random models say much, and their graphs."""

import copy

import numpy as np
import pytest
import torch
import yaml

from espnet_kd.export.exportable import Chunks
from tests.espnet.tiny import build, tiny_config

CHUNKS = Chunks(4, 8)
KINDS = {
    "lstm": {"decoder_conf": {"num_layers": 2, "embed_size": 12, "hidden_size": 16}},
    "stateless": {"decoder": "stateless", "decoder_conf": {"embed_size": 64}},
    "averaged": {
        "decoder": "averaged",
        "decoder_conf": {"embed_size": 24, "hidden_size": 16, "context": 3},
    },
}


def write_talkative(path, kind, changes=None, seed=0):
    """Write an experiment of a model that emits many tokens, and not always the same."""
    config = tiny_config(**copy.deepcopy(KINDS[kind]), **(changes or {}))
    block = config["encoder_conf"]["body_conf"][0]
    block["num_blocks"] = 1
    config["encoder_conf"]["body_conf"] = [
        {**block, "conv_mod_kernel_size": kernel} for kernel in (5, 3)
    ]
    path.mkdir(parents=True)
    model = build(config, seed=seed)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        _sharpen(model)
    torch.save(model.state_dict(), path / "model.pth")
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def _sharpen(model):
    """Centre what the joint network hears and says, make it louder, and rule out `<unk>`."""
    network = model.joint_network
    speech = torch.from_numpy(tones())[None]  # (1, S)
    enc, _ = model.eval().encode(speech, torch.tensor([speech.size(1)]))  # (1, T, D)
    network.lin_enc.bias -= network.lin_enc(enc).mean((0, 1))
    network.lin_enc.weight.mul_(6)
    network.lin_enc.bias.mul_(6)
    dec = model.decoder(torch.arange(6)[None])  # (1, 6, D)
    logits = network(enc[:, :, None], dec[:, None])  # (1, T, 6, V)
    network.lin_out.bias -= logits.mean((0, 1, 2))
    network.lin_out.bias[0] += 0.3
    network.lin_out.bias[[1, 6]] -= 1000  # <unk> and <sos/eos>


def tones():
    """Return two seconds of tones in noise. (S,)"""
    draw = np.random.default_rng(3)
    time = np.arange(32000) / 16000
    tone = np.sin(2 * np.pi * 300 * time * (1 + np.sin(3 * time)))
    sound = 0.2 * tone * np.sin(2 * time) ** 2 + 0.01 * draw.standard_normal(32000)
    return sound.astype(np.float32)


@pytest.fixture(scope="session")
def talkative(tmp_path_factory):
    """Experiments by kind of predictor."""
    folder = tmp_path_factory.mktemp("exp")
    return {kind: write_talkative(folder / kind, kind) for kind in KINDS}


@pytest.fixture(scope="session")
def sources(talkative):
    from espnet_kd.espnet.exportable_model import load_exportable

    return {kind: load_exportable(exp, "model.pth") for kind, exp in talkative.items()}


@pytest.fixture(scope="session")
def graphs(sources):
    from espnet_kd.export.folder import trace_all

    return {kind: trace_all(source, CHUNKS) for kind, source in sources.items()}


@pytest.fixture(scope="session")
def sounds():
    return [tones(), tones()[9000:25000]]
