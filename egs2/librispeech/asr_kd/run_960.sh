#!/usr/bin/env bash
# All 960 hours of LibriSpeech; takes the options of run.sh.
exec ./run.sh --data_scale 960 "$@"
