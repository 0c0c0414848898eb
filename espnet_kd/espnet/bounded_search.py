"""ESPnet's beam search with an end, whatever the model says."""

from typing import Any, List

import torch
from espnet2.asr_transducer.beam_search_transducer import BeamSearchTransducer, Hypothesis

from espnet_kd.device.search import A_FRAME, SPARE

NO_NUMBERS = "the joint network's output holds NaN or infinity"


class BoundedBeamSearch(BeamSearchTransducer):
    """`BeamSearchTransducer` whose search type `default` ends.

    ESPnet's leaves a frame once enough hypotheses with a blank are more likely than all
    others. A model that hardly ever says blank never comes there. This search counts the
    hypotheses that it expands; at the limit it takes the next token of every hypothesis for
    blank, which ends the frame. Below the limit it does what ESPnet's does, number by number.
    The other search types have limits of their own.

    Attributes:
        hit_limit: Whether the utterance that is decoded has come to the limit.
    """

    joint_network: Any  # of ESPnet's class, as is the next
    search_cache: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take ESPnet's arguments."""
        super().__init__(*args, **kwargs)
        self._bound()

    @classmethod
    def of(cls, search: BeamSearchTransducer) -> "BoundedBeamSearch":
        """Return a search with the model and the settings of one that ESPnet has built."""
        bounded = cls.__new__(cls)
        bounded.__dict__.update(search.__dict__)
        bounded.search_algorithm = getattr(bounded, search.search_algorithm.__name__)
        bounded._bound()
        return bounded

    def _bound(self) -> None:
        self._start()
        if self.search_algorithm == self.default_beam_search:
            self.joint_network = _Limited(self.joint_network, self)

    def _start(self) -> None:
        self.hit_limit = False
        self.expansions = self.frames = self.most_expansions = 0

    def __call__(self, enc_out: torch.Tensor, is_final: bool = True) -> List[Hypothesis]:
        """Search; see ESPnet's `BeamSearchTransducer.__call__`.

        Raises:
            FloatingPointError: the encoder's output holds NaN or infinity, or the joint
                network's, with which the search would not end.
        """
        if self.search_cache is None:
            self._start()
        if not bool(torch.isfinite(enc_out).all()):
            raise FloatingPointError("the encoder's output holds NaN or infinity")
        return super().__call__(enc_out, is_final)

    def default_beam_search(self, enc_out: torch.Tensor) -> List[Hypothesis]:
        """Search frame by frame; see ESPnet's method of this name.

        Args:
            enc_out: Encoder output. (T, D)
        """
        hyps = self.search_cache
        for t in range(len(enc_out)):
            self.frames += 1
            before = self.expansions
            hyps = self.search_cache = super().default_beam_search(enc_out[t : t + 1])
            self.most_expansions = max(self.most_expansions, self.expansions - before)
            if self.hit_limit:
                # It holds every hypothesis ever expanded, which is long by now.
                self.decoder.score_cache = {}
        return hyps if len(enc_out) else super().default_beam_search(enc_out)

    def limit(self) -> int:
        """Return how many expansions may have been made up to this frame."""
        return (SPARE + A_FRAME * self.frames) * self.beam_size


class _Limited:
    """The joint network of a search, which says blank for sure beyond the limit."""

    def __init__(self, network: Any, search: BoundedBeamSearch) -> None:
        self.network, self.search = network, search

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits, search = self.network(*args, **kwargs), self.search  # (1, V)
        search.expansions += 1
        if search.expansions > search.limit():
            if not bool(torch.isfinite(logits).all()):
                raise FloatingPointError(NO_NUMBERS)
            search.hit_limit = True
            logits = torch.full_like(logits, float("-inf"))
            logits[..., 0] = 0.0
        return logits
