"""Students from teachers: architecture arithmetic and inherited weights. Torch only.

What can shrink, and how, is one table: `spec/size_table.py`. In reading order:

    architecture   a model's sizes, those that a plan names, those for a target
    parameter_counts   parameters, exactly
    axes           what every axis of every parameter means
    importance     which blocks and which weights matter
    inherit        the student's first weights, cut out of the teacher's
    factors        products of two matrices: narrowed, made, multiplied out
    stateless      a predictor of one label made of a recurrent one
    halfway        the student between two sizes
    allocate       sizes for a target by measured sensitivity
"""
