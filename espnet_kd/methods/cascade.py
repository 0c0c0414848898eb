"""Blocks on top of a streaming student that hear more, and are a second one: `cascade`.

    exit 1: blocks 0 to L_c - 1         in the chunks of the student     L_1
    exit 2: these and L_n blocks above  in chunks that are longer        L_2
    L = (1 - w) L_1 + w L_2,   L_2 = L_RNNT + lambda * KL

Joint network and predictor are shared; each exit has a final norm of its own. After the cascade of
causal and look-ahead blocks that arXiv 2312.09842 distils (abstract). There the blocks above hear
what those below have made of short chunks: so they do with `strict`, whose exit 2 is computed by
`espnet.cascaded_encoder` alone. Without, exit 2 hears all of its blocks in the longer chunks, so
that stock ESPnet computes both.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import TYPE_CHECKING, Any, Dict, Iterable, Mapping, Optional, Sequence

from espnet_kd.errors import UserError
from espnet_kd.methods.additions import Addition, with_facts
from espnet_kd.methods.protocol import Attached, Job, Prepared, Sibling, Term
from espnet_kd.spec.method import PlannedSibling
from espnet_kd.spec.not_stock import CASCADE
from espnet_kd.spec.option import Options, option
from espnet_kd.spec.reader import read
from espnet_kd.spec.size_table import PER_BLOCK, SHAPES

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
        strict: Whether the blocks above go on from the streaming student's states.
    """

    lookahead_blocks: int = option(1, "blocks above the streaming student's", least=1)
    lookahead: int = option(
        16, "encoder frames by which the upper exit's chunks are longer", least=0
    )
    weight: float = option(0.5, "share of the upper exit in the loss", least=0, most=0.95)
    strict: bool = option(False, "go on from the streaming student's states; not stock")

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


def second_exit_params(sizes: Architecture, teacher: Architecture, value: CascadeOptions) -> int:
    """Count the parameters that an update computes with beside those of exit 1.

    Args:
        sizes: Sizes of the streaming student.
        teacher: Sizes of its teacher.
        value: The options.
    """
    if not value.weight:
        return 0
    whole = whole_sizes(sizes, teacher, value).params
    if not value.strict:
        return whole
    # The blocks above with their norm, as large as that below, and the joint network again.
    return whole - sizes.params + 2 * sizes.hidden_size + sizes.count()["joint_network"]


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
        "(16) encoder frames longer, which counts `weight` (0.5) of the loss: two students; with "
        "`strict` it goes on from the streaming student's states, and is not stock",
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
        if stage.allocate not in SHAPES:
            raise UserError(
                f"{where}: does not go with 'allocate: {stage.allocate}', which begins with all "
                "of the teacher's blocks; say 'rule' or 'deep', or name sizes in 'student'"
            )
        if getattr(stage.method_conf, "gates", None) is not None:
            raise UserError(f"{where}: does not go with 'gates', which would close units of both")

    def siblings_of(self, value: CascadeOptions) -> Dict[str, PlannedSibling]:
        """Return the second student. A strict one makes its chunks of the run's itself."""
        strict = value.strict
        return {LOOKAHEAD: PlannedSibling(0 if strict else value.lookahead, not strict)}

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
        if value.strict:
            _check_no_drop(job.stage.at("method_conf.cascade.strict"), facts["encoder_conf"])
            facts["strict"] = True
        report = {
            **prepared.report,
            "lookahead_params": whole.params,
            "update_params": sizes.params + second_exit_params(sizes, teacher, value),
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
        term = UpperExit(facts["lookahead"], weight)
        if facts.get("strict"):
            term = StrictExit(facts["lookahead"], weight, len(encoder.encoders.blocks) - 1)
        return Attached([term], own_share=1 - weight)

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
        conf = facts["encoder_conf"]
        if facts.get("strict"):
            ours = {"causal_blocks": count, "lookahead": facts["lookahead"]}
            conf = {**conf, CASCADE: ours}
        return {LOOKAHEAD: Sibling({"encoder_conf": conf}, whole)}


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
        model, lattice = out.model, self.above(out).lattice
        self.rnnt = lattice.rnnt.mean()  # ()
        loss = model.transducer_weight * self.rnnt  # ()
        if lattice.kd is not None:
            loss = loss + model.options.weight_at(model.updates) * lattice.kd.mean()
        return loss

    def above(self, out: Any) -> Any:
        """Return what becomes of the batch at exit 2 (`espnet.terms.Outputs`)."""
        model = out.model
        return out.heard_by(with_upper(model.encoder, model.kd_cascade), self.lookahead)

    def beside(self, out: Any) -> Dict[str, torch.Tensor]:
        """Return the RNN-T loss of exit 2, to be compared with `loss_transducer`."""
        return {"lookahead_transducer": self.rnnt.detach()}


class StrictExit(UpperExit):
    """The same where the blocks above go on from exit 1's: one forward pass of those below.

    Args:
        lookahead: Encoder frames by which its chunks are longer at least.
        share: Its share of the loss.
        block: Number of the last block below.
    """

    def __init__(self, lookahead: int, share: float, block: int) -> None:
        super().__init__(lookahead, share)
        self.blocks = (block,)

    def above(self, out: Any) -> Any:
        """Return what becomes of the batch at exit 2 (`espnet.terms.Outputs`)."""
        size = out.heard.chunk_size
        longer = longer_chunk(size, self.lookahead) if size else None
        return out.continued_by(out.model.kd_cascade, *self.blocks, longer)


def longer_chunk(chunk_size: int, lookahead: int) -> int:
    """Return the frames of a strict exit's chunk: whole chunks of the blocks below.

    Args:
        chunk_size: Frames of a chunk below.
        lookahead: Frames that it is longer at least.
    """
    return chunk_size * (1 + math.ceil(lookahead / chunk_size))


def with_upper(encoder: Any, upper: Any) -> Any:
    """Return an encoder with blocks on top; its modules are those of both, not copies.

    Args:
        encoder: ESPnet's encoder.
        upper: Module with `blocks` and `norm`.
    """
    whole = copy.copy(encoder)
    body = stacked(encoder.encoders, [*encoder.encoders.blocks, *upper.blocks], upper.norm)
    whole._modules = {**whole._modules, "encoders": body}
    return whole


def stacked(encoders: Any, blocks: Iterable[torch.nn.Module], norm: torch.nn.Module) -> Any:
    """Return ESPnet's `MultiBlocks` of other blocks, which are not copied.

    Args:
        encoders: A `MultiBlocks`, whose options are taken.
        blocks: Its blocks.
        norm: Norm behind the last.
    """
    import torch

    body, modules = copy.copy(encoders), torch.nn.ModuleList(blocks)
    body._modules = {**body._modules, "blocks": modules, "norm_blocks": norm}
    body.keep_probs = torch.ones(len(modules))  # (L,), of blocks that are dropped
    body.blockdrop_decay = 1.0 / len(modules)
    return body


def _check_no_drop(where: str, encoder_conf: Mapping[str, Any]) -> None:
    """Refuse blocks that training passes over: the last one below may have no output then."""
    rate = (encoder_conf.get("main_conf") or {}).get("blockdrop_rate") or 0
    if rate > 0:
        raise UserError(
            f"{where}: encoder_conf.main_conf.blockdrop_rate is {rate}: a block that is dropped "
            "leaves nothing to go on from; set it to 0, or say 'strict: false'"
        )


def _number(name: str) -> int:
    return int(name.removeprefix(BLOCKS).partition(".")[0])


ADDITION = Cascade()
