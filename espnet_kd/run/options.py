"""The options of `asr_kd.sh` as data, and what is wrong with a value, told without torch.

`OPTIONS` has one entry an option: its kind, limits, and whether it may be empty. Each kind is a
function of the value that returns what is wrong with it, or None.
"""

import math
import os
import re
import shlex
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from espnet_kd.data.transcripts import CLEANERS
from espnet_kd.errors import UserError, nearest
from espnet_kd.run.places import name_problem, path_problem

LARGEST = 10**9  # no count of a recipe is larger, and a shell reckons with it
BOOLEANS = ("true", "false")
ESPNET_STAGES = (6, 7, 8, 9)  # of ESPnet's asr.sh, which the recipe has not


class Option(NamedTuple):
    """One option.

    Attributes:
        kind: Name of a function of `KINDS`.
        default: Value if none is given, as in `asr_kd.sh`.
        least: Smallest value of a number.
        most: Largest value of a number.
        choices: Words that a `choice` may be.
        needed: Whether it must not be empty.
        made_of: Options that its default is made of, for messages.
    """

    kind: str
    default: str = ""
    least: float = 0
    most: float = LARGEST
    choices: Tuple[str, ...] = ()
    needed: bool = False
    made_of: Tuple[str, ...] = ()


def _whole(default: str, least: int = 0, most: int = LARGEST, needed: bool = True) -> Option:
    return Option("whole", default, least, most, needed=needed)


def _bool(default: str = "false") -> Option:
    return Option("choice", default, choices=BOOLEANS, needed=True)


OPTIONS: Dict[str, Option] = {
    # General
    "stage": _whole("1"),
    "stop_stage": _whole("10000"),
    "skip_stages": Option("stages"),
    "force": _bool(),
    "ngpu": _whole("1"),
    "num_nodes": _whole("1", 1),
    "nj": _whole("32", 1),
    "inference_nj": _whole("32", 1),
    "gpu_inference": _bool(),
    "train_threads": _whole("", 1, needed=False),
    "dumpdir": Option("path", "dump", needed=True),
    "expdir": Option("path", "exp", needed=True),
    "python": Option("text", "python3", needed=True),
    "seed": _whole("", 0, 2**32 - 1, needed=False),
    # Data
    "corpus": Option("source"),
    "data": Option("choice", choices=("csv", "tsv", "jsonl", "folder", "kaldi")),
    "local_data_opts": Option("quoted"),
    "speed_perturb_factors": Option("speeds"),
    "audio_format": Option("choice", "flac", choices=("flac", "wav"), needed=True),
    "fs": Option("rate", "16k", needed=True),
    "resample": _bool(),
    "max_bad_share": Option("share", "0.02", needed=True),
    "text_symbols": Option("choice", "refuse", choices=("refuse", "remove", "keep"), needed=True),
    "cleaner": Option("cleaner", "none", needed=True),
    "nlsyms_txt": Option("file", "none", needed=True),
    "max_dropped_share": Option("share", "0.1", needed=True),
    "min_wav_duration": Option("number", "0.1", 0, 86400, needed=True),
    "max_wav_duration": Option("number", "20", 0, 86400, needed=True),
    "train_set": Option("name", needed=True),
    "valid_set": Option("name", needed=True),
    "test_sets": Option("names", needed=True),
    "unlabelled_sets": Option("names"),
    "lang": Option("name", "noinfo", needed=True),
    # Tokens
    "token_type": Option("choice", "bpe", choices=("char", "bpe", "word"), needed=True),
    "nbpe": _whole("30", 1),
    "bpemode": Option("choice", "unigram", choices=("unigram", "bpe"), needed=True),
    "bpe_char_cover": Option("number", "1.0", 0.9, 1, needed=True),
    "bpe_nlsyms": Option("text"),
    "bpe_train_text": Option("file"),
    "max_unk_share": Option("share", "0.02", needed=True),
    "token_dir": Option("path", made_of=("lang", "asr_exp")),
    # Teacher
    "asr_config": Option("path", "conf/train_teacher.yaml", needed=True),
    "asr_args": Option("words"),
    "asr_tag": Option("name", made_of=("lang", "asr_config", "teacher_exp")),
    "asr_exp": Option("path", made_of=("expdir", "asr_tag")),
    "asr_stats_dir": Option("path", made_of=("expdir", "lang", "asr_exp")),
    "feats_normalize": Option(
        "choice", "global_mvn", choices=("global_mvn", "utterance_mvn"), needed=True
    ),
    "asr_speech_fold_length": _whole("800", 1),
    "asr_text_fold_length": _whole("150", 1),
    "teacher_exp": Option("path"),
    "teacher_model": Option("name"),
    # Compression
    "compression_config": Option("path", "conf/compression.yaml", needed=True),
    "student_config": Option("path", "conf/train_student.yaml", needed=True),
    "paths": Option("paths", "progressive", needed=True),
    "paths_at": Option("names"),
    "paths_epochs": Option("epochs", "sum", needed=True),
    "ablate": _bool(),
    "compression_stage": _whole("1", 1),
    "stop_compression_stage": _whole("10000", 1),
    "kd_args": Option("words"),
    "kd_tag": Option("name", made_of=("asr_exp", "compression_config")),
    "use_teacher_cache": _bool(),
    "cache_band": _whole("0"),
    # Decoding and report
    "inference_config": Option("path", "conf/decode.yaml"),
    "inference_args": Option("words"),
    "inference_tag": Option("name", made_of=("inference_config", "inference_asr_model")),
    "inference_asr_model": Option("name", "valid.loss_transducer.ave.pth", needed=True),
    "use_streaming": _bool(),
    "decoding": Option("choice", "aligned", choices=("aligned", "stock"), needed=True),
    "stock_wer": _bool("true"),
    "decoding_windows": Option("windows"),
    "report_note": Option("text"),
    "train_watts": Option("number", "", 0.1, 1e5),
    "local_score_opts": Option("quoted"),
    "robustness": Option("path"),
    # Pack and upload
    "pack_models": Option("names"),
    "model_license": Option("name"),
    "model_datasets": Option("text"),
    "hf_repo": Option("repo"),
    "hf_dry_run": _bool(),
    # Devices
    "export_formats": Option("formats"),
    "export_utterances": _whole("500"),
    "export_models": Option("names"),
}


