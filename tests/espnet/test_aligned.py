"""Streaming on training's grid is the chunk-masked forward, and batches are single utterances."""

import copy

import numpy as np
import pytest
import torch
from espnet2.asr_transducer.beam_search_transducer import BeamSearchTransducer
from espnet2.asr_transducer.utils import TooShortUttError

from espnet_kd.errors import UserError
from espnet_kd.espnet import batched_search
from espnet_kd.espnet.aligned import AlignedStream, Grid, frames_of, grid_of
from espnet_kd.espnet.batched_decoding import BatchedDecoding
from espnet_kd.espnet.batched_search import BatchedBeamSearch
from espnet_kd.espnet.bounded_search import BoundedBeamSearch
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.greedy import MOST_LABELS, emissions, greedy_search
from tests.espnet.tiny import build, tiny_config

FRAME = 640  # samples of an encoder frame at most
TOLERANCE = {"rtol": 0, "atol": 1e-5}
SHAPES = {
    "conv4": {},
    "conv2": {"subsampling_factor": 2},
    "conv6": {"subsampling_factor": 6},
    "vgg": {"vgg_like": True, "conv_size": [4, 8]},
}


def transducer(tmp_path, shape="conv4", n_fft=640, **changes):
    """A model that says something, with statistics as of a trained one."""
    mean, std = np.linspace(-9, -3, 20), np.linspace(1, 4, 20)
    np.savez(tmp_path / "stats.npz", count=1.0, sum=mean, sum_square=std**2 + mean**2)
    config = copy.deepcopy(tiny_config(**changes))
    config["frontend_conf"].update(n_fft=n_fft)
    config["encoder_conf"]["input_conf"].update(SHAPES[shape])
    if "normalize" not in changes:
        config["normalize"] = "global_mvn"
        config["normalize_conf"] = {"stats_file": str(tmp_path / "stats.npz")}
    model = build(config, seed=2).eval()
    torch.manual_seed(1)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    with torch.no_grad():
        model.joint_network.lin_out.weight.mul_(4)
        model.joint_network.lin_out.bias[0] += 2
    return model


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def masked(model, speech, grid):
    """The whole utterance under the chunk mask. (T, D)"""
    feats, length = model._extract_feats(speech[None], torch.tensor([len(speech)]))
    if model.normalize is not None:
        feats, length = model.normalize(feats.clone(), length)
    return encode(model.encoder, feats, length, grid.chunk_size, grid.left_context)[0][0]


def streamed(stream, speech, piece):
    """The same, as the sound comes in. (T, D)"""
    pieces = speech.split(piece)
    return torch.cat([stream.accept(x, k == len(pieces) - 1) for k, x in enumerate(pieces)])


@pytest.mark.parametrize(
    "shape, n_fft", [("conv4", 640), ("conv4", 512), ("conv2", 640), ("conv6", 640), ("vgg", 640)]
)
def test_streaming_equals_the_masked_forward(tmp_path, shape, n_fft):
    """Every chunk size, left context and length, however the sound is cut; nothing is dropped."""
    model = transducer(tmp_path, shape, n_fft)
    cases = [(1, 0), (4, 8), (16, 32), (5, 7)] if shape == "conv4" else [(3, 2)]
    lengths = [17 * FRAME + 311, 3 * FRAME]  # also below a chunk
    for k, (chunk_size, left) in enumerate(cases):
        grid = Grid(chunk_size, left)
        stream = AlignedStream(model, grid)
        for n in lengths:
            speech = noise(n, n)
            whole = masked(model, speech, grid)
            for piece in ((10240, 701), (10**6, 4096))[k % 2]:
                torch.testing.assert_close(streamed(stream, speech, piece), whole, **TOLERANCE)
    other = masked(model, noise(lengths[0], lengths[0]), Grid(chunk_size, 1))
    same = masked(model, noise(lengths[0], lengths[0]), grid)
    assert (other - same).abs().max() > 1e-3  # what a frame can hear does matter


def test_an_utterance_too_short_for_a_frame(tmp_path):
    model = transducer(tmp_path)
    stream = AlignedStream(model, Grid(4, 8))
    for n in (0, 100, 900):
        with pytest.raises(TooShortUttError):
            stream.accept(noise(n), True)
    for n in (4000, 9000):  # goes on with the next
        torch.testing.assert_close(
            streamed(stream, noise(n), 3000), masked(model, noise(n), Grid(4, 8)), **TOLERANCE
        )


