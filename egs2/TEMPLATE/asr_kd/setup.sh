#!/usr/bin/env bash
# Make the folder of a new corpus: links to what is shared, copies of what is to be edited.

set -e
set -u
set -o pipefail

if [ $# -ne 1 ] || [[ "$1" == -* ]]; then
    echo "Usage: $0 <target-dir>, e.g. $0 egs2/my_corpus/asr_kd; elsewhere, as in an ESPnet" \
        "checkout, the folder is a copy that stands alone" >&2
    [ "${1:-}" = --help ] && exit 0
    exit 2
fi
dir=${1%/}
if [ -e "${dir}/run.sh" ]; then
    echo "${0##*/}: error: ${dir}/run.sh is there already; nothing was changed" >&2
    exit 1
fi
if [ ! -d "${dir}/../../TEMPLATE/asr_kd" ] && [ ! -d "$(dirname "$(dirname "${dir}")")/TEMPLATE/asr_kd" ]; then
    repo=$(cd "$(dirname "$(readlink -f "$0")")/../../.." && pwd)
    if [ ! -d "${repo}/egs2/own_corpus/asr_kd" ]; then
        echo "${0##*/}: error: ${dir} must be egs2/<corpus>/asr_kd beside egs2/TEMPLATE/asr_kd" >&2
        exit 1
    fi
    PYTHONPATH="${repo}" exec "${python:-python3}" -m espnet_kd.bin.new_recipe "${dir}"
fi

mkdir -p "${dir}/conf" "${dir}/local"
cd "${dir}"
for file in asr_kd.sh cmd.sh path.sh db.sh scripts; do
    ln -sfn "../../TEMPLATE/asr_kd/${file}" "${file}"
done
for file in ../../TEMPLATE/asr_kd/conf/*.conf; do
    ln -sfn "../${file}" "conf/${file##*/}"
done
# A start for the configs: those of the demo, for few hours; conf/large has others.
if [ -d ../../librispeech ]; then ln -sfn ../../../librispeech/asr_kd/conf conf/large; fi
for name in train_teacher train_student compression decode; do
    file=../../mini_speech/asr_kd/conf/${name}.yaml
    if [ -f "${file}" ]; then cp -n "${file}" conf/; fi
done

cat >run.sh <<'END'
#!/usr/bin/env bash
set -e
set -u
set -o pipefail

./asr_kd.sh \
    --lang en \
    --token_type char \
    --train_set train \
    --valid_set dev \
    --test_sets "test" \
    "$@"
END
cat >local/data.sh <<'END'
#!/usr/bin/env bash
# Make data/<set>/{wav.scp,text,utt2spk,spk2utt} for every set that run.sh names.
set -e
set -u
set -o pipefail

echo "local/data.sh: error: write this script first" >&2
exit 1
END
chmod +x run.sh local/data.sh
echo "Made ${dir}. Now write local/data.sh and edit run.sh and conf/*.yaml."
