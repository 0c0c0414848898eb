"""Weights that a model computes from those that are trained, under their own names on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping

if TYPE_CHECKING:
    import torch


def compute_weights(model: torch.nn.Module, how: Mapping[str, torch.nn.Module]) -> None:
    """Let a model compute with functions of its weights, and save and load the weights as ever.

    Args:
        model: The model; changed in place.
        how: What makes the weight that is used of the one that is trained, by its name.
    """
    from torch.nn.utils import parametrize

    for name, function in how.items():
        module, _, weight = name.rpartition(".")
        parametrize.register_parametrization(model.get_submodule(module), weight, function)

    def save(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
        for name in how:
            state[name] = state.pop(_trained(name))

    def load(module: torch.nn.Module, state: Dict[str, Any], *_: Any) -> None:
        for name in how:
            if name in state:  # or the loading tells what is missing
                state[_trained(name)] = state.pop(name)

    model.register_state_dict_post_hook(save)
    model.register_load_state_dict_pre_hook(load)


def _trained(name: str) -> str:
    """Return the name that a computed weight's original has in training."""
    module, _, weight = name.rpartition(".")
    return f"{module}.parametrizations.{weight}.original"
