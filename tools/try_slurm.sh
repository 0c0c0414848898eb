#!/usr/bin/env bash
# Run the recipe through a real Slurm on this machine alone: stages 10 to 18 of a tiny corpus, a
# training that is put back into the queue at its time limit, a job that is killed, a run that is
# stopped. Prints what happened; docs/clusters.md holds such a log.
#
#   KALDI_ROOT=/path/to/kaldi tools/try_slurm.sh [WORK_DIR [LAST_STAGE]]
#
# LAST_STAGE 10 leaves out what lies between the statistics and the interruptions.
# Needs slurmctld, slurmd, munged (Debian: apt-get install slurm-wlm), perl, Kaldi's slurm.pl, and to
# be root in a machine or container of one's own. All state lies in WORK_DIR; daemons listen on the
# loopback device only and end with this script.

set -e
set -u
set -o pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
if [[ "${1:-}" == -* ]]; then
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    exit 0
fi
work=${1:-$(mktemp -d)}
last_stage=${2:-18}
mkdir -p "${work}"
work=$(cd "${work}" && pwd)
: "${KALDI_ROOT:?names the Kaldi whose slurm.pl is used}"
for program in slurmctld slurmd munged sbatch; do
    command -v "${program}" >/dev/null ||
        { echo "try_slurm.sh: error: no ${program}: apt-get install slurm-wlm" >&2; exit 1; }
done

# ------------------------------------------------------------------ the cluster
daemons=()
end_daemons() { for pid in "${daemons[@]}"; do kill "${pid}" 2>/dev/null || true; done; }
trap end_daemons EXIT

mkdir -p "${work}"/{munge,state,spool}
chmod 700 "${work}/munge"
dd if=/dev/urandom of="${work}/munge/key" bs=1024 count=1 status=none
chmod 600 "${work}/munge/key"
socket="${work}/munge/socket"
munged --foreground --force --key-file "${work}/munge/key" --socket "${socket}" \
    --pid-file "${work}/munge/pid" --seed-file "${work}/munge/seed" \
    --log-file "${work}/munge/log" 2>"${work}/munged.err" &
daemons+=("$!")