def check_values(values: Mapping[str, str], known_stages: Sequence[int]) -> Iterator[str]:
    """Yield what is wrong with the values, one line each.

    Args:
        values: Value of every option.
        known_stages: Numbers of the stages that there are.
    """
    problems = {name: _problem(values[name], option) for name, option in OPTIONS.items()}
    wrong = {name for name, problem in problems.items() if problem is not None}
    for name, option in OPTIONS.items():
        # What is wrong with its parts is told of them.
        if name in wrong and not wrong.intersection(option.made_of):
            parts = " and ".join(f"--{part}" for part in option.made_of)
            made = f" (made of {parts} unless it is given)" * bool(parts)
            yield f"--{name} {problems[name]}{made}"
    yield from _together(values, wrong, known_stages)


def _problem(value: str, option: Option) -> Optional[str]:
    if not value.strip():
        if value and option.kind != "text":
            return f"holds blanks only: {value!r}"
        return "is required" if option.needed else None
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        return f"must be one line without control characters, not {value!r}"
    if any(0xD800 <= ord(c) < 0xE000 for c in value):
        return f"is not UTF-8: {value!r}"
    return KINDS[option.kind](value, option)


def _together(
    values: Mapping[str, str], wrong: Set[str], known_stages: Sequence[int]
) -> Iterator[str]:
    """Yield what is wrong with values that are right when looked at alone."""

    def right(*names: str) -> bool:
        return not wrong.intersection(names)

    def number(name: str) -> float:
        return float(values[name])

    if right("stage", "stop_stage", "skip_stages"):
        if number("stage") > number("stop_stage"):
            yield f"--stage {values['stage']} is after --stop_stage {values['stop_stage']}"
        for word in dict.fromkeys(values["skip_stages"].split()):
            if int(word) in ESPNET_STAGES:  # of language models: there are none
                continue
            if int(word) not in known_stages:
                stages = ", ".join(map(str, known_stages))
                hint = " (pack and upload are 18 and 19)" if word in ("14", "15") else ""
                yield f"--skip_stages {word}: no such stage; there are {stages}{hint}"
    if right("compression_stage", "stop_compression_stage"):
        first, last = values["compression_stage"], values["stop_compression_stage"]
        if int(first) > int(last):
            yield f"--compression_stage {first} is after --stop_compression_stage {last}"
    if right("min_wav_duration", "max_wav_duration"):
        least, most = values["min_wav_duration"], values["max_wav_duration"]
        if float(least) >= float(most):
            yield f"--min_wav_duration {least} is not less than --max_wav_duration {most}"
    if right("feats_normalize", "use_streaming", "decoding") and not values["teacher_exp"]:
        kinds = values["feats_normalize"], values["use_streaming"], values["decoding"]
        if kinds == ("utterance_mvn", "true", "aligned"):
            yield (
                "--feats_normalize utterance_mvn needs whole utterances, --use_streaming true has "
                "chunks: take global_mvn, or ESPnet's --decoding stock"
            )
    if right("decoding_windows", "use_streaming", "decoding") and values["decoding_windows"]:
        if (values["use_streaming"], values["decoding"]) != ("true", "aligned"):
            yield (
                f"--decoding_windows {values['decoding_windows']}: chunks of several lengths need "
                "--use_streaming true and --decoding aligned"
            )
    if right("train_set", "valid_set", "test_sets"):
        yield from _sets(values)
    if right("teacher_exp") and values["teacher_exp"] and not os.path.isdir(values["teacher_exp"]):
        yield f"--teacher_exp {values['teacher_exp']}: no such directory"
    if values["data"] and not values["corpus"]:
        yield f"--data {values['data']} needs --corpus, the file or folder to read"
    if values["corpus"] and values["local_data_opts"]:
        yield "--local_data_opts are for local/data.sh, which --corpus takes the place of"
    if right("paths", "ablate", "kd_args"):
        plain = (values["paths"].split(), values["ablate"]) == (["progressive"], "false")
        words = [word.partition("=")[0] for word in values["kd_args"].split()]
        if not plain and "--max_epoch" in words:
            yield (
                "--kd_args --max_epoch would train all students alike long, and the paths could "
                f"not be compared; say 'epochs' in {values['compression_config']}"
            )


