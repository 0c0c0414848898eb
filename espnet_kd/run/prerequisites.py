"""Needs of the stages to run beside options: files, a GPU, an account. Told without torch."""

import re
from pathlib import Path
from typing import Any, Container, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from espnet_kd.common.yaml_file import Document, read_document, read_yaml
from espnet_kd.errors import UserError, nearest
from espnet_kd.machine import gpus, torch_is_cpu_build
from espnet_kd.run.espnet_names import (
    DECODING,
    TRAINING,
    declared,
    decoding_names,
    training_names,
    unknown_names,
    unknown_words,
    whole_names,
)
from espnet_kd.run.places import check_folders
from espnet_kd.run.training_options import TrainingOptions, kept_by, not_kept, typed, words_of
from espnet_kd.spec.conditions_file import load_robustness
from espnet_kd.spec.option_values import wrong_values, wrong_words
from espnet_kd.spec.teacher_kinds import check_teacher
from espnet_kd.spec.training_config import check_model, read_training
from espnet_kd.spec.values import check_exponents

# Configs by the stages that read them. Stage 17 reads the plan only.
CONFIGS = {
    "asr_config": (10, 11),
    "student_config": (16,),
    "compression_config": (16, 17),
    "inference_config": (12, 16, 20, 22),
}
# Folders by the stages that write into them.
FOLDERS = {
    "expdir": range(1, 23),
    "dumpdir": (3, 4, 22),
    "token_dir": (5,),
    "asr_stats_dir": (10,),
    "asr_exp": (11, 12, 13),
}


def check_needs(values: Mapping[str, str], stages: Sequence[int], backend: str) -> Iterator[str]:
    """Yield what is missing, one line each.

    Args:
        values: Right value of every option.
        stages: Numbers of the stages to run.
        backend: Place where jobs run: `local`, or a scheduler that knows other machines.
    """

    def wanted(numbers: Sequence[int]) -> Optional[int]:
        return next((stage for stage in stages if stage in numbers), None)

    if int(values["num_nodes"]) > 1 and backend == "local":
        yield (
            f"--num_nodes {values['num_nodes']} needs a scheduler: set cmd_backend in cmd.sh "
            "(the local backend has one machine)"
        )
    imports = bool(values["teacher_exp"])
    yield from check_folders(
        {
            name: values[name]
            for name, numbers in FOLDERS.items()
            if wanted(numbers) or (name == "asr_exp" and imports and wanted((5,)))
        }
    )
    for name, numbers in CONFIGS.items():
        if name == "asr_config" and imports:
            numbers = (10,)
        stage = wanted(numbers)
        if stage and values[name]:
            decodes = name == "inference_config"
            by_words = dict(_decoding_words(values)) if decodes else {}
            yield from _check_config(name, values[name], stage, by_words)
    for config, words, numbers in (
        ("asr_config", "asr_args", () if imports else (11,)),
        ("student_config", "kd_args", (16,)),
    ):
        if wanted(numbers):
            decoded = values["inference_asr_model"] if wanted((12, 13, 16)) else ""
            # Of the students' each stage may say otherwise: `check_training` of run/students.py.
            decoded = "" if config == "student_config" else decoded
            yield from _check_training(values[config], f"--{words}", values[words], decoded)
            if words == "kd_args":
                yield from _check_students_model(values[words])
    trains = wanted((10, 16) if imports else (10, 11, 16))
    for name, known in (
        ("asr_args", training_names() if trains else None),
        ("kd_args", training_names() if wanted((16,)) else None),
        ("inference_args", decoding_names() if wanted((12, 16, 22)) else None),
    ):
        given = [w.partition("=")[0][2:] for w in values[name].split() if w.startswith("--")]
        for word in unknown_names(given, known, abbreviated=True):
            yield f"--{name}: unknown option --{word}{nearest(word, known or ())}"
    if wanted((22,)) and values["robustness"]:
        yield from _check_conditions(values["robustness"], makes_data=bool(wanted((1,))))
    if wanted((12, 16, 17, 22)):
        yield from _check_decoding(values)
    if imports and wanted((5,)):
        yield from _check_teacher(values)
    for name, numbers in (("pack_models", (18, 19)), ("export_models", (20,))):
        if wanted(numbers):
            yield from _check_models(values, name)
    if values["hf_repo"] and values["hf_dry_run"] == "false" and wanted((19,)):
        from espnet_kd.deploy.hub import missing_for_upload

        problem = missing_for_upload()
        if problem:
            yield f"--hf_repo {values['hf_repo']}: {problem}"
    if backend == "local":
        trains = wanted((16,) if imports else (11, 16))
        yield from _check_gpus(values, trains, wanted((12, 16, 22)))


def _decoding_words(values: Mapping[str, str]) -> List[Tuple[str, List[str]]]:
    known = decoding_names()
    known = known and known | {"decoding"}  # ours, no beginning of ESPnet's decoding_window
    return whole_names(words_of(values["inference_args"]), known)


