# shellcheck shell=bash disable=SC2034,SC2154 # asr_kd.sh sets the other variables
# The students: those of the plan, and those that its gates and --paths add.

# By which every command line finds the same students.
plan_options=(
    --plan "${compression_config}"
    --paths "${paths}"
    --paths_at "${paths_at}"
    --ablate "${ablate}"
    --students "${expdir}/${kd_tag}"
    --train_config "${student_config}"
)

# Set student_{names,ids,teachers,paths,gates,until,online,trainings}, each from 1, to the columns of
# plan_stages. What gates have found by now counts: they may add students or end the list.
read_plan() {
    local k name id teacher path gate until online training plan cache=()
    # Options of the command line overrule the plan's, and are checked with the cache.
    [[ "${kd_args} " == *"--kd_conf"[\ =]* ]] ||
        cache=(--use_teacher_cache "${use_teacher_cache}" --cache_band "${cache_band}")
    # shellcheck disable=SC2086
    plan=$(${python} -m espnet_kd.bin.plan_stages "${plan_options[@]}" "${cache[@]}") ||
        { rc=$?; explained=true; exit "${rc}"; }
    student_names=()
    student_ids=()
    student_teachers=()
    student_paths=()
    student_gates=()
    student_until=()
    student_online=()
    student_trainings=()
    while read -r k name id teacher path gate until online training; do
        student_names[k]=${name}
        student_ids[k]=${id}
        student_teachers[k]=${teacher}
        student_paths[k]=${path}
        student_gates[k]=${gate}
        student_until[k]=${until}
        student_online[k]=${online}
        student_trainings[k]=${training}
    done <<<"${plan}"
}

student_dir() {
    echo "${expdir}/${kd_tag}_${student_names[$1]}"
}

# The directory of student K's teacher.
teacher_dir() {
    if [ "${student_teachers[$1]}" = - ]; then
        echo "${asr_exp}"
    else
        echo "${expdir}/${kd_tag}_${student_teachers[$1]}"
    fi
}

# The stage that makes student K's teacher, in words.
maker_of_teacher() {
    local k
    for k in "${!student_names[@]}"; do
        if [ "${student_names[k]}" = "${student_teachers[$1]}" ]; then
            echo "16 (--compression_stage ${k})"
            return
        fi
    done
    echo "${teacher_stage}"
}
