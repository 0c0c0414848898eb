# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Decode sets with one model (stages 12 and 16). Up to inference_nj jobs run at a time, over
# all sets: a process needs many seconds before it decodes its first utterance.

# decode_model DIR STAGE [SET...]: STAGE is the one that trains the model in DIR. By default
# all test sets.
decode_model() {
    local exp=$1 maker=$2 sets dset dir todo=() logs at_once share jobs options
    shift 2
    sets=${*:-${scored_sets}}
    need "${exp}/config.yaml" "${maker}"
    need "${exp}/${inference_asr_model}" "${maker}"
    options=("args:${inference_args}")
    [ -z "${inference_config}" ] || options=("config:${inference_config}" "${options[@]}")
    for dset in ${sets}; do
        need "${data_feats}/${dset}/wav.scp" "$(maker_of_set "${dset}")"
        dir="${exp}/${inference_tag}/${dset}"
        # What an earlier run left would be counted with this one: it is removed first.
        if step_needed "${dir}" decode kind:fresh "${options[@]}" \
            "inference_asr_model=${inference_asr_model}" "use_streaming=${use_streaming}" \
            "file:${exp}/config.yaml" "file:${exp}/${inference_asr_model}" \
            "data:${data_feats}/${dset}" out:text; then
            todo+=("${dset}")
        fi
    done
    [ ${#todo[@]} -gt 0 ] || return 0

    at_once=$(min "${#todo[@]}" "${inference_nj}")
    share=$((inference_nj / at_once))
    logs=("${todo[@]/#/${exp}/${inference_tag}/}")
    current_log="${logs[*]/%//logdir/asr_inference.*.log}"
    log "Decoding ${todo[*]} with ${exp}, log: ${current_log}"
    while [ ${#todo[@]} -gt 0 ]; do
        for dset in "${todo[@]:0:at_once}"; do
            dir="${exp}/${inference_tag}/${dset}"
            jobs=$(min "${share}" "$(wc -l <"${data_feats}/${dset}/wav.scp")")
            mkdir -p "${dir}/logdir"
            split_keys "${data_feats}/${dset}/wav.scp" "${jobs}" "${dir}/logdir/keys"
            _start_decoding "${exp}" "${dset}" "${jobs}"
        done
        wait_all
        for dset in "${todo[@]:0:at_once}"; do
            dir="${exp}/${inference_tag}/${dset}"
            _join_decoded "${dir}" "${data_feats}/${dset}/wav.scp"
            step_done "${dir}" decode
        done
        todo=("${todo[@]:at_once}")
    done
    current_log=
}

_start_decoding() {
    local exp=$1 dset=$2 jobs=$3 cmd=${decode_cmd} gpus=0 options=()
    local logdir="${exp}/${inference_tag}/${dset}/logdir"
    if "${gpu_inference}"; then
        cmd=${cuda_cmd}
        gpus=1
    fi
    [ -z "${inference_config}" ] || options+=(--config "${inference_config}")
    # `--streaming false` would be read as true: name it only when it is wanted.
    if "${use_streaming}"; then options+=(--streaming true); fi
    # shellcheck disable=SC2086
    start ${cmd} --gpu "${gpus}" JOB=1:"${jobs}" "${logdir}/asr_inference.JOB.log" \
        ${python} -m espnet_kd.bin.decode \
        --ngpu "${gpus}" \
        --data_path_and_name_and_type "${data_feats}/${dset}/wav.scp,speech,${audio_type}" \
        --key_file "${logdir}/keys.JOB.scp" \
        --asr_train_config "${exp}/config.yaml" \
        --asr_model_file "${exp}/${inference_asr_model}" \
        --output_dir "${logdir}/output.JOB" \
        "${options[@]}" ${inference_args}
}

# Join the jobs' output into DIR, sorted by utterance.
_join_decoded() {
    local dir=$1 keys=$2 file
    for file in token token_int score text; do
        if [ -f "${dir}/logdir/output.1/1best_recog/${file}" ]; then
            cat "${dir}"/logdir/output.*/1best_recog/"${file}" | sort -k 1 >"${dir}/${file}"
        fi
    done
    [ "$(wc -l <"${dir}/text")" -eq "$(wc -l <"${keys}")" ] ||
        die "decoding left $(wc -l <"${dir}/text") hypotheses in ${dir}/text," \
            "but ${keys} lists $(wc -l <"${keys}") utterances (log: ${dir}/logdir)"
}
