"""One matrix for label embedding and output layer: `tied`.

    embedding[1:]  ==  lin_out.weight[1:]      (V - 1, d),  d = joint_space_size = embed_size

The tied half of the tied-and-reduced decoder of Botros et al. 2021 (arXiv 2109.07513), which arXiv
2312.09842 distils. The predictor's inputs begin with blank, whose embedding ESPnet keeps at zero:
row 0 and the output's bias stay free. Stock ESPnet holds the matrix twice, equal.

First weights, from an embedding E (V, e) and an output layer W (V, d): with S = W[1:] the shared
matrix, the least squares R of S R = E[1:] (d, e) goes into what reads the embedding: M' = M R^T.
That is exact while S has at least the rank of E.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition, with_facts
from espnet_kd.methods.protocol import Attached, Job, Prepared
from espnet_kd.spec.option import option

if TYPE_CHECKING:
    import torch

    from espnet_kd.methods.protocol import State

EMBED, OUT = "decoder.embed.weight", "joint_network.lin_out.weight"
READERS = {
    "rnn": ("decoder.rnn.0.weight_ih_l0",),
    "stateless": ("joint_network.lin_dec.weight", "lm_lin.weight"),
    "averaged": ("decoder.position.weight", "decoder.output.weight"),
}


class Tied(Addition):
    """See the module."""

    name = "tied"
    kind = bool
    own_schedule = True
    option = option(
        False,
        "the label embedding is the output layer's matrix, and as wide as the joint network",
        published=True,
    )

    def check_stage(self, stage: Any, value: bool, where: str) -> None:
        """Refuse widths that differ, and sizes that nobody has named.

        Raises:
            UserError: that is so.
        """
        if stage.target is not None:
            raise UserError(
                f"{where}: needs sizes by name: joint_network.joint_space_size in 'student' is "
                "the width of the embedding, too; 'target' decides them apart"
            )
        named = stage.sizes.named if stage.sizes is not None else {}
        joint, embed = (
            named.get(key) for key in ("joint_network.joint_space_size", "decoder.embed_size")
        )
        if None not in (joint, embed) and joint != embed:
            raise UserError(
                f"{where}: needs decoder.embed_size {embed} and joint_network.joint_space_size "
                f"{joint} to be equal; leave embed_size out: it is {joint} then"
            )

    def prepare(self, job: Job, prepared: Prepared, value: bool) -> Prepared:
        """Make the embedding the output layer's matrix.

        Raises:
            UserError: the teacher's blank is no padding, or the widths make it no student.
        """
        before = prepared.sizes
        embed = job.teacher.net.get_submodule("decoder.embed")
        if embed.padding_idx != 0:
            raise UserError(
                f"{job.stage.at('method_conf.tied')}: needs decoder_conf.embed_pad 0, the "
                f"teacher's is {embed.padding_idx}"
            )
        sizes = before.resized(embed_size=before.joint_size)
        if sizes != before and job.stage.method_conf.keeps_sizes:
            raise UserError(
                f"{job.stage.at('method_conf.tied')}: method '{job.stage.method}' keeps sizes, "
                f"and embed_size {before.embed_size} is not joint_space_size "
                f"{before.joint_size}; method 'cut' makes them equal"
            )
        if sizes.params >= job.teacher.sizes.params and sizes != job.teacher.sizes:
            raise UserError(
                f"{job.stage.at('method_conf.tied')}: an embedding {sizes.embed_size} wide makes "
                f"{sizes.params:,} parameters, not fewer than the teacher's "
                f"{job.teacher.sizes.params:,}; name a smaller joint_network.joint_space_size"
            )
        report: Dict[str, Any] = {
            **prepared.report,
            "unique_params": sizes.params - (sizes.vocab - 1) * sizes.embed_size,
        }
        state = prepared.state
        if state is not None:
            state, report["tied_residual"] = tie(state, before.decoder)
        changes = {"sizes": sizes, "state": state, "report": report, "alike": None}
        return with_facts(prepared, self.name, value, **changes)

    def attach(self, model: torch.nn.Module, facts: bool) -> Attached:
        """Let the predictor look its labels up in the output layer."""
        import torch

        class TiedEmbedding(torch.nn.Module):
            """The output layer's matrix as an embedding without parameters.

            Args:
                out: The output layer; it is no part of this module.
            """

            def __init__(self, out: Any) -> None:
                super().__init__()
                self.out = [out]

            @property
            def weight(self) -> torch.Tensor:
                """Return the embedding, zero for blank. (V, d)"""
                return _embedding(self.out[0].weight)

            def forward(self, labels: torch.Tensor) -> torch.Tensor:
                """Look labels up. (B, U) -> (B, U, d)"""
                return torch.nn.functional.embedding(labels, self.weight)

        decoder = model.get_submodule("decoder")
        decoder.embed = TiedEmbedding(model.get_submodule("joint_network.lin_out"))

        def save(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            state[EMBED] = _embedding(state[OUT])

        def load(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            embedding = state.pop(EMBED, None)
            if embedding is None or OUT not in state:
                return
            if not torch.allclose(embedding, _embedding(state[OUT]), rtol=1e-4, atol=1e-5):
                raise UserError(
                    f"'{EMBED}' is not '{OUT}' in this checkpoint, as 'tied' has it; begin with "
                    "the student's init.pth"
                )

        model.register_state_dict_post_hook(save)
        model.register_load_state_dict_pre_hook(load)
        return Attached()


def tie(state: State, predictor: str) -> Any:
    """Derive tied weights.

    Args:
        state: Weights with an embedding E (V, e) and an output layer W (V, d).
        predictor: Kind of the predictor, which decides what reads the embedding.

    Returns:
        Weights with an embedding of width d, and what is lost of the old one: the norm of
        S R - E over that of E.
    """
    import torch

    shared, embed = state[OUT][1:].double(), state[EMBED][1:].double()  # (V - 1, d), (V - 1, e)
    fold = torch.linalg.pinv(shared) @ embed  # (d, e)
    residual = float((shared @ fold - embed).norm() / embed.norm().clamp_min(1e-30))
    tied = {**state, EMBED: _embedding(state[OUT]).clone()}
    for name in READERS[predictor]:
        if name in state:
            tied[name] = (state[name].double() @ fold.T).to(state[name].dtype)  # (outputs, d)
    return tied, residual


def _embedding(out: torch.Tensor) -> torch.Tensor:
    """Return the output layer's matrix with zeros for blank. (V, d)"""
    import torch

    return torch.cat([torch.zeros_like(out[:1]), out[1:]])


ADDITION = Tied()
