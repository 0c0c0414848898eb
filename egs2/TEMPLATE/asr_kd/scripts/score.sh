# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# WER and CER of one model (stages 13 and 16).

# scored_as_trained DIR SET: whether the scores are of the training that is in DIR now.
scored_as_trained() {
    local marker="$1/${inference_tag}/$2/.done.decode"
    [ ! -f "${marker}" ] || grep -q "/\.done\.train=$(file_id "$1/.done.train")\$" "${marker}"
}

# score_model DIR STAGE [SET...]: STAGE is the one that decodes with the model in DIR.
# By default all test sets.
score_model() {
    local exp=$1 decoder=$2 sets dset dir marker inputs labels
    shift 2
    sets=${*:-${scored_sets}}
    for dset in ${sets}; do
        dir="${exp}/${inference_tag}/${dset}"
        need "${data_feats}/${dset}/text" "$(maker_of_set "${dset}")"
        need "${dir}/text" "${decoder}"
        inputs=("${dir}/text" "${data_feats}/${dset}/text")
        labels="${data_feats}/${dset}/utt2condition"
        [ ! -f "${labels}" ] || inputs+=("${labels}")
        mapfile -t marker < <(file_inputs "${inputs[@]}")
        if step_needed "${dir}" score "${dir}/score_wer/result.txt" "${marker[@]}"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.score \
                --ref "${data_feats}/${dset}/text" --hyp "${dir}/text" --out "${dir}"
            step_done "${dir}" score "${marker[@]}"
        fi
    done
}
