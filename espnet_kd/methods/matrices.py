"""Which matrices of a model the words of a method's `where` stand for."""

import re
from typing import Any, Callable, List, Mapping, Sequence

from espnet_kd.errors import UserError
from espnet_kd.spec.values import words

BLOCK = r"encoders\.blocks\.\d+\."
# By the end of the names of modules.
MATRICES = {
    "feed_forward": BLOCK + r"feed_forward(_macaron)?\.w_[12]",
    "attention": BLOCK + r"self_att\.linear_(q|k|v|out|pos)",
    "convolution": BLOCK + r"conv_mod\.pointwise_conv[12]",
    "front_end": r"encoder\.embed\.output",
    "joint_network": r"joint_network\.lin_(enc|dec)",
}


def reader(places: Mapping[str, str]) -> Callable[[str, Any], List[str]]:
    """Return the reader of a list of words.

    Args:
        places: Pattern of each word.
    """

    def read_places(where: str, value: Any) -> List[str]:
        """Return the words.

        Raises:
            UserError: none; or see `spec.values.words`.
        """
        chosen_words = words(where, value, places)
        if not chosen_words:
            raise UserError(
                f"{where}: the list is empty; name {', '.join(places)}, or leave it out"
            )
        return chosen_words

    return read_places


def chosen(name: str, where: Sequence[str], places: Mapping[str, str]) -> bool:
    """Tell whether one of the words stands for a module.

    Args:
        name: Name of the module.
        where: The words.
        places: Pattern of each word.
    """
    return any(re.search(f"{places[word]}$", name) for word in where)
