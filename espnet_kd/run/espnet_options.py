"""Options of ESPnet's `asr.sh` that this recipe has not: taken, ignored, or refused with a reason.

An option of the same name means the same (`run/options.py`). `RULES` holds the others, as of
ESPnet's releases up to 202611.
"""

import os
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from espnet_kd.errors import nearest, shown

Values = Mapping[str, str]
NO_LM = (
    "no language model is trained; one that you have goes into decoding by --inference_args "
    '"--lm_train_config FILE --lm_file FILE --lm_weight 0.3"'
)


class Rule(NamedTuple):
    """What becomes of an option.

    Attributes:
        harmless: Values with which it is ignored; None: all.
        reason: Why another value is refused.
        take: Makes values of our options of it, from its value and all options.
    """

    harmless: Optional[Tuple[str, ...]] = ()
    reason: str = ""
    take: Optional[Callable[[str, Values], Dict[str, str]]] = None


class Verdict(NamedTuple):
    """What becomes of all options that the recipe has not.

    Attributes:
        taken: New values of options of the recipe.
        ignored: Options that change nothing, as `--name value`.
        problems: One line for each that is refused.
    """

    taken: Dict[str, str]
    ignored: List[str]
    problems: List[str]


def _skips(*stages: int) -> Rule:
    def take(value: str, values: Values) -> Dict[str, str]:
        words = [*values["skip_stages"].split(), *map(str, stages)]
        return {"skip_stages": " ".join(dict.fromkeys(words))}

    return Rule(("false",), "must be true or false", take)


def _valid_set(value: str, values: Values) -> Dict[str, str]:
    words = [values["valid_set"], *values["test_sets"].split()]
    return {"test_sets": " ".join(dict.fromkeys(words))}


def _pretrained(value: str, values: Values) -> Dict[str, str]:
    return {"asr_args": f"{values['asr_args']} --init_param {value}".strip()}


def _mismatch(value: str, values: Values) -> Dict[str, str]:
    return {"asr_args": f"{values['asr_args']} --ignore_init_mismatch true".strip()}


def _only(*harmless: str, reason: str) -> Rule:
    return Rule(harmless, reason)


def _off(reason: str) -> Rule:
    return Rule(("false",), reason)


UNUSED = Rule(None)
_K2 = "k2 decodes CTC, not the standalone transducer"
_SPECIAL = "names of special tokens are fixed in espnet2.asr_transducer"
_OTHER_TASK = "is of another task than the standalone transducer's"

