#!/usr/bin/env bash
# From a corpus to a family of compressed streaming transducers: train a teacher, then
# distil it stage by stage into smaller students. `--help` lists stages and options.
#
# A stage keeps the number it has in ESPnet's asr.sh where it means the same. Every stage
# only calls command lines; scripts/ holds what several stages share.

set -e
set -u
set -o pipefail

# General
stage=1
stop_stage=10000
skip_stages=
force=false
ngpu=1
num_nodes=1
nj=32
inference_nj=32
gpu_inference=false
train_threads=
dumpdir=dump
expdir=exp
python=python3
seed=

# Data
corpus=
data=
local_data_opts=
speed_perturb_factors=
audio_format=flac
fs=16k
resample=false
max_bad_share=0.02
text_symbols=refuse
cleaner=none
nlsyms_txt=none
min_wav_duration=0.1
max_wav_duration=20
max_dropped_share=0.1
train_set=
valid_set=
test_sets=
unlabelled_sets=
lang=noinfo

# Tokens
token_type=bpe
nbpe=30
bpemode=unigram
bpe_char_cover=1.0
bpe_nlsyms=
bpe_train_text=
token_dir=
max_unk_share=0.02

# Teacher
asr_config=conf/train_teacher.yaml
asr_args=
asr_tag=
asr_exp=
asr_stats_dir=
feats_normalize=global_mvn
asr_speech_fold_length=800
asr_text_fold_length=150
teacher_exp=
teacher_model=

# Compression
compression_config=conf/compression.yaml
student_config=conf/train_student.yaml
paths=progressive
paths_at=
paths_epochs=sum
ablate=false
compression_stage=1
stop_compression_stage=10000
kd_args=
kd_tag=
use_teacher_cache=false
cache_band=0

# Decoding and report
inference_config=conf/decode.yaml
inference_args=
inference_tag=
inference_asr_model=valid.loss_transducer.ave.pth
use_streaming=false
decoding=aligned
stock_wer=true
decoding_windows=
report_note=
train_watts=
local_score_opts=
robustness=

# Pack and upload
pack_models=
model_license=
model_datasets=
hf_repo=
hf_dry_run=false

# Devices
export_formats=
export_models=
export_utterances=500

stage_titles=(
    [1]="data: local/data.sh, or --corpus, makes data/<set>"
    [2]="speed perturbation of the training set"
    [3]="audio: data/<set> to dump/raw at one sampling rate"
    [4]="removal of too short and too long utterances"
    [5]="token list, or import of the teacher that --teacher_exp names"
    [10]="check of the tokens; statistics: lengths, mean and variance"
    [11]="training of the teacher"
    [12]="decoding with the teacher"
    [13]="scoring of the teacher"
    [16]="compression: derive, distil, decode and score each student"
    [17]="report: RESULTS.md, results.json, plots"
    [18]="packing: for each model an archive that ESPnet loads, with a model card"
    [19]="upload of the archives to the Hugging Face hub, if --hf_repo is given"
    [20]="export of models for devices, if --export_formats is given"
    [21]="report again, with the exported models: bytes, speed and delay of each format"
    [22]="robustness: all models under the conditions that --robustness lists"
)

# shellcheck source=scripts/help.sh
. scripts/help.sh
run_command="./asr_kd.sh$(printf ' %q' "$@")" # for the report
unknown_options=() # of ESPnet's asr.sh, perhaps: espnet_kd/run/espnet_options.py knows them
# shellcheck source=scripts/parse_options.sh
. scripts/parse_options.sh
# shellcheck source=scripts/messages.sh
. scripts/messages.sh

no_words "$@"
. ./path.sh
. ./cmd.sh

# shellcheck source=scripts/lock.sh
. scripts/lock.sh
# shellcheck source=scripts/steps.sh
. scripts/steps.sh
# shellcheck source=scripts/jobs.sh
. scripts/jobs.sh
# shellcheck source=scripts/pack.sh
. scripts/pack.sh
# shellcheck source=scripts/check_text.sh
. scripts/check_text.sh

# ------------------------------------------------------------------ names, and what is wrong
# All options at once, what the stages to run need beside them, and the plan. What follows from
# the options (train_set with _sp, asr_exp, token_dir, inference_tag, scored_sets, ...) is printed.
options=()
base_train_set=
untranscribed=false
for name in $(_known_options); do options+=("--${name}=${!name}"); done
# shellcheck disable=SC2086
implied=$(${python} -m espnet_kd.bin.check_options --program "${0##*/}" \
    --cmd_backend "${cmd_backend}" --known_stages "${!stage_titles[@]}" "${options[@]}" \
    "${unknown_options[@]/#/--unknown=}") || { explained=true; exit 1; }
