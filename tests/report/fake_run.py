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


def add_scores(folder, test_sets, error, seed, number=120):
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
        for score_type in ("wer", "cer"):
            score(
                refs, hyps, speakers, folder / TAG / test_set / f"score_{score_type}", score_type
            )


def add_model(exp, name, width, error, seed=0, test_sets=("seen", "new"), epochs=4):
    folder = exp / f"asr_{name}"
    folder.mkdir(parents=True)
    torch.save(state_dict(width), folder / CHECKPOINT)
    add_scores(folder, test_sets, error, seed)
    for test_set in test_sets:
        for job, seconds in ((1, 2.0), (2, 4.0)):
            write_json(
                folder / TAG / test_set / f"logdir/output.{job}/rtf.json",
                {
                    "utterances": 60,
                    "audio_seconds": 20.0,
                    "decode_seconds": seconds,
                    "peak_memory_mb": 100.0 * job,
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
            "seed": 0,
        },
    )
    history = []
    for epoch in range(1, epochs + 1):
        loss = width / epoch + seed
        history.append(
            {
                "epoch": epoch,
                "train": {"loss": 2 * loss, "loss_transducer": loss},
                "valid": {"loss": 2 * loss + 1, "loss_transducer": loss + 1},
            }
        )
    write_json(folder / "history.json", history)
    return folder
