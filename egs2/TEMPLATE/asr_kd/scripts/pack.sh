# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Archives that ESPnet loads (stage 18), and their upload (stage 19). In ESPnet's asr.sh these
# are stages 14 and 15; here they come after 16, which makes the students, and 17, which finds
# the numbers for their model cards.

# Sets packed_names, packed_dirs, packed_checkpoints: the models of the report that are asked
# for; and first_dir, where the one lies that all are compared with.
models_to_pack() {
    local listed name dir checkpoint wanted
    need "${expdir}/results.json" 17
    step_current "${expdir}" report || die "${stale}: run stage 17 first"
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

# scores_current DIR: succeed if all scores are of the model in DIR and of the test sets as they
# are now; else set `stale` to why not.
scores_current() {
    local dset steps=()
    for dset in ${scored_sets}; do
        steps+=("$1/${inference_tag}/${dset}" decode "$1/${inference_tag}/${dset}" score)
    done
    step_current "${steps[@]}"
}

# archive_of DIR: where the model in DIR is packed to.
archive_of() {
    echo "$1/packed/$(basename "$1").zip"
}

pack_all() {
    local i dir dset out words options=() first_dir args=${inference_args}
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
        words=("model_license=${model_license}" "lang=${lang}" "test_sets=${scored_sets}"
            "args:${args}" "text:--report_note=${report_note}"
            "text:--model_datasets=${model_datasets}" "text:--hf_repo=${hf_repo}"
            "file:${expdir}/speed.json"
            "file:${dir}/config.yaml" "file:${dir}/${packed_checkpoints[i]}")
        [ -z "${inference_config}" ] || words+=("config:${inference_config}")
        # Not the report itself, which names the time: the scores it is made of.
        for dset in ${scored_sets}; do
            words+=("file:${dir}/${inference_tag}/${dset}/score_wer/counts.tsv"
                "file:${first_dir}/${inference_tag}/${dset}/score_wer/counts.tsv")
            [ -z "${stock_tag}" ] ||
                words+=("file:${dir}/${stock_tag}/${dset}/score_wer/counts.tsv")
        done
        scores_current "${dir}" ||
            die "${stale}: decode and score it (stages 12 and 13, or 16), then run stage 17"
        if step_needed "$(dirname "${out}")" pack "${words[@]}" \
            "out:$(basename "${out}")" also:README.md; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.pack_model --results "${expdir}/results.json" \
                --inference_tag "${inference_tag}" --model "${packed_names[i]}" --out "${out}" \
                "--inference_args=${args}" "${options[@]}"
            step_done "$(dirname "${out}")" pack
        fi
    done
}

upload_all() {
    local i out repo options=() first_dir
    models_to_pack
    if "${hf_dry_run}"; then options+=(--dry_run); fi
    for i in "${!packed_names[@]}"; do
        out=$(archive_of "${packed_dirs[i]}")
        need "${out}" 18
        # One repository a model: the hub's and ESPnet's loaders know one model in each.
        repo="${hf_repo}_${packed_names[i]}"
        if step_needed "$(dirname "${out}")" upload "hf_repo=${repo}" "file:${out}"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.upload_model --archive "${out}" --repo "${repo}" \
                "${options[@]}"
            "${hf_dry_run}" || step_done "$(dirname "${out}")" upload
        fi
    done
}
