"""A predictor that averages the embeddings of the last labels: `decoder: averaged`.

    o_u = 1/N sum_n (e_n . p_n) e_n,    y_u = swish(norm(W o_u + b))

e_1 ... e_N are the embeddings (E,) of the last N labels, the last one first, zeros for blank and
where there are fewer; p_1 ... p_N (E,) are learnt. This is the reduced decoder of Botros et al.
2021 (arXiv 2109.07513, of which we know the abstract), distilled in arXiv 2312.09842, as WeNet's
`EmbeddingPredictor` (commit 01546996) reads it. There H heads have vectors p_h,n, and the mean of
the heads is taken: (e . p) e + (e . q) e = (e . (p + q)) e, so that one head computes what H do.
ESPnet has no such decoder: importing this module makes it know ours, by its name.
"""

from typing import Any, Dict, List, Optional, Tuple

import torch
from espnet2.asr_transducer.decoder.abs_decoder import AbsDecoder
from espnet2.tasks.asr_transducer import decoder_choices

from espnet_kd.spec.named_sizes import LARGEST_CONTEXT
from espnet_kd.spec.values import whole_number

NAME = "averaged"


class AveragedDecoder(AbsDecoder):
    """See the module; the interface is ESPnet's. It has no states: `score` is given all labels.

    Args:
        vocab_size: Vocabulary V; blank is 0.
        embed_size: Width E of the label embedding.
        hidden_size: Width D of the output.
        context: Number N of labels, from 2 to `LARGEST_CONTEXT`.
        embed_dropout_rate: Dropout of embeddings.

    Attributes:
        output_size: Width D of the output.

    Raises:
        UserError: it hears another number of labels.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 256,
        hidden_size: int = 256,
        context: int = 2,
        embed_dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        whole_number("decoder_conf.context", context, 2, LARGEST_CONTEXT)
        self.embed = torch.nn.Embedding(vocab_size, embed_size, padding_idx=0)
        self.embed_dropout_rate = torch.nn.Dropout(p=embed_dropout_rate)
        self.position = torch.nn.Linear(embed_size, context, bias=False)
        self.output = torch.nn.Linear(embed_size, hidden_size)
        self.norm = torch.nn.LayerNorm(hidden_size)
        self.vocab_size, self.embed_size, self.context = vocab_size, embed_size, context
        self.output_size = hidden_size
        self.device = self.norm.weight.device
        self.score_cache: Dict[str, torch.Tensor] = {}  # which ESPnet's searches empty

    @property
    def waiting(self) -> Tuple[int, int]:
        """Shape of what `step` passes on: (N - 1, E)."""
        return self.context - 1, self.embed_size

    def forward(self, labels: torch.Tensor, states: Any = None) -> torch.Tensor:
        """Hear whole sequences. (B, U) -> (B, U, D)"""
        return self._heard(self.embed_dropout_rate(self.embed(labels)))

    def step(
        self, embedded: torch.Tensor, waiting: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Hear one label more.

        Args:
            embedded: Embedding of the label. (B, E)
            waiting: Parts of the next N - 1 averages that are known; zeros at first. (B, N - 1, E)

        Returns:
            Output (B, D), and the parts after the label.
        """
        parts = self.position(embedded)[..., None] * embedded[:, None] / self.context  # (B, N, E)
        later = torch.nn.functional.pad(waiting[:, 1:], (0, 0, 0, 1)) + parts[:, 1:]
        return self._said(waiting[:, 0] + parts[:, 0]), later

    def _heard(self, embedded: torch.Tensor) -> torch.Tensor:
        """Average embeddings (B, U, E) and go on from there. (B, U, D)"""
        shares = self.position(embedded) / self.context  # (B, U, N)
        total, n_labels = shares[..., :1] * embedded, embedded.size(1)  # (B, U, E)
        for n in range(1, self.context):
            part = shares[..., n : n + 1] * embedded  # (B, U, E)
            total = total + torch.nn.functional.pad(part, (0, 0, n, 0))[:, :n_labels]
        return self._said(total)

    def _said(self, average: torch.Tensor) -> torch.Tensor:
        """(..., E) -> (..., D)"""
        return torch.nn.functional.silu(self.norm(self.output(average)))

    def _last(self, sequences: List[List[int]]) -> torch.Tensor:
        """Return what is said after the last label of each sequence. (B, D)"""
        n = self.context
        rows = [[0] * (n - len(labels)) + labels[-n:] for labels in sequences]
        labels = torch.tensor(rows, dtype=torch.long, device=self.device)  # (B, N)
        return self._heard(self.embed(labels))[:, -1]

    def score(
        self, label_sequence: List[int], states: Optional[Any] = None
    ) -> Tuple[torch.Tensor, None]:
        """Hear a sequence (U); return what is said after it, (1, D), and no states."""
        key = "_".join(map(str, label_sequence[-self.context :]))
        if key not in self.score_cache:
            self.score_cache[key] = self._last([list(label_sequence)])
        return self.score_cache[key], None

    def batch_score(self, hyps: List[Any]) -> Tuple[torch.Tensor, None]:
        """Hear the labels of ESPnet's hypotheses; return (B, D), and no states."""
        return self._last([list(hyp.yseq) for hyp in hyps]), None

    def set_device(self, device: torch.device) -> None:
        """Tell on which device labels are made."""
        self.device = device

    def init_state(self, batch_size: int) -> None:
        """Return no states."""

    def select_state(self, states: None, idx: int) -> None:
        """Return no state."""

    def create_batch_states(self, new_states: List[None]) -> None:
        """Return no states."""


decoder_choices.classes[NAME] = AveragedDecoder
