# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# What a finished student was made from (stage 16).

# write_manifest K: exp/<student>/manifest.json, made again whenever something of it changes.
write_manifest() {
    local k=$1 dir marker files
    dir=$(student_dir "${k}")
    # The scores of all sets, decoded in whatever way.
    files=("${compression_config}" "${dir}"/{.done.train,gate.json} "${dir}"/*/{,org/}*/score_wer/result.txt)
    mapfile -t marker < <(file_inputs "${files[@]}")
    if [ -f "${dir}/manifest.json" ] && [ -f "${dir}/.done.manifest" ] &&
        [ -z "$(first_difference "${dir}/.done.manifest" "${marker[@]}")" ]; then
        return 0
    fi
    # shellcheck disable=SC2086
    call ${python} -m espnet_kd.bin.manifest "${plan_options[@]}" --student "${student_names[k]}" \
        --teacher_exp "$(teacher_dir "${k}")" --model "${inference_asr_model}"
    step_done "${dir}" manifest "${marker[@]}"
}
