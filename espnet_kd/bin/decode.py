"""Decode with ESPnet's own inference, with progress and a real-time factor.

    python -m espnet_kd.bin.decode --asr_train_config exp/m/config.yaml ...

Takes every argument of `espnet2.bin.asr_transducer_inference`, gives the same output, and
writes `rtf.json` beside it.
"""

from espnet_kd.cli import check_configs
from espnet_kd.errors import run_main


@run_main
def main(cmd=None) -> None:
    """Run stock inference."""
    check_configs(cmd, "--config", "--asr_train_config")
    from espnet_kd.espnet import timed_inference

    timed_inference.main(cmd)


if __name__ == "__main__":
    main()
