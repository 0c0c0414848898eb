#!/usr/bin/env bash
# Your own audio: a folder of sounds with a .txt beside each, a csv, tsv or json-lines table, or
# data directories of Kaldi or ESPnet.
#
#   ./run.sh --corpus ~/recordings
#   ./run.sh --corpus train.csv --data csv
#   ./run.sh --corpus /path/to/espnet/egs2/x/asr1/dump/raw --data kaldi --train_set train_sp
#
# Sets train, dev and test are taken where the corpus has them, else split off by speaker.
set -e
set -u
set -o pipefail

# A corpus and a teacher are named from where the user is.
absolute() {
    case "$1" in
    "" | /*) echo "$1" ;;
    [~]/*) echo "${HOME}${1#?}" ;;
    *) echo "${PWD}/$1" ;;
    esac
}

data_scale=
train_set=train
options=()
while [ $# -gt 0 ]; do
    case "$1" in
    --data_scale | --data-scale)
        data_scale=${2:-nothing}
        shift
        ;;
    --data_scale=* | --data-scale=*)
        data_scale=${1#*=}
        data_scale=${data_scale:-nothing}
        ;;
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        echo
        echo "    --data_scale  # small: 1.3 M parameters, characters; medium: the same, 100 BPE"
        echo "                  # tokens; large: 30 M, 500 BPE tokens (by the number of utterances)."
        echo
        options+=(--help)
        break
        ;;
    *)
        case "$1" in
        --train_set | --train-set) train_set=${2:-} ;;
        --train_set=* | --train-set=*) train_set=${1#*=} ;;
        esac
        case "$1" in
        --corpus | --teacher_exp | --teacher-exp)
            options+=("$1")
            if [ $# -gt 1 ]; then options+=("$(absolute "$2")"); fi
            shift
            ;;
        --corpus=* | --teacher_exp=* | --teacher-exp=*)
            options+=("${1%%=*}=$(absolute "${1#*=}")")
            ;;
        *) options+=("$1") ;;
        esac
        ;;
    esac
    [ $# -eq 0 ] || shift
done
cd "$(dirname "$0")"

cores=$(nproc)
gpus=0
if nvidia-smi -L >/dev/null 2>&1; then gpus=1; fi
common=(--ngpu "${gpus}" --nj "${cores}" --inference_nj "${cores}" --resample true
    --use_streaming true --train_set "${train_set}" --valid_set dev --test_sets test)

if [ -z "${data_scale}" ] && [[ " ${options[*]:-} " != *" --help "* ]]; then
    # How large the models may be hangs on how much there is to train on. A corpus that is named
    # may be another than that of data/.
    words=" ${options[*]:-} "
    if [ ! -s "data/${train_set}/text" ] ||
        [[ "${words}" == *" --corpus"* && ! "${words}" =~ " "--(stage|skip) ]]; then
        ./asr_kd.sh "${common[@]}" "${options[@]}" --stage 1 --stop_stage 1 || {
            rc=$?
            # How many there are says which plan is meant, and the plan whether transcripts may miss.
            if [[ "${words}" == *" --teacher"[_-]exp* &&
                "${words}" != *" --compression"[_-]config* ]]; then
                echo "${0##*/}: until stage 1 has counted the utterances, the plan is" \
                    "conf/compression.yaml; if that of conf/large is meant," \
                    "say --data_scale large" >&2
            fi
            exit "${rc}"
        }
    fi
    utterances=$(wc -l <"data/${train_set}/text")
    if [ "${utterances}" -lt 5000 ]; then
        data_scale=small
    elif [ "${utterances}" -lt 20000 ]; then
        data_scale=medium
    else
        data_scale=large
    fi
    echo "${0##*/}: ${utterances} utterances to train on: --data_scale ${data_scale}" >&2
fi

case "${data_scale:-small}" in
small) scale=(--token_type char) ;;
medium) scale=(--token_type bpe --nbpe 100) ;;
large)
    scale=(--token_type bpe --nbpe 500 --inference_config conf/large/decode.yaml)
    for name in asr_config:train_teacher student_config:train_student compression_config:compression; do
        scale+=("--${name%:*}" "conf/large/${name#*:}.yaml")
    done
    ;;
*)
    echo "${0##*/}: error: --data_scale must be small, medium or large, not '${data_scale}'" >&2
    exit 1
    ;;
esac

exec ./asr_kd.sh "${common[@]}" "${scale[@]}" "${options[@]}"
