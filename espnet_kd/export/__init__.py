"""A trained transducer as ONNX graphs that need neither torch nor ESPnet.

In reading order:

    exportable  what a model must be to be exported
    graphs      streaming encoder, predictor and joiner as torch modules
    tracing     those modules as ONNX files
    formats     the files in fewer bytes: float16, int8, int4
    exact       weights that training has rounded, as its own codes
    folder      one folder for a model and format
    parity      what is exported against the model it is from
    sensitivity  which parts stay float
    sherpa      the set of files that sherpa-onnx reads

`espnet_kd/device/` reads what is written. `docs/device.md` describes it.
"""
