# shellcheck shell=bash
# Where the jobs run. Each command is called as
#
#   ${train_cmd} [--gpu N] [--mem X] [--num-threads N] [JOB=1:N] LOG command...
#
# local: on this machine (espnet_kd.bin.run_local); the only one that needs nothing else.
# slurm, sge, pbs, ssh: Kaldi's slurm.pl, queue.pl, pbs.pl, ssh.pl. They come with Kaldi and
# are found through KALDI_ROOT, or through the ESPnet checkout that ESPNET_ROOT names.
# Edit partitions and queues in conf/slurm.conf, conf/queue.conf, conf/pbs.conf; ssh.pl
# reads its hosts from .queue/machines.
# cmd_time: time limit of a job of Slurm's, such as 8:00:00. A job that reaches it goes back into
# the queue and goes on from its last epoch (scripts/sbatch.sh).

export cmd_backend="${cmd_backend:-local}"

# The first folder with Kaldi's script $1.
_find_kaldi_script() {
    local dir
    for dir in utils utils/parallel \
        ${KALDI_ROOT:+"${KALDI_ROOT}/egs/wsj/s5/utils" "${KALDI_ROOT}/egs/wsj/s5/utils/parallel"} \
        ${ESPNET_ROOT:+"${ESPNET_ROOT}/egs2/TEMPLATE/asr1/utils" "${ESPNET_ROOT}/tools/kaldi/egs/wsj/s5/utils"} \
        ${MAIN_ROOT:+"${MAIN_ROOT}/egs2/TEMPLATE/asr1/utils" "${MAIN_ROOT}/tools/kaldi/egs/wsj/s5/utils"}; do
        if [ -x "${dir}/$1" ]; then
            echo "${dir}/$1"
            return
        fi
    done
}

case "${cmd_backend}" in
local) _runner="${python:-python3} -m espnet_kd.bin.run_local" ;;
slurm) _script=slurm.pl ;;
sge) _script=queue.pl ;;
pbs) _script=pbs.pl ;;
ssh) _script=ssh.pl ;;
*)
    echo "cmd.sh: error: cmd_backend is local, slurm, sge, pbs or ssh, not '${cmd_backend}'" >&2
    return 1
    ;;
esac
[ "${cmd_backend}" = local ] || _runner=$(_find_kaldi_script "${_script}")
if [ -z "${_runner}" ]; then
    echo "cmd.sh: error: cmd_backend=${cmd_backend} needs Kaldi's ${_script}: set KALDI_ROOT," \
        "or ESPNET_ROOT to an ESPnet checkout with Kaldi in it" >&2
    return 1
fi

if [ "${cmd_backend}" = slurm ]; then
    export KALDI_SLURM="${_runner}" requeue_before requeue_limit
    _runner="scripts/slurm.pl${cmd_time:+ --time ${cmd_time}}"
elif [ -n "${cmd_time:-}" ]; then
    echo "cmd.sh: error: cmd_time is for cmd_backend=slurm, not ${cmd_backend}" >&2
    return 1
fi

export train_cmd="${_runner}"  # jobs on CPUs
export cuda_cmd="${_runner}"   # training; the stage script adds --gpu
export decode_cmd="${_runner}" # decoding
