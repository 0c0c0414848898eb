#!/usr/bin/env bash
# Train on mini LibriSpeech on a GPU that is lent for minutes at a time: teacher, three stages to
# 63 % compression, and students of the last one's size from scratch and in one shot, decoded,
# scored and reported.
#
#   tools/train_mini_librispeech.sh --corpus DIR [--minutes N] [--state DIR] [options of run.sh]
#
#   --corpus DIR      the corpus in LibriSpeech's layout: train-clean-5, and to validate and test
#                     on dev-clean-2, or dev-clean-10 where there is one; default: the variable
#                     LIBRISPEECH
#   --minutes N       stop after N minutes (0.5 is allowed), at the latest a minute later
#   --state DIR       keep what training needs to go on in files of 16 MB in DIR/state: read
#                     where there is no exp/ yet, written whenever a run ends
#   --save_every N    save the state every N minutes, too: for a machine that may vanish
#   --train_args "A"  options for the training of teacher and students alike
#   --recipe DIR      default: egs2/librispeech/asr_kd
#
# Exit code 0: finished; 75: unfinished, the same command goes on; others: failed.
# Further options go to run.sh, after those that stand here, which they overrule.
set -euo pipefail

recipe=$(cd "$(dirname "$0")/.." && pwd)/egs2/librispeech/asr_kd
corpus=${LIBRISPEECH:-}
minutes=
state=
save_every=
train_args=
part_bytes=16000000 # a machine may give files back only up to a size
unfinished=75       # EX_TEMPFAIL of sysexits.h

die() {
    echo "${0##*/}: error: $*" >&2
    exit 1
}

options=()
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        exit 0
        ;;
    --corpus | --minutes | --state | --save_every | --train_args | --recipe)
        [ $# -ge 2 ] || die "option $1 needs a value"
        printf -v "${1#--}" '%s' "$2"
        shift 2
        ;;
    *)
        options+=("$1")
        shift
        ;;
    esac
done
for name in minutes save_every; do
    [[ "${!name:-1}" =~ ^[0-9]*\.?[0-9]+$ ]] || die "--${name} must be a number, not '${!name}'"
done
[ -d "${corpus}" ] || die "--corpus '${corpus}': no such folder; it must hold train-clean-5"
[ -x "${recipe}/run.sh" ] || die "--recipe ${recipe}: no run.sh there"
corpus=$(cd "${corpus}" && pwd)
if [ -n "${state}" ]; then
    mkdir -p "${state}"
    state=$(cd "${state}" && pwd)
fi
cd "${recipe}"

# Restore what save_state has left: at any moment of it DIR/state or DIR/old is whole. Before there
# were folders, the parts lay in DIR itself, as state.000 and so on.
restore_state() {
    local parts=${state}/state. said
    [ -n "${state}" ] && [ ! -d exp ] || return 0
    if [ -d "${state}/state" ]; then
        parts=${state}/state/
    elif [ -d "${state}/old" ]; then
        parts=${state}/old/
    elif [ ! -e "${parts}000" ]; then
        return 0
    fi
    echo "${0##*/}: going on with the state in ${state}"
    # Unpacked beside its place: half a state would be taken for a whole one.
    rm -rf .state.tmp
    mkdir .state.tmp
    # tar takes an archive for whole that ends between two files.
    said=$({
        { [ ! -d "${parts}" ] || (cd "${parts}" && md5sum --quiet -c checksums); } &&
            cat "${parts}"??? | tar -C .state.tmp -xf -
    } 2>&1) ||
        die "--state ${state}: ${parts}* cannot be unpacked (${said%%$'\n'*}); copy them again," \
            "or name another folder to begin afresh"
    mkdir -p data
    cp -a .state.tmp/data/. data/
    mv .state.tmp/exp exp
}
trap 'rm -rf .state.tmp' EXIT
restore_state

# What trainings have written, to see whether they write: half an epoch's files are no state.
trained() {
    find exp \( -name "*.pth" -o -name "*.json" \) -printf "%p %s %T@\n" | sort | cksum
}

