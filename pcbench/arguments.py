"""The arguments of an operation, and its result: the tensors in them, and whether it writes into one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_NAMES = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "matmul")
_IN_PLACE = {"__setitem__", *(f"__i{name}__" for name in _NAMES)}


def differentiable(argument: Any, found: list[Tensor]) -> None:
    """Append all tensors in ``argument`` that require a gradient to ``found``."""
    if isinstance(argument, Tensor):
        if argument.requires_grad:
            found.append(argument)
            if argument._base is not None:
                argument.grad_fn  # noqa: B018 (a write to its base gives it another one, which must come before its readers')
    elif isinstance(argument, (tuple, list)):
        for item in argument:
            differentiable(item, found)
    elif type(argument) is dict:
        for item in argument.values():
            differentiable(item, found)


def tensors_in(value: Any, everywhere: bool = False) -> list[Tensor]:
    """The tensors in a tuple or list, nested or not; ``everywhere`` looks into dicts too."""
    if isinstance(value, Tensor):
        return [value]
    if everywhere and type(value) is dict:
        value = tuple(value.values())
    return [t for item in value for t in tensors_in(item, everywhere)] if isinstance(value, (tuple, list)) else []


def mapped(argument: Any, function: Callable[[Any], Any]) -> Any:
    """``argument`` with each leaf of its tuples, lists and dicts replaced by what ``function`` makes of it."""
    kind = type(argument)
    if kind is tuple or kind is list:
        return kind([mapped(item, function) for item in argument])
    if kind is dict:
        return {key: mapped(item, function) for key, item in argument.items()}
    if isinstance(argument, (tuple, list)) and not isinstance(argument, torch.Size):
        items = [mapped(item, function) for item in argument]
        return kind(*items) if hasattr(argument, "_fields") else kind(items)
    return function(argument)


def listed(tensors: Any) -> list[Any]:
    """What is given as one tensor, or as a tuple or list of them."""
    return list(tensors) if isinstance(tensors, (tuple, list)) else [tensors]


def writes(func: Callable[..., Any]) -> bool:
    """Whether a function writes in place into its first argument, which its name says."""
    name = func.__name__.split(".")[0]  # of an operator by its full name, "add_.Tensor"
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))
