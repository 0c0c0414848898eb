# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Archives that ESPnet loads (stage 18), and their upload (stage 19). In ESPnet's asr.sh these
# are stages 14 and 15; here they come after 16, which makes the students, and 17, which finds
# the numbers for their model cards.

# Sets packed_names, packed_dirs, packed_checkpoints: the models of the report that are asked
# for; and first_dir, where the one lies that all are compared with.
models_to_pack() {
    local listed name dir checkpoint wanted
    need "${expdir}/results.json" 17
    # shellcheck disable=SC2086
    listed=$(${python} -m espnet_kd.bin.pack_model --results "${expdir}/results.json" \
        --inference_tag "${inference_tag}" --list)
    read -r name first_dir checkpoint <<<"${listed}"
    packed_names=()
    packed_dirs=()
    packed_checkpoints=()
    while read -r name dir checkpoint; do
        [[ -z "${pack_models}" || " ${pack_models} " == *" ${name} "* ]] || continue
        packed_names+=("${name}")
        packed_dirs+=("${dir}")
        packed_checkpoints+=("${checkpoint}")
    done <<<"${listed}"
    for wanted in ${pack_models}; do
        [[ " ${packed_names[*]} " == *" ${wanted} "* ]] ||
            die "--pack_models '${wanted}': the report has no such model; it has" \
                "$(cut -d ' ' -f 1 <<<"${listed}" | paste -s -d ' ')"
    done
}

# archive_of DIR: where the model in DIR is packed to.
archive_of() {
    echo "$1/packed/$(basename "$1").zip"
}

pack_all() {
    local i dir dset out marker options=() first_dir args=${inference_args}
    models_to_pack
    [ -z "${inference_config}" ] || options+=(--inference_config "${inference_config}")
    [ "${lang}" = noinfo ] || options+=(--language "${lang}")
    [ -z "${model_license}" ] || options+=(--license "${model_license}")
    # shellcheck disable=SC2206
    [ -z "${model_datasets}" ] || options+=(--datasets ${model_datasets})
    [ -z "${hf_repo}" ] || options+=(--repo "${hf_repo}")
    if "${use_streaming}"; then args+=" --streaming true"; fi
    for i in "${!packed_names[@]}"; do
        dir=${packed_dirs[i]}
        out=$(archive_of "${dir}")
        marker=("checkpoint=${packed_checkpoints[i]}" "model_license=${model_license}" "lang=${lang}"
            "input:--model_datasets=${model_datasets}" "input:--hf_repo=${hf_repo}"
            "inference_args=${args}" "test_sets=${scored_sets}"
            "input:--report_note=$(cksum <<<"${report_note}")")
        mapfile -t -O "${#marker[@]}" marker < <(
            file_inputs "${dir}/.done.train" "${inference_config}" "${expdir}/speed.json"
            # Not the report itself, which names the time: the scores it is made of.
            for dset in ${scored_sets}; do
                file_inputs {"${dir}","${first_dir}"}/"${inference_tag}/${dset}/score_wer/result.txt"
            done
        )
        for dset in ${scored_sets}; do
            scored_as_trained "${dir}" "${dset}" ||
                die "${dir} was trained again after ${dset} was decoded: decode and score it" \
                    "(stages 12 and 13, or 16), then run stage 17"
            [ ! "${dir}/${inference_tag}/${dset}/score_wer/result.txt" -nt "${expdir}/results.json" ] ||
                die "${dir} was scored again after the report was made: run stage 17 first"
        done
        if step_needed "$(dirname "${out}")" pack "${out}" "${marker[@]}"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.pack_model --results "${expdir}/results.json" \
                --inference_tag "${inference_tag}" --model "${packed_names[i]}" --out "${out}" \
                "--inference_args=${args}" "${options[@]}"
            step_done "$(dirname "${out}")" pack "${marker[@]}"
        fi
    done
}

upload_all() {
    local i out repo marker options=() first_dir
    models_to_pack
    if "${hf_dry_run}"; then options+=(--dry_run); fi
    for i in "${!packed_names[@]}"; do
        out=$(archive_of "${packed_dirs[i]}")
        need "${out}" 18
        # One repository a model: the hub's and ESPnet's loaders know one model in each.
        repo="${hf_repo}_${packed_names[i]}"
        mapfile -t marker < <(file_inputs "${out}")
        marker+=("hf_repo=${repo}")
        if step_needed "$(dirname "${out}")" upload "${out}" "${marker[@]}"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.upload_model --archive "${out}" --repo "${repo}" \
                "${options[@]}"
            "${hf_dry_run}" || step_done "$(dirname "${out}")" upload "${marker[@]}"
        fi
    done
}
