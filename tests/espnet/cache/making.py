"""Making a tiny teacher cache, and a student that reads it."""

from tests.espnet.tiny import tiny_config
from tests.recipe.toy import TRAINING, call, write_yaml

SPECAUG = {
    "specaug": "specaug",
    "specaug_conf": {"apply_time_warp": False, "time_mask_width_range": [1, 4]},
}
STREAMS = {
    part: [
        f"--{part}_data_path_and_name_and_type",
        f"cache/{name}/teacher.scp,teacher,kaldi_ark",
    ]
    for part, name in {"train": "train", "valid": "dev"}.items()
}


def cache_words(out="cache", *more):
    words = ["--teacher_exp", "teacher", "--teacher_model", "model.pth", "--out", out]
    words += ["--data", "dump/train", "dump/dev", "--num_workers", "0"]
    return words + list(map(str, more))


def make(out="cache", *more):
    code, err = call("cache_teacher", cache_words(out, *more))
    assert code == 0, err
    return err


def write_student(file="train.yaml", **changes):
    """A training config that reads the cache."""
    model = {k: v for k, v in tiny_config(**SPECAUG).items() if k != "token_list"}
    kd = {"objective": "collapsed", "teacher_cache": "cache", **changes.pop("kd_conf", {})}
    write_yaml(file, {**model, **TRAINING, "max_epoch": 1, "kd_conf": kd, **changes})
