"""What trainings cost, and what two ways had alike."""

import json

import pytest

from espnet_kd.report.costs import Cost, cost_of, held_equal

N = 1000  # parameters of the first teacher


def leave(folder, params=None, epochs=2, kd=None, labels="transcript", audio=3600.0, **more):
    """Leave the records of a training: seconds of audio an epoch."""
    folder.mkdir(parents=True)
    facts = {"epochs": epochs, "updates": 10 * epochs, "train_seconds": 60.0, "ngpu": 0}
    (folder / "facts.json").write_text(json.dumps({**facts, "cpu_seconds": 50.0}))
    train = {"audio_seconds_per_second": audio / 30.0, "seconds": 30.0}
    history = [{"epoch": n + 1, "train": train} for n in range(epochs)]
    (folder / "history.json").write_text(json.dumps(history))
    if params is not None:
        student = {"params": params, "labels": labels, **more}
        (folder / "student.json").write_text(json.dumps(student))
        (folder / "config.yaml").write_text(json.dumps({"kd_conf": kd or {}}))
    return folder


@pytest.fixture
def exp(tmp_path):
    leave(tmp_path / "asr_t", epochs=20)
    return tmp_path


def teacher_epochs(exp, *names):
    cost = cost_of([exp / name for name in names], exp / "asr_t", N)
    return cost.teacher_epochs


def kd(exp, teacher, **more):
    return {"objective": "full", "teacher_config": str(exp / teacher / "config.yaml"), **more}


def test_counts_of_one_training(exp):
    leave(exp / "s", 500, kd=kd(exp, "asr_t"))
    cost = cost_of([exp / "s"], exp / "asr_t", N)
    assert (cost.updates, cost.seconds, cost.cpu_seconds, cost.gpu_seconds) == (20, 60, 50, 0)
    assert cost.audio_hours == pytest.approx(2)
    # Two epochs of half the parameters, and a third of two for the teacher's forward passes.
    assert cost.teacher_epochs == pytest.approx(2 * 0.5 + 2 / 3)
    assert cost_of([exp / "asr_t"], exp / "asr_t", N).teacher_epochs == 20
    leave(exp / "twice", 500, kd=kd(exp, "asr_t", two_modes=[1, 0.6]))
    assert teacher_epochs(exp, "twice") == pytest.approx(2 * 2 * 0.5 + 2 / 3)


def test_factors_are_trained_and_whole_matrices_teach(exp):
    leave(exp / "thin", 1000, kd=kd(exp, "asr_t"), effective_params=400)
    leave(exp / "next", 1000, kd=kd(exp, "thin"), effective_params=300)
    assert teacher_epochs(exp, "thin") == pytest.approx(2 * 0.4 + 2 / 3)
    assert teacher_epochs(exp, "next") == pytest.approx(2 * 0.3 + 2 / 3)


def test_a_family_pays_for_all_members_of_an_update(exp):
    leave(exp / "family", 600, kd=kd(exp, "asr_t"), update_params=1150.0)
    leave(exp / "family_2", 350, kd=kd(exp, "family"))
    assert teacher_epochs(exp, "family") == pytest.approx(2 * 1.15 + 2 / 3)
    assert teacher_epochs(exp, "family_2") == pytest.approx(2 * 0.35 + 2 * 0.6 / 3)


def test_two_exits_ask_the_teachers_twice_if_both_count(exp):
    sizes = {"update_params": 1200.0, "lookahead_params": 700}
    leave(exp / "both", 500, kd=kd(exp, "asr_t"), **sizes)
    leave(exp / "modes", 500, kd=kd(exp, "asr_t", two_modes=[1, 0.6]), **sizes)
    leave(exp / "full", 500, kd=kd(exp, "asr_t", teacher_context="full"), **sizes)
    leave(exp / "idle", 500, kd=kd(exp, "asr_t"), **{**sizes, "update_params": 500.0})
    assert teacher_epochs(exp, "both") == pytest.approx(2 * 1.2 + 4 / 3)
    assert teacher_epochs(exp, "modes") == pytest.approx(2 * (1.2 + 0.5) + 4 / 3)
    assert teacher_epochs(exp, "full") == pytest.approx(2 * 1.2 + 2 / 3)
    assert teacher_epochs(exp, "idle") == pytest.approx(2 * 0.5 + 2 / 3)


def test_a_chain_pays_its_own_teachers(exp):
    leave(exp / "a", 500, kd=kd(exp, "asr_t"))
    leave(exp / "b", 200, epochs=3, kd=kd(exp, "a"))
    leave(exp / "scratch", 200, epochs=5)
    both = 2 * 0.5 + 2 / 3 + 3 * 0.2 + 3 * 0.5 / 3
    assert teacher_epochs(exp, "a", "b") == pytest.approx(both)
    assert teacher_epochs(exp, "scratch") == pytest.approx(5 * 0.2)
    leave(exp / "two", 200, kd=kd(exp, "a", first_teacher_config="asr_t/config.yaml"))
    assert teacher_epochs(exp, "two") == pytest.approx(2 * 0.2 + 2 * 0.5 / 3 + 2 / 3)


def test_a_cache_is_made_once_for_all(exp):
    for name in "ab":
        leave(exp / name, 500, kd=kd(exp, "asr_t", teacher_cache="cache/wav.scp"))
    assert teacher_epochs(exp, "a") == pytest.approx(1 + 1 / 3)
    assert teacher_epochs(exp, "a", "b") == pytest.approx(2 + 1 / 3)
    leave(exp / "hard", 500, labels="teacher")
    assert teacher_epochs(exp, "hard") == pytest.approx(1 + 1 / 3)
    # Labels without distillation: their teacher is in student.json alone.
    leave(exp / "harder", 200, labels="teacher", teacher=str(exp / "hard"))
    both = 1 + 1 / 3 + 2 * 0.2 + 0.5 / 3
    assert teacher_epochs(exp, "hard", "harder") == pytest.approx(both)


