"""Parts that keep the weights that they have inherited: `freeze`.

With the teacher's sizes these are the teacher's own parts (predictor and joint network are shared,
as where a student reuses its teacher's joiner); a part that is cut keeps what the cut has left.
The projection of the encoder's output belongs to the encoder here: it must follow what that
learns. Dropout inside a frozen part stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence, Tuple

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition
from espnet_kd.methods.protocol import Attached, Job, Prepared
from espnet_kd.spec.option import option
from espnet_kd.spec.values import words

if TYPE_CHECKING:
    import torch

PARTS = {
    "predictor": ("decoder.",),
    "joint_network": ("joint_network.lin_dec.", "joint_network.lin_out."),
    "encoder": ("encoder.", "joint_network.lin_enc."),
}


def read_parts(where: str, value: Any) -> Tuple[str, ...]:
    """Return the names of parts.

    Raises:
        UserError: see `spec.values.words`.
    """
    return tuple(words(where, value, PARTS))


class Freeze(Addition):
    """See the module."""

    name = "freeze"
    kind = Sequence[str]
    inherits = True
    option = option(
        (),
        f"parts that are not trained: {', '.join(PARTS)}",
        read=read_parts,
        values="a list",
        published=True,
    )

    def check_stage(self, stage: Any, value: Sequence[str], where: str) -> None:
        """Refuse parts that would change all the same.

        Raises:
            UserError: that is so.
        """
        if set(value) == set(PARTS):
            raise UserError(f"{where}: nothing would be trained; leave a part out")
        conf = stage.method_conf
        if getattr(conf, "gates", None) is not None:
            raise UserError(f"{where}: does not go with 'gates', which close units of all parts")
        if getattr(conf, "tied", False) and "predictor" in value and "joint_network" not in value:
            raise UserError(
                f"{where}: with 'tied' the predictor's embedding is the joint network's matrix, "
                "which would be trained; name 'joint_network', too"
            )

    def prepare(self, job: Job, prepared: Prepared, value: Sequence[str]) -> Prepared:
        """Write down the parts; the value is a tuple, which YAML does not know."""
        return super().prepare(job, prepared, list(value))

    def attach(self, model: torch.nn.Module, facts: Sequence[str]) -> Attached:
        """Keep parameters from the optimizer: it passes over those without a gradient.

        Statistics of a batch norm stay, too: it computes as in decoding.
        """
        from torch.nn.modules.batchnorm import _BatchNorm

        prefixes = tuple(prefix for part in facts for prefix in PARTS[part])
        for name, parameter in model.named_parameters():
            if name.startswith(prefixes):
                parameter.requires_grad_(False)
        for name, module in model.named_modules():
            if name.startswith(prefixes) and isinstance(module, _BatchNorm):
                module.eval()
                # On the object: `train` of the whole model passes over it.
                object.__setattr__(module, "train", lambda mode=True, module=module: module)
        return Attached()


ADDITION = Freeze()
