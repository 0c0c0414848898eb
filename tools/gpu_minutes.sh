#!/usr/bin/env bash
# The minutes on a GPU that may be lent: correctness, tables, training, in the order of their value.
# Each result is on the disk when it is there; the same command goes on from what came back.
#
#   tools/gpu_minutes.sh [--minutes 8] [--device cuda] [--out DIR] [--carry DIR] ...
#
#   --minutes N         for all of it; it ends itself before they are over (default: 8)
#   --device D          cuda, or cpu for a rehearsal with small sizes (default: cuda)
#   --carry DIR         what tools/gpu_carry.sh has gathered, and in DIR/back what came back from an
#                       earlier call (default: .gpu)
#   --out DIR           what is to come back: results.jsonl, report.md, log.txt and state/state/, 8
#                       files of at most 16 MB (default: the variable OUT, or DIR of --carry /out)
#   --parts "P ..."     of checks, tables, training (default: all, in this order)
#   --only WORD         of checks and tables those with this in their names, such as band
#   --train_minutes N   of all trainings together, over all calls (default: 20): the epochs of
#                       teacher, stages and baselines are scaled to fit, once, in the first call
#
# Exit code 0: all is done; 75: unfinished, or training waits for a part of the corpus; 1: a check
# has failed, or training has.
#
# Where 64 MB travel in a call, the first brings the wheels and the corpus's first part, and checks
# and measures; the second, at once, the other part, DIR/back and the wheels, and trains.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=8
device=cuda
carry=.gpu
out=${OUT:-}
parts="checks tables training"
only=
train_minutes=20
unfinished=75 # EX_TEMPFAIL of sysexits.h

log() {
    echo "${0##*/}: [$(clock "${SECONDS}") of $(clock "${seconds:-0}")] $*"
}
clock() {
    printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}
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
    --minutes | --device | --carry | --out | --parts | --only | --train_minutes)
        [ $# -ge 2 ] || die "option $1 needs a value"
        printf -v "${1#--}" '%s' "$2"
        shift 2
        ;;
    *) die "unknown option $1; --help lists all" ;;
    esac
done
for name in minutes train_minutes; do
    [[ "${!name}" =~ ^[0-9]*\.?[0-9]+$ ]] || die "--${name} must be a number, not '${!name}'"
done
[[ "${device}" =~ ^(cpu|cuda)$ ]] || die "--device must be cuda or cpu, not '${device}'"
for name in ${parts}; do
    [[ "${name}" =~ ^(checks|tables|training)$ ]] ||
        die "--parts knows checks, tables and training, not '${name}'"
done
[ -n "${out}" ] || out=${carry}/out
seconds=$(awk -v m="${minutes}" 'BEGIN { print int(60 * m) }')
left() {
    echo $((seconds - SECONDS))
}
wants() {
    [[ " ${parts} " == *" $1 "* ]]
}
min() {
    echo $(($1 < $2 ? $1 : $2))
}

mkdir -p "${out}"
out=$(cd "${out}" && pwd)
work=${TMPDIR:-/tmp}/espnet_kd_gpu # outlives a call as long as the machine stays
mkdir -p "${work}/parts"
# A signal to all ends what is measured, not what is said of it.
exec > >(trap '' INT TERM HUP && exec tee -a "${out}/log.txt") 2>&1
log "$(date '+%Y-%m-%d %H:%M:%S'), $(nproc) cores, parts: ${parts}"

# ------------------------------------------------------------------ ending
python=python3
export PYTHONPATH="${PWD}${PYTHONPATH:+:${PYTHONPATH}}" PYTHONUNBUFFERED=1
# Before all else: whenever this call is cut, nothing is lost that another has brought.
results=${out}/results.jsonl
if [ -d "${carry}/back" ] && [ ! -e "${results}" ]; then
    log "going on with what came back: ${carry}/back"
    cp -a "${carry}/back/." "${out}/"
fi
failed=false
waiting=false
command="tools/gpu_minutes.sh --device ${device} --minutes ${minutes}"
child=
finish() {
    local rc=$?
    trap - EXIT
    trap '' INT TERM HUP PIPE
    [ -z "${child}" ] || kill -TERM "${child}" 2>/dev/null || true
    [ -z "${child}" ] || wait "${child}" 2>/dev/null || true
    bring_state
    ${python} tools/gpu/report.py --device "${device}" --results "${results}" \
        --exp egs2/librispeech/asr_kd/exp --command "${command}" --out "${out}/report.md" || rc=1
    log "what comes back: $(find "${out}" -type f -printf '%P (%k kB)  ')"
    exit "${rc}"
}
trap finish EXIT
trap 'exit ${unfinished}' INT TERM HUP

# Training's state, whole, where what comes back is taken from.
bring_state() {
    [ -d "${work}/state/state" ] || return 0
    cmp -s "${work}/state/state/checksums" "${out}/state/state/checksums" && return 0
    rm -rf "${out}/state.new"
    mkdir -p "${out}/state.new"
    cp -a "${work}/state/state" "${out}/state.new/"
    rm -rf "${out}/state"
    mv "${out}/state.new" "${out}/state"
}

