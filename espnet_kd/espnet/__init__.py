"""The ESPnet extension: the only package of ours that imports ESPnet.

In reading order:

    versions    every difference between the supported ESPnet versions
    teacher     a trained transducer, frozen
    encode      features once, encoders under one chunk mask
    auxiliary   losses on encoder outputs and CTC heads
    mixed_precision  in which number format a training computes
    model       ESPnet's transducer model with our losses
    greedy      greedy search, word errors
    dev_wer     WER on a part of the validation set
    trainer     ESPnet's trainer with progress, history and facts
    annealing   a learning rate that ends with the training
    task        the Task that builds all this from a config
"""
