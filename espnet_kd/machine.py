"""Facts about this machine: cores, processor."""

import os
import platform
import re
import shutil
from typing import Optional


def cores() -> int:
    """Count the cores this process may use; a container often has fewer than the machine."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def cpu_name() -> Optional[str]:
    """Return the name of the processor; None if nothing tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            match = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1) if match else platform.processor() or None


def gpus() -> Optional[int]:
    """Count the GPUs that a process may use, without torch; None: there may be some."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name for name in (visible or "").split(",") if name.strip() not in ("", "-1")]
    if visible is not None and not names:
        return 0
    count = len([name for name in os.listdir("/dev") if re.fullmatch(r"nvidia[0-9]+", name)])
    if not count and (os.path.exists("/dev/kfd") or os.path.exists("/dev/dxg")):
        return None  # AMD's driver, or Windows' below Linux
    if not count and shutil.which("nvidia-smi"):
        import subprocess

        try:
            done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        count = len(re.findall(rb"^GPU [0-9]+:", done.stdout, re.MULTILINE))
    return min(count, len(names)) if names else count


def torch_is_cpu_build() -> bool:
    """Tell whether the installed torch says that it was built for CPUs alone."""
    from importlib import metadata

    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False