def test_each_model_that_labels_hears_the_set(exp):
    leave(exp / "kd_one", 500, name="one")
    teachers = ["previous", "first", "one", "exp/asr_b"]  # the last is taken for as large as first
    about = {"name": "two", "teacher": str(exp / "kd_half"), "label_teachers": teachers}
    leave(exp / "kd_half", 250)
    leave(exp / "kd_two", 200, labels="teacher", **about)
    labels = (0.25 + 1 + 0.5 + 1) / 3
    assert teacher_epochs(exp, "kd_two") == pytest.approx(2 * 0.2 + labels)


def test_an_epoch_of_another_set_counts_by_its_audio(exp):
    about = {"name": "s", "label_set": "target", "teacher": str(exp / "asr_t")}
    few = leave(exp / "kd_s", 500, kd=kd(exp, "asr_t"), labels="teacher", audio=900.0, **about)
    (few / "hard_labels/target").mkdir(parents=True)
    trained = 2 * (0.5 + 1 / 3) / 4
    # The labels that were left; or all that its teacher decoded, by either search.
    assert teacher_epochs(exp, "kd_s") == pytest.approx(trained + 1 / 3 / 4)
    for tag in ("decode_a", "decode_b"):
        for job, seconds in ((1, 1000.0), (2, 800.0)):
            out = exp / f"asr_t/{tag}/target/logdir/output.{job}"
            out.mkdir(parents=True)
            told = {"audio_seconds": seconds, "decode_seconds": 9.0}
            (out / "rtf.json").write_text(json.dumps(told))
    assert teacher_epochs(exp, "kd_s") == pytest.approx(trained + 1 / 3 / 2)
    sample = {"utterances": 48, "audio_seconds": 36.0, "work": 30 * 48 * N}
    oracle = leave(exp / "kd_o", 500, audio=900.0, label_set="target", derivation=sample)
    (oracle / "hard_labels/target").mkdir(parents=True)
    assert teacher_epochs(exp, "kd_o") == pytest.approx(2 * 0.5 / 4 + 30 / 3 / 100)
    (few / "hard_labels/before").mkdir()  # of a plan with another set
    assert teacher_epochs(exp, "kd_s") == pytest.approx(trained + 1 / 3 / 2)
    chosen = {
        "select": {"by": "agreement", "keep": 0.5},
        "name": "c",
        "teacher": str(exp / "asr_t"),
    }
    leave(exp / "kd_c", 500, labels="teacher", audio=1800.0, **chosen)
    (exp / "kd_c/hard_labels/train").mkdir(parents=True)
    assert teacher_epochs(exp, "kd_c") == pytest.approx(0.5 + 1 / 3 / 2)
    # An imported teacher: nobody knows how long its epochs were.
    (exp / "asr_t/history.json").unlink()
    assert teacher_epochs(exp, "kd_s") is None and teacher_epochs(exp, "kd_c") is None


def test_derivation_counts_by_its_share_of_the_audio(exp):
    # 30 passes of the teacher over a hundredth of an epoch, forward.
    sample = {"utterances": 48, "audio_seconds": 36.0, "work": 30 * 48 * N}
    leave(exp / "s", 500, derivation=sample)
    assert teacher_epochs(exp, "s") == pytest.approx(1 + 30 / 3 / 100)


def test_a_teacher_hears_twice_what_two_exits_learn(exp):
    leave(exp / "s", 500, kd=kd(exp, "asr_t"), lookahead_params=700, update_params=1200.0)
    leave(exp / "rests", 500, kd=kd(exp, "asr_t"), lookahead_params=700, update_params=500.0)
    assert teacher_epochs(exp, "s") == pytest.approx(2 * 1.2 + 2 * 2 / 3)
    assert teacher_epochs(exp, "rests") == pytest.approx(2 * 0.5 + 2 / 3)  # weight: 0


def test_what_was_not_recorded_is_not_known(exp):
    (exp / "old").mkdir()
    leave(exp / "s", 500)
    assert cost_of([exp / "s", exp / "old"], exp / "asr_t", N) == Cost()
    (exp / "s/config.yaml").unlink()
    cost = cost_of([exp / "s"], exp / "asr_t", N)
    assert cost.updates == 20 and cost.teacher_epochs is None
    assert cost_of([], exp / "asr_t", N) == Cost()
    assert Cost.from_json(None) == Cost() and Cost.from_json({"updates": 3, "x": 1}) == Cost(3)


def test_mean_over_runs():
    assert Cost.mean([Cost(2, seconds=10), Cost(4, seconds=20)]) == Cost(3, seconds=15)


def test_what_was_held_equal_is_computed():
    ours = Cost(945, 11.6, 1000, None, 0, 3.14)
    theirs = Cost(945, 11.64, 2500, 7, 0, 5.87)
    assert held_equal(ours, theirs, (525, 945), ("steps", "one shot")) == (
        "Between steps and one shot the cost was equal in updates (945) and hours of audio "
        "(11.6), not in seconds of training (1,000 against 2,500), teacher-epochs (3.14 against "
        "5.87) and updates of the last student alone (525 against 945)."
    )
    assert "equal in nothing, not in updates (1 against 2)" in held_equal(
        Cost(1), Cost(2), (None, None), ("a", "b")
    )
    # What is called unequal looks unequal.
    assert "teacher-epochs (1.21 against 1.24)" in held_equal(
        Cost(teacher_epochs=1.21), Cost(teacher_epochs=1.24), (None, None), ("a", "b")
    )
    assert held_equal(Cost(), Cost(), (None, None), "ab") == "What a and b cost was not recorded."