def _sets(values: Mapping[str, str]) -> Iterator[str]:
    train, valid, tests = values["train_set"], values["valid_set"], values["test_sets"].split()
    if valid == train:
        yield (
            f"--valid_set {valid} is the training set; copy its folder of data/ under another "
            "name if that is meant"
        )
    unlabelled = values["unlabelled_sets"].split()
    for name in unlabelled:
        if name in (train, values["train_set"], valid, *tests):
            yield f"--unlabelled_sets {name}: is a training, validation or test set, too"
    for name in (train, valid, *tests, *unlabelled):
        if name == "org":
            yield "a set cannot be named 'org': dump/raw/org holds sets before they are filtered"
        if values["speed_perturb_factors"] and name == f"{train}_sp":
            yield f"a set cannot be named '{name}': it is the speed-perturbed training set's name"


# ------------------------------------------------------------------ the kinds
def _check_whole(value: str, option: Option) -> Optional[str]:
    if not re.fullmatch(r"[0-9]+", value):
        return f"must be a whole number, not {value!r}"
    if len(value) > 1 and value[0] == "0":
        return f"must be a whole number without leading zeros, not {value!r}"
    if int(value[:20]) < option.least:
        return f"must be at least {option.least:.0f}"
    if int(value[:20]) > option.most:
        return f"must be at most {option.most:.0f}, not {value[:20]}"
    return None


def _check_number(value: str, option: Option) -> Optional[str]:
    try:
        number = float(value) if re.fullmatch(r"[0-9.eE+-]+", value) else math.nan
    except ValueError:
        number = math.nan
    if not option.least <= number <= option.most:
        return f"must be a number between {option.least:g} and {option.most:g}, not {value!r}"
    return None


def _check_share(value: str, option: Option) -> Optional[str]:
    if not re.fullmatch(r"(0|1|[01]\.[0-9]*|\.[0-9]+)", value) or float(value) > 1:
        return f"must be a share between 0 and 1, e.g. 0.02, not {value!r}"
    return None


def _check_choice(value: str, option: Option) -> Optional[str]:
    if value in option.choices:
        return None
    words = ", ".join(option.choices[:-1]) + f" or {option.choices[-1]}"
    if value == "phn":
        words += " (phonemes that the transcripts are written in are words)"
    return f"must be {words}, not {value!r}"


def _check_rate(value: str, option: Option) -> Optional[str]:
    number = re.fullmatch(r"([1-9][0-9]{0,6})(k?)", value)
    hertz = int(number[1]) * (1000 if number[2] else 1) if number else 0
    if not 1000 <= hertz <= 1_000_000:
        return f"must be a sampling rate, e.g. 16k or 16000, not {value!r}"
    return None


