"""Everything a user may write in a plan and in `kd_conf`; no torch, no ESPnet.

Each option is one field of a dataclass, with all that is known of it: choices, range, meaning,
whether a model card may tell it, what a teacher cache needs of it. `reader` checks a value once,
where YAML comes in; from there on typed objects travel.

In reading order:

    option           a field and what is known of it
    values           checks of single values
    reader           the one reader of options
    target           a student's size as one number
    size_table       the one table of sizes: names, grids, units that are cut
    named_sizes      sizes by ESPnet's names
    not_stock        parts of a model that ESPnet does not have
    teacher_kinds    what a teacher may be, and which teachers are cut
    distillation     `kd_conf`
    heard            options of it that nothing listens to
    option_values    values of ESPnet's own options
    training_config  the students' training config, of which ESPnet knows most
    gate             when a student may become a teacher
    method           compression methods and the options that they add
    pseudo_labels    whose labels a stage is trained on, and which of them
    stage            one student of a plan
    family_plan      nested students of one training, which become stages
    contradictions   names and sizes that exclude one another
    plan             the file
    conditions_file  conditions under which finished models are heard again
    option_tables    tables of all options, for docs/plan.md and `--help`
"""
