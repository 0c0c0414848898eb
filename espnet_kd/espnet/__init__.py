"""The ESPnet extension: the only package of ours that imports ESPnet.

In reading order:

    type_checks      ESPnet imported in half the time
    versions         every difference between the supported ESPnet versions

    whole_encoder    encoders without a chunk mask: whole utterances, and their frames
    offline          transducers of `espnet2.asr` as standalone ones
    averaged_decoder  the one predictor that ESPnet does not have
    cascaded_encoder  the one encoder: chunks of two lengths (`cascade`, strict)
    encode           features once, encoders under one chunk mask
    teacher          a trained transducer, frozen
    first_conformer  the first student of a teacher that cannot be cut
    stock            ESPnet's own models: built, read, run once for a check
    layers           pairs of encoder blocks
    auxiliary_layers  layers of full context on a streaming student, in training alone
    two_modes        streaming and full context in one update
    band_watch       whether a student stays in its teacher's band
    terms            the terms of the loss, one by one
    model            ESPnet's transducer model with our losses
    predictor        a predictor for many label sequences at once
    greedy           greedy search of a batch, word errors
    dev_wer          WER on a part of the validation set
    mixed_precision  in which number format a training computes
    annealing        a learning rate that ends with the training
    curriculum       a teacher as it was after earlier epochs
    moments          what the optimizer has learnt, cut as the weights are
    throughput       how much speech a training gets through
    reading          data that cannot be read, named in one line
    soundness        what an epoch must have done to count
    checkpoints      the files of a training's weights
    epoch_records    history.json and facts.json
    exports          averages in the form that ESPnet decodes
    trainer          ESPnet's trainer with progress, history and facts
    task             the Task that builds all this from a config

    measure          what a model does on a few utterances
    standalone       a transducer that was trained anywhere, read from where it lies
    exportable_model  a model to be exported, or why it cannot be
    derive           a student's experiment from its teacher's
    import_teacher   a transducer that the user trained
    training_parts   what a training names, built to see that it can be
    plan_checks      what of a plan needs ESPnet to be checked
    batches          the batches of a training, by their lengths
    estimate         what a training will cost

    cache_wanted     a look at a training before its cache is made
    cache_data       the utterances that a teacher is run over
    cache_teacher    the making of a teacher cache
    cache_fingerprint  what a cache was made from
    cached           a cache in the teacher's place

    training_tokenizer  transcripts to tokens as a training does
    text_cleaner     cleaners of transcripts by name
    bounded_search   ESPnet's beam search with an end
    aligned          streaming in chunks on training's grid, nothing dropped
    batched_search   ESPnet's beam search for many utterances at once
    batched_decoding utterances decoded in batches
    any_transducer   ESPnet's `Speech2Text` for teachers of any kind
    timed_inference  stock inference with a clock around it
    alignment        times of a transcript's tokens: a model's best path
    espnet_runtime   ESPnet as a runtime of deploy/runtime.py
"""

from espnet_kd.espnet.type_checks import spare_espnet

spare_espnet()
