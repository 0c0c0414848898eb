"""Blocks on top of a streaming student that hear more, and are a second one: `cascade`.

    exit 1: blocks 0 to L_c - 1         in the chunks of the student     L_1
    exit 2: these and L_n blocks above  in chunks that are longer        L_2
    L = (1 - w) L_1 + w L_2,   L_2 = L_RNNT + lambda * KL

Joint network and predictor are shared; each exit has a final norm of its own. After the cascade of
causal and look-ahead blocks that arXiv 2312.09842 distils (abstract), but for one thing: there the
blocks above hear what those below have made of short chunks. Here exit 2 hears all of its blocks
in the longer ones, so that stock ESPnet computes both.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition, with_facts
from espnet_kd.methods.protocol import Attached, Job, Prepared, Sibling, Term
from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import read
from espnet_kd.spec.size_table import PER_BLOCK

if TYPE_CHECKING:
    import torch

    from espnet_kd.methods.protocol import State
    from espnet_kd.students.architecture import Architecture

LOOKAHEAD = "lookahead"  # folder of the second student in that of the first
SAVED, BLOCKS = "kd_cascade.", "encoder.encoders.blocks."
NORM = "encoder.encoders.norm_blocks."


@dataclasses.dataclass(frozen=True)
class CascadeOptions(Options):
    """The upper exit.

    Attributes:
        lookahead_blocks: Blocks L_n above the streaming student's.
        lookahead: Encoder frames by which the chunks of exit 2 are longer.
        weight: Share w of exit 2 in the loss.
    """

    lookahead_blocks: int = option(1, "blocks above the streaming student's", least=1)
    lookahead: int = option(
        16, "encoder frames by which the upper exit's chunks are longer", least=0
    )
    weight: float = option(0.5, "share of the upper exit in the loss", least=0, most=0.95)

    def check_blocks(self, blocks: int, count: int, where: str) -> None:
        """Refuse a streaming student that needs the blocks which look ahead.

        Args:
            blocks: The teacher's blocks.
            count: The streaming student's.
            where: Name of the stage, for messages.

        Raises:
            UserError: the teacher has not so many below its last.
        """
        free = blocks - self.lookahead_blocks
        if count <= free:
            return
        rest = "it must be fewer than that"
        if free > 0:
            rest = f"name encoder.num_blocks {free} or fewer in 'student', or a smaller 'target'"
        raise UserError(
            f"{where}.method_conf.cascade.lookahead_blocks: the last {self.lookahead_blocks} of "
            f"the teacher's {blocks} blocks look ahead, and the streaming student is to keep "
            f"{count} of those below; {rest}"
        )

    def spaced_below(self, blocks: int, where: str, count: int) -> Sequence[int]:
        """Choose evenly spaced blocks below those that look ahead; see `check_blocks`."""
        from espnet_kd.students.importance import spaced_blocks

        self.check_blocks(blocks, count, where)
        return spaced_blocks(blocks - self.lookahead_blocks, count)


def read_cascade(where: str, value: Any) -> Optional[CascadeOptions]:
    """Read `cascade`.

    Raises:
        UserError: an unknown key (naming the nearest right one), or a wrong value.
    """
    if value is None:
        return None
    return read(CascadeOptions, value, where, "{lookahead_blocks: 1, lookahead: 16}")


def _last(teacher: Architecture, value: CascadeOptions) -> range:
    """Return the numbers of the teacher's blocks that look ahead."""
    return range(teacher.num_blocks - value.lookahead_blocks, teacher.num_blocks)


def whole_sizes(sizes: Architecture, teacher: Architecture, value: CascadeOptions) -> Architecture:
    """Return the sizes of the second student.

    Args:
        sizes: Sizes of the streaming one.
        teacher: Sizes of its teacher.
        value: The options.
    """
    last = _last(teacher, value)
    of_blocks = {
        a.field: (*sizes.of_blocks(a), *(teacher.size_of(a, b) for b in last)) for a in PER_BLOCK
    }
    return sizes.resized(num_blocks=sizes.num_blocks + len(last), **of_blocks)


