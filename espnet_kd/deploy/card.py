"""The model card: `README.md` in the archive, beside it, and on the Hugging Face hub.

Every number is one that the run left in a file: `results.json`, the model's config, a
student's `student.json`. What is not known is not mentioned; nor is the command of the run,
which may name folders of the machine that made it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from espnet_kd.common.records import Facts, ReportedModel, Results, Student
from espnet_kd.deploy.bundle import Bundle
from espnet_kd.deploy.metadata import metadata
from espnet_kd.deploy.usage import (
    command,
    decoding_options,
    imports,
    python,
    sampling_rate,
    streamed,
)
from espnet_kd.report.comparisons import TEACHER, Comparison
from espnet_kd.report.words import UNKNOWN, circumstances, difference, duration
from espnet_kd.scoring.grouping import SPEAKERS
from espnet_kd.spec.distillation import Distillation
from espnet_kd.spec.not_stock import Ours, parts_of_ours
from espnet_kd.spec.option import published
from espnet_kd.spec.teacher_kinds import hears_whole, is_offline

# Options that say how a distillation was done; others name files of the machine.
PUBLISHED = published(Distillation)
FROM_HUB = (
    'Where `espnet_model_zoo` is installed, `Speech2Text.from_pretrained("user/name", '
    "**options)` loads it from the hub{after}."
)
CITATION = """The idea of progressive compression:

```bibtex
@inproceedings{rathod22_interspeech,
  author = {Rathod, Jash and Dawalatabad, Nauman and Singh, Shatrughan and Gowda, Dhananjaya},
  title = {Multi-stage Progressive Compression of Conformer Transducer for On-device Speech
           Recognition},
  booktitle = {Interspeech},
  year = {2022},
  url = {https://arxiv.org/abs/2210.00169}
}
```

