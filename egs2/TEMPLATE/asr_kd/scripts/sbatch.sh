#!/usr/bin/env bash
# sbatch for slurm.pl, as conf/slurm.conf names it. A job that comes near its time limit, or whose
# machine fails, goes back into the queue and goes on from its last epoch.
#
#   requeue_before  # seconds before the limit; Slurm may be a minute early
#   requeue_limit   # how often a job goes back: one epoch may be longer than the limit

set -e
set -u
set -o pipefail

script=${!#}
sbatch --requeue --signal="B:USR1@${requeue_before:-60}" "${@:1:$#-1}" <<END
#!/bin/bash
script=$(printf '%q' "${script}")
limit=${requeue_limit:-20}
$(cat <<'BODY'
turn=${SLURM_RESTART_COUNT:-0}
# slurm.pl's script begins its log anew: keep that of the turn before.
log=$(sed -n 's/^) >//p' "${script}" | head -n 1)
log=${log/\$SLURM_ARRAY_TASK_ID/${SLURM_ARRAY_TASK_ID:-}}
if [ "${turn}" -gt 0 ] && [ -f "${log}" ]; then mv "${log}" "${log%.log}.turn${turn}.log"; fi

back_into_queue() {
    kill -0 "${child}" 2>/dev/null || return 0
    if [ "${turn}" -ge "${limit}" ]; then
        echo "# near the time limit for the ${turn}th time: not put back (requeue_limit)" >>"${log}"
        return 0
    fi
    echo "# near the time limit: back into the queue" >>"${log}"
    scontrol requeue "${SLURM_JOB_ID}"
}
trap back_into_queue USR1
bash "${script}" &
child=$!
while :; do
    rc=0
    wait "${child}" || rc=$?
    kill -0 "${child}" 2>/dev/null || break # else a signal has ended `wait`
done
exit "${rc}"
BODY
)
END
