#!/usr/bin/env bash
# Ways down compared: a teacher; with each seed every path of an arm; one table over all seeds.
# Called by evidence.sh of a recipe, in its folder. All that is finished is recognised.
#
# An arm is a run of stages 16 and 17 with options of its own. conf/arms.txt holds a line for
# each: its name, and options of run.sh. Its teacher is exp/asr_teacher unless they name another
# (--asr_exp). A line that begins with `--after ARM:STAGE` starts with a copy of that arm's student
# of that stage, which it recognises if it would be made alike: the same --kd_tag, the same stage.
# That arm stands in the list, too, or has been run by another list.
set -e
set -u
set -o pipefail

seeds="1 2 3"
arms=all
stats=
out=
report=true
table=conf/arms.txt

help_message() {
    cat <<END
Usage: ./evidence.sh [options] [options of run.sh, for all arms]

Options:
    --seeds   # Of the students; the teacher has seed 1 ("${seeds}").
    --table   # List of arms ("${table}").
    --arms    # Arms of ${table} to run ("${arms}").
    --report  # Pool the seeds of each arm into one report (${report}).
    --out     # That report; default: SEEDS.md in the folder of the arm ("${out}").
END
    echo
    echo "Arms, each in exp/<arm>/seed<K> and exp/<arm>/SEEDS.md:"
    sed 's/^/    /' "${table}"
}

die() {
    echo "evidence.sh: error: $*" >&2
    exit 1
}

others=() # run.sh's, among which ours may stand anywhere
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) help_message; exit 0 ;;
    --seeds | --arms | --table | --stats | --report | --out)
        [ $# -ge 2 ] || die "option $1 needs a value"
        declare "${1#--}=$2"
        shift 2
        ;;
    *)
        others+=("$1")
        shift
        ;;
    esac
done
set -- "${others[@]+"${others[@]}"}"

# begin_with EXP STAGE: copy a student, unless there is one. A copy appears whole or not at all.
begin_with() {
    local student copy
    for student in "$1"/*"_$2"; do
        [ -f "${student}/.done.manifest" ] ||
            die "${table}: ${arm}: --after: no finished student '$2' in $1; run arm ${after%%:*} first"
        copy="${folder}/seed${seed}/${student##*/}"
        if [ -e "${copy}" ]; then continue; fi
        mkdir -p "${copy%/*}"
        rm -rf "${copy}.part"
        cp -a "${student}" "${copy}.part"
        mv "${copy}.part" "${copy}"
    done
}

[ -f "${table}" ] || die "--table ${table}: no such file"
[[ "${report}" =~ ^(true|false)$ ]] || die "--report must be true or false, not '${report}'"
[ -n "${arms// /}" ] || die "--arms is empty; name arms of ${table}, or all"
[ -n "${seeds// /}" ] || die "--seeds is empty; name one or more, such as \"1 2 3\""
for seed in ${seeds}; do
    [[ "${seed}" =~ ^(0|[1-9][0-9]{0,8})$ ]] || die "--seeds: whole numbers are needed, not '${seed}'"
    [[ " ${seeds} " != *" ${seed} "*" ${seed} "* ]] || die "--seeds: ${seed} twice"
done
declare -A options=()
known=()
while read -r name words || [ -n "${name}" ]; do # the last line may lack its end
    case "${name}" in '' | '#'*) continue ;; esac
    [ -z "${options["${name}"]+there}" ] || die "${table}: two arms are named '${name}'"
    known+=("${name}")
    options["${name}"]=${words}
done <"${table}"
[ "${#known[@]}" -gt 0 ] || die "${table}: no arm in it; a line is a name and options of run.sh"
if [ "${arms}" = all ]; then arms=${known[*]}; fi
for arm in ${arms}; do
    [[ " ${known[*]} " == *" ${arm} "* ]] ||
        die "--arms: '${arm}' is not in ${table}; there are ${known[*]}"
    xargs printf '' <<<"${options["${arm}"]}" 2>/dev/null ||
        die "${table}: ${arm}: a quote is not closed: ${options["${arm}"]}"
    # All of it before the first training: an arm may be hours away.
    read -r first after _ <<<"${options["${arm}"]} . ."
    [ "${first}" = --after ] || continue
    [[ "${after}" == ?*:?* ]] || die "${table}: ${arm}: --after ARM:STAGE, not '${after%.}'"
    [[ " ${known[*]} " == *" ${after%%:*} "* ]] || [ -d "exp/${after%%:*}" ] ||
        die "${table}: ${arm}: --after: no arm '${after%%:*}' in it or in exp; there are ${known[*]}"
done
if [ -n "${out}" ] && [[ "${arms}" =~ [^\ ]\ +[^\ ] ]]; then
    die "--out ${out}: each of the arms ${arms} would write over it; name one arm, or leave it out"
fi

# shellcheck disable=SC1091
. ./path.sh
for arm in ${arms}; do
    # Split as a shell would: a value with spaces stands in quotes.
    mapfile -t words < <(xargs -r -n 1 printf '%s\n' <<<"${options["${arm}"]}")
    folder=exp/${arm}
    folder=${folder%/.}
    after=
    if [ "${words[0]:-}" = --after ]; then
        after=${words[1]:-}
        words=("${words[@]:2}")
    fi
    same=(--asr_exp exp/asr_teacher --asr_stats_dir "${stats}" "${words[@]}")
    ./run.sh "${same[@]}" --stop_stage 13 --seed 1 "$@"
    runs=()
    for seed in ${seeds}; do
        if [ -n "${after}" ]; then begin_with "exp/${after%%:*}/seed${seed}" "${after#*:}"; fi
        ./run.sh "${same[@]}" --stage 16 --stop_stage 17 --seed "${seed}" \
            --expdir "${folder}/seed${seed}" "$@"
        runs+=(--run "${folder}/seed${seed}")
    done
    if "${report}" && [ "${#runs[@]}" -gt 2 ]; then
        python3 -m espnet_kd.bin.report_seeds "${runs[@]}" --out "${out:-${folder}/SEEDS.md}" --plot
    fi
done
