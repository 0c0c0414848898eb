"""A run as the recipe leaves it under exp/, made of random numbers."""

import json
import random

import torch

from espnet_kd.scoring.score import score

TAG = "decode_x"
CHECKPOINT = "valid.loss_transducer.ave.pth"
WORDS = "zero one two three four five six seven eight nine".split()


def state_dict(width):
    """Return a tiny transducer's tensors; learnt by inference: 10 * width + width^2."""
    return {
        "normalize.mean": torch.zeros(80),
        "normalize.std": torch.ones(80),
        "frontend.logmel.melmat": torch.zeros(257, 80),
        "encoder.embed.weight": torch.zeros(4, width),
        "encoder.norm.running_mean": torch.zeros(width),
        "encoder.norm.running_var": torch.zeros(width),
        "encoder.norm.num_batches_tracked": torch.tensor(3),
        "decoder.embed.weight": torch.zeros(6, width),
        "joint_network.lin_out.weight": torch.zeros(width, width),
        "ctc_lin.weight": torch.zeros(7, width),
    }


def params(width):
    return 10 * width + width * width


def write_json(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def references(seed, number):
    rng = random.Random(seed)
    return {
        f"s{n % 4}-u{n}": " ".join(rng.choices(WORDS, k=rng.randint(1, 8))) for n in range(number)
    }


def add_scores(folder, test_sets, error, seed, number=120, labels=(), tag=TAG):
    """Score hypotheses in which every word is wrong with probability `error`."""
    rng = random.Random(seed)
    for k, test_set in enumerate(test_sets):
        refs = references(k, number)
        hyps = {
            utt: " ".join(
                rng.choice([w, rng.choice(WORDS), ""]) if rng.random() < error * (1 + k) else w
                for w in text.split()
            )
            for utt, text in refs.items()
        }
        speakers = {utt: utt.split("-")[0] for utt in refs}
        conditions = folder / tag / test_set / "utt2condition"
        if labels:
            conditions.parent.mkdir(parents=True)
            lines = [f"{u} {labels[n % len(labels)]}\n" for n, u in enumerate(refs)]
            conditions.write_text("".join(lines))
        for score_type in ("wer", "cer"):
            score(
                refs, hyps, speakers, folder / tag / test_set / f"score_{score_type}", score_type
            )


def add_model(
    exp,
    name,
    width,
    error,
    seed=0,
    test_sets=("seen", "new"),
    epochs=4,
    student=None,
    gate=None,
    labels=(),
):
    """Leave an experiment; `student` and `gate` are what `student.json`, `gate.json` hold."""
    folder = exp / f"asr_{name}"
    folder.mkdir(parents=True)
    torch.save(state_dict(width), folder / CHECKPOINT)
    add_scores(folder, test_sets, error, seed, labels=labels)
    for file, data in (("student.json", student), ("gate.json", gate)):
        if data is not None:
            write_json(folder / file, data)
    for test_set in test_sets:
        for job, seconds in ((1, 2.0), (2, 4.0)):
            write_json(
                folder / TAG / test_set / f"logdir/output.{job}/rtf.json",
                {
                    "utterances": 60,
                    "audio_seconds": 20.0,
                    "decode_seconds": seconds,
                    "peak_memory_mb": 100.0 * job,
                    "device": "A processor",
                    "threads": 1,
                },
            )
    write_json(
        folder / "facts.json",
        {
            "epochs": epochs,
            "updates": 10 * epochs,
            "train_seconds": 90.0 + width,
            "peak_memory_mb": 700.5,
            "device": "cpu",
            "ngpu": 0,
            "seed": seed,
        },
    )
    history = []
    for epoch in range(1, epochs + 1):
        loss = width / epoch + seed
        history.append(
            {
                "epoch": epoch,
                "train": {"loss": 2 * loss, "loss_transducer": loss},
                "valid": {"loss": 2 * loss + 1, "loss_transducer": loss + 1, "wer": loss},
            }
        )
    write_json(folder / "history.json", history)
    return folder


def add_speed(exp, **medians):
    """Leave what measure_speed writes: the 95th percentile is twice the median."""
    speed = {
        "utterances": 40, "audio_seconds": 118.6, "threads": 1, "device": "A processor",
        "cores": 2, "load": [0.3, 1.24], "streaming": True,
        "models": {
            name: {"median": x, "p95": 2 * x, "peak_memory_mb": 300.5}
            for name, x in medians.items()
        },
    }  # fmt: skip
    write_json(exp / "speed.json", speed)


def add_paths(exp, seed=0, labels=("snr10", "clean", "snr-5")):
    """Leave a teacher and three paths down to one size, two of them over two sizes."""
    options = {"labels": labels}
    add_model(exp, "teacher", 40, 0.03, seed + 1, **options)
    before = {"utterances": 20, "teacher_loss": 1.5, "loss": 9.0, "teacher_wer": 3.0, "wer": 88.5}
    gate = {"verdict": "passed", "student_wer": 3.25, "teacher_wer": 3.0, "margin": 0.5}
    students = [
        # name, path, teacher, width, error, epochs
        ("stage1", "progressive", "teacher", 30, 0.04, 4),
        ("stage2", None, "stage1", 20, 0.05, 6),
        ("one_shot_stage1", "one_shot", "teacher", 30, 0.05, 4),
        ("one_shot", "one_shot", "teacher", 20, 0.06, 10),
        ("scratch", "scratch", None, 20, 0.30, 10),
    ]
    for k, (name, path, teacher, width, error, epochs) in enumerate(students, 2):
        student = {"teacher": teacher and f"exp/asr_{teacher}", "path": path}
        if path is None:  # as runs were before there were paths
            del student["path"]
        if name == "stage2":
            student["before_training"] = before
        add_model(
            exp,
            name,
            width,
            error,
            seed + k,
            epochs=epochs,
            student=student,
            gate=gate if name == "stage2" else None,
            **options,
        )
    return ["teacher", *(student[0] for student in students)]
