"""A family at many moments of its making, each a copy to work on."""

import json
import shutil
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from tests.faults.family import STUDENT_DIRS, TEACHER_DIR, Family
from tests.faults.outcome import outcome
from tests.faults.running import Run, run_timed


class Context:
    """What cases share: the fresh recipe, snapshots of it, the undisturbed run's outcome."""

    def __init__(self, work: Path, python: str, checkout: Path) -> None:
        self.work, self.python, self.checkout = work, python, checkout
        self.snapshots: Dict[str, Family] = {}
        self.stages: List[Tuple[str, float]] = []
        self.reference: Dict[str, str] = {}

    def reuse(self) -> bool:
        """Take what an earlier call has left in the folder of work, if it has."""
        record = self.work / "context.json"
        if not record.exists():
            return False
        content = json.loads(record.read_text())
        self.stages = [tuple(stage) for stage in content["stages"]]
        self.reference = content["reference"]
        for name, folder in content["snapshots"].items():
            self.snapshots[name] = Family(self.work / folder, self.python, self.checkout)
        return True

    def save(self) -> None:
        folders = {name: family.root.name for name, family in self.snapshots.items()}
        content = {"stages": self.stages, "reference": self.reference, "snapshots": folders}
        (self.work / "context.json").write_text(json.dumps(content))

    def make_reference(self, short: bool = False) -> "Context":
        """The undisturbed run, in one command."""
        fresh = Family(self.work / "fresh", self.python, self.checkout).make(short)
        done = fresh.copy(self.work / "done")
        ended, self.stages = run_timed(done)
        if ended.code != 0:
            raise RuntimeError(f"the undisturbed run failed: {ended.out[-500:]} {ended.err}")
        self.reference = outcome(done.dir)
        self.snapshots = {"fresh": fresh, "done": done}
        return self

    def make_snapshots(self) -> None:
        """All the others, by a run in pieces."""
        family = self.snapshots["fresh"].copy(self.work / "pieces")
        for stage in (5, 10):
            self._piece(family, f"stage {stage}", stop_stage=stage)
        teacher, half = (family.dir / folder for folder in (TEACHER_DIR, STUDENT_DIRS[0]))
        self._stop_when(family, "teacher", (teacher / "4epoch.pth").exists)
        for stage in (11, 12, 13):
            self._piece(family, f"stage {stage}", stop_stage=stage)
        self._stop_when(family, "derived", (half / ".done.derive").exists)
        self._stop_when(family, "cached", (half / "teacher_cache/.done.cache").exists)
        self._stop_when(family, "student", (half / "1epoch.pth").exists)
        self._piece(family, "stage 16/1", stop_stage=16, stop_compression_stage=1)
        self._piece(family, "stage 17", stop_stage=17)

    def _piece(self, family: Family, name: str, **options: object) -> None:
        ended = Run(family, **options).end()
        if ended.code != 0:
            raise RuntimeError(f"up to {name}: {ended.out[-500:]} {ended.err}")
        self.snapshots[name] = family.copy(self.work / name.replace("/", "-"))

    def _stop_when(self, family: Family, name: str, there: Callable[[], bool]) -> None:
        run = Run(family)
        if not run.wait(until=there, pause=0.005):
            raise RuntimeError(f"before {name}: {run.end().err}")
        run.members.kill_all()
        run.process.wait()
        self.snapshots[name] = family.copy(self.work / name)

    def copy(self, snapshot: str, name: str) -> Family:
        """A copy of a snapshot to be disturbed."""
        folder = self.work / "cases" / name
        folder.parent.mkdir(exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        return self.snapshots[snapshot].copy(folder)
