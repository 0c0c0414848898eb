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

# ESPnet's functions are as they were written; typeguard checks other people's as ever.
import typeguard
from espnet2.tasks.abs_task import AbsTask

assert "typeguard" not in AbsTask.main.__func__.__code__.co_names

# What ESPnet's speech synthesis takes of scipy waits until somebody uses it.
import sys
from espnet2.gan_tts.jets.alignments import betabinom

assert "scipy.stats._stats_py" not in sys.modules
assert abs(betabinom.pmf(0, 1, 1, 1) - 0.5) < 1e-12
import scipy.signal, scipy.stats

assert list(scipy.signal.convolve([1.0, 2.0], [1.0])) == [1.0, 2.0]
assert betabinom.pmf(1, 1, 1, 1) == scipy.stats.betabinom.pmf(1, 1, 1, 1)

@typeguard.typechecked(collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
def double(x: int) -> int:
    return 2 * x

try:
    double("word")
except typeguard.TypeCheckError:
    pass
else:
    raise RuntimeError("a type was not checked")
"""


def test_an_import_for_a_measurement_is_quick_starts_no_cuda_and_says_nothing(tmp_path):
    path = tmp_path / "imports.py"  # typeguard wants to read what it checks
    path.write_text(IMPORT)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