def test_what_cannot_be_heard_chunk_by_chunk(tmp_path):
    model = transducer(tmp_path)
    assert grid_of(model, 640, 32, 16000) == Grid(16, 32)
    assert grid_of(model, 1000, -1, 8000) == Grid(12, 0)
    with pytest.raises(UserError, match=r"utterance_mvn needs the whole .*--decoding stock"):
        grid_of(transducer(tmp_path, normalize="utterance_mvn"), 640, 32, 16000)
    config = tiny_config()["encoder_conf"]
    config = {**config, "main_conf": {"dynamic_chunk_training": False}}
    with pytest.raises(UserError, match=r"it was not trained in chunks \(main_conf: dynamic"):
        grid_of(transducer(tmp_path, encoder_conf=config), 640, 32, 16000)


DECODERS = {
    "lstm": {},
    "gru2": {
        "decoder_conf": {"rnn_type": "gru", "num_layers": 2, "embed_size": 8, "hidden_size": 16}
    },
    "stateless": {"decoder": "stateless", "decoder_conf": {"embed_size": 8}},
    "averaged": {
        "decoder": "averaged",
        "decoder_conf": {"embed_size": 8, "hidden_size": 12, "context": 3},
    },
}
LENGTHS = [21 * FRAME, 9 * FRAME + 100, 14 * FRAME, 300, 21 * FRAME + 159]  # one is too short


def one_by_one(model, search, speech, grid):
    """Hypotheses of ESPnet's search, utterance by utterance, without any of our batches."""
    feats, length = model._extract_feats(speech[None], torch.tensor([len(speech)]))
    feats, length = model.normalize(feats.clone(), length)
    size, left = (grid.chunk_size, grid.left_context) if grid else (None, None)
    with torch.no_grad():
        enc, _ = encode(model.encoder, feats, length, size, left)
        return search(enc[0])


@pytest.mark.parametrize("beam, ahead", [(1, 3), (4, 1), (4, 3)])
@pytest.mark.parametrize("decoder", list(DECODERS))
def test_a_batch_is_searched_as_one_by_one(tmp_path, monkeypatch, decoder, beam, ahead):
    """Hypotheses and scores of ESPnet's own search, which `BoundedBeamSearch` is bit by bit."""
    monkeypatch.setattr(batched_search, "AHEAD", ahead)
    model = transducer(tmp_path, **DECODERS[decoder])
    stock = BeamSearchTransducer(model.decoder, model.joint_network, beam, nbest=beam)
    bounded = BoundedBeamSearch.of(stock)
    enc = 4 * torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(beam))  # (B, T, D)
    lengths = torch.tensor([16, 7, 12, 1, 16])
    said = 0
    for x, n, (hyps, hit_limit) in zip(
        enc, lengths, BatchedBeamSearch(bounded, model)(enc, lengths)
    ):
        with torch.no_grad():
            expected = bounded(x[:n])
        # Without a state A B A C A and A C A B A are equally likely: which is expanded first is
        # left to rounding, and decides what is found where the limit ends a frame.
        if decoder in ("stateless", "averaged") and hit_limit:
            continue
        if decoder not in ("stateless", "averaged"):
            assert [h.yseq for h in hyps] == [h.yseq for h in expected]
        assert [h.score for h in hyps] == pytest.approx([h.score for h in expected], abs=1e-4)
        assert len(hyps) == beam and hit_limit == bounded.hit_limit
        said += len(hyps[-1].yseq) - 1
    assert said or beam == 1


@pytest.mark.parametrize("shape", ["conv4", "vgg"])
@pytest.mark.parametrize("grid", [Grid(4, 8), None], ids=["chunks", "full"])
def test_a_batch_gives_what_one_by_one_gives(tmp_path, monkeypatch, shape, grid):
    """Features and encoder output are those of the utterance alone."""
    monkeypatch.setattr("espnet_kd.espnet.batched_decoding.AT_ONCE", 45)  # some at once, not all
    model = transducer(tmp_path, shape)
    bounded = BoundedBeamSearch.of(BeamSearchTransducer(model.decoder, model.joint_network, 2))
    batched = BatchedDecoding(model, bounded, grid)
    assert batched.batched_search is not None
    speech = [noise(n, n) for n in LENGTHS]
    (batch,) = batched.batches(LENGTHS)
    assert sorted(batch) == list(range(5)) and batch[0] == 3
    enc, t_len = batched.encode(speech)
    alone = [x for x in speech if len(x) > 1000]
    for x, n, utterance in zip(enc, t_len, alone):
        if grid:
            torch.testing.assert_close(x[:n], masked(model, utterance, grid), **TOLERANCE)
    for x, outcome in zip(speech, batched.decode(speech)):
        if len(x) < 1000:
            assert isinstance(outcome, TooShortUttError)
            continue
        (hyp,), hit_limit = outcome
        (expected,) = one_by_one(model, bounded, x, grid)
        assert hyp.yseq == expected.yseq and hit_limit == bounded.hit_limit
        assert hyp.score == pytest.approx(expected.score, abs=1e-4)


