r"""Pack a model of the report as ESPnet packs models, with a model card.

    python -m espnet_kd.bin.pack_model --results exp/results.json --model stage3 \
        --inference_config conf/decode.yaml --inference_args "--streaming true"

Everything that decoding needs is in the archive, as espnet2.bin.pack makes it; neither this
package nor the teacher is.
"""

import argparse
from pathlib import Path
from typing import Optional, Sequence

from espnet_kd.cli import check_out, new_parser
from espnet_kd.common.records import FACTS, RESULTS, STUDENT, Facts, Student, experiment
from espnet_kd.deploy.bundle import read_config
from espnet_kd.deploy.card import About, model_card
from espnet_kd.deploy.packing import README, make_archive
from espnet_kd.deploy.results import find_model
from espnet_kd.errors import UserError, run_main


def get_parser() -> argparse.ArgumentParser:
    """Build the parser."""
    parser = new_parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="results.json of the report")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="name of the model in the report")
    what.add_argument(
        "--list", action="store_true", help="print name, folder and checkpoint of each model"
    )
    parser.add_argument(
        "--out", type=Path, help="the archive; default: packed/<folder>.zip in the model's folder"
    )
    parser.add_argument("--inference_tag", help="refuse a report on other decodings than these")
    parser.add_argument("--inference_config", type=Path, help="decoding config to put in")
    parser.add_argument("--inference_args", default="", help="other options it is decoded with")
    parser.add_argument("--language", help="for the model card, e.g. en")
    parser.add_argument(
        "--license", help="for the model card, e.g. cc-by-4.0; default: none named"
    )
    parser.add_argument(
        "--datasets", nargs="*", default=[], help="for the model card: names on the hub"
    )
    parser.add_argument("--repo", help="for the model card: user/name of the family on the hub")
    return parser


@run_main
def main(cmd: Optional[Sequence[str]] = None) -> None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    results = RESULTS.read_path(args.results)
    if args.inference_tag not in (None, results["inference_tag"]):
        raise UserError(
            f"{args.results}: reports the decodings '{results['inference_tag']}', not "
            f"'{args.inference_tag}'; run stage 17 first"
        )
    if args.list:
        folders = {Path(model["dir"]) for model in results["models"]}
        for model in results["models"]:
            # The run's chunks, which an archive and its card tell, are not a sibling's.
            if Path(model["dir"]).parent in folders:
                continue
            print(model["name"], model["dir"], model["checkpoint"])
        return
    model = find_model(results, args.model, args.results)
    exp = experiment(args.results.parent, model)
    about = About(
        results,
        model,
        read_config(exp),
        STUDENT.read_if_there(exp) or Student(),
        args.language,
        args.license,
        args.inference_args,
        args.datasets,
        args.repo,
        FACTS.read_if_there(experiment(args.results.parent, results["models"][0])) or Facts(),
    )
    out = args.out or exp / "packed" / f"{exp.resolve().name}.zip"
    check_out("--out", out, "a .zip file", f"{out.stem or 'model'}.zip", ".zip")
    make_archive(
        exp, model["checkpoint"], args.inference_config, out, lambda b: model_card(about, b)
    )
    print(f"packed {out}: {out.stat().st_size / 1e6:.2f} MB, model card {out.parent / README}")


if __name__ == "__main__":
    main()
