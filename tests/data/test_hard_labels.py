"""Hypotheses in the place of transcripts: what is kept, left out, counted and refused."""

import io

import pytest

from espnet_kd.data.hard_labels import HardLabels
from espnet_kd.fileio import read_table, write_table
from espnet_kd.scoring.counts import Counts

TEXTS = {"a": "ONE TWO", "b": "TWO", "c": "ONE ONE", "d": "TWO ONE", "e": "ONE", "f": "SIX"}
HYPS = {
    "a": "ONE  TWO",  # right
    "b": "",
    "c": "ONE TWO ONE",  # 11 labels for 11 frames
    "d": "TWO ONE TWO",  # as many for 10
    "f": "S<unk>X",
}


@pytest.fixture
def words(tmp_path):
    """A toy data directory; returns the words of the command line."""
    data = tmp_path / "dump"
    write_table(data / "wav.scp", {utt: f"audio/{utt}.flac" for utt in TEXTS})
    write_table(data / "text", TEXTS)
    write_table(data / "utt2spk", dict.fromkeys(TEXTS, "s"))
    samples = {utt: 640 * 11 + (639 if utt == "c" else -1) for utt in TEXTS}
    write_table(data / "utt2num_samples", samples)
    write_table(tmp_path / "speech_shape", samples)
    write_table(tmp_path / "hyp", HYPS)
    (tmp_path / "student.yaml").write_text("frontend: default\nfrontend_conf: {hop_length: 160}\n")
    (tmp_path / "tokens.txt").write_text("".join(f"{n}\n" for n in range(13)))
    options = {
        "--data": data,
        "--hyp": tmp_path / "hyp",
        "--speech_shape": tmp_path / "speech_shape",
        "--config": tmp_path / "student.yaml",
        "--token_list": tmp_path / "tokens.txt",
        "--token_type": "char",
        "--max_dropped_share": 0.9,
        "--out": tmp_path / "out",
    }
    return [word for pair in options.items() for word in pair]


def test_what_is_written(words, ok, tmp_path):
    ok("hard_labels", *words)
    out = tmp_path / "out"
    assert read_table(out / "text") == {"a": "ONE TWO", "c": "ONE TWO ONE"}
    assert read_table(out / "wav.scp") == {"a": "audio/a.flac", "c": "audio/c.flac"}
    assert read_table(out / "text_shape.char") == {"a": "7,13", "c": "11,13"}
    assert read_table(out / "speech_shape") == {"a": "7039", "c": "7679"}
    assert read_table(out / "utt2num_samples") == {"a": "7039", "c": "7679"}
    assert read_table(out / "spk2utt") == {"s": "a c"}


def test_what_is_said(words, cli, tmp_path, monkeypatch):
    printed = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", printed)
        # Not decoded: e. One insertion in four words of a and c.
        cli("hard_labels", *words)
    assert printed.getvalue() == (
        f"hard labels {tmp_path}/out: 2 of 6 utterances, WER 25.00 % against their transcripts; "
        "left out: 1 not decoded, 1 empty, 1 with <unk>, 1 with too many labels\n"
    )


def test_without_transcripts_there_is_no_distance_to_them():
    labels = HardLabels({}, {"a": 3}, {"empty": 1}, Counts.total([]))
    assert labels.summary() == "1 of 2 utterances, no transcripts; left out: 1 empty"


def test_pieces_are_counted_and_their_unknown_is_seen(words, ok, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ONE TWO SIX"] * 9), model_writer=model, vocab_size=12,
        minloglevel=2,
    )  # fmt: skip
    (tmp_path / "bpe.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    write_table(tmp_path / "hyp", {"a": "ONE TWO", "b": pieces.decode(["▁TWO", "<unk>"])})
    words = [word if word != "char" else "bpe" for word in words]
    ok("hard_labels", *words, "--bpemodel", tmp_path / "bpe.model")
    lengths = read_table(tmp_path / "out/text_shape.bpe")
    assert lengths == {"a": f"{len(pieces.encode('ONE TWO'))},13"}


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("hyp", "x ONE\na ONE\n", "hyp: 1 of 2 utterances are not in the training set, the first"),
        ("hyp", "a\nb\n", "no hypothesis can be trained on (4 not decoded, 2 empty)"),
        ("hyp", "", "no hypothesis can be trained on (6 not decoded)"),
        ("speech_shape", "a 9\n", "speech_shape: lacks 'b'; collect the statistics"),
        ("speech_shape", "a x\n", "speech_shape: 'a' has the length 'x', not a number"),
    ],
)
def test_what_is_refused(words, cli, tmp_path, file, content, message):
    (tmp_path / file).write_text(content)
    code, err = cli("hard_labels", *words)
    assert code == 1 and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_there(words, cli, tmp_path):
    for option, message in (
        ("--hyp", "no such file; run the stage that makes it first"),
        ("--config", "no such file; derive the student first"),
        ("--data", "no such data directory"),
        ("--token_list", "no such file"),
    ):
        changed = list(words)
        changed[changed.index(option) + 1] = tmp_path / "nothing"
        code, err = cli("hard_labels", *changed)
        assert code == 1 and f"{tmp_path}/nothing: {message}" in err
    code, err = cli("hard_labels", *words[:-4], "--token_type", "bpe", *words[-2:],
                    "--bpemodel", tmp_path / "tokens.txt")  # fmt: skip
    assert code == 1 and "tokens.txt: not a sentencepiece model" in err


def test_a_teacher_that_labels_too_little_is_refused(words, cli, tmp_path):
    words[words.index("--max_dropped_share") + 1] = 0.5
    code, err = cli("hard_labels", *words)
    assert code == 1
    assert "hyp: 4 of 6 utterances would be left out, more than --max_dropped_share 0.5" in err
    assert "(1 not decoded, 1 empty, 1 with <unk>, 1 with too many labels)" in err
    assert not (tmp_path / "out").exists()
