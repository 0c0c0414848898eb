"""Use of a packed model with ESPnet alone: a command, and Python."""

import shlex
from typing import Any, Dict, List, Sequence

from espnet_kd.common.yaml_file import parse_yaml, read_yaml
from espnet_kd.deploy.bundle import Bundle
from espnet_kd.spec.not_stock import Ours

# Of the options of ESPnet's transducer inference, those that decide what is recognised. No
# others are published: they may name files.
OPTIONS = (
    "beam_size", "beam_search_config", "nbest", "dtype", "streaming", "decoding_window",
    "left_context", "quantize_asr_model", "quantize_modules", "quantize_dtype",
)  # fmt: skip

OF_ASR = ("beam_size", "nbest", "dtype")  # those that `espnet2.bin.asr_inference` has, too


def decoding_options(bundle: Bundle, words: str, offline: bool = False) -> Dict[str, Any]:
    """Return what `Speech2Text` must be given to decode as the scores of ESPnet's own were made.

    Args:
        bundle: The files of the archive, with the decoding config.
        words: Further options of the command line, which overrule the config.
        offline: Whether the model is one of `espnet2.asr`.
    """
    options = {}
    if bundle.decoding:
        options.update(read_yaml(bundle.root / bundle.decoding, "it was decoded with"))
    options.update(_parse(words))
    return {name: options[name] for name in (OF_ASR if offline else OPTIONS) if name in options}


def _parse(words: str) -> Dict[str, Any]:
    """Read `--name value`, `--name=value` and `--name value value` as YAML."""
    options: Dict[str, List[str]] = {}
    name = ""
    for word in shlex.split(words):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = [value] if value else []
        else:
            options.setdefault(name, []).append(word)
    values: Dict[str, Any] = {}
    for name, texts in options.items():
        parsed = [parse_yaml(text, f"--{name}").data for text in texts]
        if name == "quantize_modules":
            values[name] = parsed
        elif name in ("streaming", "quantize_asr_model"):
            values[name] = bool(texts)  # for ESPnet any text is true
        else:
            values[name] = parsed[-1] if parsed else None
    return values


def sampling_rate(config: Dict[str, Any]) -> int:
    """Return the samples a second that a model expects."""
    fs = str((config.get("frontend_conf") or {}).get("fs", 16000))
    return int(float(fs[:-1]) * 1000) if fs.endswith("k") else int(fs)


def streamed(ours: Sequence[Ours]) -> bool:
    """Tell whether ESPnet's own inference decodes a model with these parts, once it has them."""
    return all(part.streams for part in ours)


def imports(ours: Sequence[Ours]) -> List[str]:
    """Return the lines of Python by which ESPnet knows these parts."""
    return [f"import {part.module}" for part in ours]


def _module(offline: bool) -> str:
    return "espnet2.bin.asr_inference" if offline else "espnet2.bin.asr_transducer_inference"


def command(
    bundle: Bundle, words: str, offline: bool = False, ours: Sequence[Ours] = ()
) -> List[str]:
    """Return the lines of a shell command.

    Args:
        bundle: See `decoding_options`.
        words: See `decoding_options`.
        offline: See `decoding_options`.
        ours: Parts that ESPnet does not have: our command then decodes, as its does if it can.
    """
    module = _module(offline)
    if ours:
        module = f"espnet_kd.bin.decode{' --decoding stock' * streamed(ours)}"
    lines = [f"python -m {module} --ngpu 0"]
    if bundle.decoding and not offline:  # it has options of standalone transducers
        lines.append(f"--config {bundle.decoding}")
    lines += [
        f"--asr_train_config {bundle.config}",
        f"--asr_model_file {bundle.checkpoint}",
        "--data_path_and_name_and_type wav.scp,speech,sound",
        "--output_dir decoded",
    ]
    options = decoding_options(bundle, words, True) if offline else _parse(words)
    for name, value in options.items():
        if name in OPTIONS:
            texts = value if isinstance(value, list) else [value]
            lines.append(shlex.join([f"--{name}", *(_shown(text) for text in texts)]))
    return " \\\n    ".join(lines).splitlines()


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def python(
    bundle: Bundle,
    options: Dict[str, Any],
    rate: int,
    offline: bool = False,
    ours: Sequence[Ours] = (),
) -> List[str]:
    """Return the lines of a Python program; see `command`."""
    name = bundle.home.name
    mine = "from espnet_kd.espnet.timed_inference import TimedSpeech2Text as Speech2Text"
    theirs = f"from {_module(offline)} import Speech2Text"
    lines = [
        *imports(ours),
        "import soundfile",
        theirs if streamed(ours) else mine,
        "from espnet2.main_funcs.pack_funcs import unpack",
        "",
        f"options = {options!r}",
        f'speech2text = Speech2Text(**unpack("{name}.zip", "{name}"), **options)',
        'speech, rate = soundfile.read("speech.wav", dtype="float32")',
        f'assert rate == {rate} and speech.ndim == 1, "one channel at {rate} Hz is expected"',
    ]
    if offline:
        return lines + ["text, *_ = speech2text(speech)[0]", "print(text)"]
    if options.get("streaming") and options.get("decoding_window", 0) >= 0:
        lines += [
            "size = speech2text.audio_processor.decoding_samples",
            "last = len(speech) // size * size",
            "for start in range(0, last, size):  # chunk by chunk, as the sound comes in",
            "    speech2text.streaming_decode(speech[start : start + size])",
            "hypotheses = speech2text.streaming_decode(speech[last:], is_final=True)",
        ]
    else:
        lines += ["hypotheses = speech2text(speech)"]
    return lines + [
        "text, *_ = speech2text.hypotheses_to_results(hypotheses)[0]",
        "print(text)",
    ]
