"""Replacement of ``torch.nn``'s fused recurrent modules by their counterparts."""

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from pcbench.errors import UnsupportedModule
from pcbench.nn.recurrent import GRU, LSTM, RNN

_COUNTERPARTS: dict[type[nn.RNNBase], type[nn.RNNBase]] = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}
_M = TypeVar("_M", bound=nn.Module)


def copied(model: _M) -> _M:
    """Copy ``model`` with everything that it holds, and share no tensor with it.

    What a hook computes from parameters before each forward (`torch.nn.utils.weight_norm`, `torch.nn.utils.prune`) is
    copied as its numbers: `copy.deepcopy` refuses it.

    Raises:
        UnsupportedModule: another attribute is a tensor that was computed from parameters, with its history.
    """
    memo: dict[int, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                if not module._forward_pre_hooks:
                    raise UnsupportedModule(
                        f"attribute {name!r} of {path or 'the model'!r} ({type(module).__name__}) was computed from "
                        "parameters and cannot be copied; compute it in forward, or detach it"
                    )
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def fused(model: nn.Module) -> dict[str, type[nn.RNNBase]]:
    """The fused recurrent modules of ``model``: ``{path: class}``, where a class is `torch.nn.RNN`, `LSTM` or `GRU`."""
    found = {}
    for path, module in model.named_modules():
        kind = next((kind for kind in _COUNTERPARTS if isinstance(module, kind)), None)
        if kind is not None:
            found[path] = kind
    return found


def convert(model: nn.Module) -> nn.Module:
    """Copy ``model`` with each `torch.nn.RNN`, `LSTM` and `GRU` replaced by its counterpart in `pcbench.nn`.

    Everything else stays as it was: weights, tied parameters, dtype, device, ``requires_grad``, training mode, hooks.

    Returns:
        A deep copy; ``model`` is left alone, and shares no tensor with it.

    Raises:
        UnsupportedModule: a subclass of a fused module, whose own behaviour the counterpart does not have; or see `copied`.
    """
    model = copied(model)
    for path, kind in fused(model).items():
        module = model.get_submodule(path)
        if type(module) is not kind:
            raise UnsupportedModule(
                f"{path or 'the model'!r} ({type(module).__name__}) is a subclass of nn.{kind.__name__}, and what it "
                f"adds would be lost; derive it from pcbench.nn.{kind.__name__}, remove its parametrizations, or keep it "
                "whole, as one vertex that is not local in time (convert=False, --keep-fused)"
            )
        # Both keep the same attributes, so that only the way of running them changes.
        module.__class__ = _COUNTERPARTS[kind]
    return model
