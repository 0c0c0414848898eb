# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# Stage 10 begins with it: can the tokens write the transcripts of all sets?

check_text() {
    local config=${asr_config} dset tests=() words out="${asr_stats_dir}/coverage.txt"
    need "${data_feats}/${train_set}/text" 4
    need "${data_feats}/${valid_set}/text" 4
    need "${token_list}" 5
    [ -z "${teacher_exp}" ] || config="${asr_exp}/config.yaml"
    for dset in ${scored_sets}; do
        [ ! -e "${data_feats}/${dset}/text" ] || tests+=(--test_data "${data_feats}/${dset}")
    done
    # Whatever has changed, it is cheap to look again.
    words=("text:--max_unk_share=${max_unk_share}" "text:--token_type=${token_type}"
        "file:${token_list}" "table:${config}" out:coverage.txt)
    for dset in "${train_set}" "${valid_set}" ${scored_sets}; do
        words+=("table:${data_feats}/${dset}/"{text,utt2num_samples})
    done
    step_needed "${asr_stats_dir}" check_text "${words[@]}" || return 0
    # shellcheck disable=SC2086
    call ${python} -m espnet_kd.bin.check_text \
        --data "${data_feats}/${train_set}" --data "${data_feats}/${valid_set}" "${tests[@]}" \
        --token_list "${token_list}" --token_type "${token_type}" --bpemodel "${bpemodel}" \
        --config "${config}" --max_unk_share "${max_unk_share}" --out "${out}"
    step_done "${asr_stats_dir}" check_text
}
