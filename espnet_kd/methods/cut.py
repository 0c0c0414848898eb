"""A smaller student, cut out of its teacher: our first and default method.

What a stage of the plan says of it:

    target, student   the size (`spec.target`), or sizes by name
    allocate          how a target becomes sizes: `rule` or `deep` (`spec.size_table`),
                      `sensitivity` (`students.allocate`), or `learned` by gates
    blocks            which blocks are kept: `spaced`, or those of most `influence` or
                      `skip_loss` (`students.importance`)
    units             which units: by `weight`, by `taylor`, or by `taylor_change`
                      (`students.importance`)
    init              whether the weights are kept, `teacher`, or fresh ones are drawn

What must be measured is measured on a few utterances (`espnet.measure`, `methods.cutter`).
"""

import functools

from espnet_kd.methods.additions import WithAdditions
from espnet_kd.methods.protocol import Job, Prepared


class Cut(WithAdditions):
    """Keeps the blocks and units that matter most, and trains what is decoded."""

    name = "cut"

    def derive(self, job: Job) -> Prepared:
        """Cut a student out of its teacher."""
        from espnet_kd.methods.cutter import Cutter  # plans are read without torch
        from espnet_kd.students.checkpoint_size import NOTHING

        cutter = Cutter(job.stage, job.teacher, job.sample, job.build)
        sizes = job.sizes or cutter.sizes(job.first, job.others or NOTHING)
        state = cutter.cut(sizes) if job.stage.init == "teacher" else None
        report = {}
        if cutter.importance is not None:
            report["importance"] = {job.stage.blocks: cutter.importance}
        alike = functools.partial(cutter.cut_alike, sizes)
        kept, cut = cutter.blocks_of(sizes), None if state is None else cutter.cut_blocks
        return Prepared(sizes, kept, state, report, alike=alike, cut=cut)


METHOD = Cut()
