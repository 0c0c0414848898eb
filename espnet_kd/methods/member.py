"""A member of a family, taken out of it: a stage that a plan's `family` adds.

Its weights are parts of the largest member's, and it has the batch statistics that it had inside
(`methods.nested`): stock ESPnet computes what was trained there. It is then trained alone.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Optional

from espnet_kd.errors import UserError
from espnet_kd.methods.protocol import Job, Method, Prepared
from espnet_kd.spec.method import MethodOptions
from espnet_kd.spec.option import option


@dataclasses.dataclass(frozen=True)
class MemberOptions(MethodOptions):
    """The options of `member` in a stage.

    Attributes:
        of: Name of the stage that has trained the family.
        number: Number of the member, the largest is 1.
    """

    of: str = option("", "the stage that trains the family; a plan's `family` writes it")
    number: int = option(2, "number of the member; 1 is the largest", least=2)

    @property
    def made_of(self) -> Optional[str]:
        """Name of the stage that has trained it."""
        return self.of

    def check_stage(self, stage: Any) -> None:
        """Refuse weights that are not the family's.

        Raises:
            UserError: the stage asks for them, or see `MethodOptions`.
        """
        super().check_stage(stage)
        if stage.init != "teacher":
            raise UserError(
                f"{stage.at('init')}: '{stage.init}': a member has the weights of its family"
            )


class Taken(Method):
    """See the module."""

    name = "member"

    def prepare(self, job: Job) -> Prepared:
        """Take the weights out.

        Raises:
            UserError: its teacher is no family, or has no such member.
        """
        from espnet_kd.methods.nested import SAVED, members_of, statistics_of
        from espnet_kd.students.nested_units import member_units, take_member

        stage, teacher = job.stage, job.teacher
        number = stage.method_conf.number
        facts = (teacher.config.get("method_conf") or {}).get("nested")
        if facts is None or number - 2 >= len(facts["members"]):
            count = len(facts["members"]) + 1 if facts else 0
            raise UserError(
                f"{stage.where}: needs member {number} of a family; its teacher has {count} "
                "(the plan may have changed since that was trained)"
            )
        whole, members = members_of(facts)
        member, units = members[number - 2], member_units(whole, members)[number - 2]
        state = take_member(teacher.net.state_dict(), whole, member, units, facts["causal"])
        prefix = f"{SAVED}{number - 2}."
        statistics = {
            name.removeprefix(prefix): tensor
            for name, tensor in teacher.beside.items()
            if name.startswith(prefix)
        }
        missing = set(statistics_of(teacher.net, state)) - set(statistics)
        if missing:
            raise UserError(
                f"{stage.where}: the batch statistics of member {number} are not beside its "
                "family's checkpoint; run that training again: it averages anew"
            )
        return Prepared(member.sizes, list(member.kept), {**state, **statistics})


METHOD = Taken()
