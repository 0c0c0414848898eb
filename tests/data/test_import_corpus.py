"""Corpora of one's own: tables, folders, Kaldi directories; which sets are made of them."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_kd.data.corpus_split import split_off
from espnet_kd.fileio import read_table

RATE = 16000


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A folder `c` with 40 sounds of 8 speakers, `c/<speaker>/<n>.wav`."""
    monkeypatch.chdir(tmp_path)
    audio = 0.1 * np.random.default_rng(0).standard_normal(3200)
    for n in range(40):
        path = Path(f"c/s{n % 8}/{n}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio, RATE)
    return sorted(Path("c").rglob("*.wav"))


def write_csv(path, rows, head="audio,text,speaker", line="{0},THE WORDS,{1}"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lines = [head, *(line.format(p.absolute(), p.parent.name) for p in rows)]
    Path(path).write_text("\n".join(lines) + "\n")


def sets(*names):
    return {name: read_table(f"data/{name}/text") for name in names or ("train", "dev", "test")}


def speakers(name):
    return set(read_table(f"data/{name}/utt2spk").values())


def test_a_csv_is_split_by_speaker(corpus, ok, caplog):
    caplog.set_level(logging.INFO)
    write_csv("t.csv", corpus)
    ok("import_corpus", "--corpus", "t.csv")
    assert [len(table) for table in sets().values()] == [30, 5, 5]
    assert not speakers("dev") & speakers("train") and not speakers("dev") & speakers("test")
    assert "no set 'dev' is given: 5 utterances of it, 1 of 8 speakers" in caplog.text
    assert all(utt.startswith(("s0-", "s1-", "s2-", "s3-", "s4-", "s5-", "s6-", "s7-"))
               for utt in sets()["train"])  # fmt: skip
    first = sets()
    write_csv("t.csv", corpus[::-1])
    ok("import_corpus", "--corpus", "t.csv")
    assert sets() == first
    ok("format_audio", "--data", "data/dev", "--out", "dump/dev")


def test_without_speakers_it_is_said(corpus, ok, caplog):
    write_csv("t.csv", corpus, "audio,text", "{0},A")
    ok("import_corpus", "--corpus", "t.csv", "--data", "csv")
    assert [len(table) for table in sets().values()] == [32, 4, 4]
    assert "the same voices may be in all sets" in caplog.text


def test_common_voice(corpus, ok):
    clips = Path("cv/clips")
    clips.mkdir(parents=True)
    for n, name in enumerate(("train", "dev", "test", "validated", "other")):
        lines = ["client_id\tpath\tsentence\tup_votes"]
        for path in corpus[n * 5 : n * 5 + 5]:
            shutil.copy(path, clips / f"cv_{path.name}")
            lines.append(f'{path.parent.name}\tcv_{path.name}\t"Quoted" it\'s, so\t2')
        Path(f"cv/{name}.tsv").write_text("\ufeff" + "\n".join(lines))
    ok("import_corpus", "--corpus", "cv")
    assert {name: len(table) for name, table in sets().items()} == dict.fromkeys(sets(), 5)
    assert set(sets()["train"].values()) == {'"Quoted" it\'s, so'}


@pytest.mark.parametrize("as_list", [False, True])
def test_nemo_manifests_with_parts_of_files(as_list, corpus, ok):
    for name in "train", "validation":
        rows = [
            {"audio_filepath": str(corpus[0].absolute()), "offset": n / 20 or None,
             "duration": 0.05, "text": f"words {n}"} for n in range(4)
        ]  # fmt: skip
        text = json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows))
        Path("m").mkdir(exist_ok=True)
        Path(f"m/{name}_manifest.json").write_text(text)
    ok("import_corpus", "--corpus", "m")
    assert len(sets("dev")["dev"]) == 4 and len(sets("train")["train"]) == 3  # one to test
    ok("format_audio", "--data", "data/dev", "--out", "dump/dev")
    assert set(read_table("dump/dev/utt2num_samples").values()) == {"800"}


