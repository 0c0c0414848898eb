#!/usr/bin/env bash
# Stage 1: digit strings in LibriSpeech's layout, with babble at known signal-to-noise ratios:
# data/{train,dev,test}, each {wav.scp,text,utt2spk,spk2utt,utt2condition,utt2source}.

set -euo pipefail

corpus=${DIGITS:-}
train_part=digits-train
test_part=digits-dev
dev_utts=120
train_snr="0 20"
test_snr="20 10 5 0"
audio=downloads/noisy_digits
target_voices=2
python=${python:-python3} # asr_kd.sh hands its own on

help_message() {
    cat <<EOM
Usage: $0 [options]

Options:
    --corpus      # Folder that holds the sets, or LibriSpeech/ with them; default: the
                  # environment's DIGITS ("${corpus}").
    --train_part  # Set to train on; its talkers make the babble too ("${train_part}").
    --test_part   # Set to test on ("${test_part}").
    --dev_utts    # Utterances of train_part that are held out to choose checkpoints ("${dev_utts}").
    --train_snr   # Range of ratios in dB, training and held-out utterances ("${train_snr}").
    --test_snr    # Ratios in dB; every test utterance is there at each ("${test_snr}").
    --audio       # Folder of the noisy sound files ("${audio}").
    --target_voices # Where the training set is train_source, so many of the six people are a
                  # target: data/{train,dev,test}_{source,target} are made, too ("${target_voices}").
    --python      # Python to run ("${python}").
EOM
}

# shellcheck disable=SC1091  # links of the recipe's folder
. ./path.sh
# shellcheck disable=SC1091
. scripts/parse_options.sh
no_words "$@"

if [ ! -d "${corpus}" ]; then
    echo "${0##*/}: error: '${corpus}': no such corpus folder; name the one that holds" \
        "${train_part} with DIGITS=DIR" >&2
    exit 1
fi

echo "Preparing the clean sets from ${corpus}"
for part in "${train_part}" "${test_part}"; do
    ${python} -m espnet_kd.bin.prepare_librispeech \
        --corpus "${corpus}" --set "${part}" --out "data/clean_${part//-/_}" \
        --max_bad_share "${max_bad_share:-0.02}" # asr_kd.sh hands it on
done
clean_train="data/clean_${train_part//-/_}"

# shellcheck disable=SC2086  # numbers, separated by spaces
{
    ${python} local/add_noise.py --data "${clean_train}" --babble "${clean_train}" \
        --snr_range ${train_snr} --utts "${dev_utts}" --out data/dev --audio "${audio}/dev"
    ${python} local/add_noise.py --data "${clean_train}" --babble "${clean_train}" \
        --snr_range ${train_snr} --but data/dev --out data/train --audio "${audio}/train"
    ${python} local/add_noise.py --data "data/clean_${test_part//-/_}" --babble "${clean_train}" \
        --snr ${test_snr} --out data/test --audio "${audio}/test"
}

if [ "${train_set:-}" = train_source ]; then # asr_kd.sh hands the name on
    for dset in train dev test; do
        ${python} local/split_voices.py --data "data/${dset}" --target_voices "${target_voices}"
    done
fi
