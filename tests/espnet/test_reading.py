"""What cannot be read is named in one line, in whichever process and at whichever stage."""

import multiprocessing
from pathlib import Path

import pytest
from espnet2.tasks.abs_task import AbsTask
from torch.multiprocessing import ProcessExitedException

from espnet_kd.bin import train
from espnet_kd.errors import UserError
from espnet_kd.espnet.task import DistilTransducerTask
from tests.espnet.tiny import tiny_config
from tests.recipe.toy import TRAINING, call, inside, train_words, write_data, write_yaml

DECODE = (
    "--asr_train_config exp/a/config.yaml --asr_model_file exp/a/1epoch.pth --ngpu 0 "
    "--data_path_and_name_and_type dump/dev/wav.scp,speech,sound --output_dir exp/a/decode/b/c"
).split()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with inside(tmp_path_factory.mktemp("reading")) as folder:
        write_data()
        config = {k: v for k, v in tiny_config().items() if k != "token_list"}
        write_yaml("train.yaml", {**config, **TRAINING, "max_epoch": 1})
        code, err = call("train", train_words("exp/a"))
        assert code == 0, err
        Path("audio/dev-01.wav").write_bytes(b"abc")
        yield folder


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "verb, words",
    [("train", train_words("exp/stats", "--collect_stats", "true")), ("decode", DECODE)],
)
def test_audio_that_cannot_be_read_at_stage_10_or_12_is_named(trained, verb, words, workers):
    code, err = call(verb, [*words, "--num_workers", str(workers)])
    assert code == 1 and "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith(f"{verb}: error: dump/dev/wav.scp: 'dev-01' cannot be read (Libsndfil")


def test_a_transcript_that_is_gone_is_named(trained, tmp_path):
    text = Path("dump/train/text").read_text()
    (tmp_path / "text").write_text("".join(text.splitlines(keepends=True)[:-1]) + "train-11  \n")
    words = [word.replace("dump/train/text", f"{tmp_path}/text") for word in train_words("exp/s")]
    code, err = call("train", [*words, "--collect_stats", "true"])
    assert code == 1
    assert f"train: error: {tmp_path}/text: no entry of 'train-11'" in err.splitlines()[-1]


def test_a_process_for_a_gpu_says_one_line_and_so_does_the_one_that_started_it(monkeypatch, capfd):
    def refuse(args):
        raise UserError("exp/a/1epoch.pth: damaged")

    monkeypatch.setattr(DistilTransducerTask, "_work", refuse)
    work = multiprocessing.get_context("fork").Process(
        target=DistilTransducerTask.main_worker, args=(None,)
    )
    work.start()
    work.join()
    assert work.exitcode == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(": error: exp/a/1epoch.pth: damaged")

    def fail(*args, **kwargs):
        raise ProcessExitedException(
            "process 0 terminated with exit code 1", error_index=0, error_pid=2, exit_code=1
        )

    monkeypatch.setattr(AbsTask, "main", fail)
    with pytest.raises(SystemExit):
        train.main([])
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(": error: process 0 terminated with exit code 1; its error stands above")
