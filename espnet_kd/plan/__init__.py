"""The students of a compression plan: who follows whom, at what size, by which path.

In reading order:

    student    a student that is to be made
    verdict    what a gate says of measured error rates
    effective  the plan after what its gates have found
    family_steps  what other paths make of the stages of a family
    twins      students that several paths would make, once
    baselines  other ways to students of the same sizes: baselines and ablations
    selection  the options by which every command line finds the same students
    planned_sizes  sizes of planned students; needs torch
    draft      a first plan for a teacher; needs torch
    manifest   what a student was made from
"""
