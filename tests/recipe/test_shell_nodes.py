"""Training on several GPUs and machines: ESPnet's launcher, with stand-ins for a cluster."""

import re
import shutil

import pytest
from shell_recipe import value

STAGE = {"stage": 16, "stop_stage": 16, "stop_compression_stage": 1, "nj": 2}
# As slurm.pl and queue.pl: options, log, command; they start it once.
SCHEDULER = """#!/usr/bin/env bash
echo "$(basename $0) $*" >>scheduled
jobs=1
while [[ "$1" == -* ]]; do shift 2; done
if [[ "$1" == JOB=* ]]; then jobs=${1#*:}; shift; fi
log=$1; shift
mkdir -p "$(dirname "${log}")"
for job in $(seq "${jobs}"); do "${@//JOB/${job}}" >"${log//JOB/${job}}" 2>&1; done
"""
# As srun and mpirun: they start a command once on each of two machines.
START = """#!/usr/bin/env bash
echo "$(basename $0) $*" >>scheduled
while [[ "$1" == -* ]]; do if [ "$1" = -np ]; then shift; fi; shift; done
for rank in 0 1; do NODE=${rank} "$@"; done
"""


@pytest.fixture
def recipe(recipe_with_teacher):
    return recipe_with_teacher


def cluster(tmp_path, script):
    """Programs of a cluster; returns the environment that finds them."""
    utils = tmp_path / "espnet/egs2/TEMPLATE/asr1/utils"
    (tmp_path / "bin").mkdir()
    utils.mkdir(parents=True)
    made = {utils / script: SCHEDULER}
    made.update({tmp_path / "bin" / name: START for name in ("srun", "mpirun")})
    for path, text in made.items():
        path.write_text(text)
        path.chmod(0o755)
    return {"ESPNET_ROOT": str(tmp_path / "espnet"), "KALDI_ROOT": ""}


@pytest.mark.parametrize(
    "backend, script, start, launcher",
    [
        ("slurm", "slurm.pl", "srun --export=ALL", "slurm"),
        ("sge", "queue.pl", "mpirun -np 2", "mpi"),
    ],
)
def test_a_student_is_trained_on_two_machines(
    recipe, tmp_path, monkeypatch, backend, script, start, launcher
):
    env = {**cluster(tmp_path, script), "cmd_backend": backend}
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    options = {**STAGE, "ngpu": 2, "num_nodes": 2, "use_teacher_cache": "true"}
    recipe.ok(env, **options)
    calls = recipe.calls()
    trainings = [call for call in calls if call[0] == "espnet_kd.bin.train"]
    assert len(trainings) == 2 and trainings[0] == trainings[1]  # a process a machine
    words = trainings[0]
    assert value(words, "--dist_launcher") == launcher and value(words, "--ngpu") == "2"
    assert value(words, "--multiprocessing_distributed") == "true"
    # They meet in a file of their own that all machines see.
    place = value(words, "--dist_init_method")
    assert re.fullmatch(rf"file://{recipe.dir}/exp/kd_big/\.dist_init_[0-9a-f-]+", place)
    assert value(words, "--config") == "exp/kd_big/student.yaml"
    assert value(words, "--output_dir") == "exp/kd_big"
    # The cache: a job a GPU makes its share, one job joins them, every process reads it.
    cache = "exp/kd_big/teacher_cache"
    made = [call for call in calls if call[0] == "espnet_kd.bin.cache_teacher"]
    shares = [call for call in made if "--job" in call]
    assert [value(call, "--job") for call in shares] == ["1", "2"]
    assert len(made) == 3 and "--job" not in made[-1]
    assert {value(call, "--out") for call in made} == {cache}
    assert value(words, "--kd_conf") == f"teacher_cache={cache}"
    assert f"{cache}/train/teacher.scp,teacher,kaldi_ark" in words

    scheduled = (recipe.dir / "scheduled").read_text().splitlines()
    head = f"{script} --gpu 1 JOB=1:2 {cache}/cache.JOB.log "
    assert sum(line.startswith(head) for line in scheduled) == 1
    head = f"{script} --name kd_big --gpu 2 --num_threads 2 --num_nodes 2 exp/kd_big/train.log "
    assert sum(line.startswith(f"{head}{start} ") for line in scheduled) == 1
    assert (recipe.dir / "exp/kd_big/.done.train").exists()


def test_two_machines_without_gpus_use_gloo(recipe, tmp_path, monkeypatch):
    env = {**cluster(tmp_path, "slurm.pl"), "cmd_backend": "slurm"}
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    recipe.ok(env, **STAGE, num_nodes=2)
    train = [call for call in recipe.calls() if call[0] == "espnet_kd.bin.train"][-1]
    assert value(train, "--dist_backend") == "gloo" and value(train, "--ngpu") == "0"


def test_several_gpus_go_through_espnets_launcher(recipe):
    shutil.rmtree(recipe.dir / "exp/teacher")
    recipe.ok(stage=11, stop_stage=11, ngpu=2)
    calls = recipe.calls()
    (call,) = [call for call in calls if call[0] == "espnet2.bin.launch"]
    assert value(call, "--ngpu") == "2"
    assert value(call, "--cmd") == f"{recipe.python} -m espnet_kd.bin.run_local --name teacher"
    assert value(call, "--init_file_prefix") == "exp/teacher/.dist_init_"
    assert call.index("--") < call.index("espnet_kd.bin.train")
    # One process starts those of the two GPUs.
    (train,) = [call for call in calls if call[0] == "espnet_kd.bin.train"]
    assert train[-5:-1] == ["--ngpu", "2", "--multiprocessing_distributed", "True"]
