#!/usr/bin/env bash
# Two of the six voices have no transcripts: how much of the way to a model that has them do
# labels of models of the other four go? Three source teachers, then the arms of conf/adapt/, each
# in exp/voices/<arm> with its RESULTS.md (test_target: the two voices, test_source: the four).
#
#   DIGITS=/path/to/digits ./adapt.sh                  # everything; what is finished is recognised
#   DIGITS=/path/to/digits ./adapt.sh --ngpu 1         # options of run.sh, for all
set -e
set -u
set -o pipefail
cd "$(dirname "$0")"

arms=${ARMS:-teacher ensemble oracle}
options=(--train_set train_source --valid_set dev_source
    --test_sets "test_source test_target" --unlabelled_sets train_target
    --asr_stats_dir exp/voices/asr_stats --token_dir data/voices_token_list
    --asr_args "--max_epoch 20" --stock_wer false)
for seed in 1 2 3; do
    ./run.sh "${options[@]}" --expdir exp/voices --asr_exp "exp/voices/asr_source${seed}" \
        --seed "${seed}" --stop_stage 13 "$@"
done
for arm in ${arms}; do
    ./run.sh "${options[@]}" --expdir "exp/voices/${arm}" --asr_exp exp/voices/asr_source1 \
        --compression_config "conf/adapt/${arm}.yaml" --kd_tag kd --seed 1 --stage 16 \
        --stop_stage 17 "$@"
done
