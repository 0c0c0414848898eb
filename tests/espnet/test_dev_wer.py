"""WER on a fixed part of the validation set."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from espnet2.train.trainer import Trainer

from espnet_kd.espnet import trainer
from espnet_kd.espnet.dev_wer import DevWer
from espnet_kd.espnet.encode import encode
from espnet_kd.espnet.greedy import count_errors, greedy_search
from espnet_kd.scoring.counts import Counts
from tests.espnet.tiny import TOKENS, build, tiny_config, write_experiment


class Batches:
    """As ESPnet's iterator gives them."""

    def __init__(self, batch, times):
        self.items = [(["a", "b", "c"], batch)] * times

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter(self.items)


def watched(dev, model, batch, times=2):
    model.eval()
    with torch.no_grad():
        seen = list(dev.watch(Batches(batch, times), model))
    assert len(seen) == times
    return dev.figures(False, 0)


def words(labels):
    return "".join(TOKENS[x] for x in labels).replace("<space>", " ").split()


def test_the_figures_are_those_of_greedy_search(kd, batch):
    student = build(tiny_config(), kd, seed=3)
    with torch.no_grad():
        student.joint_network.lin_out.weight.mul_(4)  # so that it says something
    found = watched(DevWer(6), student, batch)
    feats, lengths = student._extract_feats(batch["speech"], batch["speech_lengths"])
    errors = {}
    for name, model in (("wer", student), ("wer_teacher", student.teacher.model)):
        enc, t_len = encode(model.encoder, feats, lengths, 4)
        # Every transcript is one word: right, or wrong and followed by words too many.
        hyps = [words(labels) for labels in greedy_search(model, enc, t_len)]
        said = [words(x[:n].tolist()) for x, n in zip(batch["text"], batch["text_lengths"])]
        assert all(len(text) == 1 for text in said)
        wrong = [max(1, len(h)) - (r[0] in h) for h, r in zip(hyps, said)]
        errors[name] = 100 * sum(wrong) / 3
    assert found == pytest.approx(errors)
    assert any(len(h) for h in hyps) or found["wer"] > 0


def test_with_tokens_that_are_words_each_of_them_counts(kd, batch, monkeypatch):
    """Letters that are trained as words: three of four right are no wrong utterance."""
    student = build(tiny_config(), kd, seed=3)
    heard = [TOKENS.index(x) for x in "ABCA"]
    monkeypatch.setattr(
        "espnet_kd.espnet.greedy.greedy_search", lambda model, enc, t_len: [heard] * len(enc)
    )
    enc, t_len = torch.zeros(1, 4, 8), torch.tensor([4])  # (B, T, D), (B,)
    said = [[TOKENS.index(x) for x in "ABCB"]]
    for token_type, words in (("word", 4), ("char", 1)):
        (counts,) = count_errors(student, enc, t_len, said, token_type)
        assert (counts.errors, counts.ref_words) == (1, words)
    found = watched(DevWer(6, token_type="word"), student, batch)
    labels = [x[:n].tolist() for x, n in zip(batch["text"], batch["text_lengths"])]
    counts = count_errors(student, torch.zeros(3, 4, 8), t_len, labels, "word")  # (B, T, D)
    assert found["wer"] == pytest.approx(Counts.total(counts).error_rate)
    assert found != watched(DevWer(6, token_type="char"), student, batch)


def varied(model, feats, feats_len):
    """Make what a model says change with the frames: as it comes it repeats one token."""
    network = model.joint_network
    with torch.no_grad():
        enc, _ = encode(model.encoder, feats, feats_len, 4)  # (B, T, D)
        network.lin_enc.weight.mul_(20)
        network.lin_enc.bias.copy_(-network.lin_enc.weight @ enc.mean((0, 1)))
        network.lin_out.bias.zero_()


def say(model, feats, feats_len, chunk_size):
    """What greedy search finds in every utterance."""
    with torch.no_grad():
        enc, t_len = encode(model.encoder, feats, feats_len, chunk_size)
    return greedy_search(model, enc, t_len)