def test_other_searches_stay_one_by_one(tmp_path):
    model = transducer(tmp_path)
    stock = BeamSearchTransducer(model.decoder, model.joint_network, 3, search_type="maes")
    batched = BatchedDecoding(model, BoundedBeamSearch.of(stock), Grid(4, 8))
    assert batched.batched_search is None
    speech = [noise(n, n) for n in LENGTHS[:2]]
    for x, (hyps, _) in zip(speech, batched.decode(speech)):
        assert hyps[0].yseq == one_by_one(model, stock, x, Grid(4, 8))[0].yseq


def test_the_limit_of_the_search_holds_in_batches(tmp_path):
    """A model that hardly says blank: the same end as of the bounded search."""
    model = transducer(tmp_path)
    with torch.no_grad():
        model.joint_network.lin_out.bias[0] = -100
    search = BoundedBeamSearch.of(BeamSearchTransducer(model.decoder, model.joint_network, 2))
    enc = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(0))  # (B, T, D)
    lengths = torch.tensor([6, 2, 4])
    found = BatchedBeamSearch(search, model)(enc, lengths)
    for x, n, (hyps, hit_limit) in zip(enc, lengths, found):
        with torch.no_grad():
            expected = search(x[:n])
        assert hit_limit and search.hit_limit
        assert hyps[0].yseq == expected[0].yseq
        assert hyps[0].score == pytest.approx(expected[0].score, rel=1e-5)


def test_no_numbers_are_told_of_their_utterance_alone(tmp_path):
    model = transducer(tmp_path)
    search = BoundedBeamSearch.of(BeamSearchTransducer(model.decoder, model.joint_network, 2))
    batched = BatchedDecoding(model, search, Grid(4, 8))
    speech = [noise(n, n) for n in LENGTHS[:3]]
    alone = batched.decode(speech[2:])[0]
    speech[1][3000] = float("nan")
    found = batched.decode(speech)
    assert isinstance(found[1], FloatingPointError)
    assert found[2][0][0].yseq == alone[0][0].yseq


def test_batches_are_of_similar_lengths_and_small_enough(tmp_path, monkeypatch):
    monkeypatch.setattr("espnet_kd.espnet.batched_decoding.PAIRS", 4 * 25**2)
    model = transducer(tmp_path)
    search = BoundedBeamSearch.of(BeamSearchTransducer(model.decoder, model.joint_network, 2))
    batched = BatchedDecoding(model, search, None)
    samples = [25 * FRAME] * 6 + [500 * FRAME] + [2 * FRAME] * 70
    sizes = [len(batch) for batch in batched.batches(samples)]
    assert sizes == [64, 6, 4, 2, 1]  # the shortest first, whatever their order was


@pytest.mark.parametrize("decoder", list(DECODERS))
def test_greedy_search_of_a_batch_walks_each_lattice(tmp_path, decoder):
    """Against a search that computes every logit anew from the whole label sequence."""
    model = transducer(tmp_path, **DECODERS[decoder])
    enc = torch.randn(4, 20, 16, generator=torch.Generator().manual_seed(3))  # (B, T, D)
    lengths = torch.tensor([20, 3, 11, 1])
    found = emissions(model, enc, lengths)
    with torch.no_grad():
        for x, n, hypothesis in zip(enc, lengths, found):
            labels, frames = [0], []
            for t, frame in enumerate(x[:n]):
                for _ in range(MOST_LABELS):
                    dec = model.decoder(torch.tensor([labels]))[0, -1]
                    best = int(model.joint_network(frame, dec).argmax())
                    if best == 0:
                        break
                    labels.append(best)
                    frames.append(t)
            assert (hypothesis.labels, hypothesis.frames) == (labels[1:], frames)
    assert len(found[0].labels) > 3
    assert greedy_search(model, enc, lengths) == [text.labels for text in found]
    assert frames_of(model.frontend, 16000) == 101
