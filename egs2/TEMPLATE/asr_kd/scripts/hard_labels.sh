# shellcheck shell=bash disable=SC2154 # asr_kd.sh sets the other variables
# What a student is trained on: the transcripts, or what its teacher makes of the training
# set (a stage of the plan with `labels: teacher`; stage 16).

# student_data DIR TEACHER STAGE: for the student in DIR, whose teacher in TEACHER STAGE has
# trained. Sets `student_train_dir` and `student_train_shapes` to the training set and the
# directory of its shape files.
student_data() {
    local dir=$1 teacher=$2 maker=$3 out hyp
    student_train_dir="${data_feats}/${train_set}"
    student_train_shapes="${asr_stats_dir}/train"
    grep -qs '"labels": "teacher"' "${dir}/student.json" || return 0

    out="${dir}/hard_labels/${train_set}"
    # A finished training stays with its labels, however its teacher is decoded since.
    if ! is_trained "${dir}" || [ ! -e "${out}/wav.scp" ] || "${force}"; then
        need "${student_train_shapes}/speech_shape" 10
        decode_model "${teacher}" "${maker}" "${train_set}"
        hyp="${teacher}/${inference_tag}/${train_set}/text"
        if step_needed "${out}" hard_labels \
            "file:${hyp}" "file:${student_train_shapes}/speech_shape" "file:${token_list}" \
            "data:${student_train_dir}" \
            out:wav.scp out:text out:speech_shape "out:text_shape.${token_type}"; then
            # shellcheck disable=SC2086
            call ${python} -m espnet_kd.bin.hard_labels --hyp "${hyp}" --data "${student_train_dir}" \
                --speech_shape "${student_train_shapes}/speech_shape" --config "${dir}/student.yaml" \
                --token_list "${token_list}" --token_type "${token_type}" --bpemodel "${bpemodel}" \
                --max_dropped_share "${max_dropped_share}" --out "${out}"
            step_done "${out}" hard_labels
        fi
    fi
    student_train_dir=${out}
    # shellcheck disable=SC2034 # used in asr_kd.sh
    student_train_shapes=${out}
}