[ESPnet](https://github.com/espnet/espnet), with which the model was trained and is decoded:

```bibtex
@inproceedings{watanabe18_interspeech,
  author = {Watanabe, Shinji and Hori, Takaaki and Karita, Shigeki and Hayashi, Tomoki and
            Nishitoba, Jiro and Unno, Yuya and Enrique Yalta Soplin, Nelson and Heymann, Jahn and
            Wiesner, Matthew and Chen, Nanxin and Renduchintala, Adithya and Ochiai, Tsubasa},
  title = {ESPnet: End-to-End Speech Processing Toolkit},
  booktitle = {Interspeech},
  pages = {2207--2211},
  year = {2018},
  doi = {10.21437/Interspeech.2018-1456}
}
```""".splitlines()


@dataclass(frozen=True)
class About:
    """Subject of a model card.

    Attributes:
        results: The report, `results.json`.
        model: Entry of this model in it.
        config: The model's training config, with `kd_conf`.
        student: Content of its `student.json`; empty for a first teacher.
        language: Language as ISO 639-1 code; None if unknown.
        license: Identifier as the hub has it (`cc-by-4.0`); None: the card names none.
        decoding: Options of decoding beside its config, e.g. `--streaming true`.
        datasets: Names on the hub of what it was trained on.
        repo: Place of the family on the hub: each model as `<repo>_<name>`.
        origin: Content of the `facts.json` of an imported first teacher.
    """

    results: Results
    model: ReportedModel
    config: Dict[str, Any]
    student: Student
    language: Optional[str] = None
    license: Optional[str] = None
    decoding: str = ""
    datasets: Sequence[str] = ()
    repo: Optional[str] = None
    origin: Facts = field(default_factory=Facts)

    @property
    def first(self) -> ReportedModel:
        """Return the entry of the first teacher."""
        return self.results["models"][0]

    @property
    def is_student(self) -> bool:
        """Whether there is a larger model that this one is to replace."""
        return self.model["stage"] > 0

    @property
    def base_model(self) -> Optional[str]:
        """Return the repository of the model that this one was made from, if it has one."""
        names = [model["name"] for model in self.results["models"]]
        teacher = self.model.get("teacher")
        return f"{self.repo}_{teacher}" if self.repo and teacher in names else None

    @property
    def distilled(self) -> Dict[str, Any]:
        """Return the options of the distillation; nothing if no loss matched a teacher."""
        conf = self.config.get("kd_conf") or {}
        return conf if conf.get("objective", "none") != "none" else {}

    @property
    def ours(self) -> List[Ours]:
        """Return its parts that ESPnet does not have."""
        return parts_of_ours(self.config)

    @property
    def labelled(self) -> bool:
        """Whether it was trained on what its teacher made of the training set."""
        return self.student.get("labels") == "teacher"

    @property
    def taught(self) -> bool:
        """Whether its training had a teacher."""
        return bool(self.distilled) or self.labelled


def model_card(about: About, bundle: Bundle) -> str:
    """Write the card.

    Args:
        about: Subject of the card.
        bundle: The files of the archive.
    """
    name = bundle.home.name
    tags = ["knowledge-distillation"] * about.taught
    head = metadata(
        about.results,
        about.model,
        name,
        tags,
        about.language,
        about.license,
        about.datasets,
        about.base_model,
    )
    lines = ["---", *head, "---", "", f"# {name}", ""]
    if about.results.get("note"):
        lines += [f"> **{about.results['note']}**", ""]
    lines += [_what(about), "", *_facts(about), ""]
    lines += ["## Word error rate", "", *_error_rates(about), *_how_decoded(about), ""]
    lines += ["## Decoding", "", *_decoding(about, bundle), ""]
    lines += ["## Training", "", *_training(about), ""]
    lines += ["## Limits", "", *_limits(about), ""]
    lines += ["## Citation", "", *CITATION]
    return "\n".join(lines) + "\n"


def _what(about: About) -> str:
    task = "asr" if is_offline(about.config) else "asr_transducer"
    text = f"A transducer for speech recognition, of ESPnet's task `{task}`"
    if not about.is_student:
        return f"{text}: the first teacher of a family of compressed models.{_origin(about)}"
    return (
        f"{text}, {100 * about.model['compression']:.1f} % smaller than the first teacher of "
        "its family. The family was made with espnet_kd: knowledge distillation in stages, an "
        "idea of Rathod, Dawalatabad, Singh and Gowda, Interspeech 2022 "
        "([arXiv 2210.00169](https://arxiv.org/abs/2210.00169)). Decoding needs ESPnet"
        + (" and espnet_kd." if about.ours else " only.")
        + _origin(about).replace(" It was", " The first teacher was", 1)
    )


def _origin(about: About) -> str:
    """Say where an imported teacher came from, without the folders that lead there."""
    source = about.origin.get("imported_from")
    if not source:
        return ""
    text = f" It was trained elsewhere, as `{Path(str(source)).name}`"
    checkpoint, digest = (about.origin.get(key) for key in ("checkpoint", "checkpoint_sha256"))
    if checkpoint:
        text += f", and its checkpoint `{Path(str(checkpoint)).name}` was imported"
    return text + (f" (SHA-256 `{digest}`)." if digest else ".")


def _facts(about: About) -> List[str]:
    model, config = about.model, about.config
    front = config.get("frontend_conf") or {}
    rows = {"Parameters (encoder, decoder, joint network)": f"{model['params']:,}"}
    if about.is_student:
        rows["First teacher's"] = f"{about.first['params']:,}"
    if about.taught:
        rows["Teacher"] = _teacher(about)
    rows["Checkpoint"] = f"{model['size_mb']:.2f} MB"
    if "device_mb" in model:
        rows["Weights on a device"] = f"{model['device_mb']:.3f} MB"
    if isinstance(config.get("token_list"), list):
        rows["Tokens"] = f"{len(config['token_list'])} ({config.get('token_type')})"
    if front.get("fs"):
        rows["Sampling rate"] = str(front["fs"])
    rtf = model.get("rtf")
    if rtf:
        factors = f"{rtf['median']:.3f} ({rtf['p95']:.3f})"
        rows["Real-time factor"] = f"{factors}: {circumstances(about.results['speed'])}"
    return ["| | |", "|:--|:--|", *(f"| {key} | {value} |" for key, value in rows.items())]


def _teacher(about: About) -> str:
    """Return the name of the model that this one learnt or inherited from."""
    name = about.model.get("taught_by") or about.model.get("teacher")
    for model in about.results["models"]:
        if model["name"] == name:
            return f"{name} ({model['params']:,} parameters)"
    return Path(name).name if name else UNKNOWN


def _error_rates(about: About) -> List[str]:
    """Return the table of the whole family; this model's row is bold."""
    sets = about.results["test_sets"]
    cells = ["Model", "Parameters", "Smaller by"]
    for s in sets:
        cells += [f"WER % {s}", "difference"]
    lines = [_row(cells), _row([":--"] + ["--:"] * (len(cells) - 1))]
    compared = {
        (c.model, c.test_set): difference(c)
        for c in map(Comparison.from_json, about.results.get("comparisons") or [])
        if c.family == TEACHER
    }
    for model in about.results["models"]:
        cells = [model["name"], f"{model['params']:,}"]
        cells.append(f"{100 * model['compression']:.1f} %" if model["stage"] else UNKNOWN)
        for s in sets:
            cells += [f"{model['wer'][s]:.2f}", compared.get((model["name"], s), UNKNOWN)]
        if model is about.model:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(_row(cells))
    method = about.results["method"]
    lines += [
        "",
        "Differences are to the first teacher, in points, with their "
        f"{100 * method['level']:.0f} % intervals ({method['interval']}, {method['draws']:,} "
        "draws); † marks those that are significant after correction for all models of the "
        "table. Decoded as below.",
    ]
    for model in about.results["models"]:
        for s, what in (model.get("faults") or {}).items():
            lines += ["", f"**{model['name']} {what} on {s}.**"]
    return lines


def _row(cells: List[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _how_decoded(about: About) -> List[str]:
    """Say how the scores were made where ESPnet's command does not make them."""
    if about.results.get("decoding") != "aligned":
        return []
    if about.config.get("encoder_conf") and hears_whole(about.config):
        return ["", "This model heard whole utterances, as it was trained, and not chunks."]
    if not streamed(about.ours):
        return ["", "They are of espnet_kd's aligned decoding, as are the commands below."]
    text = (
        "They are of espnet_kd's aligned decoding, in chunks as in training. The commands below "
        "are ESPnet's, whose streaming drops an utterance's first encoder frame and its last: "
    )
    stock = about.model.get("wer_stock")
    if not stock:
        return ["", text + "its WER was not measured."]
    rates = ", ".join(f"{stock[s]:.2f} % on {s}" for s in about.results["test_sets"])
    return ["", f"{text}with them this model's WER is {rates}."]


def _decoding(about: About, bundle: Bundle) -> List[str]:
    """Return commands that decode with ESPnet, and the Python of it."""
    name = bundle.home.name
    offline, ours = is_offline(about.config), about.ours
    why = "; ".join(part.why for part in ours)
    options = decoding_options(bundle, about.decoding, offline)
    env: Mapping[str, Any] = about.results["environment"]
    return [
        *([f"**ESPnet alone does not decode this model**: {why}.", ""] if ours else []),
        f"With ESPnet (made with espnet {env.get('espnet') or UNKNOWN}, torch "
        f"{env.get('torch') or UNKNOWN}), in the folder that `unzip {name}.zip` fills or in a "
        "clone of the model's repository; `wav.scp` has a line `<utterance> <audio file>` for "
        "each utterance:",
        "",
        "```sh",
        *command(bundle, about.decoding, offline, ours),
        "```",
        "",
        "The same in Python, for one sound file:",
        "",
        "```python",
        *python(bundle, options, sampling_rate(about.config), offline, ours),
        "```",
        "",
        *(["ESPnet builds this model only where `warprnnt_pytorch` is installed.", ""] * offline),
        *([FROM_HUB.format(after=_after(ours))] if streamed(ours) else []),
    ]


def _after(ours: Sequence[Ours]) -> str:
    """Name what must be imported before ESPnet loads a model."""
    lines = " and ".join(f"`{line}`" for line in imports(ours))
    return f", after {lines}" if lines else ""


def _training(about: About) -> List[str]:
    model = about.model
    env: Mapping[str, Any] = about.results["environment"]
    lines = []
    if about.is_student:
        conf = about.distilled
        options = [f"{key} {conf[key]}" for key in PUBLISHED if conf.get(key) is not None]
        lines.append(f"- Stage {model['stage']}, `{model['name']}` in the plan.")
        if options:
            lines.append(f"- Distillation: {', '.join(options)}.")
        if about.labelled:
            lines.append("- Trained on its teacher's transcripts of the training set.")
        if not about.taught:
            lines.append("- Trained without a teacher.")
        if not about.taught and about.student.get("init") == "teacher":
            lines.append(f"- First weights inherited from {_teacher(about)}.")
    numbers = [
        f"{model[key]:,} {key}" for key in ("epochs", "updates") if model.get(key) is not None
    ]
    if model.get("train_seconds") is not None:
        numbers.append(f"{duration(model['train_seconds'])} on {model.get('device') or 'CPU'}")
    if numbers:
        alone = ", without the training of its teachers" if about.taught else ""
        lines.append(f"- {', '.join(numbers)}{alone}.")
    known = {
        name: str(env[name]).split()[0]
        for name in ("espnet_kd", "espnet", "torch", "torchaudio", "python")
        if env.get(name)
    }
    lines.append(f"- Versions: {', '.join(f'{k} {v}' for k, v in known.items())}.")
    if env.get("git_commit"):
        lines.append(f"- Commit: `{env['git_commit']}`.")
    lines.append(f"- Reported {env['date']}.")
    return lines


def _drawn(results: Results) -> str:
    """Say whom the intervals speak of."""
    alone = "utterances of one speaker count as independent: that holds for these speakers alone."
    drawn = results["method"].get("drawn")
    if not drawn:
        return f"In them {alone}"
    parts = [f"{d['groups']:,} {d['by']} of {name}" for name, d in drawn.items()]
    text = f"Drawn are {', '.join(parts)}."
    few = any(d["by"] != SPEAKERS and d["speakers"] < d["groups"] for d in drawn.values())
    return text + (f" Where those are not speakers, {alone}" if few else "")


def _limits(about: About) -> List[str]:
    sets = ", ".join(f"`{s}`" for s in about.results["test_sets"])
    lines = []
    if about.results.get("note"):
        lines.append(f"- About the data: {about.results['note']}")
    if not about.license:
        lines.append("- No licence was named: ask its author before you use the model.")
    lines += [
        f"- `{s}`: all utterances of {s[4:]}, which was also trained on or used to choose the "
        "checkpoints."
        for s in about.results["test_sets"]
        if s.startswith("org/")
    ]
    return lines + [
        f"- Measured on {sets} only. Other speakers, channels, noise, languages and vocabularies "
        "were not tested.",
        "- Each model was trained once: the intervals do not say how another seed would have "
        f"come out. {_drawn(about.results)}",
        "- The real-time factor is that of ESPnet's Python decoder on the machine named above.",
    ]
