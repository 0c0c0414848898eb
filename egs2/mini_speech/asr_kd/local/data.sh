#!/usr/bin/env bash
# Stage 1 for MiniSpeech: make the synthetic corpus, then
# data/{train,dev,test_seen,test_new,test_pauses}/{wav.scp,text,utt2spk,spk2utt}, and
# data/test_pauses/utt2condition.

set -e
set -u
set -o pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}
SECONDS=0

# The environment goes before db.sh.
corpus=${MINI_SPEECH:-}
if [ -e ./db.sh ]; then
    # shellcheck disable=SC1091
    . ./db.sh
fi
corpus=${corpus:-${MINI_SPEECH:-downloads}}/MiniSpeech
# Empty: what local/make_corpus.py takes by itself.
seed=
train_utts=
dev_utts=
test_utts=
pauses_utts=50
voices=
new_voices=
snr_low=
snr_high=
nj=
force=false
python=${python:-python3} # asr_kd.sh hands its own on

help_message() {
    cat <<EOF
Usage: $0 [options]

Options:
    --corpus      # Folder of the corpus, made if it is not there ("${corpus}").
    --force       # Replace a corpus that was made with other options ("${force}").
    --pauses_utts # Utterances of test_new that are in test_pauses, at most, each under four
                  # conditions; local/add_pauses.py makes others ("${pauses_utts}").
    --python      # Python to run ("${python}").
  Passed on to local/make_corpus.py if given (its --help has the defaults):
    --seed        # Of everything that is drawn ("${seed}").
    --train_utts  # Utterances of train ("${train_utts}").
    --dev_utts    # Utterances of dev ("${dev_utts}").
    --test_utts   # Utterances of each test set ("${test_utts}").
    --voices      # Voices of train ("${voices}").
    --new_voices  # Voices of test_new ("${new_voices}").
    --snr_low     # Least signal-to-noise ratio in dB ("${snr_low}").
    --snr_high    # Greatest signal-to-noise ratio in dB ("${snr_high}").
    --nj          # Processes at a time ("${nj}").
EOF
}

# shellcheck disable=SC1091  # links of the recipe's folder
. ./path.sh
# shellcheck disable=SC1091
. scripts/parse_options.sh
no_words "$@"


opts=()
for name in seed train_utts dev_utts test_utts voices new_voices snr_low snr_high nj; do
    if [ -n "${!name}" ]; then
        opts+=("--${name}" "${!name}")
    fi
done
if "${force}"; then
    opts+=(--force)
fi

log "Making the synthetic corpus ${corpus}"
${python} local/make_corpus.py --out "${corpus}" "${opts[@]}"

log "Preparing data/ from ${corpus}"
for name in train dev test_seen test_new; do
    ${python} -m espnet_kd.bin.prepare_librispeech \
        --corpus "${corpus}" --set "${name}" --out "data/${name}"
done
${python} local/add_pauses.py --data data/test_new --out data/test_pauses \
    --audio "${corpus%/*}/MiniSpeech_pauses" --utts "${pauses_utts}" --seed "${seed:-1}"

log "Successfully finished. [elapsed=${SECONDS}s]"
