"""Students from teachers: architecture arithmetic and inherited weights. Torch only.

What can shrink, and how, is one table: `spec/size_table.py`. In reading order:

    predictors     kinds of predictor: a class for each decoder
    parameter_counts  parameters, exactly
    architecture   a model's sizes, those that a plan names, those for a target
    checkpoint_size  bytes of the file, and sizes for so many
    stand_in       sizes in the place of those of a teacher that cannot be cut
    model_config   sizes in ESPnet's config
    axes           what every axis of every parameter means
    importance     which blocks and which weights matter
    hard_concrete  gates on units, learned under a budget of parameters
    inherit        the student's first weights, cut out of the teacher's
    nested_units   members of a family in one another
    factors        products of two matrices: narrowed, made, multiplied out
    output_fit     the output layer nearest to another model's logits
    grid           weights rounded to few bits, and how many each is given
    learned_bits   how many, learned by gradient
    stateless      a predictor of one label made of a recurrent one
    averaged       a predictor that averages the last labels' embeddings, made of another
    halfway        the student between two sizes
    allocate       sizes for a target by measured sensitivity
"""