def test_a_first_row_need_not_name_all_fields(corpus, ok):
    """The fields of a table are those of all its rows; times stay exact behind 1000 s."""
    rows = [{"audio": str(path.absolute()), "text": "A"} for path in corpus]
    rows[1].update(offset=1234.5678, duration=1.5, speaker="x")
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ok("import_corpus", "--corpus", "rows.jsonl")
    (path,) = Path("data").glob("*/segments")
    times = {tuple(value.split()[1:]) for value in read_table(path).values()}
    assert times - {("0.0", "-1.0")} == {("1234.5678", "1236.0678")}


def test_hugging_face_rows(corpus, ok):
    names = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    rows = [
        {"audio": {"path": path.name, "bytes": None}, "transcription": "A", "split": name}
        for path, name in zip(corpus, names)
    ]
    for path in corpus:
        shutil.copy(path, path.name)
    Path("metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ok("import_corpus", "--corpus", "metadata.jsonl")
    assert [len(table) for table in sets().values()] == [20, 10, 10]


@pytest.mark.parametrize("by_sets", [False, True])
def test_a_folder_with_texts_beside_the_sounds(by_sets, corpus, ok):
    for n, path in enumerate(corpus):
        path.with_suffix(".txt").write_text("the words\nof it\n")
        if by_sets:
            folder = Path("d", ("train", "valid", "Test")[min(n // 10, 2)], path.parent.name)
            folder.mkdir(parents=True, exist_ok=True)
            for file in path, path.with_suffix(".txt"):
                shutil.copy(file, folder / file.name)
    ok("import_corpus", "--corpus", "d" if by_sets else "c", "--data", "folder")
    counts = [len(table) for table in sets().values()]
    assert counts == ([10, 10, 20] if by_sets else [30, 5, 5])
    assert set(sets()["dev"].values()) == {"the words of it"}
    assert "s0" in speakers("train") | speakers("dev") | speakers("test")


@pytest.mark.parametrize("train", [False, True])
def test_no_folder_is_passed_over_in_silence(train, corpus, ok, caplog):
    """A test folder is not trained on, and what is left out is named."""
    for path in corpus:
        path.with_suffix(".txt").write_text("A")
    Path("c/s0").rename("c/test")
    if train:
        Path("c/s1").rename("c/tr")  # a speaker, perhaps
    ok("import_corpus", "--corpus", "c")
    assert len(sets("test")["test"]) == 5
    assert not {utt for utt in sets("train")["train"] if "test" in utt}
    said = "folders that are not used, since tr/ is there to train on: s2 s3 s4 s5 s6 s7"
    assert (said in caplog.text) == train


def test_one_table_for_all_and_another_to_test_on(corpus, ok):
    write_csv("d/metadata.csv", corpus[:30])
    write_csv("d/test.csv", corpus[30:])
    ok("import_corpus", "--corpus", "d")
    assert len(sets()["test"]) == 10 and len(sets()["train"]) + len(sets()["dev"]) == 30


def test_a_name_that_no_table_can_hold(corpus, ok, caplog):
    for path in corpus:
        path.with_suffix(".txt").write_text("A")
    Path("c/s0/0.wav").rename("c/s0/a\nb.wav")
    Path("c/s0/0.txt").rename("c/s0/a\nb.txt")
    Path("c/s0/8.wav").rename(b"c/s0/\xff.wav".decode(errors="surrogateescape"))
    ok("import_corpus", "--corpus", "c", "--max_bad_share", "0.1")
    assert sum(map(len, sets().values())) == 38
    assert "2 sound files whose names cannot stand in a table" in caplog.text


def test_what_is_left_out_counts_over_all_kaldi_directories(corpus, ok):
    """A small test set is not refused for what is wrong with the training set."""
    for name, count in ("train", 60), ("dev", 3), ("test", 3):
        folder = Path("k", name)
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text("".join(f"u{n} c/s0/0.wav\n" for n in range(count)))
        lines = [f"u{n} A\n" for n in range(count)][name == "train" :]
        (folder / "text").write_text("".join(lines))
    ok("import_corpus", "--corpus", "k")
    assert len(sets()["train"]) == 59


def test_kaldi_directories_from_another_place(corpus, ok, tmp_path, monkeypatch):
    for name in "train", "dev":
        folder = Path("asr1/dump/raw", name)
        folder.mkdir(parents=True)
        Path("asr1/audio").mkdir(exist_ok=True)
        for path in corpus[:3]:
            shutil.copy(path, f"asr1/audio/{path.name}")
        wav = [f"u{path.stem} cat audio/{path.name} |" for path in corpus[:2]]
        wav.append(f"u3 audio/{corpus[2].name}")
        (folder / "wav.scp").write_text("\n".join(wav) + "\n")
        (folder / "text").write_text("".join(f"{line.split()[0]} A B\n" for line in wav))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    ok("import_corpus", "--corpus", "../asr1", "--test_sets", "dev")
    assert sets("train").keys() == {"train"} and not Path("data/test").exists()
    ok("format_audio", "--data", "data/train", "--out", "dump/train")


def test_sounds_that_are_not_there_are_told_when_kaldi_tables_are_read(corpus, cli):
    """Not in stage 3, whose user no longer knows of the directory."""
    names = {"train": 60, "dev": 3, "test": 3}
    for name, count in names.items():
        folder = Path("k", name)
        folder.mkdir(parents=True)
        wav = [f"u{n} {Path('c/s0/0.wav').resolve()}\n" for n in range(count)]
        wav[0] = "u0 gone/0.wav\n" if name == "train" else wav[0]
        (folder / "wav.scp").write_text("".join(wav))
        (folder / "text").write_text("".join(f"u{n} A\n" for n in range(count)))
    assert cli("import_corpus", "--corpus", "k")[0] == 0
    assert len(sets()["train"]) == 59
    left_out = Path("data/train/left_out").read_text()
    assert "(relative paths are looked for in the current" in left_out and "u0: gone/0" in left_out
    for name, path, told in (
        ("train", "/gone.ark:33", "6 of 66 utterances are unusable, more than --max_bad_share"),
        ("dev", "gone/1.wav", "no sound file of it is there (e.g. 'gone/1.wav'); relative paths"),
    ):
        few = 5 if name == "train" else 3
        lines = Path("k", name, "wav.scp").read_text().splitlines(True)
        lines[-few:] = [f"{line.split()[0]} {path}\n" for line in lines[-few:]]
        Path("k", name, "wav.scp").write_text("".join(lines))
        code, err = cli("import_corpus", "--corpus", "k")
        assert code == 1 and told in err


def test_commands_of_a_download_are_not_run(corpus, cli):
    folder = Path("downloads/train")
    folder.mkdir(parents=True)
    (folder / "wav.scp").write_text("a cat x |\n")
    (folder / "text").write_text("a A\n")
    code, err = cli("import_corpus", "--corpus", "downloads")
    assert code == 1 and "lies in a folder of downloads: none is run" in err
    write_csv("t.csv", [])
    Path("t.csv").write_text("audio,text\ntouch x |,A\n" + "c/s0/0.wav,A\n" * 5)
    code, err = cli("import_corpus", "--corpus", "t.csv")
    assert code == 1 and "commands are taken from wav.scp of Kaldi directories only" in err
    assert not Path("x").exists()


@pytest.mark.parametrize("missing", [False, True])
def test_video_goes_through_ffmpeg(missing, corpus, cli, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None if missing else f"/bin/{name}")
    for path in corpus:
        path.rename(path.with_suffix(".m4a"))
    write_csv("t.csv", [path.with_suffix(".m4a") for path in corpus])
    code, err = cli("import_corpus", "--corpus", "t.csv")
    if missing:
        assert code == 1 and "is decoded by ffmpeg, which is not installed; install it, or" in err
    else:
        entry = next(iter(read_table("data/train/wav.scp").values()))
        assert code == 0 and entry.startswith("ffmpeg -nostdin -v error -i /")


WRONG = {
    "gone.csv": (None, "no such file or folder"),
    "empty.csv": ("", "no row in it"),
    "head.csv": ("audio,text\n", "no row in it"),
    "names.csv": ("sound,words\na,b\n", "no column of audio files; there are 'sound', 'words'"),
    "twice.csv": ("audio,audio\na,b\n", "a column's name stands there twice"),
    "fields.csv": ("audio,text\na,b, c\n", "fields.csv:2: 3 fields, where the first line names 2"),
    "quote.csv": ('audio,text\na,"b\n', "quote.csv:2: "),
    "latin.csv": (b"audio,text\na,\xe9\n", "latin.csv:2: not UTF-8; save it as UTF-8"),
    "x.jsonl": ('{"audio": "a"}\n{"audio"\n', "x.jsonl:2: not JSON"),
    "list.jsonl": (
        '{"audio": "a", "text": ["A", "B"]}',
        "list.jsonl:1: text is '['A', 'B']'; text",
    ),
    "digits.jsonl": ('{"audio": ' + "1" * 5000 + "}", "digits.jsonl:1: not JSON (Exceeds the"),
    "l.jsonl": ('["a"]\n', "l.jsonl:1: 'a'; an object with named fields is needed"),
    "t.jsonl": ('{"audio": "a", "text": "A", "offset": "x"}', "t.jsonl:1: start is 'x'; seconds"),
    "o.jsonl": (
        '{"audio": "a", "text": "A", "start": 3, "end": 3}',
        "the end, 3 s, is not behind the start",
    ),
    "words.csv": ("audio,words\nc/s0/0.wav,A\n", "no column of transcripts; there are 'audio'"),
    "text.csv": ("audio,text\nc/s0/0.wav,\n", "1 utterances without a transcript"),
    "long.csv": ("audio,text\n" + "x" * 300 + ",A\n", "1 sound files that are not there"),
    "file.csv": ("audio,text\nno.wav,A\n", "1 sound files that are not there"),
    "few.csv": ("audio,text\nc/s0/0.wav,A\n", "1 utterances cannot be split into 3 sets"),
    "sets.csv": ("audio,text,split\nc/s0/0.wav,A,x\n", "no row of its column of sets is 'train'"),
    "deep.json": ("[" * 100_000, "nested too deep to be rows"),
    "/dev/null": (None, "neither a folder nor a .csv, .tsv, .jsonl or .json"),
    "k": ({"wav.scp": "a c/s0/0.wav\n"}, "k: no text; transcripts are needed"),
    "dirs": ({"a/.hidden": ""}, "no file in it, nor in its folders"),
    "a.txt": ("", "neither a folder nor a .csv, .tsv, .jsonl or .json"),
    "empty": ({}, "the folder is empty"),
    "docs": ({"a.pdf": "", "b.doc": ""}, "no sound file among its 2 files (.doc, .pdf)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_one_line(name, corpus, cli):
    content, words = WRONG[name]
    if isinstance(content, dict):
        Path(name).mkdir()
        for file, text in content.items():
            Path(name, file).parent.mkdir(exist_ok=True)
            Path(name, file).write_text(text)
    elif content is not None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    code, err = cli("import_corpus", "--corpus", name)
    assert code == 1 and words in err.splitlines()[-1], err
    assert not Path("data").exists()


def test_no_set_is_empty_however_few_there_are():
    for count in range(3, 30):
        for speakers_ in (1, 2, 3, 4, 7):
            items = list(range(count))
            parts = split_off(items, lambda n, s=speakers_: f"s{n % s}", ["dev", "test"], "c")
            assert all(parts[name] for name in ("", "dev", "test"))
            assert sorted(sum(parts.values(), [])) == items
            assert len(parts[""]) >= count / 3
