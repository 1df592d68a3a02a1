"""Code that must not notice that a torch function mode is on: it would take another way than under backpropagation."""

import sys
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode_temporarily


@contextmanager
def unnoticed(mode):
    """Run the block, in which ``mode`` is on, so that torch.nn's attention and compiled code take their usual way."""
    asked = torch.overrides.has_torch_function

    def has_torch_function(arguments):
        if _get_current_function_mode() is not mode:
            return asked(arguments)
        with _pop_mode_temporarily():
            return asked(arguments)

    with ExitStack() as stack:
        # Attention has a kernel that it takes only where nobody overrides anything.
        stack.enter_context(patch.object(torch.overrides, "has_torch_function", has_torch_function))
        compiler = sys.modules.get("torch._dynamo.eval_frame")
        if compiler is not None:
            # The compiler would compile the mode too: it gets the operations as they are, and is one of the unseen.
            switch = _off_while_compiled(mode, compiler._maybe_set_eval_frame)
            stack.enter_context(patch.object(compiler, "_maybe_set_eval_frame", switch))
        yield


def _off_while_compiled(mode, set_eval_frame):
    off = False

    def switch(callback):
        nonlocal off
        if callable(callback) and not off and _get_current_function_mode() is mode:
            TorchFunctionMode.__exit__(mode, None, None, None)
            off = True
        elif not callable(callback) and off:
            TorchFunctionMode.__enter__(mode)
            off = False
        return set_eval_frame(callback)

    return switch