host=$(hostname -s)
export SLURM_CONF="${work}/slurm.conf"
cat >"${SLURM_CONF}" <<END
ClusterName=tiny
SlurmctldHost=${host}(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=${socket}
CredType=cred/munge
StateSaveLocation=${work}/state
SlurmdSpoolDir=${work}/spool
SlurmctldPidFile=${work}/slurmctld.pid
SlurmdPidFile=${work}/slurmd.pid
CommunicationParameters=NoAddrCache
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
MinJobAge=300
BatchStartTimeout=60
NodeName=${host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=cpu Nodes=${host} Default=YES MaxTime=INFINITE State=UP
END
slurmctld -D -c -L "${work}/slurmctld.log" 2>"${work}/slurmctld.err" &
daemons+=("$!")
slurmd -D -N "${host}" -L "${work}/slurmd.log" 2>"${work}/slurmd.err" &
daemons+=("$!")
for _ in $(seq 60); do
    [[ "$(sinfo --noheader --format=%T 2>/dev/null)" != idle* ]] || break
    sleep 1
done
echo "slurm $(sinfo --version | sed 's/.* //'): $(sinfo --noheader --format='%P %D node, %c CPUs, %T')"

# ------------------------------------------------------------------ the recipe
export PYTHONPATH="${repo}" VIRTUAL_ENV="${VIRTUAL_ENV:-none}" cmd_backend=slurm OMP_NUM_THREADS=1
# The recipe of the tests, with fewer epochs; SLOW is one of so many that they take minutes.
recipe=egs2/mini_speech/asr_kd
[ -d "${work}/${recipe}" ] || PYTHONPATH="${repo}:${repo}/tests/recipe" python3 -c "
import sys, pathlib, yaml, mini_run
mini_run.TEACHER_EPOCHS = 2
mini_run.STAGES = [{**stage, 'epochs': 1} for stage in mini_run.STAGES]
run = mini_run.MiniRun(pathlib.Path(sys.argv[1]))
config = yaml.safe_load((run.dir / 'conf/train_teacher.yaml').read_text())
run.write('slow', {**config, 'max_epoch': 60})
" "${work}"
cd "${work}/${recipe}"
options=(--python python3 --nj 1 --inference_nj 2 --train_threads 1 --test_sets test_seen
    --use_streaming true --stock_wer false
    --local_data_opts "--train_utts 48 --dev_utts 8 --test_utts 6 --voices 6 --new_voices 2 --nj 1")
# What a user sees, without dates and folders.
short() { sed -E "s|^[0-9T:-]{19} ||; s|${work}/||g; s|${host}|node|g; /^\\[progress\\]/d"; }
say() { echo "--- $*"; }
queue() { squeue --noheader --format="job %A %j: %T, restarted %r" | short; }
epochs() { # of a training, from its logs in order of time
    find "exp/asr_$1" -name 'train*.log' -printf '%T@ %p\n' | sort -n | cut -d ' ' -f 2 |
        xargs grep -hoE '[0-9]+epoch results|The training was resumed|into the queue' | sed 's/ results//' |
        awk '/^[0-9]/ {if (!first) first = $0; last = $0; next}
            {if (first) print "    " first " to " last; first = ""; print "    " $0}
            END {if (first) print "    " first " to " last}'
}

say "stages 1 to 5 on this machine"
cmd_backend=local ./run.sh "${options[@]}" --stop_stage 5 >stages1-5.log 2>&1

say "stages 10 to ${last_stage} through Slurm"
./run.sh "${options[@]}" --stage 10 --stop_stage "${last_stage}" 2>&1 | short
echo "$(find exp -path '*/q/*.log' -exec grep -l '^Submitted' {} + | wc -l) jobs and arrays went through Slurm"

# train TAG [limit]: a training that takes minutes
train() { ./run.sh "${options[@]}" --stage 11 --stop_stage 11 --asr_config conf/slow.yaml --asr_tag "$1"; }
until_there() { until [ -e "$1" ]; do sleep 0.5; done; }
job_of() { sed -n 's/^Submitted batch job //p' "exp/asr_$1/q/train.log"; }

say "60 epochs under a time limit of two minutes (cmd_time=2 requeue_before=10)"
cmd_time=2 requeue_before=10 train limit 2>&1 | short
epochs limit
scontrol show job "$(job_of limit)" | grep -oE '(JobState|Restarts|TimeLimit)=[^ ]+' | tr '\n' ' '
echo

say "a job that is killed: scancel"
train killed >killed.log 2>&1 & run=$!
until_there exp/asr_killed/3epoch.pth
scancel "$(job_of killed)"
rc=0
wait "${run}" || rc=$?
short <killed.log | tail -n 12
say "exit code ${rc}; the same command again"
train killed 2>&1 | short
epochs killed

say "a run that is stopped (SIGTERM): its job leaves the queue"
train stopped >stopped.log 2>&1 & run=$!
until_there exp/asr_stopped/3epoch.pth
pkill -TERM --parent "${run}" # run.sh, behind the function
rc=0
wait "${run}" || rc=$?
sleep 1
echo "exit code ${rc}; job $(scontrol show job "$(job_of stopped)" | grep -oE 'JobState=[^ ]+')"

say "a run that is killed (SIGKILL): its job goes on, and no second one begins beside it"
setsid ./run.sh "${options[@]}" --stage 11 --stop_stage 11 --asr_config conf/slow.yaml \
    --asr_tag alone >alone.log 2>&1 & run=$!
until_there exp/asr_alone/3epoch.pth
pkill -KILL --session "$(ps -o sid= -p "${run}" | tr -d ' ')"
train alone 2>&1 | short | tail -n 4 || true
scancel "$(job_of alone)"
for _ in $(seq 60); do # slurmd stays while a job of it ends
    [ -n "$(squeue --noheader)" ] || break
    sleep 1
done
say "done"