while IFS='=' read -r name value; do
    case "${name}" in
    # Made of options of ESPnet's: as if it had been given so.
    option:*) name=${name#option:} options+=("--${name}=${value}") ;;
    esac
    printf -v "${name}" '%s' "${value}"
done <<<"${implied}"

# may_lack SET: may the transcripts of a set be missing, since teachers write its labels? Sets
# `lack`, and `lack_words` to what the records of its steps say of it.
may_lack() {
    lack=false lack_words=()
    if [ "$1" = "${train_set}" ] && "${untranscribed}"; then
        lack=true lack_words=(text:untranscribed=true)
    elif [[ " ${unlabelled_sets} " = *" $1 "* ]]; then
        lack=true lack_words=(text:untranscribed=true)
    fi
}

# by_python VERB WORDS...: do a stage, or a part of it, which says itself what goes wrong.
by_python() {
    local rc=0 verb=$1
    shift
    # shellcheck disable=SC2086
    call ${python} -m "espnet_kd.bin.${verb}" --program "${0##*/}" "${options[@]}" "$@" || rc=$?
    [ "${rc}" -ne 1 ] || explained=true
    return "${rc}"
}

# ------------------------------------------------------------------ what is to be run
want() {
    [ "${stage}" -le "$1" ] && [ "${stop_stage}" -ge "$1" ] && [[ " ${skip_stages} " != *" $1 "* ]]
}

want_one_of() {
    local k
    for k in "$@"; do
        if want "${k}"; then return 0; fi
    done
    return 1
}

current_stage=
current_log=
stage_start=0
begin_stage() {
    want "$1" || return 1
    current_stage=$1
    stage_start=${SECONDS}
    log "Stage $1: ${stage_titles[$1]}"
}
end_stage() {
    log "Stage ${current_stage} took $(clock $((SECONDS - stage_start)))"
    current_stage=
    current_log=
}

listed=
for k in "${!stage_titles[@]}"; do
    if want "${k}"; then listed+=$(printf '\n    %2d  %s' "${k}" "${stage_titles[k]}"); fi
done
[ -n "${listed}" ] ||
    die "no stage to run: --stage ${stage} --stop_stage ${stop_stage} --skip_stages '${skip_stages}'" \
        "(pack and upload are stages 18 and 19)"
log "Stages to run:${listed}"
run_start=${SECONDS}
# Runs with an --expdir of their own may share data and teacher. Whoever finds them finished is
# soon through; whoever makes them keeps the others out.
data_folders=(data "${dumpdir}" "${token_dir}" "${asr_stats_dir}")
shared=()
if want_one_of 1 2 3 4 5 10; then shared+=("${data_folders[@]}"); fi
if want_one_of 11 12 13 || { [ -n "${teacher_exp}" ] && want 5; }; then shared+=("${asr_exp}"); fi
hold "${expdir}" "${shared[@]}"
# shellcheck disable=SC2086
mapfile -t all_sets < <(unique "${train_set}" "${valid_set}" ${test_sets} ${unlabelled_sets})

# ------------------------------------------------------------------ data
if begin_stage 1; then
    words=("local_data_opts=${local_data_opts}")
    if [ -n "${corpus}" ]; then
        may_lack "${train_set}"
        words+=("source:corpus=${corpus%/}" ${data:+"source:data=${data}"} "${lack_words[@]}")
        import_words=(--corpus "${corpus}" --data "${data}" --train_set "${base_train_set}"
            --valid_set "${valid_set}" --test_sets "${test_sets}" --max_bad_share "${max_bad_share}"
            --untranscribed "${lack}")
        if [ -f "${corpus}" ]; then
            words+=("table:${corpus}")
        else
            # What is wrong with it is told when it is read in earnest.
            # shellcheck disable=SC2086
            content=$(${python} -m espnet_kd.bin.import_corpus "${import_words[@]}" --digest true \
                2>/dev/null) || content=unreadable
            words+=("source:content of the corpus=${content}")
        fi
    else
        [ -x local/data.sh ] ||
            die "stage 1 runs local/data.sh, which is not there (or not executable);" \
                "--corpus names a corpus to be read without it"
        mapfile -t -O 1 words < <(named_corpora)
    fi
    # shellcheck disable=SC2086
    for dset in "${base_train_set}" "${valid_set}" ${test_sets} ${unlabelled_sets}; do
        # A set that is missing, although the stage is done, has been asked for since.
        words+=("has:${dset}/wav.scp")
    done
    if step_needed data data "${words[@]}"; then
        # Split as a shell would: a value with spaces stands in quotes. The names of the sets
        # are handed on, for a script that can make any set by its name.
        mapfile -t data_options < <(xargs -r -n 1 printf '%s\n' <<<"${local_data_opts}")
        if [ -n "${corpus}" ]; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.import_corpus "${import_words[@]}"
        else
            call env train_set="${base_train_set}" valid_set="${valid_set}" test_sets="${test_sets}" \
                max_bad_share="${max_bad_share}" python="${python}" local/data.sh \
                "${data_options[@]}"
        fi
        # shellcheck disable=SC2086
        for dset in "${base_train_set}" "${valid_set}" ${test_sets} ${unlabelled_sets}; do
            [ -s "data/${dset}/wav.scp" ] ||
                die "stage 1 made no data/${dset};" \
                    "check --train_set, --valid_set, --test_sets and --local_data_opts"
        done
        step_done data data
    fi
    end_stage
fi

if begin_stage 2; then
    if [ -z "${speed_perturb_factors}" ]; then
        log "Stage 2: nothing to do (--speed_perturb_factors is empty)"
    else
        need "data/${base_train_set}/wav.scp" 1
        may_lack "${train_set}"
        if step_needed "data/${train_set}" perturb_speed "${lack_words[@]}" \
            "speed_perturb_factors=${speed_perturb_factors}" "tables:data/${base_train_set}" \
            out:wav.scp out:text out:utt2spk; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.perturb_speed --data "data/${base_train_set}" \
                --factors "${speed_perturb_factors}" --out "data/${train_set}" \
                --max_bad_share "${max_bad_share}" --untranscribed "${lack}"
            step_done "data/${train_set}" perturb_speed
        fi
    fi
    end_stage
fi

if begin_stage 3; then
    text_words=() # a record of before there were these options goes on
    if [ "${cleaner}" != none ]; then text_words+=("cleaner=${cleaner}"); fi
    if [[ "${cleaner}" == *:* ]]; then # a function of the user's, in a file here or elsewhere
        cleaner_file=${cleaner%%:*}
        cleaner_file=${cleaner_file//.//}.py
        if [ -f "${cleaner_file}" ]; then text_words+=("table:${cleaner_file}"); fi
    fi
    if [ "${nlsyms_txt}" != none ]; then text_words+=("table:${nlsyms_txt}"); fi
    for dset in "${all_sets[@]}"; do
        maker=1
        if [ -n "${speed_perturb_factors}" ] && [ "${dset}" = "${train_set}" ]; then maker=2; fi
        need "data/${dset}/wav.scp" "${maker}"
        out="${data_feats}/${dset}"
        # Sets to be filtered by length wait in org/; test sets stay whole.
        case "${dset}" in "${train_set}" | "${valid_set}") out="${data_feats}/org/${dset}" ;; esac
        may_lack "${dset}"
        if step_needed "${out}" format_audio "${lack_words[@]}" \
            "fs=${fs}" "resample=${resample}" "audio_format=${audio_format}" \
            "text_symbols=${text_symbols}" "${text_words[@]}" "tables:data/${dset}" out:wav.scp out:text out:utt2spk \
            out:utt2audio; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.format_audio --data "data/${dset}" --out "${out}" \
                --fs "${fs}" --resample "${resample}" --audio_format "${audio_format}" --nj "${nj}" \
                --max_bad_share "${max_bad_share}" --text_symbols "${text_symbols}" \
                --cleaner "${cleaner}" --nlsyms_txt "${nlsyms_txt}" \
                --untranscribed "${lack}" --force "${force}"
            step_done "${out}" format_audio
        fi
    done
    end_stage
fi

if begin_stage 4; then
    for dset in $(unique "${train_set}" "${valid_set}"); do
        need "${data_feats}/org/${dset}/wav.scp" 3
        out="${data_feats}/${dset}"
        may_lack "${dset}"
        if step_needed "${out}" filter_lengths "${lack_words[@]}" \
            "min_wav_duration=${min_wav_duration}" "max_wav_duration=${max_wav_duration}" \
            "tables:${data_feats}/org/${dset}" out:wav.scp out:text out:utt2spk; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.filter_lengths \
                --data "${data_feats}/org/${dset}" --out "${out}" \
                --min_wav_duration "${min_wav_duration}" --max_wav_duration "${max_wav_duration}" \
                --max_dropped_share "${max_dropped_share}" --untranscribed "${lack}"
            step_done "${out}" filter_lengths
        fi
    done
    end_stage
fi

if begin_stage 5; then
    if [ -n "${teacher_exp}" ]; then
        [ -n "${teacher_model}" ] || teacher_model="${inference_asr_model}"
        bpe=()
        [ "${token_type}" != bpe ] || bpe=("made:${bpemodel}")
        if step_needed "${asr_exp}" train "teacher_model=${teacher_model}" "fs=${fs}" \
            "given:${teacher_exp}/config.yaml" "given:${teacher_exp}/${teacher_model}" \
            out:config.yaml "out:${inference_asr_model}" "made:${token_list}" "${bpe[@]}"; then
            mkdir -p "${asr_exp}"
            current_log="${asr_exp}/import.log"
            # shellcheck disable=SC2086
            call ${train_cmd} "${current_log}" ${python} -m espnet_kd.bin.import_teacher \
                --teacher_exp "${teacher_exp}" \
                --teacher_model "${teacher_model}" --fs "${fs}" \
                --template "${asr_config}" --token_dir "${token_dir}" --out "${asr_exp}"
            log "$(grep "^imported " "${current_log}" || echo "imported, log: ${current_log}")"
            current_log=
            # All later stages look for one file name in every model's directory.
            [ "${teacher_model}" = "${inference_asr_model}" ] ||
                ln -sfn "$(basename "${teacher_model}")" "${asr_exp}/${inference_asr_model}"
            step_done "${asr_exp}" train
            step_done "${token_dir}" make_tokens out:tokens.txt also:bpe.model
        fi
    else
        need "${data_feats}/${train_set}/text" 4
        text=${bpe_train_text:-${data_feats}/${train_set}/text}
        # Another training set would make other tokens under the same name.
        bpe=()
        if [ "${token_type}" = bpe ]; then
            bpe=(out:bpe.model ${bpe_nlsyms:+"bpe_nlsyms=${bpe_nlsyms}"})
            if [ -f "${bpe_nlsyms}" ]; then bpe+=("table:${bpe_nlsyms}"); fi
            if [ "${bpe_char_cover}" != 1.0 ]; then bpe+=("bpe_char_cover=${bpe_char_cover}"); fi
        else
            text=${data_feats}/${train_set}/text
        fi
        if step_needed "${token_dir}" make_tokens \
            "train_set=${train_set}" "token_type=${token_type}" "nbpe=${nbpe}" "bpemode=${bpemode}" \
            "table:${text}" out:tokens.txt "${bpe[@]}"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.make_tokens --text "${text}" \
                --bpe_char_cover "${bpe_char_cover}" --bpe_nlsyms "${bpe_nlsyms}" \
                --token_type "${token_type}" --nbpe "${nbpe}" --bpemode "${bpemode}" --out "${token_dir}"
            step_done "${token_dir}" make_tokens
        fi
    fi
    end_stage
fi

if begin_stage 10; then
    check_text
    by_python collect_stats
    end_stage
fi
let_go "${data_folders[@]}"

# ------------------------------------------------------------------ the teacher
# It is compression stage 0.
if begin_stage 11; then
    by_python compress --compression_stage 0 --only train
    end_stage
fi

if begin_stage 12; then
    by_python compress --compression_stage 0 --only decode
    end_stage
fi

if begin_stage 13; then
    by_python compress --compression_stage 0 --only score
    end_stage
fi
let_go "${asr_exp}"

# ------------------------------------------------------------------ compression
if begin_stage 16; then
    # A gate may add students, or end the list: each turn says whether another follows.
    last_student=10 # the exit code of the turn after which none does
    for ((k = compression_stage; k <= stop_compression_stage; k++)); do
        stage_titles[16]="compression stage ${k}"
        rc=0
        by_python compress --compression_stage "${k}" || rc=$?
        [ "${rc}" -ne "${last_student}" ] || break
        [ "${rc}" -eq 0 ] || exit "${rc}"
    done
    end_stage
fi

# ------------------------------------------------------------------ report
if begin_stage 17; then
    by_python report_run --run_command "${run_command}"
    end_stage
fi

# ------------------------------------------------------------------ pack and upload
if begin_stage 18; then
    pack_all
    end_stage
fi

if begin_stage 19; then
    if [ -z "${hf_repo}" ]; then
        log "Stage 19: nothing to do (--hf_repo is empty)"
    else
        upload_all
    fi
    end_stage
fi

# ------------------------------------------------------------------ devices
if begin_stage 20; then
    if [ -z "${export_formats}" ]; then
        log "Stage 20: nothing to do (--export_formats is empty)"
    else
        by_python export_run
    fi
    end_stage
fi

if begin_stage 21; then
    if [ -z "${export_formats}" ]; then
        log "Stage 21: nothing to do (--export_formats is empty)"
    else
        by_python report_run --as_stage 21 --run_command "${run_command}"
        # Model cards quote the speed, which was measured again beside the exported models.
        if want 18; then pack_all; fi
    fi
    end_stage
fi

# ------------------------------------------------------------------ other conditions
if begin_stage 22; then
    if [ -z "${robustness}" ]; then
        log "Stage 22: nothing to do (--robustness is empty)"
    else
        by_python robustness_run
    fi
    end_stage
fi

log "Done in $(clock $((SECONDS - run_start)))"
