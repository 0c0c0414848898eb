"""Parts of an installation: those there, those missing, and what to do about them.

Every function returns findings; nothing here raises because something is missing or
broken. `espnet_kd.bin.check_install` prints them.
"""

import dataclasses
import importlib
import importlib.util
import os
import shutil
import sys
import warnings
from importlib import metadata
from types import ModuleType
from typing import List, Optional, Tuple

from espnet_kd.machine import cores

OK, MISSING, BROKEN = "ok", "-", "BROKEN"

TESTED_PYTHON = ((3, 11), (3, 12))

# Distribution and module that every part of espnet_kd needs, torch and torchaudio apart.
REQUIRED = (
    ("sentencepiece", "sentencepiece"),
    ("kaldiio", "kaldiio"),
    ("numpy", "numpy"),
    ("soxr", "soxr"),
    ("humanfriendly", "humanfriendly"),
    ("scipy", "scipy"),
    ("PyYAML", "yaml"),
)

# Distribution, module, extra of setup.py (None: base), what is lost without it.
OPTIONAL = (
    ("editdistance", "editdistance", None, "ESPnet's report_cer and report_wer fail"),
    ("matplotlib", "matplotlib", "plot", "the report has no plots"),
    ("tensorboard", "tensorboard", "plot", "training writes no TensorBoard log"),
    ("espeakng-loader", "espeakng_loader", "demo", "egs2/mini_speech cannot make its corpus"),
    ("onnxruntime", "onnxruntime", "device", "bin/transcribe cannot run exported models"),
    ("sounddevice", "sounddevice", "device", "bin/transcribe has no --microphone"),
    ("pytest", "pytest", "test", "no tests"),
    ("pytest-xdist", "xdist", "test", "tests run in one process: `make test TEST_JOBS=`"),
    ("ruff", "ruff", "test", "no linting of Python"),
    ("mypy", "mypy", "test", "no checking of types"),
    ("onnx", "onnx", "export", "bin/export cannot make graphs"),
    ("onnx-ir", "onnx_ir", "export", "bin/export has no int4"),
    ("kaldi-native-fbank", "kaldi_native_fbank", "export", "bin/export has no --for sherpa-onnx"),
    ("sherpa-onnx", "sherpa_onnx", "test", "what is exported for it is not compared"),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: Name of the part.
        value: Version or size, or what is wrong with it.
        state: `OK`, `MISSING` (optional) or `BROKEN` (required; nothing works without it).
        advice: Remedy; may be empty.
    """

    name: str
    value: str
    state: str = OK
    advice: str = ""


def load(module: str) -> Tuple[Optional[ModuleType], str]:
    """Import a module; return it, or None and the error in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module), ""
    except Exception as e:  # whatever a broken installation raises is what we report
        return None, f"{type(e).__name__}: {' '.join(str(e).split())}"[:300]


def version_of(distribution: str, module: Optional[ModuleType] = None) -> str:
    """Return the version pip knows, else the module's own (a checkout on PYTHONPATH)."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", "unknown version"))


def is_there(module: str) -> bool:
    """Tell whether a top-level module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module without a spec stands in sys.modules
        return True


def required(distribution: str, module: str) -> Finding:
    """Check a package without which nothing works."""
    loaded, error = load(module)
    if loaded is not None:
        return Finding(distribution, version_of(distribution, loaded))
    advice = f"pip install {distribution}"
    if not error.startswith("ModuleNotFoundError"):
        advice = f"pip install --force-reinstall --no-deps {distribution}"
    return Finding(distribution, error, BROKEN, advice)


def python() -> Finding:
    """Check the interpreter."""
    value = f"{sys.version.split()[0]} ({sys.executable})"
    if sys.version_info < (3, 10):
        return Finding("python", value, BROKEN, "use Python 3.11 or 3.12")
    if sys.version_info[:2] not in TESTED_PYTHON:
        return Finding("python", f"{value}, not tested", OK, "3.11 and 3.12 are tested")
    return Finding("python", value)


def espnet() -> Finding:
    """Check ESPnet's version; `espnet2` itself is cheap to import, its tasks are not."""
    finding = required("espnet", "espnet2")
    if finding.state != OK:
        return finding
    versions, _ = load("espnet_kd.espnet.versions")  # needs torch, which may be broken
    tested = getattr(versions, "TESTED", ())
    if finding.value in tested:
        return Finding("espnet", f"{finding.value}, tested with espnet_kd")
    advice = f"tested are {' and '.join(tested)}; run `make test` before you trust this one"
    return Finding("espnet", f"{finding.value}, not tested with espnet_kd", OK, advice)


def torch_pair() -> List[Finding]:
    """Check torch and torchaudio, which must come from builds that fit each other."""
    torch_finding = required("torch", "torch")
    torch, _ = load("torch")
    if torch is None:
        return [torch_finding, Finding("torchaudio", "not looked at", BROKEN, "torch first")]
    cuda = torch.version.cuda
    built = f"built for CUDA {cuda}" if cuda else "CPU build"
    torch_finding = Finding("torch", f"{torch.__version__}, {built}")
    return [torch_finding, torchaudio(torch)]


