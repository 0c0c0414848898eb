# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# What a finished student was made from (stage 16).

# write_manifest K: exp/<student>/manifest.json, made again whenever something of it changes.
write_manifest() {
    local k=$1 dir file words
    dir=$(student_dir "${k}")
    words=("file:${compression_config}" "file:${dir}/${inference_asr_model}" "file:${dir}/config.yaml"
        "file:${dir}/init.pth" "file:$(teacher_dir "${k}")/${inference_asr_model}")
    # The scores of all sets, decoded in whatever way.
    for file in "${dir}"/gate.json "${dir}"/*/{,org/}*/score_wer/result.txt; do
        [ ! -f "${file}" ] || words+=("file:${file}")
    done
    step_needed "${dir}" manifest kind:note "${words[@]}" out:manifest.json || return 0
    # shellcheck disable=SC2086
    call ${python} -m espnet_kd.bin.manifest "${plan_options[@]}" --student "${student_names[k]}" \
        --teacher_exp "$(teacher_dir "${k}")" --model "${inference_asr_model}"
    step_done "${dir}" manifest
}
