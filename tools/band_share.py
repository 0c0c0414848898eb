"""How much a band around a trained teacher's paths holds, of its own paths and a student's.

    python tools/band_share.py --teacher exp/asr_teacher --student exp/kd_..._stage1 \
        --data dump/raw/dev

One line: rows a frame (mean and largest), share of the lattices' nodes, share of the teacher's
occupancy that the band keeps, what the student's loss leaves out (-log of the share of its path
mass inside, mean and largest of an utterance), and what of the teacher's occupancy is not looked
at if it is on-line (`lattice/windows.py`).
"""

import argparse
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import torch

from espnet_kd.cli import new_parser
from espnet_kd.errors import run_main
from espnet_kd.espnet.versions import quiet_import

with quiet_import():
    from espnet_kd.espnet.measure import Sample
    from espnet_kd.espnet.stock import read_model

from espnet_kd.lattice import Grid, Joint, band_around
from espnet_kd.lattice.visits import best_path, occupancy
from espnet_kd.lattice.windows import follow

MODEL = "valid.loss_transducer.ave.pth"


def measure(teacher: Joint, student: Joint, grid: Grid, kept: float) -> Dict[str, torch.Tensor]:
    """Measure a batch: sums over its utterances, or a number an utterance."""
    lengths = grid.t_len, grid.u_len
    two = grid.stats(teacher)[..., :2]  # (B, T, U + 1, 2)
    visits, best = occupancy(two, *lengths).double(), best_path(two, *lengths)  # (B, T, U + 1)
    band = band_around(visits, best, *lengths, kept)
    rows = torch.bincount(band.place // band.size[2])  # (B * T,)
    banded = grid.inside(band)
    gap = banded.loss(banded.stats(student)) - grid.loss(grid.stats(student))  # (B,)
    looked = follow(teacher, grid.labels, *lengths).inside
    return {
        "frames": grid.t_len.sum(),
        "nodes": (grid.t_len * (grid.u_len + 1)).sum(),
        "band": torch.tensor(len(band.place)),
        "rows": rows.max(),
        "visits": visits.sum(),
        "kept": band.take(visits).sum(),
        "unseen": (visits * ~looked).sum(),
        "looked": looked.sum(),
        "gap": gap,
    }


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--teacher", type=Path, required=True, help="experiment of the teacher")
    add("--student", type=Path, required=True, help="experiment of the student")
    add("--data", type=Path, required=True, help="directory with wav.scp and text")
    add("--model", default=MODEL, help="checkpoint in both")
    add("--band_kept", type=float, default=0.999, help="as in a plan")
    add("--utterances", type=int, default=200, help="utterances, evenly spaced over the directory")
    add("--threads", type=int, default=1, help="number of CPU threads")
    return parser


@run_main
@torch.no_grad()
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Print the line."""
    args = get_parser().parse_args(cmd)
    torch.set_num_threads(args.threads)
    teacher, student = (read_model(exp, args.model) for exp in (args.teacher, args.student))
    sample = Sample(teacher.net, args.teacher / "config.yaml", args.data, args.utterances)
    for model in (teacher, student):
        model.net.eval()
    parts: List[Dict[str, torch.Tensor]] = [
        measure(joints[0], joints[1], Grid(*lattice), args.band_kept)
        for joints, lattice in sample.lattices(teacher.net, student.net)
    ]
    total = {key: float(sum(part[key].sum() for part in parts)) for key in parts[0]}
    gaps = torch.cat([part["gap"] for part in parts])  # (utterances,)
    most = max(int(part["rows"]) for part in parts)
    print(
        f"{len(gaps)} utterances: {total['band'] / total['frames']:.2f} rows a frame (at most "
        f"{most}), {100 * total['band'] / total['nodes']:.1f} % of the nodes, "
        f"{total['kept'] / total['visits']:.5f} of the teacher's occupancy, student's gap "
        f"{float(gaps.mean()):.4f} nats (at most {float(gaps.max()):.3f}); on-line "
        f"{total['looked'] / total['frames']:.2f} rows are looked at, "
        f"{total['unseen'] / total['visits']:.1e} of the occupancy is not"
    )


if __name__ == "__main__":
    main()
