r"""Collect lengths of utterances, mean and variance of features: stage 10 of asr_kd.sh.

    python -m espnet_kd.bin.collect_stats --train_set train --valid_set dev --test_sets test ...

It takes all options of asr_kd.sh, as `espnet_kd.bin.compress` does.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.errors import run_main
from espnet_kd.run.settings import recipe_parser
from espnet_kd.run.stage_main import recipe_of, run_stage


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    return recipe_parser("collect_stats", __doc__)


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Collect."""
    from espnet_kd.run.statistics import collect_stats

    args = get_parser().parse_args(cmd)
    title = "check of the tokens; statistics: lengths, mean and variance"
    recipe = recipe_of(args, "10", title)
    return run_stage(recipe, lambda: collect_stats(recipe))


if __name__ == "__main__":
    main()
