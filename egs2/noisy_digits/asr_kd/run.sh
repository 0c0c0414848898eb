#!/usr/bin/env bash
# Digit strings in babble: real speech, small enough for two CPU cores, hard enough to tell
# models apart. DIGITS=DIR names the folder of the corpus (see README.md).
set -e
set -u
set -o pipefail

cd "$(dirname "$0")"
exec ./asr_kd.sh \
    --lang en \
    --ngpu 0 \
    --nj 2 \
    --inference_nj 2 \
    --train_threads 1 \
    --token_type char \
    --train_set train \
    --valid_set dev \
    --test_sets test \
    --asr_args "--max_epoch 28" \
    --use_streaming true \
    "$@"
