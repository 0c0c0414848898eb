#!/usr/bin/env bash
# LibriSpeech, or any corpus in its layout: name its folder by LIBRISPEECH=DIR (environment
# or db.sh), and its sets here or on the command line. Without it LibriSpeech is downloaded.
#
#   ./run.sh                       100 h: train-clean-100
#   ./run.sh --data_scale 960      960 h: all three training parts (run_960.sh)
#   ./run.sh --data_scale mini     5 h: mini LibriSpeech, to see everything run on real speech
#   ./run.sh --data_scale small --train_set my_train --valid_set my_dev --test_sets my_test
#                                  a few hours of your own: 1.3 M parameters, characters, CPU
#                                  where there is no GPU
set -e
set -u
set -o pipefail

data_scale=100
options=()
while [ $# -gt 0 ]; do
    case "$1" in
    --data_scale | --data-scale)
        data_scale=${2:-}
        shift
        ;;
    --data_scale=* | --data-scale=*) data_scale=${1#*=} ;;
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        echo "    --data_scale  # mini, small, 100 or 960 hours to train on (100)."
        echo
        options+=(--help)
        break
        ;;
    *) options+=("$1") ;;
    esac
    [ $# -eq 0 ] || shift
done

sets=(--valid_set dev --test_sets "test_clean test_other dev_clean dev_other")
case "${data_scale}" in
mini | small)
    sets=(--train_set train_clean_5 --valid_set dev_clean_2 --test_sets dev_clean_2)
    nvidia-smi -L >/dev/null 2>&1 || sets+=(--ngpu 0)
    sets+=(--token_type char --asr_config conf/small/train_teacher.yaml)
    sets+=(--student_config conf/small/train_student.yaml)
    sets+=(--compression_config conf/small/compression.yaml)
    ;;
100)
    sets+=(--train_set train_clean_100 --nbpe 500)
    # Three speeds, as ESPnet's schedule counts on them; another corpus has its own.
    [[ " ${options[*]:-} " == *" --train"[_-]"set"* ]] ||
        sets+=(--speed_perturb_factors "0.9 1.0 1.1")
    ;;
960)
    sets+=(--train_set train_960 --nbpe 1000)
    sets+=(--asr_config conf/train_teacher_960.yaml)
    sets+=(--compression_config conf/compression_960.yaml)
    ;;
*)
    echo "${0##*/}: error: --data_scale must be mini, small, 100 or 960, not '${data_scale}'" >&2
    exit 1
    ;;
esac

# Of a corpus that only has LibriSpeech's layout nobody here knows the name.
[[ " ${options[*]:-} " == *" --train"[_-]"set"* ]] || sets+=(--model_datasets openslr/librispeech_asr)

cd "$(dirname "$0")"
exec ./asr_kd.sh \
    --lang en \
    --ngpu 1 \
    --nj 16 \
    --inference_nj 16 \
    --token_type bpe \
    --max_wav_duration 30 \
    --use_streaming true \
    "${sets[@]}" \
    "${options[@]}"
