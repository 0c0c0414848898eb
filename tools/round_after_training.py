"""What do few bits cost a student that was not trained with them? The rival of `quantise`.

    python tools/round_after_training.py --exp exp/kd_stage2 --like exp/kd_bits3 \
        --out exp/rounded_bits3

Rounds the average of a float experiment to the bits that a stage of `method: quantise` gave each
matrix. The folder it writes is an experiment that stock ESPnet decodes, with the weights as a
device holds them beside (`device.<checkpoint>.npz`, `docs/methods.md`).
"""

import argparse
import shutil
from pathlib import Path
from typing import Optional, Sequence

import torch

from espnet_kd.cli import new_parser
from espnet_kd.common.device_weights import write_device
from espnet_kd.common.yaml_file import read_yaml
from espnet_kd.errors import UserError, run_main
from espnet_kd.espnet.exports import for_device
from espnet_kd.fileio import atomic_path, save_tensors
from espnet_kd.methods import method_named
from espnet_kd.methods.protocol import device_file
from espnet_kd.saved import read_saved

AGAIN = "run the training again"


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--exp", type=Path, required=True, help="experiment of a float transducer")
    add("--like", type=Path, required=True, help="experiment of its student of few bits")
    add("--checkpoint", default="valid.loss_transducer.ave.pth", help="the average to round")
    add("--out", type=Path, required=True, help="folder to make")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Round and write."""
    args = get_parser().parse_args(cmd)
    config_file = args.like / "config.yaml"
    config = read_yaml(config_file, AGAIN)
    conf = config.get("method_conf") or {}
    if conf.get("method") != "quantise":
        raise UserError(f"{config_file}: method_conf: no stage of 'method: quantise'")
    path = args.exp / args.checkpoint
    state = read_saved(path, AGAIN, map_location="cpu", weights_only=True)
    missing = sorted(set(conf.get("bits", ())) - set(state))
    if missing:
        raise UserError(f"{path}: has no '{missing[0]}', which {config_file} rounds")
    exported = method_named(conf["method"]).export(state, conf)
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.copy(args.exp / "config.yaml", args.out / "config.yaml")
    out = args.out / args.checkpoint
    with atomic_path(out) as tmp:
        save_tensors(exported.state, tmp, torch.save)
    write_device(for_device(exported.device), device_file(out))
    print(f"{out}: {device_file(out).stat().st_size:,} bytes on a device")


if __name__ == "__main__":
    main()
