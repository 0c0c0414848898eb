#!/usr/bin/env bash
# Stage 1 for LibriSpeech, or any corpus in its layout: data/<set>/{wav.scp,text,utt2spk,spk2utt}.
# Without a corpus on disk the parts of LibriSpeech that the sets need are downloaded.

set -e
set -u
set -o pipefail

log() {
    local fname=${BASH_SOURCE[1]##*/}
    echo -e "$(date '+%Y-%m-%dT%H:%M:%S') (${fname}:${BASH_LINENO[0]}:${FUNCNAME[1]}) $*"
}
SECONDS=0

# The environment goes before db.sh, where ESPnet writes a default for everybody.
corpus=${LIBRISPEECH:-}
if [ -e ./db.sh ]; then
    # shellcheck disable=SC1091
    . ./db.sh
fi
corpus=${corpus:-${LIBRISPEECH:-}}
# asr_kd.sh hands on the names it was given, and the share.
train_set=${train_set:-train_960}
valid_set=${valid_set:-dev}
test_sets=${test_sets:-test_clean test_other dev_clean dev_other}
train_parts=
dev_parts=
download_dir=downloads
mirror=
keep_archives=false
max_bad_share=${max_bad_share:-0.02}
python=${python:-python3} # asr_kd.sh hands its own on

help_message() {
    cat <<EOF
Usage: $0 [options]

Options:
    --corpus         # Folder that holds the sets, or LibriSpeech/ with them; default: the
                     # variable LIBRISPEECH, of the environment or db.sh. Empty or "download":
                     # what is missing is fetched into --download_dir ("${corpus}").
    --download_dir   # Folder in which LibriSpeech/ is made ("${download_dir}").
    --mirror         # main, us, eu or cn of openslr.org, or an address; default: each of them
                     # until one works ("${mirror}").
    --keep_archives  # Keep the archives that were downloaded ("${keep_archives}").
    --train_parts    # Sets of the corpus combined into data/<train_set>; default: the three
                     # of train_960, else the set of that name ("${train_parts}").
    --dev_parts      # Sets of the corpus combined into data/<valid_set>; default: dev-clean
                     # and dev-other for dev, else the set of that name ("${dev_parts}").
    --test_sets      # Sets of the corpus to test on, with - or _ in their names, each into
                     # the directory data/<name as given here> ("${test_sets}").
    --train_set      # Name of the training directory ("${train_set}").
    --valid_set      # Name of the validation directory ("${valid_set}").
    --max_bad_share  # Share of utterances that may be unusable ("${max_bad_share}").
    --python         # Python to run ("${python}").
EOF
}

# shellcheck disable=SC1091  # links of the recipe's folder
. ./path.sh
# shellcheck disable=SC1091
. scripts/parse_options.sh
no_words "$@"

if [ -z "${train_parts}" ]; then
    train_parts=${train_set}
    [ "${train_set}" != train_960 ] || train_parts="train-clean-100 train-clean-360 train-other-500"
fi
if [ -z "${dev_parts}" ]; then
    dev_parts=${valid_set}
    [ "${valid_set}" != dev ] || dev_parts="dev-clean dev-other"
fi
# ESPnet's db.sh says `downloads` where its recipe is to download.
if [ -z "${corpus}" ] || [ "${corpus}" = download ]; then corpus=${download_dir}; fi
if [ "${corpus}" != "${download_dir}" ]; then
    if [ ! -d "${corpus}" ]; then
        echo "${0##*/}: error: ${corpus}: no such corpus folder; unpack the corpus there, or name" \
            "another folder with --corpus DIR or LIBRISPEECH=DIR" >&2
        exit 1
    fi
    [ "${download_dir} ${mirror} ${keep_archives}" = "downloads  false" ] ||
        echo "${0##*/}: warning: nothing is downloaded, as --corpus or LIBRISPEECH names" \
            "${corpus}: --download_dir, --mirror and --keep_archives have no effect" >&2
fi

# prepare DIR SET...: combine sets of the corpus into one data directory.
prepare() {
    local dir=$1
    shift
    ${python} -m espnet_kd.bin.prepare_librispeech \
        --corpus "${corpus}" --set "$@" --out "${dir}" --max_bad_share "${max_bad_share}"
}

# A directory that serves two purposes must hold the same utterances for both.
for part in ${test_sets}; do
    if [ "${part}" = "${train_set}" ] \
        || { [ "${part}" = "${valid_set}" ] && [ "${part//-/_}" != "${dev_parts//-/_}" ]; }; then
        echo "${0##*/}: error: the test set ${part} would overwrite data/${part};" \
            "choose another --train_set or --valid_set" >&2
        exit 1
    fi
done

if [ "${corpus}" = "${download_dir}" ]; then
    # shellcheck disable=SC2086
    ${python} -m espnet_kd.bin.download_librispeech --out "${download_dir}" \
        --parts ${train_parts} ${dev_parts} ${test_sets} \
        --mirror "${mirror}" --keep_archives "${keep_archives}"
fi
log "Preparing data/${train_set}, data/${valid_set} and the test sets from ${corpus}"
# shellcheck disable=SC2086  # names of sets, separated by spaces
prepare "data/${train_set}" ${train_parts}
# shellcheck disable=SC2086
prepare "data/${valid_set}" ${dev_parts}
for part in ${test_sets}; do
    # mini LibriSpeech is tested on the set it is validated on
    [ "${part}" = "${valid_set}" ] || prepare "data/${part}" "${part}"
done

log "Successfully finished. [elapsed=${SECONDS}s]"
