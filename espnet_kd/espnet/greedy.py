"""Greedy search of a batch by label looping, and the errors of what it finds."""

from typing import Any, List, Sequence

import torch
from espnet2.asr_transducer.espnet_transducer_model import ESPnetASRTransducerModel

from espnet_kd.device.search import Text
from espnet_kd.device.spelling import Spelling
from espnet_kd.espnet.predictor import Predictor, is_batchable
from espnet_kd.scoring.align import align
from espnet_kd.scoring.counts import Counts

# Labels that greedy search emits at one frame at most. With characters and frames of 40 ms most
# labels are a second or later one of their frame.
MOST_LABELS = 10
WINDOW = 8  # frames in which the next label is looked for at once


def count_errors(
    model: ESPnetASRTransducerModel,
    enc: torch.Tensor,
    t_len: torch.Tensor,
    labels: Sequence[Sequence[int]],
    token_type: str,
) -> List[Counts]:
    """Count the word errors of greedy search in each utterance.

    Args:
        model: A transducer in eval mode.
        enc: Output of the encoder. (B, T, D)
        t_len: (B,)
        labels: The transcripts, B of them.
        token_type: `char`, `bpe` or `word`: what of the tokens is a word.
    """
    spelling = Spelling(model.token_list, token_type)
    hypotheses = [spelling.text(x).split() for x in greedy_search(model, enc, t_len)]
    references = [spelling.text(x).split() for x in labels]
    return [Counts.of(ops) for ops in align(references, hypotheses)]


def greedy_search(model: Any, enc: torch.Tensor, t_len: torch.Tensor) -> List[List[int]]:
    """Return the labels of `emissions`."""
    return [text.labels for text in emissions(model, enc, t_len)]


@torch.no_grad()
def emissions(model: Any, enc: torch.Tensor, t_len: torch.Tensor) -> List[Text]:
    """Emit the likeliest token of every lattice node that is passed.

    Label looping (Bataev et al., arXiv 2406.06220): all utterances look for their next label at
    once, each at a frame of its own.

    Args:
        model: A transducer in eval mode.
        enc: Encoder output. (B, T, D)
        t_len: (B,)

    Returns:
        Labels of each utterance, at most `MOST_LABELS` a frame, and the frames.
    """
    if not is_batchable(model.decoder):
        return [_one_by_one(model, x[:n]) for x, n in zip(enc, t_len.tolist())]
    network = model.joint_network
    enc = network.lin_enc(enc)  # (B, T, J)
    predictor = Predictor(model, enc.device)
    labels: List[List[int]] = [[] for _ in enc]
    frames: List[List[int]] = [[] for _ in enc]
    # Of the n utterances that are not finished: number, frame, labels emitted at that frame.
    row = torch.arange(len(enc), device=enc.device)  # (n,)
    frame, count, length = torch.zeros_like(row), torch.zeros_like(row), t_len.to(row)  # (n,)
    dec, state = predictor.start(len(row))  # (n, J), (n, state_size)
    window = torch.arange(min(WINDOW, enc.size(1)), device=enc.device)  # (W,)
    while len(row):
        ahead = frame[:, None] + window  # (n, W)
        nodes = enc[row[:, None], ahead.clamp(max=enc.size(1) - 1)]  # (n, W, J)
        best = network(nodes, dec[:, None], no_projection=True).argmax(-1)  # (n, W)
        says = (best != 0) & (ahead < length[:, None])  # (n, W)
        emits, step = says.any(1), says.int().argmax(1)  # (n,)
        label = best.gather(1, step[:, None])[:, 0]  # (n,)
        at = (frame + step).tolist()
        for k, emitted, number, t in zip(row.tolist(), emits.tolist(), label.tolist(), at):
            if emitted:
                labels[k].append(number)
                frames[k].append(t)
        count = torch.where(emits & (step == 0), count, 0) + emits.long()  # (n,)
        frame = frame + torch.where(emits, step, len(window))  # (n,)
        full = count == MOST_LABELS  # (n,)
        frame, count = frame + full.long(), torch.where(full, 0, count)  # (n,)
        some = emits.nonzero()[:, 0]  # (m,)
        new_dec, new_state = predictor.step(label[some], state[some])  # (m, J), (m, state_size)
        dec[some], state[some] = new_dec.to(dec), new_state.to(state)  # autocast may differ
        left = frame < length  # (n,)
        if not bool(left.all()):
            row, frame, count, length, dec, state = (
                x[left] for x in (row, frame, count, length, dec, state)
            )
    return [Text(of_one, at, len(at)) for of_one, at in zip(labels, frames)]


def _one_by_one(model: Any, enc: torch.Tensor) -> Text:
    """Search one utterance with a predictor of any kind; enc: (T, D)."""
    decoder, network = model.decoder, model.joint_network
    decoder.score_cache = {}  # keyed by labels alone
    decoder.set_device(enc.device)
    labels, frames = [0], []
    dec, state = decoder.score(labels, decoder.init_state(1))  # (1, D)
    for t, frame in enumerate(enc):
        for _ in range(MOST_LABELS):
            best = int(network(frame[None], dec).argmax())  # over (1, V)
            if best == 0:
                break
            labels.append(best)
            frames.append(t)
            dec, state = decoder.score(labels, state)
    decoder.score_cache = {}
    return Text(labels[1:], frames, len(frames))
