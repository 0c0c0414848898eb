"""sherpa-onnx's own recogniser says what our search says of the same features."""

import argparse

import numpy as np
import pytest
import torch

from espnet_kd.bin import export
from espnet_kd.errors import UserError
from espnet_kd.espnet.exportable_model import load_exportable
from espnet_kd.export import parity, sherpa
from espnet_kd.export.graphs import PREDICTORS, Joiner
from espnet_kd.export.sensitivity import Choice
from espnet_kd.export.tracing import state_shapes, streaming_encoder
from tests.espnet.tiny import tiny_config
from tests.export.conftest import CHUNKS, write_talkative

MOST = 10  # tokens of a frame, of sherpa-onnx


def expected(source, sounds, samples, tail):
    """Decode as sherpa-onnx does, chunk by full chunk, with torch's modules."""
    front, network = source.front, source.model.joint_network
    encoder = streaming_encoder(source)
    encoder.mean, encoder.scale = (x.float() for x in sherpa.fitted(source, sounds))
    joiner = Joiner(network)
    predictor = PREDICTORS[source.predictor](source.model.decoder, network.lin_dec)
    shapes = state_shapes(source, CHUNKS.left_context)
    att, conv = (torch.zeros(shapes[n][0], 1, *shapes[n][1:]) for n in ("att", "conv"))
    states = [torch.zeros(s[0], 1, s[1]) for s in (shapes[n] for n in ("h", "c") if n in shapes)]
    heard = np.concatenate([samples, np.zeros(int(tail * 16000), np.float32)])
    features = torch.from_numpy(sherpa.fbank(heard, 16000, front["n_mels"]))[None]  # (1, T, F)
    processed, start, labels = torch.zeros(1, dtype=torch.long), 0, []
    dec, *after = said(predictor(torch.tensor([0]), *states))
    while start + 19 < features.size(1):
        y, att, conv, processed = encoder(features[:, start : start + 19], att, conv, processed)
        for frame in y[0]:
            for _ in range(MOST):
                best = int(joiner(frame[None], dec).argmax())
                if best == 0:
                    break
                labels.append(best)
                dec, *after = said(predictor(torch.tensor([best]), *after))
        start += 16
    return "".join(source.tokens[label] for label in labels).replace("<space>", " ")


def said(output):
    return output if isinstance(output, tuple) else (output,)


@pytest.mark.parametrize("kind", ["lstm", "stateless", "averaged"])
def test_it_says_the_same(kind, graphs, sounds, tmp_path):
    pytest.importorskip("sherpa_onnx", reason="sherpa-onnx comes with the extra `test`")
    source = graphs[kind].source
    sherpa.write_set(graphs[kind], sounds, "float32", tmp_path)
    recogniser = sherpa.Recogniser(tmp_path, source)
    with torch.no_grad():
        texts = [expected(source, sounds, sound, 0.5) for sound in sounds]
    assert len(set("".join(texts))) > 2  # more than a token that is always the same
    heard = [recogniser.text(sound, 0.5) for sound in sounds]
    assert heard == [text.strip() for text in texts]


def test_words_have_spaces_between_them():
    assert sherpa.tokens_of(["<blank>", "A", "<space>"], "char") == ["A", "\u2581", "<blk>"]
    assert sherpa.tokens_of(["<blank>", "HE"], "word") == ["\u2581HE", "<blk>"]


def test_without_it_its_files_are_written_all_the_same(graphs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(parity, "Utterances", lambda *_: [])
    monkeypatch.setattr(sherpa, "write_set", lambda *_: {"encoder.onnx": 1000})
    monkeypatch.setattr(sherpa.Recogniser, "__init__", lambda *_: pytest.fail())
    args = argparse.Namespace(train="", out=str(tmp_path))
    choices = {"int8": Choice([], {}, None)}
    assert export._for_sherpa(args, graphs["lstm"], None, choices, []) == []
    assert "onnx-int8: 1,000 bytes; not compared: sherpa-onnx is not" in capsys.readouterr().out


def test_features_that_it_does_not_have_are_refused(tmp_path):
    front = {**tiny_config()["frontend_conf"], "htk": True}
    exp = write_talkative(tmp_path / "exp", "lstm", {"frontend_conf": front})
    with pytest.raises(UserError, match="frontend_conf.htk is True"):
        sherpa.check_features(load_exportable(exp, "model.pth"))
