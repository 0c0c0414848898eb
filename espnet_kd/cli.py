"""Habits that the command lines share."""

import argparse
import sys
from typing import Optional, Sequence


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and after each option its default, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        empty = action.default in (None, "", argparse.SUPPRESS)
        if empty or action.required or action.nargs == 0 or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)".strip()


def check_configs(cmd: Optional[Sequence[str]], *options: str) -> None:
    """Read the YAML files that a command line of ESPnet's names, before ESPnet does.

    Args:
        cmd: The arguments; None: those of the process.
        options: Names of the options.

    Raises:
        UserError: see `read_yaml`.
    """
    from espnet_kd.common.yaml_file import read_yaml  # here: most command lines read no YAML

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in options:
        parser.add_argument(option)
    words = list(sys.argv[1:] if cmd is None else cmd)
    for option, path in vars(parser.parse_known_args(words)[0]).items():
        if path is not None:
            read_yaml(path, f"--{option} names it")
