"""espnet_kd: multi-stage progressive knowledge distillation of ESPnet transducers.

Symbols, used in every shape comment and docstring of this package:

    B   utterances in a batch                     S   audio samples
    T   encoder frames (after subsampling)        F   feature bins
    U   labels of an utterance (no blank)         V   vocabulary, blank = 0 included
    D   width of a layer                          N   lattice nodes, B * T * (U + 1)

A lattice node is the pair (t, u): frame t, with u labels already emitted. The
model leaves it by *blank* to (t + 1, u) or by the *next label* to (t, u + 1).

Rooms, in reading order:

    lattice/   the (t, u) grid: node log-probabilities, RNN-T recursion      torch only
    losses/    one distillation objective a file                            torch only
    students/  architecture arithmetic and weight inheritance               torch only
    objective  all of that as one public function                           torch only
    spec/      everything a user may write: plan, stage, `kd_conf`           no torch
    saved      PyTorch files with their checksums, weights that are numbers torch only
    peak_memory  of a piece of work in a process of its own                 torch only
    teachers/  the teacher cache: record, band, fingerprint, archive       torch, kaldiio
    plan/      the students of a plan: gates, other paths, sizes, manifest
    methods/   what a compression method is; one a file                     torch only
    espnet/    Task, model, trainer, version differences: all that knows ESPnet
    data/      corpora -> Kaldi-style data directories -> dump/raw
    scoring/   WER and CER with sclite's counts, bootstrap
    report/    exp/results.json, exp/RESULTS.md, plots
    run/       one run of the recipe: options, jobs, may finished work be used again; stages 10-22
    export/    a trained model as ONNX graphs, in fewer bytes; parity; sherpa-onnx
    device/    transcribing with them                          numpy, onnxruntime
    deploy/    a model as files, runtimes and their speed; archives, model cards, upload
    bin/       command lines, one verb a file
    common/    the readers of YAML, JSON and weights for devices, the records that tools leave
    errors, cli, fileio, progress, machine, install  what command lines share
"""

__version__ = "0.1.0"
