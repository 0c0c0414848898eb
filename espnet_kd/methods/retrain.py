"""The teacher trained on in its own sizes: fine-tuned, or distilled from itself."""

from espnet_kd.methods.additions import WithAdditions
from espnet_kd.methods.protocol import Job, Prepared, same_sizes


class Retrain(WithAdditions):
    """Keeps sizes and, unless `init: random` asks for fresh ones, weights."""

    name = "retrain"

    def derive(self, job: Job) -> Prepared:
        """Copy the teacher."""
        sizes = same_sizes(job, self.name)
        state = {name: tensor.clone() for name, tensor in job.teacher.net.state_dict().items()}
        kept = list(range(sizes.num_blocks))
        return Prepared(sizes, kept, state if job.stage.init == "teacher" else None)


METHOD = Retrain()
