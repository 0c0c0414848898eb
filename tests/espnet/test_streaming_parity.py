"""ESPnet's chunk-by-chunk encoder computes what training computes under a chunk mask.

With two facts of the upstream code accounted for: streaming drops the first and the last
frame after subsampling, and fills the last chunk up with zeros.
"""

import numpy as np
import pytest
import torch
from espnet2.asr_transducer.frontend.online_audio_processor import OnlineAudioProcessor

from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.versions import run_blocks
from tests.espnet.tiny import build, tiny_config

WINDOW = 640  # ms a chunk
SAMPLES = WINDOW * 16
MISSING = 3  # encoder frames that the first chunk is shorter: one dropped, two not yet there
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(params=[(640, 400, 160), (512, 512, 128)], ids=["640/160", "512/128"])
def model(request, tmp_path):
    """With n_fft / hop_length an even integer the front end loses no feature frame."""
    n_fft, win_length, hop_length = request.param
    mean, std = np.linspace(-9, -3, 20), np.linspace(1, 4, 20)
    np.savez(tmp_path / "stats.npz", count=1.0, sum=mean, sum_square=std**2 + mean**2)
    config = tiny_config(
        frontend_conf={
            "fs": "16k",
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length,
            "n_mels": 20,
        },
        normalize="global_mvn",
        normalize_conf={"stats_file": str(tmp_path / "stats.npz")},
    )
    model = build(config).eval()
    torch.manual_seed(1)
    for name, buffer in model.named_buffers():  # as of a trained model
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    model.conf = config["frontend_conf"]
    model.chunk = SAMPLES // hop_length // 4  # encoder frames of a chunk
    model.left = model.encoder.num_left_chunks * model.chunk
    return model


@torch.no_grad()
def stream(model, chunks):
    """Encode audio that arrives in pieces, as stock `Speech2Text` does; one tensor a chunk."""
    front = OnlineAudioProcessor(
        model._extract_feats, model.normalize, WINDOW, 4, model.conf, torch.device("cpu")
    )
    model.encoder.reset_cache(model.left, device=torch.device("cpu"))
    seen, out = torch.tensor([[0]]), []
    for i, chunk in enumerate(chunks):
        feats, feats_len = front.compute_features(chunk, i == len(chunks) - 1)
        out.append(model.encoder.chunk_forward(feats, feats_len, seen, left_context=model.left)[0])
        seen += len(out[-1])
    return out


@torch.no_grad()
def features(model, chunks):
    """Features of the audio, filled up with zeros as streaming fills its last chunk. (1, T, F)"""
    kept = model.conf["n_fft"] - model.conf["hop_length"]  # samples of the chunk before
    zeros = torch.zeros(max(0, SAMPLES - kept - len(chunks[-1])))
    speech = torch.cat([*chunks, zeros])[None]
    return model.normalize(*model._extract_feats(speech, torch.tensor([speech.size(1)])))[0]


def noise(samples):
    torch.manual_seed(2)
    return 0.1 * torch.randn(samples)


@pytest.mark.parametrize("rest", [9900, 4000, 1])
def test_streaming_equals_the_masked_forward(model, rest):
    """A first chunk that is longer by what streaming drops: then the chunks agree."""
    first = SAMPLES + MISSING * 4 * model.conf["hop_length"]
    speech = noise(first + 2 * SAMPLES + rest)
    chunks = speech.tensor_split([first, first + SAMPLES, first + 2 * SAMPLES])
    streamed = stream(model, chunks)
    assert [len(x) for x in streamed[:-1]] == [model.chunk] * 3
    streamed = torch.cat(streamed)
    # Without the first four feature frames, and without those of the last frame.
    feats = features(model, chunks)[:, 4:]
    feats = feats[:, : 4 * len(streamed) + 3]
    with torch.no_grad():
        masked, t_len = encode(model.encoder, feats, torch.tensor([feats.size(1)]), model.chunk)
        other, _ = encode(model.encoder, feats, torch.tensor([feats.size(1)]), 4)
    assert int(t_len) == len(streamed)
    torch.testing.assert_close(streamed, masked[0], **TOLERANCE)
    assert (streamed - other[0]).abs().max() > 0.01  # the chunk size does matter


@pytest.mark.parametrize("steps, rest", [(3, 9900), (3, 4000), (2, 0), (0, 9000)])
def test_stock_chunks_equal_a_shifted_mask(model, steps, rest):
    """Stock inference's own chunks: the first is three frames shorter than the others."""
    chunks = noise(steps * SAMPLES + rest).split([SAMPLES] * steps + [rest])
    streamed = stream(model, chunks)
    if steps:
        lengths = [len(x) for x in streamed[:-1]]
        assert lengths == [model.chunk - MISSING] + [model.chunk] * (steps - 1)
    streamed = torch.cat(streamed)
    if not steps:  # nothing is kept of a chunk before
        speech = torch.nn.functional.pad(chunks[0], (0, SAMPLES - rest))[None]
        feats = model.normalize(*model._extract_feats(speech, torch.tensor([SAMPLES])))[0]
        feats = feats[:, :-2]  # the first chunk's last two wait for the next
    else:
        feats = features(model, chunks)
    with torch.no_grad():
        x = model.encoder.embed(feats, None)[0][:, 1:-1]  # (1, T, D)
        chunk = (torch.arange(x.size(1)) + MISSING) // model.chunk
        distance = chunk[:, None] - chunk
        forbidden = (distance < 0) | (distance > model.encoder.num_left_chunks)
        padding = torch.zeros(1, x.size(1), dtype=torch.bool)
        pos_enc = model.encoder.pos_enc(x)
        masked = run_blocks(model.encoder.encoders, x, pos_enc, padding, forbidden)
    torch.testing.assert_close(streamed, masked[0], **TOLERANCE)