@pytest.mark.parametrize("context, chunk_size", [("shared", 4), ("full", None)])
def test_the_teacher_is_decoded_as_it_teaches(tmp_path, mvn, batch, context, chunk_size):
    """In its own context, of features that the student, before it, has not normalised."""
    config = tiny_config(**mvn)
    exp = write_experiment(tmp_path / "teacher", config, seed=1)
    kd = {"objective": "full", "teacher_context": context}
    kd |= {"teacher_config": f"{exp}/config.yaml", "teacher_model": f"{exp}/model.pth"}
    student = build(config, kd, seed=3)
    teacher = student.teacher.model
    raw, lengths = student._extract_feats(batch["speech"], batch["speech_lengths"])
    feats, _ = teacher.normalize(raw.clone(), lengths)
    varied(teacher, feats, lengths)
    said = {size: say(teacher, feats, lengths, size) for size in (4, None)}
    assert all(words(a) != words(b) for a, b in zip(said[4], said[None]))
    # The transcripts are what it says: every other word would be an error.
    texts = [torch.tensor(labels) for labels in said[chunk_size]]
    batch["text"] = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-1)
    batch["text_lengths"] = torch.tensor([len(text) for text in texts])
    found = watched(DevWer(3), student, batch, times=1)
    assert found["wer_teacher"] == 0 and found["wer"] > 0


@pytest.mark.parametrize("decoder", ["rnn", "stateless"])
def test_search_remembers_nothing_of_older_weights(batch, decoder):
    """ESPnet's predictors keep what they said of labels, whatever becomes of their weights."""
    kind = {} if decoder == "rnn" else {"decoder": decoder, "decoder_conf": {"embed_size": 8}}
    config = tiny_config(**kind)
    model, fresh = build(config, seed=1).eval(), build(config, seed=1).eval()
    feats, lengths = model._extract_feats(batch["speech"], batch["speech_lengths"])
    varied(model, feats, lengths)
    before = say(model, feats, lengths, 4)
    assert model.decoder.score_cache == {}  # nothing stays in the memory of the device
    for labels in before:  # as ESPnet's own beam search leaves it behind
        state = model.decoder.init_state(1)
        for n in range(len(labels) + 1):
            _, state = model.decoder.score([0, *labels[:n]], state)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.mul_(-3)
    fresh.load_state_dict(model.state_dict())
    expected = say(fresh, feats, lengths, 4)
    assert expected != before
    assert say(model, feats, lengths, 4) == expected


def test_the_teacher_is_decoded_once(kd, batch, monkeypatch):
    student = build(tiny_config(), {**kd, "teacher_dtype": "bfloat16"})
    dev, calls = DevWer(4), []
    encode_ = student.teacher.encode
    monkeypatch.setattr(student.teacher, "encode", lambda *x: calls.append(1) or encode_(*x))
    first = watched(dev, student, batch)
    assert calls and set(first) == {"wer", "wer_teacher"}
    calls.clear()
    assert watched(dev, student, batch) == first and not calls


def test_a_teacher_behind_a_cache_is_loaded_for_it(kd, batch):
    online = build(tiny_config(), {**kd, "objective": "collapsed"})
    cached = build(tiny_config(), {**kd, "objective": "collapsed"})
    object.__setattr__(cached, "teachers", [])
    found = watched(DevWer(3), cached, batch)
    assert found == watched(DevWer(3), online, batch) and "wer_teacher" in found
    assert cached.teacher is None


def test_what_is_decoded(batch):
    plain = build(tiny_config())
    assert set(watched(DevWer(3), plain, batch)) == {"wer"}
    assert watched(DevWer(0), plain, batch) == {}
    chosen = lambda n, count: [DevWer(n)._chosen(i, count, 3) for i in range(count)]  # noqa: E731
    assert chosen(2, 4) == [[], [0], [], [0]]
    assert chosen(4, 2) == [[0, 1], [0, 1]] and chosen(99, 1) == [[0, 1, 2]]
    assert DevWer(5, processes=2).wanted == 3


def test_a_loop_that_ends_early_is_counted(batch, monkeypatch):
    """As ESPnet's trainer ends it when another process has had a batch less."""

    def two_batches(cls, iterator, model, **kwargs):
        with torch.no_grad():
            next(iterator), next(iterator)

    found = {}
    monkeypatch.setattr(Trainer, "validate_one_epoch", classmethod(two_batches))
    monkeypatch.setattr(trainer, "report_epoch", lambda _, figures: found.update(figures))
    monkeypatch.setattr(trainer, "_is_main", lambda _: False)
    monkeypatch.setattr(trainer.soundness, "check_validated", lambda *_: "")
    plain = build(tiny_config()).eval()
    plain.dev_wer = DevWer(3)
    plain.run = SimpleNamespace(unsaved=0, tell=lambda *_: None)
    trainer.DistilTrainer.validate_one_epoch(
        reporter=SimpleNamespace(epoch=1),
        options=Namespace(ngpu=0),
        distributed_option=Namespace(distributed=False),
        iterator=Batches(batch, 3),
        model=plain,
    )
    assert found == {"wer": pytest.approx(100.0, abs=100)} and plain.dev_wer.student.ref_words > 0
