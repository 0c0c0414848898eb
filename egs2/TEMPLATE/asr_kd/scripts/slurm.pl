#!/usr/bin/env bash
# Kaldi's slurm.pl, whose path is in KALDI_SLURM, with two things that it lacks: its job leaves
# the queue when the run is stopped, and no second job begins while an earlier run's still writes
# to the same log. The name is Kaldi's because ESPnet's launcher chooses srun by it.

set -u

words=("$@")
while [[ "${1:-}" == -* ]]; do shift 2; done
if [[ "${1:-}" == *=*:* ]]; then shift; fi
log=${1:-}
queue_log="$(dirname "${log}")/q/$(basename "${log/.JOB/}")" # slurm.pl's own, with the job's number

earlier=$(sed -n 's/^Submitted batch job //p' "${queue_log}" 2>/dev/null)
while state=$(squeue --noheader --jobs="${earlier:-0}" --format=%T 2>/dev/null) && [ -n "${state}" ]; do
    if [[ "${state}" != *COMPLETING* ]]; then
        echo "slurm.pl: error: job ${earlier} of an earlier run still writes to ${log};" \
            "wait for it, or 'scancel ${earlier}'" >&2
        exit 1
    fi
    sleep 1
done

"${KALDI_SLURM}" "${words[@]}" &
child=$!

stop() {
    trap '' INT TERM HUP
    kill -TERM "${child}" 2>/dev/null
    wait "${child}" 2>/dev/null
    job=$(sed -n 's/^Submitted batch job //p' "${queue_log}" 2>/dev/null)
    if [ -n "${job}" ] && [ "${job}" != "${earlier}" ]; then scancel "${job}"; fi
    exit 143
}
trap stop INT TERM HUP
wait "${child}"
