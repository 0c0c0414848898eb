# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# What the stage script says: log lines, one-line errors, and the last line after a failure.

log() {
    printf '%(%Y-%m-%dT%H:%M:%S)T (%s) %s\n' -1 "${0##*/}" "$*"
}

# A mistake of the user: one line, exit code 1, and no second line from `on_exit`.
die() {
    explained=true
    echo "${0##*/}: error: $*" >&2
    exit 1
}

# need FILE STAGE: FILE must be there already; STAGE makes it.
need() {
    [ -e "$1" ] || die "stage ${current_stage} needs $1, which stage $2 makes: run stage $2 first"
}

# Seconds as M:SS or H:MM:SS.
clock() {
    if [ "$1" -ge 3600 ]; then
        printf '%d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60))
    else
        printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
    fi
}

# The EXIT trap. The tool that failed has said why; this says where.
on_exit() {
    local rc=$?
    let_go
    if [ "${rc}" -eq 0 ] || ${explained:-false} || [ -z "${current_stage:-}" ]; then
        return
    fi
    local where="stage ${current_stage} (${stage_titles[${current_stage}]})"
    if [ "${rc}" -eq 130 ] || [ "${rc}" -eq 143 ]; then
        local command="the same command"
        if "${force:-false}"; then command+=" without --force true, which would start afresh,"; fi
        echo "${0##*/}: interrupted in ${where}; run ${command} to go on" >&2
    else
        echo "${0##*/}: error: ${where} failed (exit code ${rc})${current_log:+, log: ${current_log}}" >&2
    fi
}
