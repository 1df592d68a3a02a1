"""Replacement of ``torch.nn``'s fused recurrent modules by their counterparts."""

import copy

from torch import nn

from pcbench.errors import UnsupportedModule
from pcbench.nn.recurrent import GRU, LSTM, RNN

_COUNTERPARTS = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}


def convert(model):
    """Copy ``model`` with each `torch.nn.RNN`, `LSTM` and `GRU` replaced by its counterpart in `pcbench.nn`.

    Everything else stays as it was: weights, tied parameters, dtype, device, ``requires_grad``, training mode, hooks.

    Returns:
        A deep copy; ``model`` is left alone, and shares no tensor with it.

    Raises:
        UnsupportedModule: a subclass of a fused module, whose own behaviour the counterpart does not have.
    """
    model = copy.deepcopy(model)
    for path, module in model.named_modules():
        fused = next((kind for kind in _COUNTERPARTS if isinstance(module, kind)), None)
        if fused is None:
            continue
        if type(module) is not fused:
            raise UnsupportedModule(
                f"{path or 'the model'!r} ({type(module).__name__}) is a subclass of nn.{fused.__name__}, and what it "
                f"adds would be lost; derive it from pcbench.nn.{fused.__name__}, or remove its parametrizations"
            )
        # Both keep the same attributes, so that only the way of running them changes.
        module.__class__ = _COUNTERPARTS[fused]
    return model
