"""The kinds of predictor that a model can have, a class for each of ESPnet's decoders.

A kind says how its sizes stand in ESPnet's config, how many parameters it has, which units its
parameters share, and whether it can be made of another kind. What makes the weights of one kind
out of another's stands in `students.inherit.CONVERSIONS`.
"""

import abc
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from espnet_kd.students.architecture import Architecture

Role = Optional[str]  # None: the axis is never cut (vocabulary, taps of the front end)
GATES = {"lstm": 4, "gru": 3}
CONTEXT = 2  # labels that an averaged predictor hears, unless something else is said


class Predictor(abc.ABC):
    """A kind of predictor.

    Attributes:
        name: `decoder` in ESPnet's config.
        fixed: Fields of `Architecture` that no student of this kind shrinks along.
        tensors: Tensors of a layer behind the label embedding.
        roles: Patterns of its parameters' names, and the role of each of their axes
            (`students.axes`).
    """

    name: str
    fixed: Tuple[str, ...] = ()
    tensors: int = 4
    roles: Sequence[Tuple[str, Tuple[Role, ...]]] = ()

    @abc.abstractmethod
    def read(self, conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the fields of `Architecture` that `decoder_conf` decides."""

    @abc.abstractmethod
    def write(self, model: "Architecture", conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return a `decoder_conf` with the sizes of a model, and with the rest of another."""

    @abc.abstractmethod
    def count(self, model: "Architecture") -> int:
        """Return the number of its parameters."""

    def layers(self, model: "Architecture") -> int:
        """Return how many layers follow the label embedding."""
        return 0

    def gated(self, model: "Architecture") -> int:
        """Return how many of these layers have units that may be closed (`hard_concrete`)."""
        return 0

    def copies(self, model: "Architecture") -> Dict[str, Tuple[str, int]]:
        """Return the roles that hold another role's units several times, and how often."""
        return {}

    def made_of(self, other: "Architecture") -> Optional[Dict[str, Any]]:
        """Return what changes in a model whose predictor becomes this one; None: it cannot."""
        return None


class Recurrent(Predictor):
    """A label embedding and recurrent layers: `decoder: rnn`."""

    name = "rnn"
    roles = (
        (r"decoder\.rnn\.(\d+)\.weight_ih_l0", ("gates*rnn{}", "below rnn{}")),
        (r"decoder\.rnn\.(\d+)\.weight_hh_l0", ("gates*rnn{}", "rnn{}")),
        (r"decoder\.rnn\.(\d+)\.bias_[ih]h_l0", ("gates*rnn{}",)),
    )

    def read(self, conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the fields of `Architecture` that `decoder_conf` decides."""
        return {
            "rnn_type": conf.get("rnn_type", "lstm"),
            "rnn_layers": conf.get("num_layers", 1),
            "embed_size": conf.get("embed_size", 256),
            "decoder_size": conf.get("hidden_size", 256),
        }

    def write(self, model: "Architecture", conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return a `decoder_conf` with the sizes of a model, and with the rest of another."""
        return {**conf, "embed_size": model.embed_size, "hidden_size": model.decoder_size}

    def count(self, model: "Architecture") -> int:
        """Return the number of its parameters."""
        size, width = model.vocab * model.embed_size, model.embed_size
        for _ in range(model.rnn_layers):
            size += GATES[model.rnn_type] * model.decoder_size * (width + model.decoder_size + 2)
            width = model.decoder_size
        return size

    def layers(self, model: "Architecture") -> int:
        """Return how many layers follow the label embedding."""
        return model.rnn_layers

    def gated(self, model: "Architecture") -> int:
        """Return how many of these layers have units that may be closed: all."""
        return model.rnn_layers

    def copies(self, model: "Architecture") -> Dict[str, Tuple[str, int]]:
        """Return the roles that hold another role's units several times, and how often."""
        gates = GATES[model.rnn_type]
        return {f"gates*rnn{n}": (f"rnn{n}", gates) for n in range(model.rnn_layers)}


class Stateless(Predictor):
    """A table of what is said of each last label: `decoder: stateless`."""

    name = "stateless"
    fixed = ("decoder_size",)  # that is `embed_size`
    keys = ("embed_size", "embed_dropout_rate", "embed_pad")  # of `decoder_conf`

    def read(self, conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the fields of `Architecture` that `decoder_conf` decides."""
        fields = RECURRENT.read(conf)  # what of it is unused keeps ESPnet's defaults
        return {**fields, "decoder_size": fields["embed_size"]}

    def write(self, model: "Architecture", conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return a `decoder_conf` with the sizes of a model, and with the rest of another."""
        merged = {**conf, "embed_size": model.embed_size}
        return {key: merged[key] for key in self.keys if key in merged}

    def count(self, model: "Architecture") -> int:
        """Return the number of its parameters."""
        return model.vocab * model.embed_size

    def made_of(self, other: "Architecture") -> Optional[Dict[str, Any]]:
        """Return what changes: the table is as wide as the output of the recurrent layers."""
        if other.decoder != RECURRENT.name:
            return None
        return {"decoder": self.name, "embed_size": other.decoder_size}


class Averaged(Predictor):
    """An average of the last labels' embeddings: `decoder: averaged`, which is ours.

    `espnet.averaged_decoder` has the formula.
    """

    name = "averaged"
    tensors = 5
    # Units of its only layer are chosen as those of a recurrent one.
    roles = (
        (r"decoder\.position\.weight", (None, "embed")),
        (r"decoder\.output\.(?:weight|bias)", ("rnn0", "embed")),
        (r"decoder\.norm\.(?:weight|bias)", ("rnn0",)),
    )
    keys = ("embed_size", "hidden_size", "context", "embed_dropout_rate")  # of `decoder_conf`

    def read(self, conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return the fields of `Architecture` that `decoder_conf` decides."""
        fields = RECURRENT.read({key: conf[key] for key in self.keys if key in conf})
        return {**fields, "context": conf.get("context", CONTEXT)}

    def write(self, model: "Architecture", conf: Mapping[str, Any]) -> Dict[str, Any]:
        """Return a `decoder_conf` with the sizes of a model, and with the rest of another."""
        merged = {**RECURRENT.write(model, conf), "context": model.context}
        return {key: merged[key] for key in self.keys if key in merged}

    def count(self, model: "Architecture") -> int:
        """Return the number of its parameters."""
        embed, width = model.embed_size, model.decoder_size
        return (model.vocab + model.context) * embed + (embed + 1) * width + 2 * width

    def layers(self, model: "Architecture") -> int:
        """Return how many layers follow the label embedding."""
        return 1

    def made_of(self, other: "Architecture") -> Optional[Dict[str, Any]]:
        """Return what changes: sizes stay, with `CONTEXT` labels unless a plan says otherwise."""
        unused = {"rnn_type": "lstm", "rnn_layers": 1}  # ESPnet's defaults
        return {"decoder": self.name, "context": CONTEXT, **unused}


RECURRENT = Recurrent()
KINDS = (RECURRENT, Stateless(), Averaged())
PREDICTORS: Dict[str, Predictor] = {kind.name: kind for kind in KINDS}
