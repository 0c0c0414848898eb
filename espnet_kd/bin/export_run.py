r"""Export models of a run for devices: stage 20 of asr_kd.sh.

    python -m espnet_kd.bin.export_run --train_set train --valid_set dev --test_sets test \
        --export_formats "float32 int8" ...

Calls `espnet_kd.bin.export` for each model. It takes all options of asr_kd.sh, as
`espnet_kd.bin.compress` does.
"""

import argparse
from typing import Optional, Sequence

from espnet_kd.errors import run_main
from espnet_kd.run.exporting import export_models
from espnet_kd.run.settings import recipe_parser
from espnet_kd.run.stage_main import recipe_of, run_stage


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    return recipe_parser("export_run", __doc__)


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> int:
    """Export."""
    args = get_parser().parse_args(cmd)
    recipe = recipe_of(args, "20", "export of models for devices")
    return run_stage(recipe, lambda: export_models(recipe))


if __name__ == "__main__":
    main()
