"""Transcribing with an exported model: numpy and onnxruntime, neither torch nor ESPnet."""
