"""What `torch.nn.parallel.DistributedDataParallel` takes of a rule; only where there is a process group.

It averages gradients over processes by hooks on the nodes that add them to ``grad`` (`pcbench.passing.hand_over`). Two of its
options need more: one looks for the parameters behind the outputs of a forward, where no graph spans two vertices; the
other one needs a backward pass that is a single pass of PyTorch's engine.
"""

from unittest.mock import patch

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel, distributed
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from pcbench.aside import Patches, off
from pcbench.errors import UnsupportedModule
from pcbench.passing import dependencies


def in_parallel() -> bool:
    """Whether there is a process group: there may be other processes, which learn together with this one."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def wrappers(model: nn.Module) -> dict[str, DistributedDataParallel]:
    """The modules that average gradients over processes, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, DistributedDataParallel)}


def check_wrappers(model: nn.Module) -> None:
    """Make sure that what averages gradients can do so while a rule runs.

    Raises:
        UnsupportedModule: it waits for the end of a pass of PyTorch's engine; names the module and the option.
    """
    for path, wrapper in wrappers(model).items():
        for option, instead in (
            ("static_graph", "find_unused_parameters=True finds what a forward does not use"),
            ("mixed_precision", "use torch.autocast"),
        ):
            if getattr(wrapper, option, None):
                raise UnsupportedModule(
                    f"{path or 'the model'!r} (DistributedDataParallel) has {option}, with which it averages no gradients "
                    f"before one pass of PyTorch's engine has run through the whole model; leave it out: {instead}"
                )


def found_behind(kind: type[TorchFunctionMode]) -> Patches:
    """Patches that show DistributedDataParallel what lies behind the outputs of its forward where a mode of ``kind`` is on.

    That is, beside the outputs, a view of each tensor without history on the way to them: it has that tensor in its graph.
    """

    def make(undo):
        find = distributed._find_tensors

        def find_tensors(outputs):
            mode = _get_current_function_mode()
            with off(kind):
                found = list(find(outputs))
                behind = dependencies(mode, found) if isinstance(mode, kind) else ()
                return [*found, *(place.view_as(place) for place in behind if isinstance(place, torch.Tensor))]

        undo.enter_context(patch.object(distributed, "_find_tensors", find_tensors))

    return Patches(make)
