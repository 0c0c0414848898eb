#!/usr/bin/env bash
# Is going down in steps better than going down at once? One teacher; with each seed every
# path to the same size, with the same number of updates; one table over all seeds.
#
#   DIGITS=/path/to/digits ./evidence.sh                 # everything
#   DIGITS=/path/to/digits ./evidence.sh --seeds "1"     # a part; the rest is recognised later
set -e
set -u
set -o pipefail

seeds="1 2 3"
out=exp/SEEDS.md
report=true

help_message() {
    cat <<END
Usage: $0 [options] [options of run.sh]

Options:
    --seeds   # Of the students; the teacher has seed 1 ("${seeds}").
    --report  # Pool the seeds into one report (${report}).
    --out     # The report over all seeds ("${out}").
END
}

case "${1:-}" in --help | -h) help_message; exit 0 ;; esac
while [[ "${1:-}" =~ ^--(seeds|report|out)$ ]]; do
    [ $# -ge 2 ] || { echo "${0##*/}: error: option $1 needs a value" >&2; exit 1; }
    declare "${BASH_REMATCH[1]}=$2"
    shift 2
done

teacher=exp/asr_teacher
stats=exp/asr_stats_raw_en_char
same=(--asr_exp "${teacher}" --asr_stats_dir "${stats}")
./run.sh "${same[@]}" --stop_stage 13 --seed 1 "$@"

runs=()
for seed in ${seeds}; do
    ./run.sh "${same[@]}" --stage 16 --stop_stage 17 --seed "${seed}" --expdir "exp/seed${seed}" \
        --paths "progressive one_shot scratch" \
        --report_note "Digit strings assembled from real recordings, in babble." "$@"
    runs+=(--run "exp/seed${seed}")
done
if "${report}"; then
    # shellcheck disable=SC1091
    . ./path.sh
    python3 -m espnet_kd.bin.report_seeds "${runs[@]}" --out "${out}" --plot
fi
