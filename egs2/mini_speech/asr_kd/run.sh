#!/usr/bin/env bash
# The embedded corpus: SYNTHETIC speech that local/data.sh makes itself, for two CPU cores.
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
    --use_streaming true \
    --token_type char \
    --fs 16k \
    --train_set train \
    --valid_set dev \
    --test_sets "test_seen test_new test_pauses" \
    --export_formats "float32 int8" \
    --report_note "SYNTHETIC speech: text-to-speech made by the recipe itself, no recordings of people." \
    "$@"
