"""Names of folders and sets that follow from the options of the recipe, as in ESPnet's asr.sh."""

import glob
import os
import re
from typing import Dict, List, Mapping, Tuple

from espnet_kd.errors import UserError

FOLDERS = ("dumpdir", "expdir", "token_dir", "asr_exp", "asr_stats_dir", "teacher_exp")
AS_GIVEN = ("train_set", "token_type")  # options whose names stand for something else


# What ESPnet's trainer leaves, the likeliest to be meant first.
CHECKPOINTS = (
    "valid.loss_transducer.ave*.pth",
    "valid.loss.ave*.pth",
    "valid.*.ave*.pth",
    "valid.loss_transducer.best.pth",
    "valid.loss.best.pth",
    "valid.*.best.pth",
    "train.*.ave*.pth",
    "train.*.best.pth",
)


def names_of(options: Mapping[str, str]) -> Dict[str, str]:
    """Name everything that the options leave open.

    Args:
        options: Value of every option of the recipe, as the user gave it.

    Returns:
        Values that take the place of options, `train_set` (with `_sp` if it is perturbed),
        `token_type` and `teacher_model` (an imported teacher's) among them, and further names:
        `base_train_set`, `data_feats`, `token_list`, `bpemodel`, `scored_sets`, `stock_tag`.
    """
    names = {name: _folder(options[name]) for name in FOLDERS}
    names["base_train_set"] = options["train_set"]
    perturbed = "_sp" if options["speed_perturb_factors"] else ""
    names["train_set"] = options["train_set"] + perturbed
    lang = "" if options["lang"] == "noinfo" else f"{options['lang']}_"
    names.update({key: options[key] for key in ("asr_tag", "kd_tag", "inference_tag")})
    names["token_type"] = options["token_type"]
    if names["teacher_exp"]:
        _name_imported(names)
        given = options["teacher_model"]
        names["teacher_model"] = given or _checkpoint(names["teacher_exp"], options)
        model = os.path.basename(names["asr_exp"]) or "teacher"
        token_name = f"{names['token_type']}_{model.removeprefix('asr_')}"
        token_folder = token_name
    elif options["token_type"] == "bpe":
        token_name = f"bpe{options['nbpe']}"
        token_folder = f"bpe_{options['bpemode']}{options['nbpe']}"
    else:
        token_name = token_folder = options["token_type"]
    names["token_dir"] = names["token_dir"] or f"data/{lang}token_list/{token_folder}"
    config = _stem(options["asr_config"])
    tag = f"{config}_raw_{lang}{token_name}{_tag_of(options['asr_args'])}{perturbed}"
    names["asr_tag"] = names["asr_tag"] or tag
    names["asr_exp"] = names["asr_exp"] or f"{names['expdir']}/asr_{names['asr_tag']}"
    stats = f"{names['expdir']}/asr_stats_raw_{lang}{token_name}{perturbed}"
    names["asr_stats_dir"] = names["asr_stats_dir"] or stats
    names["kd_tag"] = names["kd_tag"] or _kd_tag(options, names["asr_exp"])
    names["stock_tag"] = _stock_tag(options)
    names["inference_tag"] = names["inference_tag"] or _inference_tag(options, is_aligned(options))
    names["token_list"] = f"{names['token_dir']}/tokens.txt"
    bpe = names["token_type"] == "bpe"
    names["bpemodel"] = f"{names['token_dir']}/bpe.model" if bpe else "none"
    names["data_feats"] = f"{names['dumpdir']}/raw"
    filtered = (names["train_set"], options["valid_set"])
    names["scored_sets"] = " ".join(scored_sets(options["test_sets"].split(), filtered))
    return names


def values_to_check(options: Mapping[str, str]) -> Dict[str, str]:
    """Return the value that each option has, or gets if it is not given."""
    names = names_of(options)
    return {
        name: options[name] if name in AS_GIVEN else names.get(name, options[name])
        for name in options
    }


def scored_sets(test_sets: List[str], filtered: Tuple[str, str]) -> List[str]:
    """Say where below dump/raw/ and `<inference_tag>/` the test sets are.

    Of a set that is also trained or validated on, all utterances are in org/ only, as in
    ESPnet; its filtered copy, which gates and hard labels decode, keeps the plain name.
    """
    return [f"org/{name}" if name in filtered else name for name in dict.fromkeys(test_sets)]


def _name_imported(names: Dict[str, str]) -> None:
    """Name an imported teacher; its tokens lie beside the recipe's, not over them."""
    from espnet_kd.common.yaml_file import read_yaml

    exp = names["teacher_exp"]
    model = os.path.basename(os.path.abspath(exp)).removeprefix("asr_")
    names["asr_tag"] = names["asr_tag"] or f"imported_{model}"
    names["asr_exp"] = names["asr_exp"] or f"{names['expdir']}/asr_{names['asr_tag']}"
    try:
        config = read_yaml(os.path.join(exp, "config.yaml"), "")
    except (UserError, OSError):  # is told where that teacher is imported
        return
    if isinstance(config.get("token_type"), str):
        names["token_type"] = config["token_type"]


def _checkpoint(exp: str, options: Mapping[str, str]) -> str:
    """Name the checkpoint of an imported teacher: ours, or the best by ESPnet's own names."""
    default = options["inference_asr_model"]
    if os.path.exists(os.path.join(exp, default)):
        return default
    for pattern in CHECKPOINTS:
        names = map(os.path.basename, glob.glob(os.path.join(glob.escape(exp), pattern)))
        # Of averages that of the most epochs: 10best, not 5best.
        best = max(names, key=lambda name: (len(name), name), default="")
        if best:
            return best
    return ""


def _kd_tag(options: Mapping[str, str], asr_exp: str) -> str:
    tag = "kd_" + os.path.basename(asr_exp).removeprefix("asr_") + _tag_of(options["kd_args"])
    plan = _stem(options["compression_config"])
    return tag if plan == "compression" else f"{tag}_{plan}"


def is_aligned(options: Mapping[str, str]) -> bool:
    """Tell whether decoding is streaming, but not as ESPnet's: then it has two results."""
    return options["use_streaming"] == "true" and options["decoding"] == "aligned"


def _stock_tag(options: Mapping[str, str]) -> str:
    """Name the results of ESPnet's own streaming; empty: they are not wanted beside ours.

    Decodings from before there was another kind have this name.
    """
    if not is_aligned(options) or options["stock_wer"] != "true":
        return ""
    given = options["inference_tag"]
    return f"{given}_stock" if given else _inference_tag(options, aligned=False)


def _inference_tag(options: Mapping[str, str], aligned: bool) -> str:
    tag = _stem(options["inference_config"]) if options["inference_config"] else "inference"
    model = options["inference_asr_model"].rpartition(".")
    tag += f"{_tag_of(options['inference_args'])}_asr_model_{model[0] or model[2]}"
    if options["use_streaming"] != "true":
        return tag
    return f"{tag}_aligned" if aligned else f"{tag}_streaming"


def _folder(name: str) -> str:
    """Spell a folder always alike: records of finished work hold its name."""
    while len(name) > 1 and name.endswith("/"):
        name = name[:-1]
    while re.match(r"\./[^/]", name):
        name = name[2:]
    return name


def _stem(path: str) -> str:
    name = os.path.basename(path.rstrip("/"))
    return name.removesuffix(".yaml") or name


def _tag_of(words: str) -> str:
    """Make `--max_epoch 10` a part of a directory name."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "", words.replace("--", "_"))