def torchaudio(torch: ModuleType) -> Finding:
    """Check torchaudio beside a torch that works."""
    audio, error = load("torchaudio")
    if audio is not None:
        return Finding("torchaudio", version_of("torchaudio", audio))
    pair = ".".join(torch.__version__.split("+")[0].split(".")[:2])
    # 2.11 is the last line of torchaudio; it runs with every torch from 2.11 on.
    pair = pair if tuple(map(int, pair.split("."))) < (2, 11) else "2.11"
    advice = f"pip install 'torchaudio=={pair}.*'"
    if not error.startswith("ModuleNotFoundError"):
        version = version_of("torchaudio")
        error = f"{version} cannot be loaded ({error})"
        if torch.version.cuda is None and "cuda" in error.lower():
            advice = (
                f"torch {torch.__version__} is a CPU build, this torchaudio one for CUDA: "
                "install both in one pip command from one index, e.g. "
                f"pip install --force-reinstall 'torch=={pair}.*' 'torchaudio=={pair}.*'"
            )
        else:
            advice = (
                f"torchaudio {version} does not fit torch {torch.__version__}: "
                f"pip install --force-reinstall --no-deps 'torchaudio=={pair}.*'"
            )
    return Finding("torchaudio", error, BROKEN, advice)


def audio_files() -> Finding:
    """Check soundfile, its libsndfile and the formats it reads."""
    finding = required("soundfile", "soundfile")
    soundfile, _ = load("soundfile")
    if soundfile is None:
        return finding
    reads = [name for name in ("WAV", "FLAC") if name in soundfile.available_formats()]
    if "OPUS" in soundfile.available_subtypes("OGG"):
        reads.append("Ogg Opus")
    value = (
        f"{finding.value}, libsndfile {soundfile.__libsndfile_version__}, reads {', '.join(reads)}"
    )
    advice = "" if len(reads) == 3 else "pip install -U soundfile: its wheel reads them all"
    return Finding("soundfile", value, OK, advice)


def rnnt_loss() -> Finding:
    """Say whether our RNN-T loss works; it needs torch only."""
    recursion, error = load("espnet_kd.lattice.recursion")
    if recursion is None:
        return Finding("RNN-T loss", error, BROKEN, "torch must work first")
    return Finding("RNN-T loss", "espnet_kd (PyTorch, anti-diagonal)")


def devices() -> List[Finding]:
    """Count processors and GPUs."""
    findings = [Finding("CPU", f"{cores()} cores")]
    torch, _ = load("torch")
    if torch is not None and torch.cuda.is_available():
        for n in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(n)
            findings.append(
                Finding(f"GPU {n}", f"{card.name}, {card.total_memory / 2**30:.0f} GiB")
            )
        return findings
    advice = "none is needed: recipes run on the CPU with --ngpu 0"
    if os.path.exists("/dev/nvidiactl"):
        advice = (
            "there is an NVIDIA driver: torch is a CPU build, or built for a newer CUDA than "
            "the driver knows (see nvidia-smi)"
        )
    return [*findings, Finding("GPU", "none that torch can use", MISSING, advice)]


def tools() -> List[Finding]:
    """Look for the programs that are called, in the environment and on PATH."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    sclite, error = _sclite()
    findings = [
        Finding("sclite", sclite)
        if sclite
        else Finding(
            "sclite",
            error or "not found",
            MISSING,
            "our own scorer gives the same counts; Debian's package is sctk "
            "(PyPI's sctk is something else), or set SCLITE=/path/to/sclite",
        )
    ]
    for name, advice in (
        ("git", "the report cannot name the commit: install git"),
        ("shellcheck", "no linting of shell: pip install -e '.[test]'"),
    ):
        place = shutil.which(name, path=path)
        findings.append(Finding(name, place) if place else _lacks(name, advice))
    return findings


def _sclite() -> Tuple[Optional[str], str]:
    """Return where sclite is, or None and what is wrong with $SCLITE."""
    from espnet_kd.errors import UserError
    from espnet_kd.scoring.sclite import find_sclite

    try:
        return find_sclite(), ""
    except UserError as e:
        return None, str(e)


def _lacks(name: str, advice: str) -> Finding:
    return Finding(name, "not found", MISSING, advice)


def optional() -> List[Finding]:
    """Look for the packages without which only a part is lost."""
    findings = []
    for distribution, module, extra, loss in OPTIONAL:
        if is_there(module):
            findings.append(Finding(distribution, version_of(distribution)))
        else:
            remedy = f"-e '.[{extra}]'" if extra else distribution
            findings.append(_lacks(distribution, f"{loss}: pip install {remedy}"))
    return findings


def deep() -> List[Finding]:
    """Import ESPnet's transducer task and ours; takes ten seconds and more."""
    findings = []
    for name, module in (
        ("ESPnet's task", "espnet2.tasks.asr_transducer"),
        ("ESPnet's decoder", "espnet2.bin.asr_transducer_inference"),
        ("our task", "espnet_kd.espnet.task"),
    ):
        loaded, error = load(module)
        if loaded is None:
            advice = "see the lines above, or make a fresh environment with `make install`"
            findings.append(Finding(name, f"{module}: {error}", BROKEN, advice))
        else:
            findings.append(Finding(name, f"{module} imported"))
    return findings


def sections(with_deep: bool = False) -> "List[Tuple[str, List[Finding]]]":
    """Look at everything; return (title, findings) in the order of printing."""
    packages = [python(), espnet(), *torch_pair()]
    packages += [required(*names) for names in REQUIRED]
    packages.append(audio_files())
    result = [
        ("Needed", packages + [rnnt_loss()]),
        ("Machine", devices()),
        ("Programs", tools()),
        ("Optional", optional()),
    ]
    if with_deep:
        result.insert(1, ("ESPnet's modules", deep()))
    return result