# ------------------------------------------------------------------ what was brought
if ! ${python} -c "import espnet2" 2>/dev/null; then
    if [ ! -d "${work}/site" ]; then
        ls "${carry}"/wheels/*.whl >/dev/null 2>&1 ||
            die "there is no ESPnet, and ${carry}/wheels has no wheels: run tools/gpu_carry.sh where" \
                "pip works, and carry its folder"
        rm -rf "${work}/site.new" # of a call that was cut
        ${python} -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
            --disable-pip-version-check --target "${work}/site.new" "${carry}"/wheels/*.whl
        mv "${work}/site.new" "${work}/site"
    fi
    export PYTHONPATH="${PWD}:${work}/site${PYTHONPATH#"${PWD}"}"
fi
cp -n "${carry}"/corpus/* "${work}/parts/" 2>/dev/null || true
corpus=
if [ -f "${work}/parts/checksums" ] && (cd "${work}/parts" && md5sum --quiet -c checksums) >/dev/null 2>&1; then
    if [ ! -d "${work}/corpus" ]; then
        mkdir -p "${work}/corpus.new"
        cat "${work}"/parts/??? | tar -C "${work}/corpus.new" -xf -
        mv "${work}/corpus.new" "${work}/corpus"
    fi
    corpus=${work}/corpus/LibriSpeech
fi
log "wheels and corpus are there: ${corpus:-not all parts of the corpus}"

# run SECONDS COMMAND...: in a group of its own, ended in time; its exit code in `rc`.
run() {
    local limit=$1
    shift
    rc=124 # as of timeout
    [ "${limit}" -gt 0 ] || return 0
    rc=0
    timeout --kill-after 10 "${limit}" "$@" &
    child=$!
    while kill -0 "${child}" 2>/dev/null; do
        sleep 2
        bring_state
    done
    wait "${child}" || rc=$?
    child=
}

# ------------------------------------------------------------------ the parts
if wants checks; then
    log "checks: on ${device} against the CPU"
    run "$(min 90 "$(left)")" ${python} tools/gpu/checks.py --device "${device}" --results "${results}" \
        --seconds "$(min 60 "$(left)")" --only "${only}"
    case "${rc}" in
    0) ;;
    1) failed=true ;;
    *) waiting=true ;;
    esac
fi

if wants tables; then
    limit=$(min 180 $(($(left) - 30)))
    if [ "${limit}" -gt 20 ]; then
        log "tables: at most ${limit} s"
        run $((limit + 20)) ${python} tools/gpu/timing_cases.py --device "${device}" --results "${results}" \
            --seconds "${limit}" --only "${only}"
        [ "${rc}" -eq 0 ] || waiting=true
    else
        waiting=true
    fi
fi

# train PATHS: go on with the recipe for the time that is left.
train() {
    local limit=$(($(left) - 45)) options=()
    [ "${limit}" -gt 45 ] || {
        log "training: $(left) s are too few to go on with '$1'; the next call does"
        rc=${unfinished}
        return
    }
    if [ "${device}" = cuda ]; then
        options+=(--ngpu 1 --train_args "--use_amp true --amp_dtype bfloat16")
    else
        options+=(--ngpu 0 --train_threads 1 --train_args "--batch_bins ${rehearsal_bins}")
    fi
    log "training: ${limit} s for '$1'"
    # bring_state copies what is saved; the recipe ends within a minute of its own limit.
    run $((limit + 40)) tools/train_mini_librispeech.sh --corpus "${corpus}" --state "${work}/state" \
        --save_every 1 --minutes "$(awk -v s="${limit}" 'BEGIN { print s / 60 }')" \
        --nj "$(nproc)" --inference_nj "$(nproc)" "${options[@]}" \
        --asr_args "${options[-1]} --max_epoch ${teacher_epochs}" \
        --compression_config "${work}/compression.yaml" --paths "$1"
}

if wants training; then
    rehearsal_bins=400000
    if [ -z "${corpus}" ]; then
        log "training waits: of the corpus came $(cd "${work}/parts" && find . -name '[0-9]*' | sort | xargs);" \
            "carry the other parts of ${carry}/corpus in a call at once after this one"
        waiting=true
    elif [ "$(left)" -lt 60 ]; then
        log "training: $(left) s are too few to begin; the next call does"
        waiting=true
    else
        if [ ! -d "${work}/state" ] && [ -d "${out}/state" ]; then cp -a "${out}/state" "${work}/state"; fi
        sizing=("${python}" tools/gpu/sizing.py --corpus "${corpus}/train-clean-5" --minutes "${train_minutes}"
            --device "${device}" --results "${results}" --plan "${work}/compression.yaml")
        [ "${device}" = cuda ] || sizing+=(--batch_bins "${rehearsal_bins}")
        run "$(min 120 "$(left)")" "${sizing[@]}" >"${work}/sizing.txt"
        cat "${work}/sizing.txt"
        teacher_epochs=$(sed -n 's/^teacher_epochs=//p' "${work}/sizing.txt")
        if [ -z "${teacher_epochs}" ]; then
            log "training: sizing has not ended (exit code ${rc})"
            case "${rc}" in
            124 | 137) waiting=true ;; # the time was over
            *) failed=true ;;
            esac
        else
            # What matters most first; baselines where there is time.
            for paths in progressive "progressive one_shot scratch"; do
                train "${paths}"
                [ "${rc}" -eq 0 ] || break
            done
            case "${rc}" in
            0) ;;
            "${unfinished}" | 124 | 137) waiting=true ;;
            *) failed=true ;;
            esac
        fi
    fi
fi

if ${failed}; then
    log "something has failed: see above"
    exit 1
fi
if ${waiting}; then
    log "unfinished; the same command goes on"
    exit "${unfinished}"
fi
log "all is done"