def _check_stages(value: str, option: Option) -> Optional[str]:
    for word in value.split():
        if not re.fullmatch(r"[0-9]{1,9}", word):
            return f"takes stage numbers, not {word!r}"
    return None


def _check_speeds(value: str, option: Option) -> Optional[str]:
    from espnet_kd.data.speed_perturbation import parse_factors

    return _refused("--factors", lambda: parse_factors(value))


def _check_windows(value: str, option: Option) -> Optional[str]:
    words = value.split()
    for word in words:
        if not re.fullmatch(r"[1-9][0-9]{0,5}", word):
            return f"takes milliseconds of audio of a chunk, e.g. 320 640 1280, not {word!r}"
        if words.count(word) > 1:
            return f"has {word} twice"
    return None


def _check_names(value: str, option: Option) -> Optional[str]:
    words = value.split()
    for word in words:
        problem = name_problem(word)
        if problem:
            return problem
        if words.count(word) > 1:
            return f"has {word} twice"
    return None


def _check_words(value: str, option: Option) -> Optional[str]:
    for c in "'\"\\`$*?":
        if c in value:
            return f"is split at spaces, and nothing in it is quoted or replaced: {c} in {value!r}"
    if not value.split()[0].startswith("--"):
        return f"must begin with an option (--name value), not {value!r}"
    return None


def _check_quoted(value: str, option: Option) -> Optional[str]:
    try:
        shlex.split(value)
    except ValueError:
        return f"has a quote that is not closed: {value}"
    return None


def _check_formats(value: str, option: Option) -> Optional[str]:
    from espnet_kd.device.description import FORMATS

    for word in value.split():
        if word not in FORMATS:
            return f"'{word}' is not one of {', '.join(FORMATS)}{nearest(word, FORMATS)}"
    return None


def _check_paths(value: str, option: Option) -> Optional[str]:
    if value.split() == ["progressive"]:
        return None
    from espnet_kd.plan.baselines import choose

    return _refused("--paths", lambda: choose(value.split(), False))


def _check_epochs(value: str, option: Option) -> Optional[str]:
    from espnet_kd.plan.baselines import read_epochs

    return _refused("--paths_epochs", lambda: read_epochs(value.split()))


def _refused(name: str, parse: Callable[[], object]) -> Optional[str]:
    try:
        parse()
    except UserError as e:
        return str(e).removeprefix(name).lstrip(": ")
    return None


def _check_repo(value: str, option: Option) -> Optional[str]:
    if not re.fullmatch(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+", value):
        return f"must be user/name, not {value!r}"
    return None


def _check_name(value: str, option: Option) -> Optional[str]:
    return name_problem(value)


def _check_file(value: str, option: Option) -> Optional[str]:
    if value == "none" or os.path.isfile(value):
        return path_problem(value)
    return f"{value}: no such file"


def _check_cleaner(value: str, option: Option) -> Optional[str]:
    if value == "none" or value in CLEANERS or re.fullmatch(r"[\w.]+:\w+", value):
        return None
    names = ", ".join(CLEANERS)
    return f"is none, {names} or module:function, not {value!r}{nearest(value, CLEANERS)}"


def _check_source(value: str, option: Option) -> Optional[str]:
    there = os.path.exists(os.path.expanduser(value))
    return None if there else f"{value}: no such file or folder"


Kind = Callable[[str, Option], Optional[str]]
KINDS: Dict[str, Kind] = {
    "whole": _check_whole,
    "number": _check_number,
    "share": _check_share,
    "choice": _check_choice,
    "rate": _check_rate,
    "stages": _check_stages,
    "speeds": _check_speeds,
    "windows": _check_windows,
    "name": _check_name,
    "names": _check_names,
    "words": _check_words,
    "quoted": _check_quoted,
    "paths": _check_paths,
    "epochs": _check_epochs,
    "formats": _check_formats,
    "repo": _check_repo,
    "path": lambda value, option: path_problem(value),
    "source": _check_source,
    "file": _check_file,
    "cleaner": _check_cleaner,
    "text": lambda value, option: None,
}


def stages_to_run(values: Mapping[str, str], known: Sequence[int]) -> List[int]:
    """List the numbers of the stages that right values ask for."""
    skipped = set(map(int, values["skip_stages"].split()))
    first, last = int(values["stage"]), int(values["stop_stage"])
    return [stage for stage in known if first <= stage <= last and stage not in skipped]
