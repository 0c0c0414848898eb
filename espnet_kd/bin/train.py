"""Train a transducer, or distil one.

    python -m espnet_kd.bin.train --config conf/train_teacher.yaml ...
    python -m espnet_kd.bin.train --config exp/student/student.yaml ...

Takes every argument of `espnet2.bin.asr_transducer_train`, and `--kd_conf`.
"""

from typing import Optional, Sequence

from espnet_kd.cli import check_configs
from espnet_kd.errors import run_main


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the Task."""
    check_configs(cmd, "--config")
    from espnet_kd.espnet.task import DistilTransducerTask

    DistilTransducerTask.main(cmd=cmd)


if __name__ == "__main__":
    main()
