"""What this machine is."""

import os
import platform
import re
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
            found = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or None
