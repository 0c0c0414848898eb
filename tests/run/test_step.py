"""May finished work be used again? Each kind of difference, both ways, and of damage."""

import json
import os
import subprocess
import sys

import pytest

from espnet_kd.errors import UserError
from espnet_kd.run import content
from espnet_kd.run.content import file_content
from espnet_kd.run.step import decide, finish, make_record, problem_of

WORDS = ["kind:again", "fs=16k", "file:in", "out:result"]
TRAIN = ["kind:train", "config:train.yaml", "file:in", "out:model.pth", "out:config.yaml"]
WHERE = {"stage": "3", "scope": "--stage 3 --stop_stage 3"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("in", "input")
    write("train.yaml", "max_epoch: 4\nbatch_size: 8\noptim_conf: {lr: 0.001}\n")
    return tmp_path


def write(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def ask(words, folder="out", step="s", **options):
    return decide(make_record(folder, step, words, **WHERE), **options)


def do(words, folder="out", step="s", **files):
    """Do a step if it is needed; return the verdict and what is said."""
    verdict, lines = ask(words, folder, step)
    if verdict != "finished":
        for name, text in files.items():
            write(f"{folder}/{name.replace('_', '.')}", text)
        finish(folder, step)
    return verdict, " ".join(lines)


def refused(words, folder="out", step="s"):
    with pytest.raises(UserError) as error:
        ask(words, folder, step)
    assert "\n" not in str(error.value)
    return str(error.value)


def trained(words=TRAIN, epochs=4, **files):
    files = {"model_pth": "weights", "config_yaml": "c: 1", "checkpoint_pth": "c", **files}
    write("m/history.json", json.dumps([{"epoch": n + 1} for n in range(epochs)]))
    return do(words, "m", "train", **files)


def test_nothing_differs():
    assert do(WORDS, result="1") == ("needed", "")
    assert do(WORDS) == ("finished", "already done, skipped (out)")
    assert ask(WORDS, force=True).verdict == "needed"
    assert not os.path.exists("out/.done.s")


@pytest.mark.parametrize(
    "words, difference",
    [
        (["fs=8k"], "(fs 16k, now fs 8k)"),
        (["fs=16k", "longer=2"], "(longer (not set), now longer 2)"),
        ([], "(fs 16k, now fs (not set))"),
        (["other=--frontend_conf fs=8k"], "(other (not set), now other --frontend_conf fs=8k)"),
    ],
)
def test_options_are_compared_both_ways(words, difference):
    do(WORDS, result="1")
    error = refused(["kind:again", *words, "file:in", "out:result"])
    assert f"stage 3 was done in out with other options {difference}; --stage 3" in error
    assert "--force true redoes it, or choose another directory" in error


def test_inputs_are_compared_both_ways():
    write("more", "1")
    do(WORDS, result="1")
    assert "its input has changed (more was no input then)" in do([*WORDS, "file:more"])[1]
    assert "(more is no input now)" in do(WORDS)[1]
    write("in", "another")
    assert do(WORDS) == ("needed", "out is made again, its input has changed (in)")
    # What a file is called does not count, nor when it was written.
    write("elsewhere/in", "another")
    assert do([*WORDS[:2], "file:elsewhere/in", "out:result"])[0] == "finished"
    os.utime("in", (1, 1))
    assert do(WORDS)[0] == "finished"


def test_a_renamed_folder_of_experiments_is_the_same():
    write("exp/teacher/m.pth", "w")
    words = ["file:exp/teacher/m.pth", "file:in", "out:result"]
    do(words, "exp/student", result="1")
    os.rename("exp", "exp2")
    words = ["file:exp2/teacher/m.pth", "file:in", "out:result"]
    assert do(words, "exp2/student")[0] == "finished"


def test_audio_exchanged_in_place_is_another_input():
    write("d/a.wav", "sound")
    write("d/wav.scp", "a d/a.wav\n")
    words = ["data:d", "out:result"]
    do(words, result="1")
    assert problem_of("out", "s") is None
    times = os.stat("d/a.wav")
    write("d/a.wav", "noise")
    os.utime("d/a.wav", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert problem_of("out", "s") == "out was made (s) before its input changed (d)"
    assert do(words) == ("needed", "out is made again, its input has changed (d: audio)")


def damages(path):
    """The file with a bit flipped, cut short, empty, and gone."""
    with open(path, "rb") as f:
        whole = f.read()
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    for damaged in (flipped, whole[:-1], b""):
        with open(path, "wb") as f:
            f.write(damaged)
        yield
    os.unlink(path)
    yield
    with open(path, "wb") as f:
        f.write(whole)


def test_cheap_work_that_is_damaged_is_done_again():
    do(WORDS, result="1234")
    for _ in damages("out/result"):
        assert problem_of("out", "s") == "out/result is not what was made then (s)"
        assert do(WORDS, result="1234")[0] == "needed"
    assert do(WORDS)[0] == "finished"


def test_a_training_that_is_damaged_is_refused_and_nobody_uses_it():
    trained()
    for name in ("model.pth", "config.yaml"):
        for _ in damages(f"m/{name}"):
            error = refused(TRAIN, "m", "train")
            assert name in error and "--force true trains it again" in error
            if os.path.exists(f"m/{name}"):
                error = refused([f"file:m/{name}", "out:result"], "m/decode/dev", "decode")
                assert f"needs m/{name}, which is not what stage 3 made (changed" in error
                assert not os.path.exists("m/decode/dev")
    assert trained()[0] == "finished"


def test_shapes_cut_short_are_not_trained_on():
    do(["out:train/shape"], "stats", "stats", **{"train/shape": "".join("u 1\n" * 24)})
    words = [*TRAIN, "file:stats/train/shape"]
    write("stats/train/shape", "u 1\n" * 8)
    error = refused(words, "m", "train")
    assert "needs stats/train/shape, which is not what stage 3 made" in error
    do(["out:train/shape"], "stats", "stats", **{"train/shape": "".join("u 1\n" * 24)})
    assert trained(words)[0] == "needed"


def test_what_does_not_change_what_is_learnt_passes_with_a_line():
    trained()
    write("train.yaml", "# a comment\noptim_conf: {lr: 1e-3}\nbatch_size: 4\nmax_epoch: 4.0\n")
    verdict, said = trained()
    assert verdict == "finished"
    assert "m: batch_size 8, now batch_size 4: does not change what is learnt" in said
    words = [*TRAIN[:2], "args:--accum_grad 2 --num_workers=0", *TRAIN[2:]]
    assert "accum_grad (not set), now accum_grad 2" in trained(words)[1]
    words[2] = "args:--optim_conf lr=0.002"
    assert "(optim_conf.lr 0.001, now optim_conf.lr 0.002)" in refused(words, "m", "train")
    # After out-of-memory: the epochs that are finished stay.
    os.unlink("m/.done.train")
    write("train.yaml", "optim_conf: {lr: 0.001}\nbatch_size: 8\nmax_epoch: 4\n")
    assert ask(TRAIN, "m", "train").verdict == "needed"
    write("train.yaml", "optim_conf: {lr: 0.001}\nbatch_size: 2\nmax_epoch: 4\n")
    verdict, lines = ask(TRAIN, "m", "train")
    assert verdict == "needed" and "going on with the interrupted run in m" in lines
    assert any("batch_size 8, now batch_size 2" in line for line in lines)
    write("train.yaml", "optim_conf: {lr: 0.1}\n")
    assert "interrupted run with other options or input (optim_conf.lr" in refused(
        TRAIN, "m", "train"
    )


def test_a_training_becomes_longer_and_not_shorter():
    trained()
    do(["file:m/model.pth", "out:result"], "m/decode/dev", "decode", result="1")
    longer = [*TRAIN[:2], "args:--max_epoch 6", *TRAIN[2:]]
    verdict, lines = ask(longer, "m", "train")
    assert verdict == "needed" and lines == ["m goes on to epoch 6 (trained to 4)"]
    # Nobody uses the shorter one meanwhile.
    error = refused(["file:m/model.pth", "out:result"], "m/decode/test", "decode")
    assert "the stage that makes it (3) has not finished" in error
    assert trained(longer, 6, model_pth="better")[1] == "going on with the interrupted run in m"
    assert problem_of("m/decode/dev", "decode").endswith("its input changed (m/model.pth)")
    assert ask(["file:m/model.pth", "out:result"], "m/decode/dev", "decode").verdict == "needed"
    error = refused(TRAIN, "m", "train")
    assert "was trained with max_epoch 6, now 4: a training does not become shorter" in error
    os.unlink("m/checkpoint.pth")
    longer[2] = "args:--max_epoch 8"
    assert "cannot go on: it has no checkpoint.pth" in refused(longer, "m", "train")
    # An interrupted one stops when it is asked to, but not before where it is.
    os.unlink("m/.done.train")
    assert ask(longer, "m", "train").verdict == "needed"
    longer[2] = "args:--max_epoch 7"
    assert ask(longer, "m", "train").verdict == "needed"
    longer[2] = "args:--max_epoch 5"
    assert "has been trained for 6 epochs, more than max_epoch 5" in refused(longer, "m", "train")


def test_a_new_input_does_not_undo_a_training():
    trained()
    write("in", "another")
    assert "m was trained before its input was made anew (in)" in refused(TRAIN, "m", "train")
    derive = ["kind:derive", "file:in", "args:--max_epoch 4", "neutral:training=a", "out:init"]
    do(derive, "n", "derive", init="1")
    changed = [*derive[:2], "args:--max_epoch 5", "neutral:training=b", "out:init"]
    assert ask(changed, "n", "derive").verdict == "refresh"
    finish("n", "derive")
    assert ask(changed, "n", "derive").verdict == "finished"


def test_records_of_earlier_versions_and_damaged_ones():
    trained()
    for text, problem in [
        ("seed=1\nfinished=2026\n", "was left by an earlier version"),
        ("", "was left by an earlier version"),
        ('{"format": 1', "is damaged"),
        ('{"format": 1, "options": 3}', "is damaged"),
        ('{"format": 99}', "was left by another version"),
    ]:
        for folder, step in ("m", "train"), ("out", "s"):
            write(f"{folder}/.done.{step}", text)
        error = refused(TRAIN, "m", "train")
        assert f"m cannot be used: its record {problem} (.done.train)" in error
        assert problem in problem_of("m", "train")
        verdict, said = do(WORDS, result="1")
        assert verdict == "needed" and f"out is made again, its record {problem}" in said
    write("m/.started.train", "seed=1\n")
    os.unlink("m/.done.train")
    assert "cannot go on: its record was left by an earlier" in refused(TRAIN, "m", "train")


def test_a_source_need_not_be_named_again_unless_something_is_missing():
    words = ["source:CORPUS=/a", "has:result"]
    do(words, result="1")
    write("out/result", "edited by the user")
    assert do(["has:result"])[0] == "finished"
    assert "(CORPUS /a, now CORPUS /b)" in refused(["source:CORPUS=/b", "has:result"])
    error = refused(["has:result", "has:dev/wav.scp"])
    assert "out/dev is missing, and out/ was made of CORPUS=/a: name it again" in error


def test_what_an_earlier_run_left_goes_first():
    for kind, kept in ("fresh", False), ("again", True), ("resume", False):
        words = [f"kind:{kind}", "file:in", "out:result"]
        do(words, kind, result="1", old="1")
        write("in", f"input of {kind}")
        assert do(words, kind, result="2")[0] == "needed"
        assert os.path.exists(f"{kind}/old") == kept
    # An interrupted one goes on.
    os.unlink("resume/.done.s")
    assert ask(words, "resume").verdict == "needed"
    write("resume/part", "1")
    assert ask(words, "resume").lines == ["going on with the interrupted run in resume"]
    assert os.path.exists("resume/part")


def test_a_step_that_left_nothing_is_not_finished():
    ask(WORDS)
    with pytest.raises(UserError, match="out/result: not made"):
        finish("out", "s")
    assert not os.path.exists("out/.done.s")


def test_a_very_large_file_is_sampled(monkeypatch):
    monkeypatch.setattr(content, "WHOLE", 1000)
    monkeypatch.setattr(content, "BLOCK", 10)
    write("large", "x" * 100_000)
    before = file_content("large")
    assert before.startswith("256 blocks:")
    for place, seen in (0, True), (99_999, True), (200, False):
        with open("large", "r+b") as f:
            f.seek(place)
            f.write(b"y")
        assert (file_content("large") != before) == seen
        write("large", "x" * 100_000)
    write("large", "x" * 99_999)
    assert file_content("large") != before


def test_the_command_line(folder):
    """As the recipe calls it, and one process that answers all questions."""
    command = [sys.executable, "-m", "espnet_kd.bin.step"]
    where = ["--stage", "3", "--scope", "--stage 3", "--program", "asr_kd.sh"]

    def run(*words):
        done = subprocess.run([*command, *where, *words], capture_output=True, text=True)
        return done.returncode, done.stdout.partition(") ")[2], done.stderr

    assert run("needed", "out", "s", *WORDS)[0] == 0
    write("out/result", "1")
    assert run("done", "out", "s") == (0, "", "")
    assert run("needed", "out", "s", *WORDS)[:2] == (
        10,
        "Stage 3: already done, skipped (out)\n",
    )
    code, _, err = run("needed", "out", "s", "fs=8k")
    assert code == 1 and err.startswith("step: error: stage 3 was done in out") and "\n" in err
    assert run("current", "out", "s")[0] == 0

    requests = b""
    for words in (
        ["current", "out", "s"],
        ["current", "out", "other"],
        ["needed", "out", "s", "fs=8k"],
        ["needed", "out", "s", *WORDS],
    ):
        requests += b"".join(word.encode() + b"\0" for word in [str(len(words)), *words])
    command += ["serve", "--log_fd", "2"]
    done = subprocess.run(command, input=requests, capture_output=True)
    lines = done.stdout.decode().splitlines()
    assert lines[1:] == ["12 out has no finished step 'other'", "1 ", "10 "]
    assert lines[0] == "0 " and done.returncode == 0
    assert b"already done" in done.stderr


def test_a_question_takes_little_time():
    """Best of some, so that a busy machine does not count."""
    do(WORDS, result="1")
    command = [sys.executable, "-m", "espnet_kd.bin.step", "needed", "out", "s", *WORDS]
    times = []
    for _ in range(5):
        start = os.times()
        assert subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 10
        end = os.times()
        times.append(end.children_user + end.children_system)
        times[-1] -= start.children_user + start.children_system
    assert min(times) < 0.3, times


def test_a_converted_file_that_is_damaged_is_made_again():
    path = "d/data/format.00/a-0000000000000000.flac"
    write(path, "sound")
    words = ["fs=16k", "out:wav.scp", "out:utt2audio"]
    tables = {"wav_scp": f"a {path}\n", "utt2audio": ""}
    assert do(words, "d", **tables)[0] == "needed"
    os.utime(path, (0, 0))
    assert do(words, "d")[0] == "finished"
    write(path, "s0und")
    line = "d is made again, d/utt2audio is not what was made then"
    assert do(words, "d") == ("needed", line)


@pytest.mark.parametrize("damage", ["[", "[1]", '{"epoch": 1}', '[{"epoch": 2}, {"epoch": 1}]'])
def test_a_damaged_history_is_said_and_the_models_count(damage):
    trained(epochs=3)
    os.rename("m/.done.train", "m/.started.train")
    write("m/history.json", damage)
    for epoch in (2, 10):
        write(f"m/{epoch}epoch.pth", "w")
    words = [word.replace("train.yaml", "short.yaml") for word in TRAIN]
    write("short.yaml", "max_epoch: 9\nbatch_size: 8\noptim_conf: {lr: 0.001}\n")
    assert "has been trained for 10 epochs, more than max_epoch 9" in refused(words, "m", "train")
    os.unlink("m/10epoch.pth")
    lines = ask(words, "m", "train").lines
    assert lines[0].startswith("m/history.json: ")
    assert lines[0].endswith(": the models beside it say that 2 epochs were trained")


@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": {"a": 1}},
        {"inputs": {"a": ["file"]}},
        {"outputs": {"result": 3}},
        {"others": {"result": ["x"]}},
        {"patterns": {}},
        {"patterns": {"out": 1, "has": [], "also": []}},
        {"step": "another"},
        {"sources": {"a": None}},
        {"more": 1},
    ],
)
def test_a_record_of_another_shape_is_damaged(fields):
    do(WORDS, result="1")
    with open("out/.done.s", encoding="utf-8") as f:
        record = {**json.load(f), **fields}
    write("out/.done.s", json.dumps(record))
    assert problem_of("out", "s").startswith("out cannot be relied on: its record is damaged")
    assert "run the stage that makes it first" in refused(["file:out/result"], "next")
    os.rename("out/.done.s", "out/.started.s")
    assert ask(["file:out/result"], "next").verdict == "needed"
    assert do(WORDS, result="1")[0] == "needed"
