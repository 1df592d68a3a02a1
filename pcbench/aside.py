"""What has to be patched in torch while a mode of `pcbench.values` is on: in one place, put back by whoever leaves last.

The patches are global, the modes are each thread's own: every patch asks which mode its thread is in.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _pop_mode, _push_mode


class Patches:
    """Patches that the first of the blocks that need them makes, and the last one undoes, whatever thread they run in.

    Args:
        make: makes the patches on the `contextlib.ExitStack` that it is given.
    """

    def __init__(self, make: Callable[[ExitStack], None]) -> None:
        self._make, self._blocks, self._undo, self._lock = make, 0, ExitStack(), threading.RLock()

    @contextmanager
    def made(self) -> Iterator[None]:
        """Run the block under the patches."""
        with self._lock:
            if not self._blocks:
                self._make(self._undo)
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    self._undo.close()


@contextmanager
def off(kind: type[TorchFunctionMode]) -> Iterator[None]:
    """Run the block with the modes of ``kind`` that are on in this thread switched off."""
    taken: list[TorchFunctionMode] = []
    _take(kind, taken)
    try:
        yield
    finally:
        _give_back(taken)


def _take(kind, taken):
    while isinstance(_get_current_function_mode(), kind):
        taken.append(_pop_mode())


def _give_back(taken):
    while taken:
        _push_mode(taken.pop())


def unnoticed(kind: type[TorchFunctionMode]) -> Patches:
    """Patches for code that must not notice that modes of ``kind`` are on: it would take another way than usually.

    And autograd's engine, if it is started by a name that modes do not see, is told to ``kind.engine_started``.
    """

    def make(undo):
        # Attention has a kernel that it takes only where nobody overrides anything.
        undo.enter_context(patch.object(torch.overrides, "has_torch_function", _overridden(kind)))
        engine = _watched(kind, torch.autograd._engine_run_backward)
        undo.enter_context(patch.object(torch.autograd, "_engine_run_backward", engine))
        compiler = sys.modules.get("torch._dynamo.eval_frame")
        if compiler is not None:
            # The compiler would compile the mode too: it gets the operations as they are, and is one of the unseen.
            name = "_maybe_set_eval_frame" if hasattr(compiler, "_maybe_set_eval_frame") else "set_eval_frame"
            undo.enter_context(patch.object(compiler, name, _off_while_compiled(kind, getattr(compiler, name))))

    return Patches(make)


def seeing(kind: type[TorchFunctionMode]) -> Patches:
    """Patches that show a mode of ``kind`` what no mode is shown.

    Custom functions go to ``kind.applied``, hooks that change what operations save are told to ``kind.saving``.
    """

    def make(undo):
        apply, enter = vars(torch.autograd.Function)["apply"], saved_tensors_hooks.__enter__

        def seen_apply(cls, *args, **kwargs):
            def function(*args, **kwargs):
                return apply.__get__(None, cls)(*args, **kwargs)

            mode = _get_current_function_mode()
            if not isinstance(mode, kind):  # inside an operation, which is noted whole
                return function(*args, **kwargs)
            function.__name__ = cls.__name__
            return mode.applied(function, args, kwargs)

        def seen_enter(hooks):
            if isinstance(mode := _get_current_function_mode(), kind):
                mode.saving(hooks)
            return enter(hooks)

        undo.enter_context(patch.object(torch.autograd.Function, "apply", classmethod(seen_apply)))
        undo.enter_context(patch.object(saved_tensors_hooks, "__enter__", seen_enter))

    return Patches(make)


def _overridden(kind):
    asked = torch.overrides.has_torch_function

    def has_torch_function(arguments):
        with off(kind):
            return asked(arguments)

    return has_torch_function


def _watched(kind, start):
    def run(*args, **kwargs):
        mode = _get_current_function_mode()
        if isinstance(mode, kind):
            mode.engine_started()
        return start(*args, **kwargs)

    return run


def _off_while_compiled(kind, set_eval_frame):
    of_thread = threading.local()

    def switch(callback):
        taken = of_thread.__dict__.setdefault("taken", [])
        if callable(callback):
            _take(kind, taken)
        else:
            _give_back(taken)
        return set_eval_frame(callback)

    return switch
