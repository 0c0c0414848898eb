# shellcheck shell=bash
# The environment of every command of the recipe. Sourced by the stage script, and again by
# Kaldi's queue.pl and slurm.pl on the machine where a job runs.

# The checkout this folder belongs to (links followed), or the ESPnet it was dropped into.
_here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
MAIN_ROOT=$(cd "${_here}/../../.." && pwd)

# An active environment comes first; else `.venv` of the checkout (`make` puts it there);
# else ESPnet's own environment; else whatever python3 is on PATH.
if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    if [ -x "${MAIN_ROOT}/.venv/bin/python3" ]; then
        export PATH="${MAIN_ROOT}/.venv/bin:${PATH}"
    elif [ -f "${MAIN_ROOT}/tools/activate_python.sh" ]; then
        # shellcheck disable=SC1091
        . "${MAIN_ROOT}/tools/activate_python.sh"
    fi
fi

# One thread a process: the recipe starts as many processes as --nj and --inference_nj say.
# Training on the CPU gets its own number (--train_threads).
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# Sorted as ESPnet and Kaldi expect, and UTF-8 in Python all the same.
export LC_ALL=C
export PYTHONIOENCODING=UTF-8
export PYTHONUTF8=1

# Machines that train together talk over a real network device.
export NCCL_SOCKET_IFNAME="${NCCL_SOCKET_IFNAME:-^lo,docker,virbr,vmnet,vboxnet}"

# Settings of one site or corpus.
if [ -f local/path.sh ]; then
    # shellcheck disable=SC1091
    . local/path.sh
fi

# shellcheck disable=SC2086 # `--python` may hold options
if ! ${python:-python3} -c "import espnet_kd.bin" 2>/dev/null; then
    echo "path.sh: error: ${python:-python3} ($(command -v ${python:-python3} || echo 'not found'))" \
        "cannot import espnet_kd, whole (ESPNET_KD_CORE=1 installs the loss alone); activate the" \
        "environment it is installed in, or run 'pip install -e .' in its checkout" >&2
    return 1
fi
