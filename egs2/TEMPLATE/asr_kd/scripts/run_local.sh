#!/usr/bin/env bash
# Run a command, or an array of jobs, on this machine; called like Kaldi's run.pl:
#
#   run_local.sh [--gpu N] [--mem X] [--num-threads N] [--max-jobs-run N] ... [JOB=1:N] LOG command...
#
# JOB stands for the number of the job in LOG and in the command. The words of the command
# are passed as they are (no second shell reads them). Options that only a scheduler can
# obey are accepted and ignored. Lines of the log that begin with `[progress]` are copied to
# the terminal. If a job fails, the others are ended. Ctrl-C and TERM end all of them.

set -e
set -u
set -o pipefail

fail() {
    echo "${0##*/}: error: $*" >&2
    exit 2
}

max_jobs=0
name=
first=1
last=1
while [ $# -gt 0 ]; do
    case "$1" in
    -V) shift ;;
    --num-nodes | --num_nodes)
        [ "${2:-1}" -le 1 ] || fail "the local backend cannot use ${2} machines; set cmd_backend in cmd.sh"
        shift 2
        ;;
    --max-jobs-run | --max_jobs_run | -tc)
        max_jobs=${2:-}
        [[ "${max_jobs}" =~ ^[1-9][0-9]*$ ]] || fail "$1 must be a positive integer, not '${max_jobs}'"
        shift 2
        ;;
    -*)
        [ $# -ge 2 ] || fail "option $1 needs a value"
        shift 2
        ;;
    *)
        [[ -z "${name}" && "$1" =~ ^([A-Za-z_][A-Za-z0-9_]*)=([0-9]+)(:([0-9]+))?$ ]] || break
        name=${BASH_REMATCH[1]}
        first=${BASH_REMATCH[2]}
        last=${BASH_REMATCH[4]:-${first}}
        if [ "${first}" -lt 1 ] || [ "${first}" -gt "${last}" ]; then fail "bad job range '$1'"; fi
        shift
        ;;
    esac
done
[ $# -ge 2 ] || fail "usage: ${0##*/} [options] [JOB=1:N] LOG command..."
log=$1
shift
count=$((last - first + 1))
if [ "${count}" -gt 1 ]; then
    [[ "${log}" == *"${name}"* ]] || fail "${count} jobs would write one log: put ${name} into '${log}'"
fi
# As many at a time as asked: the caller knows how many threads a job has.
[ "${max_jobs}" -gt 0 ] || max_jobs=${count}

log_of() {
    if [ -n "${name}" ]; then echo "${log//${name}/$1}"; else echo "${log}"; fi
}

# One job: its log begins with the command and the date and ends with the exit code.
run_job() {
    local job=$1 out begin rc=0
    shift
    out=$(log_of "${job}")
    begin=${SECONDS}
    if [ -n "${name}" ]; then
        set -- "${@//${name}/${job}}"
    fi
    {
        printf '#'
        printf ' %q' "$@"
        printf '\n# Started at %s\n#\n' "$(date)"
    } >>"${out}"
    "$@" >>"${out}" 2>&1 </dev/null || rc=$?
    echo "# Ended (code ${rc}) at $(date), elapsed time $((SECONDS - begin)) seconds" >>"${out}"
    return "${rc}"
}

pids=()     # pids[job]: the running jobs, each the leader of its process group
readers=()  # readers[job]: the log, open for reading

# Copy what is new in a job's log. `read` leaves a half-written line in `part`.
declare -A part=()
show_progress() {
    local job=$1 line tag=""
    [ "${count}" -eq 1 ] || tag=" (job ${job})"
    [ -n "${readers[job]:-}" ] || return 0
    while IFS= read -r -u "${readers[job]}" line; do
        line="${part[${job}]:-}${line}"
        part[${job}]=
        case "${line}" in "[progress]"*) echo "[progress]${tag}${line#"[progress]"}" >&2 ;; esac
    done
    part[${job}]="${part[${job}]:-}${line}"
}

stop_all() {
    local pid
    trap - INT TERM HUP
    for pid in "${pids[@]}"; do kill -TERM -- "-${pid}" 2>/dev/null || true; done
    # Whoever has not ended after five seconds is ended.
    local i
    for i in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(jobs -rp)" ] || break
        sleep "0.$((i > 2 ? 8 : 1))"
    done
    for pid in "${pids[@]}"; do kill -KILL -- "-${pid}" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap 'stop_all; exit 130' INT
trap 'stop_all; exit 143' TERM HUP

# One line that names the log and the error: that of one of our command lines, else the last
# exception, else the last line.
report_failure() {
    local job=$1 rc=$2 out which="" reason
    out=$(log_of "${job}")
    [ "${count}" -eq 1 ] || which="job ${job} of ${count} "
    reason=$(awk '
        /^#/ || /^ *$/ || /run_local.sh: line [0-9]+: / { next }
        /^[A-Za-z0-9_.\/-]+: error: / { ours = $0 }
        /^[A-Za-z0-9_.]*(Error|Exception|Interrupt)(:|$)/ { python = $0 }
        { last = $0 }
        END { print ours != "" ? ours : python != "" ? python : last }' "${out}")
    if [ "${rc}" -eq 137 ]; then
        reason="killed, as when memory runs out${reason:+; its last line: ${reason}}"
    fi
    echo "${0##*/}: ${which}failed (exit code ${rc}), log: ${out}: ${reason:-no output}" >&2
}

next=${first}
pauses=(0.05 0.05 0.1 0.1 0.2 0.2) # a short job is seen to end soon, a long one costs nothing
while [ "${next}" -le "${last}" ] || [ ${#pids[@]} -gt 0 ]; do
    while [ "${next}" -le "${last}" ] && [ ${#pids[@]} -lt "${max_jobs}" ]; do
        out=$(log_of "${next}")
        mkdir -p "$(dirname "${out}")"
        : >"${out}"
        set -m # a process group of its own, so that the job can be ended with its children
        run_job "${next}" "$@" 2>>"${out}" &
        set +m
        pids[next]=$!
        # With many jobs at a time their lines would drown each other: follow the first.
        if [ "${max_jobs}" -le 4 ] || [ "${next}" -eq "${first}" ]; then
            exec {reader}<"${out}"
            readers[next]=${reader}
        fi
        next=$((next + 1))
    done
    sleep "${pauses[0]:-0.5}"
    pauses=("${pauses[@]:1}")
    running=" $(jobs -rp | tr '\n' ' ') "
    for job in "${!pids[@]}"; do
        show_progress "${job}"
        [[ "${running}" != *" ${pids[job]} "* ]] || continue
        rc=0
        wait "${pids[job]}" || rc=$?
        show_progress "${job}"
        if [ -n "${readers[job]:-}" ]; then
            reader=${readers[job]}
            exec {reader}<&-
            unset "readers[job]"
        fi
        unset "pids[job]"
        if [ "${rc}" -ne 0 ]; then
            report_failure "${job}" "${rc}"
            stop_all
            exit "${rc}"
        fi
    done
done
