#!/usr/bin/env bash
# Make a virtual environment with this package in it, or recognise a finished one.
#
#   tools/make_venv.sh VENV PYTHON EXTRAS [pip options...]
#
# VENV    folder of the environment, relative to the repository
# PYTHON  interpreter to make it with; empty: python3.11, python3.12, python3, python
# EXTRAS  of setup.py, e.g. demo,plot,device,export,test
#
# The line in VENV/espnet_kd.stamp says how far an install came:
#   new         begun and not finished: the environment is made again
#   outdated    an update was begun and not finished: pip goes on
#   <numbers>   finished; the fingerprint of what was installed
# The Makefile is the usual caller.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=$1
python=$2
extras=$3
shift 3
stamp=${venv}/espnet_kd.stamp
gigabytes=7 # what a full environment takes, with some room

die() {
    echo "make: error: $*" >&2
    exit 1
}

version_of() { # `3.11` for an interpreter that runs, nothing for one that does not
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

resolve() { # the interpreter behind a name: on PATH, or one that pyenv keeps off PATH
    local candidate candidates=("$1")
    case $1 in
        */*) ;;
        *) candidates+=("${PYENV_ROOT:-${HOME:-/}/.pyenv}"/versions/*/bin/"$1") ;;
    esac
    for candidate in "${candidates[@]}"; do
        if [ -n "$(version_of "${candidate}")" ]; then
            "${candidate}" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

constraints_for() { # the file of the tested set for a Python version
    find constraints -name "py${1/./}-*.txt" | sort | tail -n 1
}

tested() { # `3.11 3.12`
    find constraints -name 'py*.txt' | sed 's/.*py3\([0-9]*\)-.*/3.\1/' | sort -u | paste -sd ' '
}

find_python() { # sets `python` and `py_version`
    local name
    if [ -n "${python}" ]; then
        name=${python}
        python=$(resolve "${name}")
        [ -n "${python}" ] || die "PYTHON=${name} does not run"
        py_version=$(version_of "${python}")
        [ -n "$(constraints_for "${py_version}")" ] ||
            die "PYTHON=${name} is Python ${py_version}; tested are $(tested)"
        return
    fi
    for name in python3.11 python3.12 python3 python; do
        python=$(resolve "${name}")
        [ -n "${python}" ] || continue
        py_version=$(version_of "${python}")
        [ -z "$(constraints_for "${py_version}")" ] || return 0
    done
    die "no Python of a tested version ($(tested)) found; name one: PYTHON=/path/to/python3.11"
}

create() { # an empty environment in ${venv}, whatever an interrupted run left there
    local free maker
    if "${python}" -c 'import ensurepip, venv' 2>/dev/null; then
        maker=(-m venv --clear)
    elif "${python}" -c 'import virtualenv' 2>/dev/null; then
        maker=(-m virtualenv --quiet --clear)
    else
        die "${python} cannot make environments: install Debian's python3-venv" \
            "(python${py_version}-venv) or virtualenv, or name another one with PYTHON="
    fi
    mkdir -p "${venv}"
    echo new >"${stamp}"
    free=$(df -Pk "${venv}" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ "${free}" -ge "${gigabytes}" ] ||
        die "${venv} needs ${gigabytes} GB, ${free} are free; VENV= can name a folder elsewhere"
    echo "make: ${venv}: a new environment with Python ${py_version} (${python})"
    "${python}" "${maker[@]}" "${venv}"
    echo new >"${stamp}" # --clear took it away
}

# Two `make` at once would install into each other.
if command -v flock >/dev/null; then
    mkdir -p "$(dirname "${venv}")"
    exec 9>"${venv}.lock"
    flock --nonblock 9 || {
        echo "make: another make installs into ${venv}; waiting for it"
        flock 9
    }
fi

if [ -e "${venv}" ] && [ ! -f "${stamp}" ]; then
    die "${venv} was not made by this Makefile and stays untouched; name another folder" \
        "with VENV=, or install into yours: ${venv}/bin/python -m pip install -e '.[${extras}]'"
fi

have=$(version_of "${venv}/bin/python")
state=$(cat "${stamp}" 2>/dev/null || true)
if [ -z "${state}" ] || [ -z "${have}" ]; then # a stamp can be empty: the disk was full
    state=new
fi

if [ "${state}" = new ]; then
    [ ! -f "${stamp}" ] || echo "make: ${venv}: an earlier install was cut short; starting over"
    find_python
else
    py_version=${have}
    wanted=${python:+$(version_of "$(resolve "${python}")")}
    [ "${wanted:-${have}}" = "${have}" ] ||
        die "${venv} holds Python ${have} and PYTHON=${python} is ${wanted};" \
            "name another folder, e.g. VENV=.venv${wanted/./}"
fi

constraints=$(constraints_for "${py_version}")
# The folder counts too: an editable install points at it.
fingerprint=$(
    { cat setup.py "${constraints}" && echo "${extras} ${PWD}"; } | cksum
)
[ "${state}" != "${fingerprint}" ] || exit 0

start=${SECONDS}
if [ "${state}" = new ]; then
    create
    echo "make: ${venv}: installing espnet_kd[${extras}] with the tested set" \
        "$(basename "${constraints}" .txt): 2 to 5 minutes, 6 GB of disk"
else
    echo "make: ${venv}: setup.py, constraints, extras or folder changed; updating"
    echo outdated >"${stamp}"
fi
# pip is silent while it unpacks gigabytes. The last sleep outlives this script: it must not hold
# what a caller reads to its end.
while sleep 20 >/dev/null 2>&1; do
    echo "make: ${venv}: $((SECONDS - start)) s, $(du -sh "${venv}" | cut -f 1) of about 6G"
done 9>&- &
ticker=$!
trap 'kill "${ticker}" 2>/dev/null || true' EXIT
# A PYTHONPATH or a pip option of the user's must not lead pip out of the environment.
env -u PYTHONPATH -u PIP_TARGET -u PIP_PREFIX PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    "${venv}/bin/python" -m pip install --constraint "${constraints}" "$@" -e ".[${extras}]" ||
    die "pip failed, the lines above say why; run the same command again: downloads are kept"
"${venv}/bin/python" -m pip check || die "pip check found a clash in ${venv}"
echo "${fingerprint}" >"${stamp}"
echo "make: ${venv}: installed in $((SECONDS - start)) s"