RULES: Dict[str, Rule] = {
    # General
    "skip_data_prep": _skips(1, 2, 3, 4, 5),
    "skip_train": _skips(10, 11, 16),
    "skip_eval": _skips(12, 13, 17, 18, 19, 21, 22),  # report and cards need the scores
    "skip_packing": _skips(18),
    "skip_upload": _skips(18, 19),
    "skip_upload_hf": _skips(19),
    "eval_valid_set": Rule(("false",), "must be true or false", _valid_set),
    "debug": UNUSED,
    "use_lightning": _off("trainings run by espnet2's trainer"),
    # Data
    "post_process_local_data_opts": _only("", reason="do that in local/data.sh"),
    "auxiliary_data_tags": _only("", reason=_OTHER_TASK),
    "feats_type": _only("raw", reason="features are made of raw audio while training"),
    "multi_columns_input_wav_scp": _off("utterances are of one file, its channels averaged"),
    "multi_columns_output_wav_scp": _off("utterances are of one file, its channels averaged"),
    # Tokens
    "oov": _only("<unk>", reason=_SPECIAL),
    "blank": _only("<blank>", reason=_SPECIAL),
    "sos_eos": _only("<sos/eos>", reason=_SPECIAL),
    "bpe_input_sentence_size": UNUSED,
    "hugging_face_model_name_or_path": _only("", reason="tokens are made of the training set"),
    "whisper_language": _only("", reason=_OTHER_TASK),
    "whisper_task": _only("", reason=_OTHER_TASK),
    # Language models
    "use_ngram": _off(NO_LM),
    "ngram_exp": UNUSED,
    "ngram_num": UNUSED,
    "use_lm": _off(NO_LM),
    "use_word_lm": _off(NO_LM),
    **{
        f"lm_{name}": UNUSED
        for name in ("tag", "exp", "stats_dir", "config", "args", "fold_length", "train_text",
                     "dev_text", "test_text")
    },
    "num_splits_lm": UNUSED,
    "word_vocab_size": UNUSED,
    "inference_lm": UNUSED,
    "inference_ngram": UNUSED,
    "use_prompt": _off(_OTHER_TASK),
    "use_lang_prompt": _off(_OTHER_TASK),
    "use_nlp_prompt": _off(_OTHER_TASK),
    # Teacher
    "asr_task": Rule(
        ("asr_transducer",),
        "models here are those of espnet2.bin.asr_transducer_train; a transducer of espnet2.asr "
        "can teach them, with --teacher_exp",
        lambda value, values: {},  # of the teacher that is imported
    ),
    "pretrained_model": Rule(("",), "", _pretrained),
    "ignore_init_mismatch": Rule(("false",), "must be true or false", _mismatch),
    "num_splits_asr": UNUSED,  # it is about memory while training
    "num_ref": _only("1", reason=_OTHER_TASK),
    "num_inf": _only("", "1", reason=_OTHER_TASK),
    "sot_asr": _off(_OTHER_TASK),
    # Decoding
    "use_k2": _off(_K2),
    "k2_ctc_decoding": UNUSED,
    "use_nbest_rescoring": UNUSED,
    "num_paths": UNUSED,
    "nll_batch_size": UNUSED,
    "k2_config": UNUSED,
    "use_maskctc": _off(_K2.replace("k2", "Mask-CTC")),
    "batch_size": _only("1", reason='batches of decoding are --inference_args "--batch_size N"'),
    "download_model": _only(
        "", reason="unpack it, and name its folder exp/asr_<tag> with --teacher_exp"
    ),
    "hyp_cleaner": _only("", "none", reason="hypotheses are scored as they are"),
    "g2p": _only("", "none", reason="tokens are characters, BPE or words, not phonemes"),
    "score_opts": _only("", reason="scoring is our own, with sclite's costs"),
    "gpu_id": UNUSED,
}  # fmt: skip
# Words that options of one purpose begin with: none is meant for another.
FAMILIES = (
    "lm", "asr", "ngram", "k2", "inference", "teacher", "student", "kd", "hf", "export", "cache",
    "bpe", "use", "skip", "num", "hugging",
)  # fmt: skip
TRANSLATED = {"flac.ark": "flac", "wav.ark": "wav", "kaldi_ark": "flac"}  # of --audio_format


def judge(given: Iterable[Tuple[str, Optional[str]]], values: Values) -> Verdict:
    """Say what becomes of options that the recipe has not.

    Args:
        given: Names, with their values; None: there was none.
        values: Values of the recipe's options.
    """
    verdict = Verdict({}, [], [])
    values = dict(values)
    audio = TRANSLATED.get(values["audio_format"])
    if audio:  # such a corpus is read by --corpus; what training reads are files
        verdict.ignored.append(f"--audio_format {values['audio_format']} (written as {audio})")
        verdict.taken["audio_format"] = audio
    for name, value in given:
        plain = name.replace("-", "_")
        rule = RULES.get(plain)
        if rule is None:
            verdict.problems.append(
                f"unknown option --{name}{_suggestion(plain, values)}; --help lists them all"
            )
        elif value is None:
            verdict.problems.append(f"option --{name} needs a value")
        elif rule.harmless is None or value in rule.harmless:
            verdict.ignored.append(f"--{name} {value}".strip())
        elif rule.take is None:
            verdict.problems.append(f"--{name} {shown(value)}: {rule.reason}")
        else:
            problem = _problem(plain, value, rule, values)
            if problem:
                verdict.problems.append(f"--{name} {problem}")
                continue
            new = rule.take(value, values)
            if not new:
                verdict.ignored.append(f"--{name} {value}")
            verdict.taken.update(new)
            values.update(new)
    return verdict


def _problem(name: str, value: str, rule: Rule, values: Values) -> str:
    if name == "pretrained_model":
        if values["teacher_exp"]:
            return "and --teacher_exp: the teacher is imported, and not trained"
        path = value.partition(":")[0]
        return "" if os.path.isfile(path) else f"{path}: no such file"
    if name == "asr_task":
        imported = value == "asr" and values["teacher_exp"]
        return "" if imported else f"{shown(value)}: {rule.reason}"
    return "" if value == "true" else f"{rule.reason}, not {value!r}"


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Return the option that may have been meant, of the same family if it has one."""
    family = name.partition("_")[0]
    if family in FAMILIES and "_" in name:
        known = [word for word in known if word.startswith(f"{family}_")]
    return nearest(name, known).replace("'", "'--", 1)
