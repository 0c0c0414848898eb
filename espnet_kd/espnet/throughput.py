"""Speech that a training gets through in a second, and the memory that it takes."""

from typing import Any, Dict, Mapping

import torch
from espnet2.train.reporter import SubReporter, to_reported_value


class Throughput:
    """Counts the audio and the labels of the batches of one process.

    Args:
        model: The model that is trained; its front end knows the sampling rate. Of a model
            that is given features, or has a front end without mel filters, only labels are
            counted.
    """

    def __init__(self, model: Any) -> None:
        logmel = getattr(getattr(model, "frontend", None), "logmel", None)
        self.rate = getattr(logmel, "mel_options", {}).get("sr")  # samples a second
        self.samples = self.tokens = 0

    def add(self, batch: Mapping[str, torch.Tensor]) -> None:
        """Count a batch, still on the CPU: nothing waits for a GPU."""
        self.samples += int(batch["speech_lengths"].sum())
        self.tokens += int(batch["text_lengths"].sum())

    def per_second(self, seconds: float) -> Dict[str, float]:
        """Return `tokens_per_second` and `audio_seconds_per_second` (times real time)."""
        seconds = max(seconds, 1e-9)
        figures = {"tokens_per_second": self.tokens / seconds}
        if self.rate:
            figures["audio_seconds_per_second"] = self.samples / self.rate / seconds
        return figures

    def gather(self, ngpu: int) -> None:
        """Add up what all processes have counted; all of them must call this."""
        device = "cuda" if ngpu > 0 else "cpu"
        both = torch.tensor([self.samples, self.tokens], dtype=torch.int64, device=device)
        torch.distributed.all_reduce(both)
        self.samples, self.tokens = both.tolist()


def report_epoch(reporter: SubReporter, figures: Mapping[str, float]) -> None:
    """Give an epoch figures of its own, for train.log, TensorBoard and W&B.

    `reporter.register` would count one step more, and all that is shown by steps would shift.
    So each step of the epoch gets the epoch's figure, whose mean is the figure again.
    """
    if reporter.count:
        values = {key: to_reported_value(float(value)) for key, value in figures.items()}
        reporter.stats.update({key: [value] * reporter.count for key, value in values.items()})
