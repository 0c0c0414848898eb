"""Where and with what a run was made."""

import os
import platform
import re
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from typing import Dict, Optional, Union

from espnet_kd import __version__


def environment(command: str) -> Dict[str, Union[str, int, None]]:
    """Describe this machine and its software. Nothing here can fail: unknown is None.

    Versions come from the installed packages' records; importing ESPnet takes 8 s.
    """
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "python": sys.version.replace("\n", " "),
        "espnet": _version("espnet"),
        "torch": _version("torch"),
        "torchaudio": _version("torchaudio"),
        "espnet_kd": __version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cpu_count": _cpu_count(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_date": _git("log", "-1", "--format=%cd"),
    }


def _version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_count() -> Optional[int]:
    """Count the cores this process may use; a container often has fewer than the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu_name() -> Optional[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            found = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or None


def _git(*arguments: str) -> Optional[str]:
    """Ask git about the current directory; None without git or outside a repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
