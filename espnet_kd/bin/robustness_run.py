r"""Hear all models of a run under other conditions: stage 22 of asr_kd.sh.

    python -m espnet_kd.bin.robustness_run --robustness conf/robustness.yaml \
        --train_set train --valid_set dev --test_sets test ...

Calls `espnet_kd.bin.perturb`, decodes, scores, and calls `espnet_kd.bin.robustness`. It takes all
options of asr_kd.sh, as `espnet_kd.bin.compress` does.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.errors import run_main
from espnet_kd.run.robustness_stage import measure_robustness
from espnet_kd.run.settings import recipe_parser
from espnet_kd.run.stage_main import recipe_of, run_stage


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    return recipe_parser("robustness_run", __doc__)


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Hear the models."""
    args = get_parser().parse_args(cmd)
    recipe = recipe_of(args, "22", "robustness: all models under other conditions")
    return run_stage(recipe, lambda: measure_robustness(recipe))


if __name__ == "__main__":
    main()
