#!/usr/bin/env bash
# Stage 1: letters of the Mboshi corpus, data/{train,dev,test}, each
# {wav.scp,text,utt2spk,spk2utt,utt2condition}. MBOSHI=DIR names a checkout (see README.md).

set -euo pipefail

corpus=${MBOSHI:-}
if [ -e ./db.sh ]; then
    # shellcheck disable=SC1091
    . ./db.sh
fi
corpus=${corpus:-${MBOSHI:-}}
speakers="abiayi kouarata"
max_seconds=3.6
dev_utts=120
tones=false
python=${python:-python3} # asr_kd.sh hands its own on

help_message() {
    cat <<EOM
Usage: $0 [options]

Options:
    --corpus      # Checkout that holds full_corpus_newsplit; default: the environment's, or
                  # db.sh's, MBOSHI ("${corpus}").
    --speakers    # People; there is martial, too ("${speakers}").
    --max_seconds # Longest utterances of train and dev; test is whole ("${max_seconds}").
    --dev_utts    # Utterances of the authors' train that are held out to choose
                  # checkpoints ("${dev_utts}").
    --tones       # Keep the tone marks ("${tones}").
    --python      # Python to run ("${python}").
EOM
}

# shellcheck disable=SC1091  # links of the recipe's folder
. ./path.sh
# shellcheck disable=SC1091
. scripts/parse_options.sh
no_words "$@"

# shellcheck disable=SC2086  # names, separated by spaces
${python} local/prepare_mboshi.py --corpus "${corpus}" --speakers ${speakers} \
    --max_seconds "${max_seconds}" --dev_utts "${dev_utts}" --tones "${tones}" \
    --max_bad_share "${max_bad_share:-0.02}" # asr_kd.sh hands it on
