"""The teacher trained on in its own sizes: fine-tuned, or distilled from itself."""

from espnet_kd.errors import UserError
from espnet_kd.methods.protocol import Job, Method, Prepared


class Retrain(Method):
    """Keeps sizes and, unless `init: random` asks for fresh ones, weights."""

    name = "retrain"

    def prepare(self, job: Job) -> Prepared:
        """Copy the teacher.

        Raises:
            UserError: a path of the report asks for other sizes.
        """
        sizes = job.teacher.sizes
        if job.sizes not in (None, sizes):
            raise UserError(
                f"{job.stage.where}: the path '{job.stage.path}' leads to this size in one step, "
                f"which method '{self.name}' cannot do; leave the path out (--paths)"
            )
        state = {name: tensor.clone() for name, tensor in job.teacher.net.state_dict().items()}
        kept = list(range(sizes.num_blocks))
        return Prepared(sizes, kept, state if job.stage.init == "teacher" else None)


METHOD = Retrain()
