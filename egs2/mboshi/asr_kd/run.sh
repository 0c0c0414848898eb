#!/usr/bin/env bash
# Letters of the Mboshi corpus: real speech, small enough for two CPU cores, hard enough that
# small models lose by it. MBOSHI=DIR names a checkout of the corpus (see README.md).
set -e
set -u
set -o pipefail

cd "$(dirname "$0")"
# A word of the transcripts is a letter (local/prepare_mboshi.py). The headers of 73 sound files
# promise a few hundredths of a second more than is there; 10 of them are 2.1 % of the test set.
exec ./asr_kd.sh \
    --lang mb \
    --ngpu 0 \
    --nj 2 \
    --inference_nj 2 \
    --train_threads 1 \
    --token_type word \
    --max_bad_share 0.03 \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --asr_args "--max_epoch 10" \
    --use_streaming true \
    --report_note "Mboshi letters: a word of these tables is a letter, WER the error rate of letters; its speakers are recording sessions, of two people unless --speakers names others." \
    "$@"
