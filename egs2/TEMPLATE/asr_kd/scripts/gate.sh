# shellcheck shell=bash disable=SC2034,SC2154 # asr_kd.sh sets the other variables
# May a student be a teacher? Decided by espnet_kd.bin.gate, from scores on the validation set.

# pass_gate K: measure student K, if it has a gate, and read the plan again. Sets
# `train_longer` to whether its training goes on.
pass_gate() {
    local k=$1 dir teacher before=${student_until[$1]}
    local force=false # what is compared was made just now, or is known by its record
    train_longer=false
    [ "${student_gates[k]}" = gate ] || return 0
    dir=$(student_dir "${k}")
    teacher=$(teacher_dir "${k}")
    decode_model "${teacher}" "$(maker_of_teacher "${k}")" "${valid_set}"
    score_model "${teacher}" 16 "${valid_set}"
    decode_model "${dir}" 16 "${valid_set}"
    score_model "${dir}" 16 "${valid_set}"
    # shellcheck disable=SC2086
    call ${python} -m espnet_kd.bin.gate "${plan_options[@]}" --student "${student_names[k]}" \
        --teacher_exp "${teacher}" --scores "${inference_tag}/${valid_set}"
    read_plan
    [ "${student_until[k]}" = "${before}" ] || train_longer=true
}
