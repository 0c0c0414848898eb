#!/usr/bin/env bash
# LibriSpeech, or any corpus in its layout: name its folder by LIBRISPEECH=DIR (environment
# or db.sh), and its sets here or on the command line.
set -e
set -u
set -o pipefail

exec ./asr_kd.sh \
    --lang en \
    --ngpu 1 \
    --nj 16 \
    --inference_nj 16 \
    --token_type bpe \
    --nbpe 500 \
    --max_wav_duration 30 \
    --train_set train_clean_100 \
    --valid_set dev \
    --test_sets "test_clean test_other dev_clean dev_other" \
    "$@"
