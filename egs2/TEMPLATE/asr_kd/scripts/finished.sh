# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Finished work is recognised by a marker.
#
# A finished step leaves DIR/.done.STEP: one `name=value` line for each option that
# determines the output, and an `input:NAME=checksum` line for all that it read. Running it
# again with the same lines skips it. With other options it is refused (--force true redoes
# it): nothing is overwritten by accident. If only an input was made anew, cheap steps are
# redone; a directory that holds a training is refused.

# Checksum of a file's content; `none` if there is no such file.
file_id() {
    if [ -f "$1" ]; then
        cksum <"$1" | cut -d ' ' -f 1
    else
        echo none
    fi
}

# One `input:` line for each file.
file_inputs() {
    local file
    for file in "$@"; do
        echo "input:${file}=$(file_id "${file}")"
    done
}

# One `NAME=value` line for each variable of db.sh that local/data.sh reads and somebody has
# set: the environment, which goes first, or db.sh.
named_corpora() {
    local name names value
    [ -e ./db.sh ] || return 0
    mapfile -t names < <(sed -n 's/^ *\([A-Z][A-Z0-9_]*\)=.*/\1/p' db.sh)
    for name in "${names[@]}"; do
        grep -qw "${name}" local/data.sh || continue
        # shellcheck disable=SC1091
        value=${!name:-$(. ./db.sh && echo "${!name}")}
        [ -z "${value}" ] || echo "${name}=${value%/}"
    done
}

# One `input:` line for each Kaldi-style data directory.
data_inputs() {
    local dir id
    for dir in "$@"; do
        # Not every one of the files is there at every stage.
        id=$({ cat "${dir}"/{wav.scp,text,utt2num_samples,segments} 2>/dev/null || true; } | cksum)
        echo "input:${dir}=${id%% *}"
    done
}

# first_difference MARKER LINE...: the first name whose value differs, as
# `name=old, now name=new`. Prints nothing if all are equal.
first_difference() {
    local marker=$1 line name old
    shift
    for line in "$@"; do
        name=${line%%=*}
        if ! grep -qxF -e "${line}" "${marker}"; then
            old=$(grep -m 1 -F -e "${name}=" "${marker}" || echo "${name}= (not set)")
            case "${name}" in
            input:*) echo "input:${name#input:}" ;;
            *) echo "${old/=/ }, now ${line/=/ }" ;;
            esac
            return
        fi
    done
}

# What redoes the step that is looked at, and nothing else.
redo_options() {
    echo "--stage ${current_stage} --stop_stage ${current_stage} ${redo_scope:-}--force true"
}

# step_needed DIR STEP OUTPUT LINE...: succeed if the step must run. OUTPUT is a file that
# the finished step has left; without it the step runs again. Ends the script if the step was
# done with other options, which a missing file does not excuse: others may lie beside it.
step_needed() {
    local dir=$1 step=$2 output=$3 marker difference
    shift 3
    marker="${dir}/.done.${step}"
    if "${force}"; then
        rm -f "${marker}" "${dir}/.started.${step}"
        return 0
    fi
    [ -f "${marker}" ] || return 0
    difference=$(first_difference "${marker}" "$@")
    case "${difference}" in
    "")
        if [ ! -e "${output}" ]; then
            rm -f "${marker}"
            return 0
        fi
        log "Stage ${current_stage}: already done, skipped (${dir})"
        return 1
        ;;
    input:*)
        if [ -f "${dir}/.done.train" ] || [ -f "${dir}/.started.train" ]; then
            die "${dir} was trained before its input was made anew (${difference#input:});" \
                "$(redo_options) trains it again, or choose another directory"
        fi
        log "Stage ${current_stage}: ${dir} is made again," \
            "its input has changed (${difference#input:})"
        rm -f "${marker}"
        return 0
        ;;
    *)
        die "stage ${current_stage} was done in ${dir} with other options (${difference});" \
            "$(redo_options) redoes it, or choose another directory"
        ;;
    esac
}

# step_done DIR STEP LINE...: leave the marker.
step_done() {
    local marker="$1/.done.$2"
    shift 2
    printf '%s\n' "$@" "finished=$(date '+%Y-%m-%dT%H:%M:%S')" >"${marker}.tmp"
    mv "${marker}.tmp" "${marker}"
}

# step_started DIR STEP LINE...: for a step that resumes. An interrupted run goes on only
# with the options it was started with.
step_started() {
    local dir=$1 step=$2 marker difference
    shift 2
    marker="${dir}/.started.${step}"
    if [ -f "${marker}" ]; then
        difference=$(first_difference "${marker}" "$@")
        [ -z "${difference}" ] ||
            die "${dir} holds an interrupted run with other options or input (${difference});" \
                "$(redo_options) starts it afresh, or choose another directory"
        log "Stage ${current_stage}: going on with the interrupted run in ${dir}"
    else
        printf '%s\n' "$@" >"${marker}.tmp"
        mv "${marker}.tmp" "${marker}"
    fi
}
