# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# How fast the models of a report decode (stage 17).

# measure_speed NAME=DIR...: write exp/speed.json, again whenever a model, the options of
# decoding or the test sets change. Always on the CPU: so that all runs have the same measure.
measure_speed() {
    local model dset models=() options=() words args=${inference_args}
    words=("text:--models=$*")
    for model in "$@"; do
        models+=(--model "${model}")
        words+=("file:${model#*=}/config.yaml" "file:${model#*=}/${inference_asr_model}")
    done
    for dset in ${scored_sets}; do
        options+=(--data "${data_feats}/${dset}")
        words+=("data:${data_feats}/${dset}")
    done
    [ -z "${inference_config}" ] || options+=(--inference_config "${inference_config}")
    if "${use_streaming}"; then args+=" --streaming true"; fi
    [ -z "${inference_config}" ] || words+=("table:${inference_config}")
    words+=("text:--inference_args=${args}")
    step_needed "${expdir}" speed "${words[@]}" out:speed.json || return 0
    current_log="${expdir}/speed.log"
    log "Measuring how fast $# models decode, log: ${current_log}"
    # shellcheck disable=SC2086
    call ${decode_cmd} "${current_log}" ${python} -m espnet_kd.bin.measure_speed "${models[@]}" \
        --inference_model "${inference_asr_model}" "${options[@]}" \
        "--inference_args=${args}" --out "${expdir}/speed.json"
    current_log=
    step_done "${expdir}" speed
}