class Cascade(Addition):
    """See the module."""

    name = "cascade"
    kind = CascadeOptions
    inherits = True
    decodes_averages = True
    own_schedule = True
    option = option(
        None,
        "a second exit with `lookahead_blocks` (1) more blocks, in chunks that are `lookahead` "
        "(16) encoder frames longer, which counts `weight` (0.5) of the loss: two students",
        read=read_cascade,
        values="`{lookahead_blocks: 1, lookahead: 16}`",
        published=True,
    )

    def check_stage(self, stage: Any, value: CascadeOptions, where: str) -> None:
        """Refuse students that have no blocks of their teacher to spare.

        Raises:
            UserError: that is so.
        """
        if stage.method_conf.keeps_sizes:
            raise UserError(
                f"{where}: the blocks that look ahead are the teacher's last, which method "
                f"'{stage.method}' keeps in the streaming student; say 'method: cut'"
            )
        if stage.allocate != "rule":
            raise UserError(
                f"{where}: does not go with 'allocate: {stage.allocate}', which begins with all "
                "of the teacher's blocks; say 'rule', or name sizes in 'student'"
            )
        if getattr(stage.method_conf, "gates", None) is not None:
            raise UserError(f"{where}: does not go with 'gates', which would close units of both")

    def siblings_of(self, value: CascadeOptions) -> Dict[str, int]:
        """Return the second student."""
        return {LOOKAHEAD: value.lookahead}

    def prepare(self, job: Job, prepared: Prepared, value: CascadeOptions) -> Prepared:
        """Cut the upper blocks out of the teacher's last: their width is the student's.

        Raises:
            UserError: the teacher does not hear in chunks.
        """
        from espnet_kd.students.model_config import config_of

        if not job.teacher.causal:
            raise UserError(
                f"{job.stage.at('method_conf.cascade')}: the teacher does not hear in chunks "
                "(encoder_conf.main_conf.dynamic_chunk_training), so its student has no streaming "
                "exit; leave it out"
            )
        assert prepared.cut is not None  # it inherits
        teacher, sizes = job.teacher.sizes, prepared.sizes
        count = sizes.num_blocks
        kept = [*prepared.kept, *_last(teacher, value)]
        whole = whole_sizes(sizes, teacher, value)
        # Both at once: blocks that share the residual stream keep the same channels of it.
        state: State = {}
        for name, tensor in prepared.cut(whole, kept).items():
            if name.startswith(NORM):
                state[f"{SAVED}norm.{name.removeprefix(NORM)}"] = tensor.clone()
            if name.startswith(BLOCKS) and _number(name) >= count:
                rest = name.removeprefix(BLOCKS).partition(".")[2]
                state[f"{SAVED}blocks.{_number(name) - count}.{rest}"] = tensor
            else:
                state[name] = tensor
        conf = config_of(whole, job.teacher.config, kept)
        facts = {
            "lookahead": value.lookahead,
            "weight": value.weight,
            "features": sizes.features,
            "encoder_conf": job.overruled(conf)["encoder_conf"],
        }
        report = {
            **prepared.report,
            "lookahead_params": whole.params,
            "update_params": sizes.params + whole.params * bool(value.weight),
        }
        return with_facts(prepared, self.name, facts, state=state, report=report, alike=None)

    def attach(self, model: torch.nn.Module, facts: Mapping[str, Any]) -> Attached:
        """Put the upper blocks beside the model."""
        import torch

        encoder: Any = model.get_submodule("encoder")
        with torch.random.fork_rng(devices=[]):  # whose weights are loaded
            # ESPnet writes into the dicts it is given.
            conf = copy.deepcopy(facts["encoder_conf"])
            whole = type(encoder)(facts["features"], **conf).encoders
        upper = torch.nn.Module()
        upper.blocks = torch.nn.ModuleList(list(whole.blocks)[len(encoder.encoders.blocks) :])
        upper.norm = whole.norm_blocks
        model.kd_cascade = upper.train(model.training)

        def load(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
            # An exported state has none any more: they are the second student's.
            for name, tensor in upper.state_dict().items():
                state.setdefault(SAVED + name, tensor.detach().clone())

        model.register_load_state_dict_pre_hook(load)
        weight = facts["weight"]
        if not weight:
            return Attached(rests=True)
        return Attached([UpperExit(facts["lookahead"], weight)], own_share=1 - weight)

    def siblings(self, state: State, facts: Mapping[str, Any]) -> Dict[str, Sibling]:
        """Return the second student: all blocks, the upper norm."""
        if not any(name.startswith(SAVED) for name in state):  # it was exported before
            return {}
        count = 1 + max(_number(name) for name in state if name.startswith(BLOCKS))
        whole = {k: x for k, x in state.items() if not k.startswith(("kd_", NORM))}
        for name, tensor in state.items():
            if name.startswith(f"{SAVED}norm."):
                whole[NORM + name.removeprefix(f"{SAVED}norm.")] = tensor
            elif name.startswith(f"{SAVED}blocks."):
                number, _, rest = name.removeprefix(f"{SAVED}blocks.").partition(".")
                whole[f"{BLOCKS}{count + int(number)}.{rest}"] = tensor
        return {LOOKAHEAD: Sibling({"encoder_conf": facts["encoder_conf"]}, whole)}


class UpperExit(Term):
    """Loss of exit 2: RNN-T, and divergence from the teachers on its lattice.

    Args:
        lookahead: Encoder frames by which its chunks are longer.
        share: Its share of the loss.
    """

    name = "loss_lookahead"

    def __init__(self, lookahead: int, share: float) -> None:
        self.lookahead, self.share = lookahead, share
        self.rnnt: Any = None

    def weight(self, model: Any) -> float:
        """Return its share; `own_share` leaves the rest to exit 1."""
        return self.share

    def value(self, out: Any) -> torch.Tensor:
        """Let the batch be heard again. ()"""
        model = out.model
        lattice = out.heard_by(with_upper(model.encoder, model.kd_cascade), self.lookahead).lattice
        self.rnnt = lattice.rnnt.mean()  # ()
        loss = model.transducer_weight * self.rnnt  # ()
        if lattice.kd is not None:
            loss = loss + model.options.weight_at(model.updates) * lattice.kd.mean()
        return loss

    def beside(self, out: Any) -> Dict[str, torch.Tensor]:
        """Return the RNN-T loss of exit 2, to be compared with `loss_transducer`."""
        return {"lookahead_transducer": self.rnnt.detach()}


def with_upper(encoder: Any, upper: Any) -> Any:
    """Return an encoder with blocks on top; its modules are those of both, not copies.

    Args:
        encoder: ESPnet's encoder.
        upper: Module with `blocks` and `norm`.
    """
    import torch

    blocks = torch.nn.ModuleList([*encoder.encoders.blocks, *upper.blocks])
    body = copy.copy(encoder.encoders)
    body._modules = {**body._modules, "blocks": blocks, "norm_blocks": upper.norm}
    body.keep_probs = torch.ones(len(blocks))  # (L,), of blocks that are dropped
    body.blockdrop_decay = 1.0 / len(blocks)
    whole = copy.copy(encoder)
    whole._modules = {**whole._modules, "encoders": body}
    return whole


def _number(name: str) -> int:
    return int(name.removeprefix(BLOCKS).partition(".")[0])


ADDITION = Cascade()
