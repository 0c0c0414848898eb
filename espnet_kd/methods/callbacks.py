"""Events of a training: what a method, or our trainer, does beside ESPnet's own loop."""

import dataclasses
from pathlib import Path
from typing import Any, Sequence


@dataclasses.dataclass
class Run:
    """One training in one process.

    Attributes:
        model: The student that is trained, without what parallel training wraps around it.
        options: The trainer's.
        callbacks: Callbacks that are told of events, in this order.
        main: Whether this process writes files.
        unsaved: The epoch that is validated and not yet seen to be saved; 0: none.
        updates: Updates of the whole training, as it is planned; 0: not known yet.
    """

    model: Any
    options: Any
    callbacks: Sequence["Callback"]
    main: bool
    unsaved: int = 0
    updates: int = 0

    @property
    def folder(self) -> Path:
        """The experiment."""
        return Path(self.options.output_dir)

    def tell(self, event: str, *facts: Any) -> None:
        """Call a method of all callbacks.

        Args:
            event: Name of the event.
            facts: Arguments after the run.
        """
        for callback in self.callbacks:
            getattr(callback, event)(self, *facts)

    def tell_saved(self) -> None:
        """Tell that ESPnet has gone on behind the saving of an epoch, if there was one."""
        if self.unsaved:
            self.tell("on_save", self.unsaved)
            self.unsaved = 0


class Callback:
    """Events in their order; each does nothing unless it is overridden.

    All processes of a training are told; `run.main` is the one that writes.
    """

    def on_start(self, run: Run) -> None:
        """Prepare: nothing is trained yet, and no checkpoint loaded."""

    def on_begin(self, run: Run, epoch: int) -> None:
        """Prepare an epoch, from 1 on, before its first batch."""

    def on_update(self, run: Run, update: int) -> None:
        """Prepare an update of the model, before its first batch.

        Args:
            run: The training.
            update: Number of updates made before, those before an interruption included.
        """

    def on_epoch(self, run: Run, epoch: int) -> None:
        """Look at an epoch that is trained, validated and recorded, but not saved."""

    def on_save(self, run: Run, epoch: int) -> None:
        """Look at the files of an epoch: ESPnet has written them all."""

    def on_end(self, run: Run) -> None:
        """Finish: the best epochs are averaged."""
