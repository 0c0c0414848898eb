"""Decode with an ESPnet transducer, with progress and a real-time factor.

    python -m espnet_kd.bin.decode --asr_train_config exp/m/config.yaml ...

Takes every argument of `espnet2.bin.asr_transducer_inference`, writes what it writes, and
`rtf.json` beside it. `--decoding aligned` (the default) decodes in batches; with
`--streaming true` chunks lie where they lay in training, and no frame is dropped.
`--decoding stock` gives the hypotheses of ESPnet's own command.
"""

from espnet_kd.cli import check_configs
from espnet_kd.errors import run_main


@run_main
def main(cmd=None) -> None:
    """Decode."""
    check_configs(cmd, "--config", "--asr_train_config")
    from espnet_kd.espnet import timed_inference

    timed_inference.main(cmd)


if __name__ == "__main__":
    main()
