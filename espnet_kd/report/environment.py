"""Machine and versions with which a run was made."""

import platform
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from typing import Dict, Optional, Union

from espnet_kd import __version__
from espnet_kd.machine import cores, cpu_name


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
        "cpu": cpu_name(),
        "cpu_count": cores(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_date": _git("log", "-1", "--format=%cd"),
    }


def _version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> Optional[str]:
    """Ask git about the current directory; None without git or outside a repository."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
