"""Greedy search, and the errors of what it finds."""

from typing import List, Sequence

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts

MOST_LABELS = 5  # that greedy search emits at one frame


def count_errors(
    model: ESPnetASRTransducerModel,
    enc: torch.Tensor,
    t_len: torch.Tensor,
    labels: Sequence[Sequence[int]],
) -> List[Counts]:
    """Count the word errors of greedy search in each utterance.

    Args:
        model: A transducer in eval mode.
        enc: Its encoder output. (B, T, D)
        t_len: (B,)
        labels: The transcripts, B of them.
    """
    found = [_words(model, greedy_search(model, x[:t])) for x, t in zip(enc, t_len)]
    said = [_words(model, text) for text in labels]
    return [Counts.of(ops) for ops in align(said, found)]


def _words(model: ESPnetASRTransducerModel, labels: Sequence[int]) -> List[str]:
    """Spell labels out: of characters with a space symbol, or of pieces that begin words."""
    text = "".join(model.token_list[label] for label in labels)
    return text.replace(model.sym_space, " ").replace("\u2581", " ").split()


@torch.no_grad()
def greedy_search(model: ESPnetASRTransducerModel, enc: torch.Tensor) -> List[int]:
    """Emit the likeliest token of every lattice node that is passed.

    Args:
        model: A transducer in eval mode.
        enc: Encoder output of an utterance. (T, D)

    Returns:
        Labels, at most `MOST_LABELS` a frame.
    """
    decoder, network = model.decoder, model.joint_network
    decoder.score_cache = {}  # keyed by labels alone
    decoder.set_device(enc.device)
    labels = [0]
    dec, state = decoder.score(labels, decoder.init_state(1))  # (1, D)
    dec = network.lin_dec(dec)
    for frame in network.lin_enc(enc):  # (J,)
        for _ in range(MOST_LABELS):
            best = int(network(frame, dec, no_projection=True).argmax())
            if best == 0:
                break
            labels.append(best)
            dec, state = decoder.score(labels, state)
            dec = network.lin_dec(dec)
    decoder.score_cache = {}
    return labels[1:]
