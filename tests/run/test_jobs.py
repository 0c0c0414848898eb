"""Commands and what they leave: ended together, split before, joined afterwards."""

import sys
import time
from pathlib import Path

import pytest

from espnet_kd.errors import UserError
from espnet_kd.run.decoding import join_hypotheses, split_keys
from espnet_kd.run.jobs import JobError, Jobs, job_words


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(code):
    return [sys.executable, "-S", "-c", code]


def test_who_fails_ends_the_others():
    jobs = Jobs()
    begin = time.monotonic()
    with jobs.ended_by_signals(), pytest.raises(JobError) as error:
        other = jobs.start(python("import time; time.sleep(100)"))
        jobs.start(python("raise SystemExit(7)"))
        jobs.wait()
    assert error.value.code == 7 and other.returncode == -15
    assert time.monotonic() - begin < 60 and not jobs.running


def test_what_ignores_a_request_to_end_is_killed():
    jobs = Jobs(patience=0.5)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); "
    with open("out", "w") as out:
        job = jobs.start(python(code + "time.sleep(100)"), stdout=out)
    while not Path("out").read_text():
        time.sleep(0.02)
    jobs.stop()
    assert job.wait(10) == -9


def test_a_call_is_spelled_as_kaldi_s_scripts_expect_it():
    words = job_words("queue.pl --mem 4G", "d/l.JOB.log", ["x", "JOB"], 3, gpu=1, num_threads=2)
    options = ["--gpu", "1", "--num-threads", "2"]
    assert words == ["queue.pl", "--mem", "4G", *options, "JOB=1:3", "d/l.JOB.log", "x", "JOB"]


@pytest.mark.parametrize("lines, count", [(7, 3), (3, 3), (10, 4), (1, 1)])
def test_keys_are_split_evenly_and_joined_sorted(lines, count):
    utterances = [f"utt-{n}" for n in range(lines)]
    Path("wav.scp").write_text("".join(f"{utt} x\n" for utt in utterances))
    split_keys("wav.scp", count, "d/logdir/keys")
    parts = [Path(f"d/logdir/keys.{n + 1}.scp").read_text() for n in range(count)]
    assert "".join(parts) == Path("wav.scp").read_text()
    sizes = [part.count("\n") for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for n, part in enumerate(reversed(parts)):
        out = Path(f"d/logdir/output.{n}/1best_recog")
        out.mkdir(parents=True)
        (out / "text").write_text(part.replace(" x", " \xe9"))
    join_hypotheses("d", "wav.scp")
    assert Path("d/text").read_text() == "".join(f"{utt} \xe9\n" for utt in sorted(utterances))
    with open("wav.scp", "a") as f:
        f.write("more x\n")
    with pytest.raises(UserError, match=f"left {lines} hypotheses in d/text, but wav.scp lists"):
        join_hypotheses("d", "wav.scp")
