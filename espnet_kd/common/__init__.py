"""Readers and writers that all rooms share. None of them imports torch.

In reading order:

    yaml_file  the only reader of YAML: limits, duplicate keys, lines in messages
    json_file  the only reader of JSON: limits, shapes, atomic writes
    records    the JSON files that the tools leave in an experiment
    device_weights  the file of weights as a device holds them
"""
