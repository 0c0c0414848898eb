# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Train one model: the teacher (stage 11) and every student (stage 16).

# Whether the model in DIR is trained, and there.
is_trained() {
    [ -f "$1/.done.train" ] && [ -e "$1/${inference_asr_model}" ]
}

# Keep the logs of earlier runs: train.log becomes train.1.log, and so on.
rotate_log() {
    local base=${1%.log} n=1
    [ -f "$1" ] || return 0
    while [ -f "${base}.${n}.log" ]; do n=$((n + 1)); done
    for ((; n > 1; n--)); do mv "${base}.$((n - 1)).log" "${base}.${n}.log"; done
    mv "$1" "${base}.1.log"
}

# A command that train_model calls before a training, and only then: it may set `cache_options`.
before_training=()
cache_options=()

# train_model DIR TRAIN_DIR TRAIN_SHAPES WORD... -- OPTION...
# TRAIN_DIR: the data directory that is trained on; TRAIN_SHAPES: the one of its shape files.
# WORD: what determines the result apart from the data (see `step_needed`).
# OPTION: further options of the trainer (config, initial weights, ...).
train_model() {
    local dir=$1 train_dir=$2 train_shapes=$3 words=() command launch threads
    local valid_dir="${data_feats}/${valid_set}"
    shift 3
    while [ "$1" != -- ]; do
        words+=("$1")
        shift
    done
    shift

    need "${train_dir}/wav.scp" 4
    need "${valid_dir}/wav.scp" 4
    need "${token_list}" 5
    need "${asr_stats_dir}/train/feats_stats.npz" 10
    words+=("seed=${seed}" "file:${token_list}" "data:${train_dir}" "data:${valid_dir}"
        "file:${asr_stats_dir}/train/feats_stats.npz"
        "file:${train_shapes}/"{speech_shape,"text_shape.${token_type}"}
        "file:${asr_stats_dir}/valid/"{speech_shape,"text_shape.${token_type}"})
    [ "${token_type}" != bpe ] || words+=("file:${bpemodel}")
    step_needed "${dir}" train kind:train "${words[@]}" "out:${inference_asr_model}" out:config.yaml \
        "also:*.pth" also:history.json also:facts.json || return 0

    mkdir -p "${dir}"
    if "${force}"; then
        # Or the trainer would resume from what is to be made anew.
        rm -f "${dir}"/{checkpoint,checkpoint.previous,latest,[0-9]*epoch,*.ave,*.ave_*best,*.best}.pth \
            "${dir}"/{history,facts}.json
    fi
    "${before_training[@]:-:}"

    # shellcheck disable=SC2206
    command=(
        ${python} -m espnet_kd.bin.train
        --use_preprocessor true
        --bpemodel "${bpemodel}"
        --token_type "${token_type}"
        --token_list "${token_list}"
        --train_data_path_and_name_and_type "${train_dir}/wav.scp,speech,${audio_type}"
        --train_data_path_and_name_and_type "${train_dir}/text,text,text"
        --train_shape_file "${train_shapes}/speech_shape"
        --train_shape_file "${train_shapes}/text_shape.${token_type}"
        --valid_data_path_and_name_and_type "${valid_dir}/wav.scp,speech,${audio_type}"
        --valid_data_path_and_name_and_type "${valid_dir}/text,text,text"
        --valid_shape_file "${asr_stats_dir}/valid/speech_shape"
        --valid_shape_file "${asr_stats_dir}/valid/text_shape.${token_type}"
        --fold_length "$((asr_speech_fold_length * 100))"
        --fold_length "${asr_text_fold_length}"
        --resume true
        --output_dir "${dir}"
    )
    [ -z "${seed}" ] || command+=(--seed "${seed}")
    command+=("${cache_options[@]}" "$@")

    current_log="${dir}/train.log"
    log "Training ${dir}, log: ${current_log}"
    if [ "${ngpu}" -gt 1 ] || [ "${num_nodes}" -gt 1 ]; then
        # shellcheck disable=SC2206
        launch=(
            ${python} -m espnet2.bin.launch
            --cmd "${cuda_cmd} --name $(basename "${dir}")"
            --log "${current_log}"
            --ngpu "${ngpu}"
            --num_nodes "${num_nodes}"
            --init_file_prefix "${dir}/.dist_init_"
            --multiprocessing_distributed true
            --
        )
        call "${launch[@]}" "${command[@]}"
    else
        # One process needs no launcher, and its error stays one line.
        rotate_log "${current_log}"
        threads=1
        if [ "${ngpu}" -eq 0 ]; then
            threads=${train_threads}
            command=(env OMP_NUM_THREADS="${threads}" "${command[@]}")
        fi
        # shellcheck disable=SC2086
        call ${cuda_cmd} --name "$(basename "${dir}")" --gpu "${ngpu}" --num-threads "${threads}" \
            "${current_log}" "${command[@]}" --ngpu "${ngpu}" --multiprocessing_distributed true
    fi
    [ -e "${dir}/${inference_asr_model}" ] ||
        die "training ended, but left no ${dir}/${inference_asr_model};" \
            "name a file of that folder with --inference_asr_model (log: ${current_log})"
    current_log=
    step_done "${dir}" train
}
