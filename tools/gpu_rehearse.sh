#!/usr/bin/env bash
# Rehearse tools/gpu_minutes.sh on a CPU as if a GPU's machine were there: its Python packages and
# no others, no network, 64 MB a call there and 8 files of 16 MB back, cut twice in the middle.
#
#   tools/gpu_rehearse.sh [--dir DIR] [--minutes 3] [--calls 9] [--parts "checks tables"]
#
#   --dir DIR      where the machine is made up (default: build/gpu_rehearsal); its environment in
#                  DIR/env is kept (6 GB), all else is made anew
#   --minutes N    of each call (default: 3)
#   --calls N      give up after so many (default: 9)
#   --parts "P .." of checks, tables, training (default: the first two, which end in minutes; a
#                  training of all students takes a CPU hours)
#   --only WORD    of checks and tables those with this in their names: the smallest rehearsal is
#                  --only recursion --utterances 4
#   --utterances N of each set of the corpus (default: 12)
#
# Call 1 brings the wheels and half of the corpus, and is killed (KILL, everything) after 60 % of its
# time. Call 2, on the same machine, brings the other half and what came back, and is ended (TERM)
# after 60 %. All others are on new machines. The log is DIR/log.txt, what came back DIR/back.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=build/gpu_rehearsal
minutes=3
calls=9
parts="checks tables"
utterances=12
only=
python=python3.12
packages=(torch==2.11.0 torchaudio==2.11.0 numpy scipy PyYAML sentencepiece==0.2.2 matplotlib
    tensorboard onnx onnxruntime pytest numba triton==3.6.0) # as seen on such a machine

die() {
    echo "${0##*/}: error: $*" >&2
    exit 1
}
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        exit 0
        ;;
    --dir | --minutes | --calls | --parts | --only | --utterances | --python)
        [ $# -ge 2 ] || die "option $1 needs a value"
        printf -v "${1#--}" '%s' "$2"
        shift 2
        ;;
    *) die "unknown option $1; --help lists all" ;;
    esac
done
mkdir -p "${dir}"
dir=$(cd "${dir}" && pwd)
rm -rf "${dir}"/{machine,out,back,carry,log.txt}
exec > >(tee "${dir}/log.txt") 2>&1

if [ ! -x "${dir}/env/bin/python3" ]; then
    echo "== an environment with what is there, and nothing else"
    "${python}" -m venv "${dir}/env.new"
    "${dir}/env.new/bin/pip" install -q --disable-pip-version-check "${packages[@]}"
    mv "${dir}/env.new" "${dir}/env"
fi
"${dir}/env/bin/python3" -c 'import importlib.util as i; import sys
for name in ("espnet2", "soundfile", "kaldiio", "librosa"):
    assert not i.find_spec(name), f"{name} is there"
print("== Python", sys.version.split()[0], "without espnet, soundfile, kaldiio, librosa")'

tools/gpu_carry.sh --carry "${dir}/carry" --utterances "${utterances}" --part_bytes $((40000 * utterances)) \
    --python "${dir}/env/bin/python3"
ls "${dir}/carry/corpus/001" >/dev/null || die "the corpus is one part; nothing is split"

# travel FOLDER...: the working tree and these folders of carry to the machine.
travel() {
    local machine=${dir}/machine/tree name
    mkdir -p "${machine}/.gpu" "${dir}/machine/tmp"
    git ls-files --cached --others --exclude-standard -z | tar --null -cf - --files-from - \
        | tar -C "${machine}" -xf -
    rm -rf "${machine}/.gpu/back"
    for name in "$@"; do
        mkdir -p "${machine}/.gpu/$(dirname "${name}")"
        cp -a "${dir}/carry/${name}" "${machine}/.gpu/${name}"
    done
    echo "== travels: $(($(git ls-files --cached --others --exclude-standard -z | du -cb --files0-from=- \
        | tail -1 | cut -f 1) / 1000000)) MB of tree, and $(cd "${dir}/carry" && du -csb "$@" | awk '
        $2 != "total" { printf "%s %.1f MB, ", $2, $1 / 1e6 } $2 == "total" { sum = $1 }
        END { printf "%.1f MB of what is carried", sum / 1e6 }')"
}

# kill_machine: whatever has the machine's HOME, whichever groups or sessions it has made.
kill_machine() {
    local pids
    # Some processes end, and some are not ours, while grep reads: its exit code says nothing.
    while pids=$(grep -lzxF "HOME=${dir}/machine" /proc/[0-9]*/environ 2>/dev/null | cut -d / -f 3 || true) &&
        [ -n "${pids}" ]; do
        xargs kill -KILL <<<"${pids}" 2>/dev/null || true
        sleep 0.2
    done
}

# call N SIGNAL: one call; with a signal it is cut after 60 % of its time.
call() {
    local signal=$2 pid rc=0 limit
    rm -rf "${dir}/out"
    mkdir -p "${dir}/out"
    echo "== call $1${signal:+, cut by ${signal}}"
    # No network: a namespace of its own, where that is allowed.
    local alone=()
    ! unshare -n true 2>/dev/null || alone=(unshare -n)
    (cd "${dir}/machine/tree" && exec setsid "${alone[@]}" env -i HOME="${dir}/machine" \
        PATH="${dir}/env/bin:/usr/bin:/bin" LANG=C.UTF-8 TMPDIR="${dir}/machine/tmp" \
        OUT="${dir}/out" tools/gpu_minutes.sh --device cpu --minutes "${minutes}" \
        --train_minutes "${minutes}" --parts "${parts}" --only "${only}") &
    pid=$!
    if [ -n "${signal}" ]; then
        limit=$(awk -v m="${minutes}" 'BEGIN { print int(36 * m) }')
        sleep "${limit}"
        echo "== cut by ${signal} after ${limit} s"
        if [ "${signal}" = KILL ]; then
            kill_machine
        else
            kill -"${signal}" -- "-${pid}" 2>/dev/null || true
        fi
    fi
    wait "${pid}" || rc=$?
    # As the tool does with what a call leaves running.
    kill_machine
    # What the tool brings back: 8 files of 16 MB, no more than two folders down.
    rm -rf "${dir}/carry/back.new"
    mkdir "${dir}/carry/back.new"
    (cd "${dir}/out" && find . -mindepth 1 -maxdepth 3 -type f -size -16385k | sort | head -8 \
        | tar -cf - --files-from -) | tar -C "${dir}/carry/back.new" -xf -
    rm -rf "${dir}/carry/back"
    mv "${dir}/carry/back.new" "${dir}/carry/back"
    echo "== exit code ${rc}; came back: $(cd "${dir}/carry/back" && find . -type f -printf '%P (%k kB)  ')"
    return "${rc}"
}

code=75
for ((n = 1; n <= calls && code != 0; n++)); do
    code=0
    case "${n}" in
    1)
        travel wheels corpus/000 corpus/checksums
        call 1 KILL || code=$?
        code=75
        ;;
    2)
        travel wheels corpus/001 back
        call 2 TERM || code=$?
        code=75
        ;;
    *)
        rm -rf "${dir}/machine"
        travel wheels corpus back
        call "${n}" "" || code=$?
        [ "${code}" -eq 0 ] || [ "${code}" -eq 75 ] || die "call ${n} ended with ${code}"
        ;;
    esac
done
[ "${code}" -eq 0 ] || die "not done after ${calls} calls"
cp -a "${dir}/carry/back" "${dir}/back"
! grep '"problem": "[^"]' "${dir}/back/results.jsonl" || die "these pieces have failed"
echo "== done after $((n - 1)) calls"