# Everything but what can be made again in a minute (dump/, teacher caches), and of finished
# trainings only what is decoded with.
save_state() {
    local leave_out=(--exclude "teacher_cache" --exclude "logdir" --exclude "packed")
    local marker file linked before
    [ -n "${state}" ] && [ -d exp ] || return 0
    for marker in exp/*/.done.train; do
        [ -e "${marker}" ] || continue
        # The average of one epoch is a link to it.
        linked=$(find "${marker%/*}" -maxdepth 1 -name "*.ave*.pth" -type l -printf "%l\n")
        for file in "${marker%/*}"/{[0-9]*epoch,checkpoint,latest}.pth; do
            grep -qxF "${file##*/}" <<<"${linked}" || leave_out+=(--exclude "${file}")
        done
    done
    for _ in 1 2 3; do
        before=$(trained)
        rm -rf "${state}/new"
        mkdir "${state}/new"
        # Logs grow while they are read: tar says so by 1.
        { tar -cf - --warning=no-file-changed --warning=no-file-removed --wildcards \
            "${leave_out[@]}" data exp || [ $? -eq 1 ]; } \
            | split -b "${part_bytes}" -d -a 3 - "${state}/new/"
        [ "${before}" != "$(trained)" ] || break
        before=
    done
    # An epoch ended each time: what was saved before stays.
    [ -n "${before}" ] || return 0
    (cd "${state}/new" && md5sum -- ??? >checksums)
    if [ -d "${state}/state" ]; then
        rm -rf "${state}/old"
        mv "${state}/state" "${state}/old"
    fi
    mv "${state}/new" "${state}/state"
    rm -rf "${state}/old" "${state}"/{state,new}.???
    echo "${0##*/}: state in ${state}: $(du -sm "${state}/state" | cut -f 1) MB"
}

dev_set=dev_clean_2
for folder in "${corpus}"/{,LibriSpeech/}dev-clean-10; do
    [ ! -d "${folder}" ] || dev_set=dev_clean_10
done
# Names of our own, so that other options go on with the same experiments.
command=(
    ./run.sh --data_scale mini --valid_set "${dev_set}" --test_sets "${dev_set}"
    --speed_perturb_factors "0.9 1.0 1.1"
    --asr_config conf/mini/train_teacher.yaml --asr_tag mini --asr_args "${train_args}"
    --student_config conf/mini/train_student.yaml --kd_tag kd_mini --kd_args "${train_args}"
    --compression_config conf/mini/compression.yaml --paths "progressive one_shot scratch"
    --use_teacher_cache true --cache_band 5 --use_streaming true
    --inference_config conf/small/decode.yaml "${options[@]}"
)
# TERM lets the recipe end its jobs; what they finished is found again.
[ -z "${minutes}" ] || command=(timeout --kill-after 1m "${minutes}m" "${command[@]}")

started=$(mktemp)
# One name on every machine: a corpus elsewhere is another corpus to the recipe.
ln -sfn "${corpus}" corpus
LIBRISPEECH=corpus "${command[@]}" &
pid=$!
saver=
if [ -n "${save_every}" ] && [ -n "${state}" ]; then
    while sleep "${save_every}m"; do save_state; done &
    saver=$!
fi
trap 'kill -TERM "${pid}" 2>/dev/null' INT TERM HUP
rc=0
wait "${pid}" || rc=$?
# A trap ends `wait` before the recipe has ended.
while kill -0 "${pid}" 2>/dev/null; do wait "${pid}" || rc=$?; done
trap - INT TERM HUP
if [ -n "${saver}" ]; then
    pkill -P "${saver}" sleep 2>/dev/null || true # where it sleeps it ends; else it saves first
    kill "${saver}" 2>/dev/null || true
    wait "${saver}" 2>/dev/null || true
fi
case "${rc}" in
124 | 130 | 137 | 143) rc=${unfinished} ;; # timeout's own code, or ended by a signal
esac
save_state
if [ "${rc}" -eq "${unfinished}" ]; then
    echo "${0##*/}: unfinished; the same command goes on (exit code ${rc})" >&2
    # A training goes on from its last whole epoch.
    [ -n "$(find data exp -newer "${started}" \( -name "*epoch.pth" -o -name ".done.*" \) \
        -print -quit 2>/dev/null)" ] ||
        echo "${0##*/}: warning: no step and no epoch was finished: more --minutes are needed" >&2
fi
rm -f "${started}"
exit "${rc}"