def _check_config(
    name: str, path: str, stage: int, overruled: Container[str] = ()
) -> Iterator[str]:
    if not Path(path).is_file():
        kind = "a folder, not a file" if Path(path).is_dir() else "no such file"
        yield f"--{name} {path}: {kind} (stage {stage} reads it)"
        return
    if name == "compression_config":
        return  # is read with all that --paths adds
    try:
        document = _document(path)
    except UserError as e:
        yield str(e)
        return
    known = decoding_names() if name == "inference_config" else training_names()
    for key in unknown_names(document.data, known):
        yield f"{document.place(path, key)}: unknown key '{key}'{nearest(key, known or ())}"
    for key, value, classes in unknown_words(document.data):
        yield f"{document.place(path, key)}: {key} '{value}' is unknown{nearest(value, classes)}"
    if name == "inference_config":
        options = {key: value for key, value in document.data.items() if key not in overruled}
        for key, problem in wrong_values(options, declared(DECODING)):
            yield f"{document.place(path, key)}: {key}: {problem}"


def _check_conditions(path: str, makes_data: bool) -> Iterator[str]:
    """Check conditions, and the sounds in their folders, unless stage 1 may still make these."""
    try:
        conditions = load_robustness(path).conditions
    except UserError as e:
        yield str(e)
        return
    for condition in conditions:
        for key, folder in {} if makes_data else condition.folders.items():
            from espnet_kd.data.perturbation import check_sounds  # imports scipy

            try:
                check_sounds(key, folder)
            except UserError as e:
                yield f"{path}: '{condition.name}': {e}"


def _check_decoding(values: Mapping[str, str]) -> Iterator[str]:
    """Refuse what the recipe has options for: they name the results and stand in the report."""
    words = TrainingOptions()
    words.add_words(values["inference_args"])
    path = values["inference_config"]
    try:
        config = _config(path) if path and Path(path).is_file() else {}
    except UserError:  # is told elsewhere
        config = {}
    streams = values["use_streaming"] == "true"
    for key, problem in wrong_words(_decoding_words(values), declared(DECODING)):
        yield f"--inference_args: --{key}: {problem}"
    if "decoding" in words.options:
        yield "--inference_args: --decoding is an option of the recipe; give it alone"
    if not streams and "streaming" in words.options:  # for ESPnet any value is true
        yield "--inference_args: --streaming is --use_streaming true in the recipe; give that"
    elif not streams and config.get("streaming"):
        yield f"{path}: streaming is --use_streaming true in the recipe; give that, too"


def _check_students_model(words: str) -> Iterator[str]:
    """Refuse options of a training that make a model: a student's is derived before."""
    options = TrainingOptions()
    options.add_words(words)
    if "encoder_conf" in options.options:
        yield "--kd_args: --encoder_conf: chunks stand in `train` of a stage of the plan"
        del options.options["encoder_conf"]
    try:
        check_model(typed(options.options), "--kd_args: --")
    except UserError as e:
        yield str(e)


def _check_training(path: str, option: str, words: str, decoded: str) -> Iterator[str]:
    """Check what we know of a training, whose options overrule its config.

    Args:
        path: The config.
        option: Name of the option that has the words.
        words: Options of its command line.
        decoded: Checkpoint that is decoded with; none: it is not checked that there is one.
    """
    options = TrainingOptions()
    options.add_words(words)
    given = {**options.options, **options.neutral}
    document = Document({}, {})
    try:
        document = _document(path) if path and Path(path).is_file() else document
    except UserError:  # is told elsewhere
        decoded = ""
    raw = whole_names(words_of(words), training_names())
    overruled = {*given, *(name for name, _ in raw)}
    left = {key: value for key, value in document.data.items() if key not in overruled}
    loggers = {key: value == "true" for key, value in given.items() if key.startswith("use_")}
    wrong = []
    for values, prefix in ((left, f"{path}: "), (loggers, f"{option}: --")):
        try:
            read_training(values, path or option, prefix)
        except UserError as e:
            wrong.append(str(e))
    if not wrong:
        for key, problem in wrong_values(left, declared(TRAINING)):
            wrong.append(f"{document.place(path, key)}: {key}: {problem}")
    # Of epochs below.
    counted = [(name, values) for name, values in raw if name != "max_epoch"]
    for key, problem in wrong_words(counted, declared(TRAINING)):
        wrong.append(f"{option}: --{key}: {problem}")
    for key, value, classes in unknown_words({name: v[-1] for name, v in raw if v}):
        wrong.append(f"{option}: --{key} {value}: unknown{nearest(value, classes)}")
    yield from wrong
    if decoded and not wrong and Path(path).is_file():
        missing = not_kept({**left, **kept_by(raw)}, decoded)
        if missing is not None:
            key, reason = missing
            by_words = key in kept_by(raw)
            where = f"{option}: --" if by_words else f"{document.place(path, key)}: "
            yield f"{where}{key}: {reason}"
    for word in words.split():
        name, _, value = word.rpartition("=")
        # A number that stands alone (--grad_clip=1e1) is no YAML.
        if name and ("=" in name or not name.startswith("--")):
            try:
                check_exponents(f"{option}: {name}", value)
            except UserError as e:
                yield str(e)
    if options.epochs is not None and not re.fullmatch("0*[1-9][0-9]*", options.epochs):
        yield f"{option}: --max_epoch {options.epochs}: expected a whole number >= 1"


