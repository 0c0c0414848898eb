# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# How fast the models of a report decode (stage 17).

# measure_speed NAME=DIR...: write exp/speed.json, again whenever a model, the options of
# decoding or the test sets change. Always on the CPU: so that all runs have the same measure.
measure_speed() {
    local model dset models=() options=() sets=() files=() marker args=${inference_args}
    for model in "$@"; do
        models+=(--model "${model}")
        files+=("${model#*=}/.done.train")
    done
    for dset in ${scored_sets}; do
        sets+=("${data_feats}/${dset}")
        options+=(--data "${data_feats}/${dset}")
    done
    [ -z "${inference_config}" ] || options+=(--inference_config "${inference_config}")
    if "${use_streaming}"; then args+=" --streaming true"; fi
    mapfile -t marker < <(
        echo "input:models=$*"
        echo "input:inference_args=${args}"
        echo "input:inference_asr_model=${inference_asr_model}"
        file_inputs "${files[@]}" ${inference_config:+"${inference_config}"}
        data_inputs "${sets[@]}"
    )
    step_needed "${expdir}" speed "${expdir}/speed.json" "${marker[@]}" || return 0
    current_log="${expdir}/speed.log"
    log "Measuring how fast $# models decode, log: ${current_log}"
    # shellcheck disable=SC2086
    call ${decode_cmd} "${current_log}" ${python} -m espnet_kd.bin.measure_speed "${models[@]}" \
        --inference_model "${inference_asr_model}" "${options[@]}" \
        "--inference_args=${args}" --out "${expdir}/speed.json"
    current_log=
    step_done "${expdir}" speed "${marker[@]}"
}
