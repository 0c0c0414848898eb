"""What the supported ESPnet versions do when they are imported."""

import subprocess
import sys

IMPORT = """
import torch
from espnet_kd.espnet.versions import quiet_import

def start_cuda(*_):
    raise RuntimeError("this starts CUDA")

torch.cuda.is_available = available = lambda: True
torch.cuda.is_bf16_supported = torch.cuda.current_device = torch.cuda._lazy_init = start_cuda
with quiet_import():
    import espnet2.tasks.asr_transducer
assert torch.cuda.is_available is available
"""


def test_an_import_for_a_measurement_starts_no_cuda_and_says_nothing():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
