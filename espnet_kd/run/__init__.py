"""One run of the recipe: its options, its jobs, its steps, and whole stages of it.

In reading order:

    options        options of `asr_kd.sh` as data, and what is wrong with a value
    espnet_options  those of ESPnet's asr.sh that the recipe has not
    places         paths and names that the recipe can use
    names          names of folders that follow from the options
    espnet_names   names of ESPnet's options
    prerequisites  files, GPUs and accounts that the stages to run need
    settings       options as typed values
    lock           a folder belongs to one run at a time
    content        what an input holds, to be compared
    training_options  what a training is asked to do, to be compared
    step_record    the record that a step leaves
    step_inputs    is an input what its step has left?
    step_outputs   what a step has left
    differences    what differs between two records
    step           may finished work be used again?
    jobs           commands that a signal ends with all they have started
    local_jobs     an array of jobs on this machine
    recipe         one stage: what it says, needs, starts
    training       train a model
    decoding       decode sets with a model, and score them
    statistics     stage 10
    first_teacher  stages 11 to 13
    students       the students of a run
    judgement      may a student be a teacher?
    label_sets     what a student is trained on
    turn           one turn of stage 16: a student from derivation to manifest
    reporting      stage 17
    robustness_stage  stage 22: models under other conditions
    exporting      stage 20
    recipe_folder  a recipe folder that stands alone
    stage_main     what the command lines of whole stages share
"""
