#!/usr/bin/env bash
# Gather what a machine with a GPU, and nothing of ours, must be brought: wheels, and the corpus in
# parts. Run it here, where pip works; then tools/gpu_minutes.sh there.
#
#   tools/gpu_carry.sh [--corpus DIR] [--carry DIR] [--python PYTHON] [--utterances N]
#
#   --corpus DIR      mini LibriSpeech, with train-clean-5 and dev-clean-2 or dev-clean-10 in it or
#                     in LibriSpeech/; default: ../shared/data/mini_librispeech
#   --carry DIR       where to gather (default: .gpu)
#   --python PYTHON   of the version that is there (default: python3.12)
#   --utterances N    only so many of each set: for a rehearsal
#   --part_bytes N    size of the corpus's parts (default: 40000000)
#
# DIR/wheels   what training needs beyond torch, torchaudio, numpy, scipy, PyYAML, sentencepiece,
#              matplotlib and numba, which are there (tools/gpu/wheels.txt)
# DIR/corpus   000, 001, ... and their checksums. Opus stays Opus: soundfile's wheel
#              carries a libsndfile that reads it. What cannot be read is refused here.
set -euo pipefail
cd "$(dirname "$0")/.."

corpus=../shared/data/mini_librispeech
carry=.gpu
python=python3.12
utterances=0
part_bytes=40000000

die() {
    echo "${0##*/}: error: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
        exit 0
        ;;
    --corpus | --carry | --python | --utterances | --part_bytes)
        [ $# -ge 2 ] || die "option $1 needs a value"
        printf -v "${1#--}" '%s' "$2"
        shift 2
        ;;
    *) die "unknown option $1; --help lists all" ;;
    esac
done
[ ! -d "${corpus}/LibriSpeech" ] || corpus+=/LibriSpeech
[ -d "${corpus}/train-clean-5" ] || die "--corpus ${corpus}: no train-clean-5 there"
dev=
for name in dev-clean-2 dev-clean-10; do
    [ ! -d "${corpus}/${name}" ] || dev=${name}
done
[ -n "${dev}" ] || die "--corpus ${corpus}: neither dev-clean-2 nor dev-clean-10 there"
"${python}" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null ||
    die "--python ${python}: not a Python 3.12, for which the wheels must be"

rm -rf "${carry}/wheels" "${carry}/corpus"
mkdir -p "${carry}/wheels" "${carry}/corpus"
echo "${0##*/}: wheels"
grep -v '^#' tools/gpu/wheels.txt | xargs "${python}" -m pip wheel --quiet --quiet --no-deps \
    --disable-pip-version-check --wheel-dir "${carry}/wheels" \
    --constraint constraints/py312-espnet202611.txt ||
    die "pip made no wheels, the lines above say why"

# part SET: its first --utterances, linked into a folder of their own, with their transcripts.
part() {
    local file text
    find "${corpus}/$1" -type f ! -name "*.txt" | sort | awk -v n="${utterances}" 'NR <= n' |
        while read -r file; do
            text=${file#"${corpus}/"}
            mkdir -p "${few}/${text%/*}"
            ln -s "$(readlink -f "${file}")" "${few}/${text}"
            grep -h "^$(basename "${file%.*}") " "${file%/*}"/*.trans.txt \
                >>"${few}/${text%-*}.trans.txt"
        done
}
echo "${0##*/}: corpus"
if [ "${utterances}" -gt 0 ]; then
    few=${carry}/corpus.few
    rm -rf "${few}"
    part train-clean-5
    part "${dev}"
    corpus=${few}
fi
# Paths sorted, no times, no owners: the same corpus makes the same parts.
(cd "${corpus}" && find train-clean-5 "${dev}" ! -type d -print | sort |
    tar -chf - --transform 's,^,LibriSpeech/,' --mtime=@0 --owner=0 --group=0 --files-from -) |
    split -b "${part_bytes}" -d -a 3 - "${carry}/corpus/"
rm -rf "${carry}/corpus.few"
(cd "${carry}/corpus" && md5sum -- ??? >checksums)

echo "${0##*/}: to be carried, bytes:"
(cd "${carry}" && find wheels corpus -type f -printf '%10s  %p\n' | sort -k 2)
