"""How the command lines show their help."""

import argparse


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and after each option its default, if it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        empty = action.default in (None, "", argparse.SUPPRESS)
        if empty or action.required or action.nargs == 0 or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)".strip()
