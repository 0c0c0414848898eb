# shellcheck shell=bash
# Start commands so that Ctrl-C and TERM end them with everything they started.

job_pids=()

# start COMMAND...: in the background, as the leader of its own process group. (A plain
# foreground child would make bash hold a TERM back until that child ends by itself.)
start() {
    set -m
    "$@" </dev/null &
    set +m
    job_pids+=("$!")
}

# Wait for all that was started. If one fails, end the others and return its exit code.
wait_all() {
    local i rc=0 running
    while [ ${#job_pids[@]} -gt 1 ] && [ "${rc}" -eq 0 ]; do
        sleep 0.2
        running=" $(jobs -rp | tr '\n' ' ') "
        for i in "${!job_pids[@]}"; do
            [[ "${running}" != *" ${job_pids[i]} "* ]] || continue
            wait "${job_pids[i]}" || rc=$?
            unset "job_pids[i]"
        done
    done
    if [ "${rc}" -eq 0 ] && [ ${#job_pids[@]} -eq 1 ]; then
        wait "${job_pids[@]}" || rc=$?
    fi
    if [ "${rc}" -ne 0 ]; then
        stop_jobs
    fi
    job_pids=()
    return "${rc}"
}

# call COMMAND...: run one command and return its exit code.
call() {
    start "$@"
    wait_all
}

stop_jobs() {
    local pid
    for pid in "${job_pids[@]}"; do
        kill -TERM -- "-${pid}" 2>/dev/null || true
    done
    for pid in "${job_pids[@]}"; do
        wait "${pid}" 2>/dev/null || true
    done
    job_pids=()
}

trap 'stop_jobs; exit 130' INT
trap 'stop_jobs; exit 143' TERM HUP
trap on_exit EXIT

# Each word once, in order.
unique() {
    printf '%s\n' "$@" | awk '!seen[$0]++'
}
