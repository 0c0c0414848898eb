"""Greedy and beam search in numpy against ESPnet's and a plain loop."""

import numpy as np
import pytest

from espnet_kd.device.search import A_FRAME, SPARE, BeamSearch, GreedySearch

torch = pytest.importorskip("torch")
pytest.importorskip("espnet2.asr_transducer")
KINDS = ("lstm", "stateless")


def some_frames(networks, count, seed=0):
    torch.manual_seed(100 + seed)
    frames = torch.randn(count, 16) * 1.5  # (U, D)
    with torch.no_grad():
        return frames, networks.network.lin_enc(frames).numpy()  # (U, J)


def in_pieces(search, enc, step):
    for start in range(0, len(enc), step):
        search.advance(enc[start : start + step])
    return search.best()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 2, 4])
def test_beam_search_is_that_of_espnet(kind, beam):
    from espnet2.asr_transducer.beam_search_transducer import BeamSearchTransducer

    from tests.device.torch_networks import TorchNetworks

    several = 0
    for seed in range(2):
        networks = TorchNetworks(kind, 4.0 if beam == 4 else 2.5, seed)
        frames, enc = some_frames(networks, 15, seed)
        theirs = BeamSearchTransducer(
            networks.decoder, networks.network, beam, nbest=beam, search_type="default"
        )
        with torch.no_grad():
            expected = theirs(frames)
        search = BeamSearch(networks, beam)
        text = in_pieces(search, enc, 4)
        assert text.labels == expected[0].yseq[1:]
        kept = sorted((h.score for h in search._kept), reverse=True)[:beam]
        np.testing.assert_allclose(kept, [h.score for h in expected], atol=1e-4)
        several += len(text.labels)
        assert text.frames == sorted(text.frames)
        assert not search.hit_limit
    assert several or (beam != 2 and kind == "lstm")  # where ESPnet has none either


def test_the_stable_part_is_common_to_all_hypotheses():
    from tests.device.torch_networks import TorchNetworks

    networks = TorchNetworks("lstm", 10.0, seed=1, sharp=2.0)
    _, enc = some_frames(networks, 24, seed=1)
    search = BeamSearch(networks, 4)
    before, unstable = [], 0
    for frame in enc:
        search.advance(frame[None])
        text = search.best()
        assert text.labels[: len(before)] == before  # it never changes
        before = text.labels[: text.stable]
        unstable += len(text.labels) > text.stable
    assert before and unstable


def test_beam_search_ends_where_blank_is_never_likely():
    from tests.device.torch_networks import TorchNetworks

    networks = TorchNetworks("stateless", blank=-30.0)
    _, enc = some_frames(networks, 3)
    search = BeamSearch(networks, 2)
    search.advance(enc)
    assert search.hit_limit
    assert len(search.best().labels) <= (SPARE + 3 * A_FRAME) * 2


def plain_greedy(networks, enc, most):
    labels, frames = [], []
    dec, states = networks.predict(np.array([0]), networks.start_predictor(1))
    for t, frame in enumerate(enc):
        for _ in range(most):
            label = int(networks.join(frame[None], dec).argmax())
            if label == 0:
                break
            labels.append(label)
            frames.append(t)
            dec, states = networks.predict(np.array([label]), states)
    return labels, frames


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [1, 3])
def test_greedy_search_of_many_is_a_plain_loop_over_each(kind, most):
    from tests.device.torch_networks import TorchNetworks

    networks = TorchNetworks(kind, blank=1.0)
    encs = [some_frames(networks, 24, seed)[1] for seed in range(3)]
    search = GreedySearch(networks, 3, most)
    search.advance_rows(np.stack([encs[0][:9], encs[2][:9]]), np.array([0, 2]))
    search.advance_rows(np.stack([e[:15] for e in (encs[0][9:], encs[1])]), np.array([0, 1]))
    search.advance_rows(encs[2][None, 9:], np.array([2]))
    for row, enc in enumerate([encs[0], encs[1][:15], encs[2]]):
        text = search.best(row)
        assert (text.labels, text.frames) == plain_greedy(networks, enc, most)
        assert len(text.labels) > 5
        alone = GreedySearch(networks, most_labels=most)
        assert in_pieces(alone, enc, 4) == text


def test_numbers_that_are_none_are_not_searched():
    from tests.device.torch_networks import TorchNetworks

    networks = TorchNetworks("lstm")
    enc = np.full((2, 8), np.nan, np.float32)
    for search in (GreedySearch(networks), BeamSearch(networks, 2)):
        with pytest.raises(FloatingPointError):
            search.advance(enc)
