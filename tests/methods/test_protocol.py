"""Methods: which there are, in which order, and that plans know them without torch."""

import subprocess
import sys

import pytest

from espnet_kd.errors import UserError
from espnet_kd.methods import method_named
from espnet_kd.methods.callbacks import Callback, Run
from espnet_kd.methods.protocol import device_file
from espnet_kd.spec.method import method_names
from espnet_kd.spec.plan import parse_plan


def test_a_plan_with_methods_is_read_without_torch():
    code = "import sys; from espnet_kd.spec.plan import parse_plan; "
    code += "parse_plan('stages: [{method: low_rank, target: 0.5}]', 'plan'); "
    code += "parse_plan('stages: [{method: quantise, method_conf: {bits: 4}}]', 'plan'); "
    # Nor is it needed to ask a method about its files, as the recipe does for each student.
    code += "from espnet_kd.methods import method_named; from espnet_kd.spec.method import *; "
    code += "assert [method_named(name).stock for name in method_names()]; "
    code += "import espnet_kd.run.options; "
    code += "assert not {'torch', 'typeguard'} & set(sys.modules), 'slow'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_method_that_a_plan_may_name_is_there():
    assert method_names()[0] == "cut"
    for name in method_names():
        method = method_named(name)
        assert method.name == name and (method.followed_by is None or method.undone)


@pytest.mark.parametrize("key", ["target: 0.5", "student: {}"])
def test_retrain_has_no_size(key):
    with pytest.raises(UserError, match="a student of method 'retrain' has its teacher's sizes"):
        parse_plan(f"stages: [{{method: retrain, {key}}}]", "plan")


def test_a_method_that_would_undo_the_one_before_is_refused():
    from espnet_kd.espnet.plan_checks import check_plan
    from espnet_kd.spec.training_config import TrainingConfig
    from tests.students.test_allocate import TEACHER  # sizes

    plan = parse_plan("stages: [{name: a, method: low_rank, target: 0.5}, {method: retrain}]", "p")
    with pytest.raises(UserError, match=r"stages\[1\].method: 'retrain' cannot follow 'a'"):
        check_plan(plan.stages, TEACHER, TrainingConfig())


def test_events_reach_all_callbacks_in_their_order():
    told = []

    class First(Callback):
        def on_update(self, run, update):
            told.append(("first", update))

    class Second(First):
        def on_update(self, run, update):
            told.append(("second", update))

        def on_save(self, run, epoch):
            told.append(("saved", epoch))

    run = Run(None, None, (First(), Second()), True)
    run.tell("on_update", 3)
    run.tell_saved()  # nothing was validated yet
    run.unsaved = 2
    run.tell_saved()
    run.tell_saved()
    run.tell("on_end")
    assert told == [("first", 3), ("second", 3), ("saved", 2)]


def test_weights_for_a_device_belong_to_the_checkpoint_that_a_link_names(tmp_path):
    (tmp_path / "a.ave.pth").symlink_to("a.ave_3best.pth")
    assert device_file(tmp_path / "a.ave.pth").name == "device.a.ave_3best.npz"
    assert device_file(tmp_path / "model.pth") == tmp_path / "device.model.npz"
