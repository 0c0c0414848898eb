# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# What a student's teacher says of each utterance, computed once (stage 16).

# cache_teacher DIR TEACHER TRAIN_DIR: make DIR/teacher_cache with the model in TEACHER, for
# the student in DIR that is trained on TRAIN_DIR. Sets `cache_options` to what the student's
# training needs to read it.
cache_teacher() {
    local dir=$1 teacher=$2 train_dir=$3 cache="$1/teacher_cache" command jobs=1
    local run=${train_cmd} device=()
    local valid_dir="${data_feats}/${valid_set}"
    cache_options=()
    "${use_teacher_cache}" || return 0
    need "${train_dir}/wav.scp" 4
    need "${valid_dir}/wav.scp" 4
    if step_needed "${cache}" cache kind:resume "cache_band=${cache_band}" \
        "file:${teacher}/config.yaml" "file:${teacher}/${inference_asr_model}" \
        "data:${train_dir}" "data:${valid_dir}" \
        "out:${train_set}/teacher.scp" "out:${valid_set}/teacher.scp" "out:fingerprint.json"; then
        # shellcheck disable=SC2206
        command=(
            ${python} -m espnet_kd.bin.cache_teacher
            --teacher_exp "${teacher}"
            --teacher_model "${inference_asr_model}"
            --data "${train_dir}"
            --data "${valid_dir}"
            --audio_type "${audio_type}"
            --out "${cache}"
            --band "${cache_band}"
            --student_config "${dir}/student.yaml"
            "--student_args=${kd_args}" # one word: it begins with dashes
        )
        if [ "${ngpu}" -gt 0 ]; then
            # The local backend hands out no GPUs: two jobs would share one.
            [ "${cmd_backend}" = local ] || jobs="${ngpu}"
            run="${cuda_cmd} --gpu 1"
            device=(--ngpu 1)
        else
            jobs=$(min "${nj}" "$(wc -l <"${train_dir}/wav.scp")")
        fi
        log "Teacher cache ${cache} with ${jobs} job(s), log: ${cache}/cache*.log"
        if [ "${jobs}" -gt 1 ]; then
            current_log="${cache}/cache.*.log"
            # shellcheck disable=SC2086
            call ${run} JOB=1:"${jobs}" "${cache}/cache.JOB.log" \
                "${command[@]}" "${device[@]}" --nj "${jobs}" --job JOB
            run=${train_cmd}
            device=()
        fi
        # Alone it does all; after others it joins what they have made.
        current_log="${cache}/cache.log"
        # shellcheck disable=SC2086
        call ${run} "${current_log}" "${command[@]}" "${device[@]}"
        log "$(grep "^teacher cache .*utterances, " "${current_log}" || echo "no teacher cache is needed")"
        current_log=
        if [ ! -e "${cache}/${train_set}/teacher.scp" ]; then # a student that does not distil
            rm -rf "${cache}"
            return 0
        fi
        step_done "${cache}" cache
    fi
    # shellcheck disable=SC2034 # used in asr_kd.sh
    cache_options=(
        --kd_conf "teacher_cache=${cache}"
        --train_data_path_and_name_and_type "${cache}/${train_set}/teacher.scp,teacher,kaldi_ark"
        --valid_data_path_and_name_and_type "${cache}/${valid_set}/teacher.scp,teacher,kaldi_ark"
    )
}
