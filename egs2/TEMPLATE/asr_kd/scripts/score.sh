# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# WER and CER of one model (stages 13 and 16).

# scores_current DIR: succeed if all scores are of the model in DIR and of the test sets as they
# are now; else set `stale` to why not.
scores_current() {
    local dset steps=()
    for dset in ${scored_sets}; do
        steps+=("$1/${inference_tag}/${dset}" decode "$1/${inference_tag}/${dset}" score)
    done
    step_current "${steps[@]}"
}

# score_model DIR STAGE [SET...]: STAGE is the one that decodes with the model in DIR.
# By default all test sets.
score_model() {
    local exp=$1 decoder=$2 sets dset dir words labels
    shift 2
    sets=${*:-${scored_sets}}
    for dset in ${sets}; do
        dir="${exp}/${inference_tag}/${dset}"
        need "${data_feats}/${dset}/text" "$(maker_of_set "${dset}")"
        need "${dir}/text" "${decoder}"
        words=("file:${dir}/text" "table:${data_feats}/${dset}/text")
        labels="${data_feats}/${dset}/utt2condition"
        [ ! -f "${labels}" ] || words+=("table:${labels}")
        if step_needed "${dir}" score "${words[@]}" \
            out:score_wer/result.txt "out:score_*/counts.tsv" "also:score_*/*"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.score \
                --ref "${data_feats}/${dset}/text" --hyp "${dir}/text" --out "${dir}"
            step_done "${dir}" score
        fi
    done
}
