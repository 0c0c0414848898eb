"""tools/make_venv.sh with a stand-in for Python: what it does in each state of a folder."""

import shutil
import subprocess

import pytest

# Answers the questions the script asks, makes an environment that holds a copy of itself,
# and writes down what pip is told. FAKE_VERSION, FAKE_VENV=no and FAKE_PIP=no steer it.
FAKE = r"""#!/usr/bin/env bash
case "$*" in
*version_info*) cat "${0%/*}/version" 2>/dev/null || echo "${FAKE_VERSION:-3.11}" ;;
*sys.executable*) echo "$0" ;;
*"import ensurepip"*) [ "${FAKE_VENV:-yes}" = yes ] ;;
*"import virtualenv"*) exit 1 ;;
*"-m venv --clear"*)
    dir=${*: -1}
    rm -rf "${dir:?}"/*
    mkdir -p "${dir}/bin"
    cp "$0" "${dir}/bin/python"
    echo "${FAKE_VERSION:-3.11}" >"${dir}/bin/version"
    ;;
*"-m pip"*)
    echo "${*: 3}" >>pip.log
    [ "${FAKE_PIP:-yes}" = yes ]
    ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def make_venv(repo, tmp_path):
    """Return a function that runs the script in a small copy of the checkout."""
    root = tmp_path / "checkout"
    shutil.copytree(repo / "constraints", root / "constraints")
    for name in ("setup.py", "pyproject.toml", "tools/make_venv.sh"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(repo / name, root / name)
    fake = tmp_path / "python3.11"
    fake.write_text(FAKE)
    fake.chmod(0o755)

    def run(venv=".venv", python=str(fake), options=(), **environment):
        return subprocess.run(
            [str(root / "tools/make_venv.sh"), venv, python, "demo,test", *options],
            cwd=root,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
        )

    run.root = root
    return run


def pip_calls(make_venv):
    log = make_venv.root / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_new_environment_is_made_once(make_venv):
    first = make_venv()
    assert first.returncode == 0, first.stderr
    assert "a new environment with Python 3.11" in first.stdout
    assert "installed in" in first.stdout
    assert pip_calls(make_venv) == [
        "install --constraint constraints/py311-espnet202511.txt -e .[demo,test]",
        "check",
    ]
    second = make_venv()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert len(pip_calls(make_venv)) == 2


def test_what_outlives_the_script_holds_no_output_of_it(make_venv, tmp_path):
    sleep = tmp_path / "sleep"
    sleep.write_text(
        '#!/usr/bin/env bash\nreadlink /proc/$$/fd/{1,2} >>"${0%/*}/held"\nexec /bin/sleep 2\n'
    )
    sleep.chmod(0o755)
    fake = (tmp_path / "python3.11").read_text()  # a pip that takes longer than the first sleep
    (tmp_path / "python3.11").write_text(
        fake.replace('echo "${*: 3}"', '/bin/sleep 1; echo "${*: 3}"')
    )
    assert make_venv().returncode == 0
    assert set((tmp_path / "held").read_text().split()) == {"/dev/null"}


def test_python_is_found_without_being_named(make_venv):
    done = make_venv(python="")
    assert done.returncode == 0, done.stderr
    assert "py311-espnet202511" in done.stdout


def test_the_interpreter_picks_the_constraints(make_venv):
    assert "py312-espnet202611" in make_venv(venv=".venv312", FAKE_VERSION="3.12").stdout


@pytest.mark.parametrize("name", ["setup.py", "constraints/py311-espnet202511.txt"])
def test_a_change_updates(make_venv, name):
    make_venv()
    with open(make_venv.root / name, "a") as f:
        f.write("# changed\n")
    done = make_venv()
    assert "updating" in done.stdout and "a new environment" not in done.stdout
    assert len(pip_calls(make_venv)) == 4
    assert make_venv().stdout == ""


def test_a_failed_update_keeps_the_environment(make_venv):
    make_venv()
    (make_venv.root / "setup.py").write_text("# changed\n")
    (make_venv.root / ".venv" / "precious").touch()
    failed = make_venv(FAKE_PIP="no")
    assert failed.returncode == 1 and "pip failed" in failed.stderr
    assert "updating" in make_venv().stdout
    assert (make_venv.root / ".venv" / "precious").exists()
    assert make_venv().stdout == ""


def test_a_moved_checkout_updates(make_venv):
    """An editable install points at the folder it was made from."""
    make_venv()
    moved = make_venv.root.with_name("moved")
    make_venv.root.rename(moved)
    script = [str(moved / "tools/make_venv.sh"), ".venv", "", "demo,test"]
    done = subprocess.run(script, cwd=moved, capture_output=True, text=True)
    assert "updating" in done.stdout, done.stderr


def test_an_interrupted_install_starts_over(make_venv):
    failed = make_venv(FAKE_PIP="no")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1 and "pip failed" in failed.stderr
    (make_venv.root / ".venv" / "half").touch()
    done = make_venv()
    assert done.returncode == 0
    assert "starting over" in done.stdout
    assert not (make_venv.root / ".venv" / "half").exists()


def test_a_broken_interpreter_starts_over(make_venv):
    """For example: the system's Python was upgraded away under the environment."""
    make_venv()
    (make_venv.root / ".venv/bin/python").unlink()
    assert "starting over" in make_venv().stdout


@pytest.mark.parametrize(
    "arguments, environment, words",
    [
        ({}, {"FAKE_VERSION": "3.13"}, ["Python 3.13", "tested are 3.11 3.12"]),
        ({"python": "python3.99"}, {}, ["PYTHON=python3.99 does not run"]),
        ({}, {"FAKE_VENV": "no"}, ["python3-venv", "python3.11-venv"]),
    ],
)
def test_what_cannot_work_is_one_line(make_venv, arguments, environment, words):
    done = make_venv(**arguments, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith("make: error: ") and done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not (make_venv.root / ".venv").exists()


def test_another_version_does_not_replace_an_environment(make_venv):
    make_venv()
    done = make_venv(FAKE_VERSION="3.12")
    assert done.returncode == 1
    assert "holds Python 3.11" in done.stderr and "VENV=.venv312" in done.stderr


def test_a_foreign_folder_stays_untouched(make_venv):
    (make_venv.root / "mine").mkdir()
    (make_venv.root / "mine" / "precious").touch()
    done = make_venv(venv="mine")
    assert done.returncode == 1
    assert "was not made by this Makefile" in done.stderr
    assert [path.name for path in (make_venv.root / "mine").iterdir()] == ["precious"]


def test_pip_options_reach_pip(make_venv):
    make_venv(options=("--no-deps",))
    assert "--no-deps" in pip_calls(make_venv)[0]
    # How it was installed is not what was installed: nothing to do without them.
    assert make_venv().stdout == ""
