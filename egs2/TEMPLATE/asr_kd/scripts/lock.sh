# shellcheck shell=bash disable=SC2034,SC2154 # asr_kd.sh sets the other variables
# One run at a time writes into a folder: espnet_kd/run/lock.py says how that is known.

# Every process of this run has it in its environment; that of a run within a run goes on.
export ESPNET_KD_RUN="${ESPNET_KD_RUN:+${ESPNET_KD_RUN}/}$$-${SRANDOM:-${RANDOM}${RANDOM}}"
declare -A held_folders=() # those held now, and whether this run has made them
declare -A held_records=() # what this run, not one around it, has written there

# hold DIR SHARED...: no other run may write there until `let_go`. A run that has DIR is an
# error; one that has a SHARED folder, which it soon lets go, is waited for.
hold() {
    local dir record
    local -A before=()
    for dir in "$@"; do
        held_folders[${dir}]=found
        [ -d "${dir}" ] || held_folders[${dir}]=made
        before[${dir}]=$(cat -- "${dir}/.run.json" 2>/dev/null || true)
    done
    # shellcheck disable=SC2086
    call ${python} -m espnet_kd.bin.lock --pid "$$" "--command=${run_command}" --wait 60 \
        -- "$@" || { rc=$?; explained=true; exit "${rc}"; }
    for dir in "$@"; do
        record=$(cat -- "${dir}/.run.json" 2>/dev/null || true)
        [ "${record}" = "${before[${dir}]}" ] || held_records[${dir}]=${record}
    done
}

# let_go [DIR...]: by default all that are held.
let_go() {
    local dir record
    [ $# -gt 0 ] || set -- "${!held_folders[@]}"
    for dir in "$@"; do
        [ -n "${held_folders[${dir}]:-}" ] || continue
        record="${dir}/.run.json"
        if [ -n "${held_records[${dir}]:-}" ] &&
            [ "$(cat -- "${record}" 2>/dev/null || true)" = "${held_records[${dir}]}" ]; then
            rm -f -- "${record}"
        fi
        # A folder that was made to be held, and in which nothing was left.
        [ "${held_folders[${dir}]}" = found ] || rmdir "${dir}" 2>/dev/null || true
        unset "held_folders[${dir}]"
    done
}
