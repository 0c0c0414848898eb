"""Options of the recipe in which nothing is wrong, and the files that they name."""

import re
from pathlib import Path

STAGES = [1, 2, 3, 4, 5, 10, 11, 12, 13, 16, 17, 18, 19, 20]
SCRIPT = Path(__file__).parents[2] / "egs2/TEMPLATE/asr_kd/asr_kd.sh"
DEFAULTS = dict(
    re.findall(r"^(\w+)=(\S*)$", SCRIPT.read_text().partition("stage_titles")[0], re.M)
)
GOOD = {
    **DEFAULTS,
    "ngpu": "0",
    "train_set": "train",
    "valid_set": "dev",
    "test_sets": "test_a test_b",
    "token_dir": "data/token_list/char",
    "asr_exp": "exp/asr_x",
    "asr_stats_dir": "exp/asr_stats",
    "kd_tag": "kd_x",
    "inference_tag": "decode_x",
}
KEPT = (
    "best_model_criterion: "
    "[[valid, loss_transducer, min], [valid, loss, min], [valid, wer_transducer, min]]\n"
)
PLAN = "stages: [{name: half, target: 0.5}, {name: third, target: 0.3, gate: {margin: 1}}]\n"