def _document(path: str) -> Document:
    """Read a training or decoding config, which may be empty."""
    if Path(path).stat().st_size == 0:
        return Document({}, {})
    return read_document(path, "the options of ESPnet's command line are expected in it")


def _config(path: str) -> Dict[str, Any]:
    """Return its options."""
    return _document(path).data


def _check_teacher(values: Mapping[str, str]) -> Iterator[str]:
    from espnet_kd.cli import sampling_rate

    exp = Path(values["teacher_exp"])
    if exp.resolve() == Path(values["asr_exp"]).resolve():
        yield f"--teacher_exp {exp}: is the folder that it would be imported into (--asr_exp)"
        return
    try:
        rate = _teacher_rate(exp / "config.yaml")
        if rate is not None and rate != sampling_rate(values["fs"]):
            yield (
                f"{exp}/config.yaml: frontend_conf.fs is {rate} Hz, the recipe's audio has "
                f"{sampling_rate(values['fs'])} Hz; give the teacher's rate with --fs"
            )
    except UserError as e:
        yield str(e)
        if not (exp / "config.yaml").is_file():
            return
    name = values["teacher_model"] or values["inference_asr_model"]
    problem = checkpoint_problem(exp / name)
    if problem == "no such file":
        there = " ".join(sorted(path.name for path in exp.glob("*.pth"))) or "none"
        yield (
            f"--teacher_exp {exp} has no {name}; name one of its checkpoints with "
            f"--teacher_model ({there})"
        )
    elif problem:
        yield f"{exp / name}: {problem}"


def _teacher_rate(path: Path) -> Optional[int]:
    """Return the sampling rate of a transducer's config; None if it takes features."""
    from espnet_kd.cli import sampling_rate

    config = read_yaml(path, "--teacher_exp names an ESPnet experiment (exp/asr_...)")
    check_teacher(config, path)
    if config.get("input_size") is not None:
        return None
    frontend = config.get("frontend_conf")
    fs = frontend.get("fs", "16k") if isinstance(frontend, dict) else "16k"
    try:
        return sampling_rate(str(fs))
    except Exception:
        raise UserError(f"{path}: frontend_conf.fs: {fs!r} is not a sampling rate") from None


def checkpoint_problem(path: Path) -> Optional[str]:
    """Return why a file cannot be a checkpoint that torch has written; None if it can."""
    if not path.is_file():
        return "a folder, not a checkpoint" if path.is_dir() else "no such file"
    try:
        with open(path, "rb") as f:
            head = f.read(2)
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    if head == b"PK":
        import zipfile

        return None if zipfile.is_zipfile(path) else "not a readable checkpoint: it is cut off"
    return None if head[:1] == b"\x80" else "not a readable checkpoint"


def _check_models(values: Mapping[str, str], option: str) -> Iterator[str]:
    """Yield names that neither the plan nor its gates can give to a model."""
    from espnet_kd.plan.baselines import PATHS
    from espnet_kd.spec.plan import load_plan

    try:
        planned = load_plan(values["compression_config"]).stages
    except UserError:  # is told where the plan is needed
        return
    stages = [stage.name for stage in planned]
    beside = {f"{s.name}_{part}": s.name for s in planned for part in s.method_conf.siblings}
    known = ["teacher", *stages, *(path for path in PATHS)]
    made = [f"{path}_{stage}" for path in PATHS for stage in stages]
    made += [f"{stage}_{part}" for stage in stages for part in ("half", "again")]
    for name in values[option].split():
        if name in beside:
            yield (
                f"--{option}: '{name}' comes out of the training of '{beside[name]}' and hears "
                f"longer chunks than the run's; name '{beside[name]}', which is for devices"
            )
        elif name not in known and name not in made:
            yield (
                f"--{option}: no model '{name}' in {values['compression_config']}"
                f"{nearest(name, known)}; there are: teacher, {', '.join(stages)}"
            )


def _check_gpus(
    values: Mapping[str, str], trains: Optional[int], decodes: Optional[int]
) -> Iterator[str]:
    wanted: Dict[str, int] = {}
    if trains and int(values["ngpu"]) > 0:
        wanted[f"--ngpu {values['ngpu']}"] = int(values["ngpu"])
    if decodes and values["gpu_inference"] == "true":
        wanted["--gpu_inference true"] = 1
    if not wanted:
        return
    count = 0 if torch_is_cpu_build() else gpus()
    for option, number in wanted.items():
        if count is None or count >= number:
            continue
        remedy = "--ngpu 0 trains on the CPU" if "ngpu" in option else "false decodes on the CPU"
        there = f"this machine has {count}" if count else "no GPU is here"
        if torch_is_cpu_build():
            there = "the installed torch is a build for CPUs"
        yield f"{option}: {there}; {remedy}"
