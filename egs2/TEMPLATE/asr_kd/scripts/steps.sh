# shellcheck shell=bash disable=SC2034,SC2154 # asr_kd.sh sets the other variables
# May finished work be used again? espnet_kd/run/step.py decides, and explains the words.

# step_needed DIR STEP WORD...: succeed if the step must run. Return 1 if its finished work is
# used again; 2 if only options that do not change what is learnt are to be brought up to date.
step_needed() {
    local rc=0
    _step --force "${force}" needed "$@" || rc=$?
    case "${rc}" in
    0) ;;
    10) return 1 ;;
    11) return 2 ;;
    *) _step_failed "${rc}" ;;
    esac
}

# step_done DIR STEP [WORD...]: it has ended well; what it left is remembered.
step_done() {
    _step 'done' "$@" || _step_failed "$?"
}

# step_current DIR STEP [DIR STEP]...: succeed if finished work is what it was, and its inputs
# are; else set `stale` to why not.
step_current() {
    local rc=0
    _step current "$@" || rc=$?
    [ "${rc}" -eq 0 ] || [ "${rc}" -eq 12 ] || _step_failed "${rc}"
    return "${rc}"
}

# Ask the one Python that answers for the whole run: to start one for each question would take
# longer than all tiny stages together. It ends when this script does.
_step() {
    local rc
    if [ -z "${STEPS_PID:-}" ]; then
        # shellcheck disable=SC2086
        { coproc STEPS { ${python} -m espnet_kd.bin.step serve --log_fd 3; }; } 3>&1
    fi
    set -- --program "${0##*/}" --stage "${current_stage}" --scope "$(stage_options)" "$@"
    printf '%s\0' "$#" "$@" >&"${STEPS[1]}"
    read -r rc stale <&"${STEPS[0]}" ||
        die "${python} -m espnet_kd.bin.step has ended before it has answered"
    return "${rc}"
}

# What runs the step that is looked at, and nothing else.
stage_options() {
    echo "--stage ${current_stage} --stop_stage ${current_stage}${redo_scope:+ ${redo_scope}}"
}

_step_failed() {
    [ "$1" -gt 1 ] || explained=true
    exit "$1"
}

# One `source:` word for each variable of db.sh that local/data.sh reads and somebody has set:
# the environment, which goes first, or db.sh.
named_corpora() {
    local name names value
    [ -e ./db.sh ] || return 0
    mapfile -t names < <(sed -n 's/^ *\([A-Z][A-Z0-9_]*\)=.*/\1/p' db.sh)
    for name in "${names[@]}"; do
        grep -qw "${name}" local/data.sh || continue
        # shellcheck disable=SC1091
        value=${!name:-$(. ./db.sh && echo "${!name}")}
        [ -z "${value}" ] || echo "source:${name}=${value%/}"
    done
}
