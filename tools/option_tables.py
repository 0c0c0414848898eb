"""Bring the tables of options in docs/plan.md up to date: `python tools/option_tables.py`."""

from pathlib import Path

from espnet_kd.spec.option_tables import updated

PLAN = Path(__file__).resolve().parents[1] / "docs" / "plan.md"

if __name__ == "__main__":
    PLAN.write_text(updated(PLAN.read_text(encoding="utf-8")), encoding="utf-8")
