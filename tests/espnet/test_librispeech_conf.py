"""LibriSpeech's configurations: every option is accepted, sizes are exact, plans derive."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_kd.data.librispeech_parts import PARTS
from espnet_kd.espnet import derive
from espnet_kd.espnet.stock import build, forward_check, sizes_of
from espnet_kd.espnet.task import DistilTransducerTask
from espnet_kd.methods.cutter import Cutter
from espnet_kd.methods.protocol import Model
from espnet_kd.plan.draft import rate_for
from espnet_kd.spec.plan import load_plan
from espnet_kd.spec.training_config import TO_ZERO, TrainingConfig
from espnet_kd.students.importance import spaced_blocks
from espnet_kd.students.model_config import architecture_of, config_of

CONF = Path(__file__).resolve().parents[2] / "egs2" / "librispeech" / "asr_kd" / "conf"
HOURS = {name: PARTS[name].hours for name in PARTS if name.startswith("train") and "5" != name[-1]}
# teacher's config -> (tokens, hours an epoch, {predictor: parameters}, students' config,
# {plan: (least, most that it saves)})
SIZES = {"60": (0.60, 0.65), "80": (0.80, 0.85)}
SCALES = {
    "train_teacher": (
        500, 3 * HOURS["train-clean-100"], {"rnn": 30_288_500, "stateless": 29_762_164},
        "train_student", {"compression": SIZES["60"], "compression_80": SIZES["80"]},
    ),
    "train_teacher_960": (
        1000, sum(HOURS.values()), {"rnn": 81_176_808, "stateless": 80_519_400},
        "train_student", {"compression_960": SIZES["60"], "compression_960_80": SIZES["80"]},
    ),
    "mini/train_teacher": (
        31, 3 * 5.31, {"rnn": 2_337_039},
        "mini/train_student", {"mini/compression": SIZES["60"]},
    ),
}  # fmt: skip


def tokens(size):
    return ["<blank>", "<unk>", *(f"t{i}" for i in range(size - 3)), "<sos/eos>"]


def read(name):
    return yaml.safe_load((CONF / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    "name, predictor", [(name, kind) for name, scale in SCALES.items() for kind in scale[2]]
)
def test_training_accepts_the_teacher_and_its_size_is_exact(name, predictor, tmp_path):
    size, _, params, _, _ = SCALES[name]
    (tmp_path / "tokens.txt").write_text("\n".join(tokens(size)) + "\n")
    np.savez(tmp_path / "stats.npz", count=9, sum=np.zeros(80), sum_square=np.ones(80))
    # As stage 11 calls it.
    cmd = ["--config", CONF / f"{name}.yaml", "--frontend_conf", "fs=16k", "--normalize",
           "global_mvn", "--normalize_conf", f"stats_file={tmp_path}/stats.npz", "--token_list",
           tmp_path / "tokens.txt", "--token_type", "char", "--output_dir", tmp_path / "exp",
           "--dry_run", "true", "--ngpu", "0", "--decoder", predictor]  # fmt: skip
    DistilTransducerTask.main(cmd=list(map(str, cmd)))
    config = yaml.safe_load((tmp_path / "exp" / "config.yaml").read_text())
    assert config["decoder"] == predictor
    assert config["encoder_conf"]["main_conf"]["dynamic_chunk_training"]
    assert not config["specaug_conf"]["apply_time_warp"]
    with torch.device("meta"):
        model = DistilTransducerTask.build_model(Namespace(**config))
    assert sizes_of(model, config).params == params[predictor]  # counts the model's own, too


@pytest.mark.parametrize("name", SCALES)
def test_the_plans_end_above_60_and_80_percent(name):
    size, _, params, students, plans = SCALES[name]
    config = {**read(name), "token_list": tokens(size), "input_size": None, "normalize": None}
    first = architecture_of(config, 80, size)
    base = TrainingConfig(options=read(students))
    for plan, (least, most) in plans.items():
        teacher = first
        for stage in load_plan(str(CONF / f"{plan}.yaml")).stages:
            model = Model(config, None, teacher)
            student = Cutter(stage, model, None, build).sizes(first)
            kept = spaced_blocks(teacher.num_blocks, student.num_blocks)
            # Raises for an option that training or distillation does not have.
            files = (CONF, CONF)
            own = config_of(student, config, kept)
            made = derive.train_config(stage, config, own, base, files, files)
            config_of_student = {**made, "kd_conf": {}}
            teacher = student
        assert least < 1 - student.params / params["rnn"] < most
        assert made["max_epoch"] == stage.epochs
        # The plan's word goes over the students' config, and leaves the rest of it.
        masks = 10 if "960" in plan else 5
        assert made["specaug_conf"] == {**base.options["specaug_conf"], "num_time_mask": masks}
    # ESPnet itself builds the smallest of them and runs it.
    shallow = {**config, **config_of(student, config, kept)}
    assert shallow["encoder_conf"] == config_of_student["encoder_conf"]
    forward_check(config_of_student, None, {})


STUDENTS = sorted(CONF.parents[2].glob("*/asr_kd/conf/**/train_student*.yaml"))


@pytest.mark.parametrize("path", STUDENTS, ids=lambda path: str(path.relative_to(CONF.parents[2])))
def test_students_of_all_recipes_end_at_a_rate_of_zero(path):
    assert yaml.safe_load(path.read_text())["scheduler"] == TO_ZERO
    assert len(STUDENTS) >= 5


@pytest.mark.parametrize("name", SCALES)
def test_rates_of_the_large_plans_are_those_that_the_planner_drafts(name):
    plans = [plan for plan in SCALES[name][4] if not name.startswith("mini")]
    for plan in plans:
        for stage in load_plan(str(CONF / f"{plan}.yaml")).stages:
            first = read(name)["optim_conf"]["lr"]
            drafted = rate_for(stage.target.fraction, first)
            assert stage.train.options["optim_conf"]["lr"] == drafted


@pytest.mark.parametrize("name", SCALES)
def test_every_training_leaves_its_warm_up(name):
    _, hours, _, students, plans = SCALES[name]
    trainings = [read(name)]
    for plan in plans:
        for stage in load_plan(str(CONF / f"{plan}.yaml")).stages:
            trainings.append({**read(students), **stage.train.options, "max_epoch": stage.epochs})
    for training in trainings:
        seen = hours * 3600 * 16000 * training["max_epoch"]
        updates = seen / (training["batch_bins"] * training.get("accum_grad", 1))
        assert updates > 2 * training["scheduler_conf"]["warmup_steps"]
