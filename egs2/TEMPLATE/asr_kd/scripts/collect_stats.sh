# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Stage 10: lengths of all utterances, mean and variance of the features.

collect_stats() {
    local train_dir="${data_feats}/${train_set}" valid_dir="${data_feats}/${valid_set}"
    local logdir="${asr_stats_dir}/logdir" jobs out dirs="" n set words vocabulary

    need "${train_dir}/wav.scp" 4
    need "${valid_dir}/wav.scp" 4
    need "${token_list}" 5
    words=("train_set=${train_set}" "fs=${fs}" "file:${token_list}"
        # Of the teacher's training, what lengths and features depend on.
        "config:${asr_config}" "args:${asr_args}" keep:frontend
        "data:${train_dir}" "data:${valid_dir}" out:train/feats_stats.npz
        out:{train,valid}/{speech_shape,"text_shape.${token_type}"})
    step_needed "${asr_stats_dir}" stats "${words[@]}" || return 0

    jobs=$(min "${nj}" "$(wc -l <"${train_dir}/wav.scp")" "$(wc -l <"${valid_dir}/wav.scp")")
    rm -rf "${logdir}"
    mkdir -p "${logdir}"
    split_keys "${train_dir}/wav.scp" "${jobs}" "${logdir}/train"
    split_keys "${valid_dir}/wav.scp" "${jobs}" "${logdir}/valid"
    out="${logdir}/stats.JOB"
    # Nothing to add up: the only job writes where the sum would be.
    [ "${jobs}" -gt 1 ] || out="${asr_stats_dir}"

    current_log="${logdir}/stats.*.log"
    log "Statistics of ${train_dir} and ${valid_dir} with ${jobs} job(s), log: ${current_log}"
    # The shape files only list the utterances of a job here.
    # shellcheck disable=SC2086
    call ${train_cmd} JOB=1:"${jobs}" "${logdir}/stats.JOB.log" \
        ${python} -m espnet_kd.bin.train \
        --collect_stats true \
        --use_preprocessor true \
        --bpemodel "${bpemodel}" \
        --token_type "${token_type}" \
        --token_list "${token_list}" \
        --train_data_path_and_name_and_type "${train_dir}/wav.scp,speech,${audio_type}" \
        --train_data_path_and_name_and_type "${train_dir}/text,text,text" \
        --valid_data_path_and_name_and_type "${valid_dir}/wav.scp,speech,${audio_type}" \
        --valid_data_path_and_name_and_type "${valid_dir}/text,text,text" \
        --train_shape_file "${logdir}/train.JOB.scp" \
        --valid_shape_file "${logdir}/valid.JOB.scp" \
        --output_dir "${out}" \
        --config "${asr_config}" --frontend_conf fs="${fs}" ${asr_args}

    if [ "${jobs}" -gt 1 ]; then
        for n in $(seq "${jobs}"); do
            dirs+="--input_dir ${logdir}/stats.${n} "
        done
        current_log="${logdir}/aggregate.log"
        # shellcheck disable=SC2086
        call ${train_cmd} "${current_log}" ${python} -m espnet2.bin.aggregate_stats_dirs ${dirs} --output_dir "${asr_stats_dir}"
    fi

    # The sampler counts the elements of a batch: it needs the width of the output, too.
    vocabulary=$(wc -l <"${token_list}")
    for set in train valid; do
        sort -o "${asr_stats_dir}/${set}/speech_shape" "${asr_stats_dir}/${set}/speech_shape"
        sort "${asr_stats_dir}/${set}/text_shape" | sed "s/\$/,${vocabulary}/" \
            >"${asr_stats_dir}/${set}/text_shape.${token_type}"
    done
    current_log=
    # shellcheck disable=SC2086
    call ${python} -m espnet_kd.bin.check_stats --stats_dir "${asr_stats_dir}"
    step_done "${asr_stats_dir}" stats
}
