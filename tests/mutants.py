"""Planted faults: is there a test that fails when the code is wrong?

    python tests/mutants.py            every fault
    python tests/mutants.py resume     those whose name contains a word

Each fault is one textual edit in a temporary copy of the repository; then the tests there that should notice run until one
of them fails. Exit code 0: every fault was caught. 1: a fault survived. 2: a fault cannot be
planted (its ``old`` text is not in the file exactly once), or the tests say nothing (they fail without any fault, or they
do not run).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
TIMEOUT = 600  # seconds; a fault may make a loop endless

EQUIVALENCE = "tests/numerics/test_backprop_equivalence.py"
CLOSED_FORMS = "tests/numerics/test_closed_forms.py"
LOCALITY = "tests/numerics/test_locality.py"
COMPARE = "tests/properties/test_compare.py"
LEVELS = "tests/properties/test_levels.py"
TRAINING = "tests/contracts/test_training.py"
RULES = "tests/contracts/test_rules.py"
VERIFY = "tests/contracts/test_verify.py"
VALUES = "tests/contracts/test_values.py"
RECORDING = "tests/contracts/test_recording.py"
GRAPH = "tests/contracts/test_graph.py"
DIVERGENCE = "tests/contracts/test_divergence.py"
LIKE_AUTOGRAD = "tests/numerics/test_like_autograd.py"
DATA_PARALLEL = "tests/numerics/test_data_parallel.py"
AUTOCAST = "tests/numerics/test_autocast.py"
RECURRENT = "tests/numerics/test_recurrent.py"
WILD = "tests/wild/test_wild.py"
GATE = "tests/contracts/test_gate.py"
BASELINE = "tests/contracts/test_baseline.py"
CLAIMS = "tests/contracts/test_claims.py"
PUBLISHED = "tests/contracts/test_published.py"
CLI = "tests/contracts/test_cli.py"
CELLS = "tests/contracts/test_cells.py"
MANIFESTS = "tests/contracts/test_manifests.py"
MATCHED = "tests/contracts/test_matched.py"
CONDITIONS = "tests/contracts/test_conditions.py"
FREE_ENERGY = "tests/numerics/test_free_energy.py"
CONFORMANCE = "tests/contracts/test_conformance.py"
PEERS = "tests/contracts/test_peers.py"
SCALE = "tests/properties/test_scale.py"


def zil(name):
    """Z-IL against backpropagation on one of the wild networks."""
    return f"{WILD}::test_zil_leaves_behind_what_backpropagation_does_bit_by_bit[{name}]"


@dataclass(frozen=True)
class Mutant:
    """A fault, and the tests that should notice.

    Attributes:
        name: what is wrong, in words.
        file: the file inside pcbench/ that is edited.
        old: text that occurs there exactly once.
        new: what stands there instead.
        tests: pytest's arguments: files, or tests by their full names.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "queued for the end of the backward pass, and lost",
        "passing.py",
        "                callback()\n",
        "                pass\n",
        (zil("queued-callbacks"),),
    ),
    Mutant(
        "queued for the end of the backward pass, and run before the gradients are there",
        "passing.py",
        "            _OF_THREAD.queued.append(callback)\n",
        "            callback()\n",
        (zil("queued-callbacks"),),
    ),
    Mutant(
        "optimizers' arguments that exclude each other, told in PyTorch's words",
        "measure/matched.py",
        "except (TypeError, ValueError, RuntimeError) as error:",
        "except (TypeError, ValueError) as error:",
        (MATCHED,),
    ),
    Mutant(
        "operations of a program called as another one is, as their arguments are not looked at",
        "replay.py",
        "call = node.target, _described(args, kwargs)",
        "call = None",
        ("tests/contracts/test_captured.py",),
    ),
    Mutant(
        "a cell that does not know its part",
        "cells.py",
        '"part": list(part), **recorded',
        '"part": [], **recorded',
        (CELLS,),
    ),
    Mutant(
        "an interruption that DVC is not told of while it records",
        "pipeline.py",
        "and isinstance(stop, KeyboardInterrupt | SystemExit):\n",
        "and isinstance(stop, NotImplementedError):\n",
        ("tests/contracts/test_faults.py::test_an_interruption_meanwhile_ends_dvc_and_its_stage_too",),
    ),
    Mutant(
        "stages that are recorded at the end alone",
        "pipeline.py",
        "len(self._ready) >= _ENOUGH and",
        "len(self._ready) < 0 and",
        ("tests/contracts/test_faults.py::test_a_stage_whose_cells_are_done_is_recorded_while_others_are_computed",),
    ),
    Mutant(
        "a manifest without the rules, which are code",
        "manifests.py",
        "{*_of_command(stage, *rules)}",
        "{*_of_command(stage)}",
        (MANIFESTS,),
    ),
    Mutant(
        "square roots by the processor's own estimate",
        "measure/matched.py",
        'if name == "adam" and self.device',
        'if name == "none" and self.device',
        (MATCHED,),
    ),
    Mutant(
        "a cell that does not know the versions that decide it",
        "cells.py",
        'for key in ("versions", "instruction_set")}',
        'for key in ("instruction_set",)}',
        (CELLS,),
    ),
    Mutant(
        "a cell that is computed though another process has just done so",
        "cells.py",
        "if (record := cell.stored()) is not None:  # another",
        "if (record := None) is not None:  # another",
        (CELLS,),
    ),
    Mutant(
        "cells that are kept once their result has them",
        "stages.py",
        "                cell.forget()\n",
        "                pass\n",
        (CELLS,),
    ),
    Mutant(
        "a seed's cell that depends on the other seeds",
        "stages.py",
        'if key != "seeds"}',
        'if key != "nothing"}',
        (CELLS,),
    ),
    Mutant(
        "a node that computes whatever it is asked for",
        "executors/__init__.py",
        "    if own.key != cell.key:\n",
        "    if own.key == 0:\n",
        (CELLS,),
    ),
    Mutant(
        "a provenance that leaves out other machines",
        "provenance.py",
        "if other[key] != own[key]}",
        "if False}",
        (CELLS,),
    ),
    Mutant(
        "conformance: any scale is a power of two",
        "measure/scale.py",
        "return all(bits_equal(a, b * factor) for a, b in pairs)",
        "return True",
        (SCALE, CONFORMANCE),
    ),
    Mutant(
        "conformance: the scale is that of the norms, whatever the direction",
        "measure/scale.py",
        "s = (a @ b / (b @ b)).item()",
        "s = norm_of(a) / norm_of(b)",
        (SCALE,),
    ),
    Mutant(
        "conformance: a floor is an approach",
        "report/verdicts.py",
        " or found[-1] > STILL_FALLING * found[-2]:",
        ":",
        (CONFORMANCE,),
    ),
    Mutant(
        "conformance: a slope whose interval holds zero is a rate",
        "report/verdicts.py",
        "if any(end is None or towards * end <= 0 for end in ends):",
        "if None in ends:",
        (CONFORMANCE,),
    ),
    Mutant(
        "conformance: one dtype is enough for equality",
        "report/verdicts.py",
        'len({record["dtype"] for record in self.records}) > 1 and ',
        "",
        (CONFORMANCE,),
    ),
    Mutant(
        "peers: a result of other parameters stays in the table",
        "report/peers.py",
        "if recorded == decided_by(",
        "if recorded or recorded == decided_by(",
        (PEERS,),
    ),
    Mutant(
        "peers: the nearest setting speaks for all",
        "report/peers.py",
        "else max(compared)",
        "else min(compared)",
        (PEERS,),
    ),
    Mutant(
        "peers: distances in single precision count",
        "report/peers.py",
        ' if record["dtype"] == DISTANCES]',
        "]",
        (PEERS,),
    ),
    Mutant("Z-IL's sign flipped", "rules/zil.py", "[torch.ones_like(", "[-torch.ones_like(", (CLOSED_FORMS,)),
    Mutant(
        "Z-IL: the error of a value with several readers overwritten, not summed",
        "passing.py",
        "slots[number] = _sum(slots.get(number), ",
        "slots[number] = _sum(None, ",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: the gradient of a shared cell's parameters overwritten, not summed",
        "passing.py",
        "self.leaves[place] = _sum(self.leaves.get(place), ",
        "self.leaves[place] = _sum(None, ",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: what one vertex gives its parents is added in another order than autograd's",
        "values.py",
        "in zip(node.next_functions, products, strict=False):",
        "in reversed(list(zip(node.next_functions, products, strict=False))):",
        (LIKE_AUTOGRAD, zil("einsum")),
    ),
    Mutant(
        "Z-IL: vertices visited in the order in which errors arrive",
        "passing.py",
        "(-order, len(self._heap), id(node), node)",
        "(0, len(self._passed) * 10**6 + len(self._heap), id(node), node)",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: the oldest vertex is visited first",
        "passing.py",
        "(-order, len(self._heap), id(node), node)",
        "(order, len(self._heap), id(node), node)",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL is backpropagation in disguise: values are handed out uncut",
        "values.py",
        "cut_args, cut_kwargs = mapped((args, kwargs), lambda item: self.leaf(item, kept))",
        "cut_args, cut_kwargs = args, kwargs",
        (LOCALITY,),
    ),
    Mutant(
        "Z-IL: what is written into is cut off from what it was",
        "values.py",
        "if edge is None or edge in kept:",
        "if edge is None:",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: what is passed on as it is gets errors of its own",
        "values.py",
        "if not kept and any(self._is_passed_on(tensor)",
        "if False and any(self._is_passed_on(tensor)",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: the second result of an operation is taken for the first",
        "passing.py",
        "else (node, tensor.output_nr)",
        "else (node, 0)",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: an error is not summed over what was broadcast",
        "passing.py",
        "if not error.is_nested and value.shape is not None and error.shape != torch.Size(value.shape):",
        "if False:",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: an error keeps the dtype of its origin",
        "passing.py",
        "return error if error.dtype is value.dtype else error.to(value.dtype)",
        "return error",
        (LIKE_AUTOGRAD, AUTOCAST, zil("dtypes")),
    ),
    Mutant(
        "Z-IL: the cast of a value is common to its readers",
        "values.py",
        "if torch._C._is_any_autocast_enabled() and",
        "if False and",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: errors that are not defined are left where they are",
        "values.py",
        "                    if following is not None:\n",
        "                    if following is not None and product is not None:\n",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: a function is not told of results that nobody read",
        "values.py",
        "return tuple(GradientEdge(node, number) for number, error in enumerate(errors) if error is not None)",
        "return tuple(GradientEdge(node, number) for number, error in enumerate(e for e in errors if e is not None))",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: the history that a write gives a view comes after its readers'",
        "arguments.py",
        "            if argument._base is not None:\n",
        "            if False:\n",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: an operator by its full name is no write",
        "arguments.py",
        'name = func.__name__.split(".")[0]',
        "name = func.__name__",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: tangents are lost at a leaf",
        "values.py",
        " or forward_ad._current_level >= 0:",
        ":",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: what torch.func transforms is cut",
        "values.py",
        "or torch._C._are_functorch_transforms_active()",
        "or False",
        (zil("func-grad"), zil("vmap"), zil("func-jacrev")),
    ),
    Mutant(
        "Z-IL: a value of an earlier update is taken for a parameter",
        "values.py",
        'if hasattr(variable, "belongs_to_an_update"):',
        "if False:",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: an error may arrive when its vertex has been visited",
        "passing.py",
        "if order in self._passed:",
        "if False:",
        (f"{VALUES}::test_no_vertex_is_visited_twice",),
    ),
    Mutant(
        "Z-IL: sparse and dense contributions are added in one order",
        "passing.py",
        "return more + error if error.is_sparse else error + more",
        "return error + more",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "Z-IL: the forward runs twice",
        "rules/zil.py",
        "        with Values(self.model) as values:\n",
        "        self.model(*self._arguments(inputs))\n        with Values(self.model) as values:\n",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: what is frozen gets a gradient of zeros",
        "rules/zil.py",
        "learn(values.pass_back(outputs, _errors(loss), learn=in_parallel()))",
        "learn({p: torch.zeros_like(p) for p in self.model.parameters()} | values.pass_back(outputs, _errors(loss)))",
        (EQUIVALENCE,),
    ),
    Mutant(
        "data parallel: nothing is averaged",
        "parallel.py",
        "return torch.distributed.is_available() and torch.distributed.is_initialized()",
        "return False",
        (f"{DATA_PARALLEL}::test_every_process_has_the_same_weights",),
    ),
    Mutant(
        "data parallel: gradients wait for the end of the wave",
        "rules/zil.py",
        "learn=in_parallel()",
        "learn=False",
        (f"{DATA_PARALLEL}::test_buckets_go_out_while_errors_are_still_on_their_way",),
    ),
    Mutant(
        "data parallel: a gradient is handed over before all that read the parameter have passed their errors on",
        "passing.py",
        "missing = self._missing.pop(place, 0) - 1",
        "missing = 0 * self._missing.pop(place, 0)",
        (DATA_PARALLEL,),
    ),
    Mutant(
        "data parallel: of several gradients that become whole at once another one comes first",
        "passing.py",
        "            queue = [None] * self._waiting + self._ready\n",
        "            queue = [leaf for leaf in self._ready if leaf is not None]\n",
        (DATA_PARALLEL,),
    ),
    Mutant(
        "data parallel: nobody is told of a parameter that gets no gradient",
        "passing.py",
        "            self._route.arrived(place)\n",
        "                self._route.arrived(place)\n",
        (DATA_PARALLEL,),
    ),
    Mutant(
        "data parallel: what is read by an earlier vertex counts as unused",
        "parallel.py",
        "dependencies(mode, found) if isinstance(mode, kind) else ()",
        "()",
        (DATA_PARALLEL,),
    ),
    Mutant(
        "data parallel: a static graph is not refused",
        "parallel.py",
        "            if getattr(wrapper, option, None):",
        "            if False:",
        (f"{DATA_PARALLEL}::test_what_waits_for_the_end_of_the_engines_pass_is_refused_by_name",),
    ),
    Mutant(
        "data parallel: averaging is captured",
        "rules/_captured.py",
        "for path in wrappers(self.model):",
        "for path in ():",
        (f"{DATA_PARALLEL}::test_an_update_that_averages_is_not_captured",),
    ),
    Mutant(
        "data parallel: a gradient is copied on its way",
        "values.py",
        "                del arrived, products, product  # whoever holds a gradient keeps it from becoming `grad`\n",
        "",
        (f"{DATA_PARALLEL}::test_a_gradient_is_not_copied_on_its_way",),
    ),
    Mutant(
        "Z-IL: a loss of infinity is learned from",
        "rules/zil.py",
        "        check_finite(loss)\n",
        "",
        (RULES,),
    ),
    Mutant(
        "hooks: those of values never run",
        "values.py",
        "        if custom or (node in self._hooked_nodes and (NODES_TELL or self._untold.has_seen(node))):",
        "        if custom:",
        (f"{VALUES}::test_hooks_run_once_on_the_whole_gradient",),
    ),
    Mutant(
        "hooks: those of parameters run twice",
        "rules/_base.py",
        "for hook in tuple((leaf._backward_hooks or {}).values()):",
        "for hook in 2 * tuple((leaf._backward_hooks or {}).values()):",
        (f"{VALUES}::test_hooks_run_once_on_the_whole_gradient",),
    ),
    Mutant(
        "hooks: those behind a node that was asked for never run",
        "values.py",
        "                nodes += [following for following, _ in node.next_functions]\n",
        "",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "hooks: a retained error stays with what the value was before a write",
        "values.py",
        "*(x.grad_fn for x in (y() for y in self._retaining) if x is not None)",
        "*()",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "hooks: the engine goes on behind a node, too",
        "passing.py",
        "        raise _Visited\n",
        "",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "hooks: one on several gradients is run for each",
        "values.py",
        'if getattr(getattr(hook, "__code__", None), "co_filename", "") == torch.autograd.graph.__file__:',
        "if False:",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "gradients inside forward are constants",
        "values.py",
        "self._pass(outputs, errors, route, create_graph)",
        "self._pass(outputs, errors, route, False)",
        (zil("gradient-penalty"), zil("maml")),
    ),
    Mutant(
        "Z-IL: no error sets out from a parameter",
        "passing.py",
        "        with torch.enable_grad():  # errors travel without it\n",
        "        if True:\n",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "gradients inside forward reach values beside their way",
        "passing.py",
        "return self._leads.get(node, False) or node in self._stops",
        "return True",
        (zil("gradient-penalty"), zil("maml"), zil("langevin"), LIKE_AUTOGRAD),
    ),
    Mutant(
        "backward() inside forward differentiates one vertex",
        "values.py",
        '    torch.autograd.backward: "engine_started",\n',
        "",
        (VALUES,),
    ),
    Mutant(
        "gradients of edges inside forward are those of one vertex",
        "aside.py",
        "        if isinstance(mode, kind):\n            mode.engine_started()\n",
        "",
        (VALUES,),
    ),
    Mutant(
        "aside: attention notices the mode",
        "aside.py",
        'undo.enter_context(patch.object(torch.overrides, "has_torch_function", _overridden(kind)))',
        "pass",
        (zil("encoder-fast-path"), zil("encoder-eval")),
    ),
    Mutant(
        "aside: the mode is compiled, too",
        "aside.py",
        "        if compiler is not None:",
        "        if False:",
        (zil("compiled"), zil("compiled-eager")),
    ),
    Mutant(
        "aside: torch stays patched",
        "aside.py",
        "                    self._undo.close()",
        "                    pass",
        (VALUES,),
    ),
    Mutant(
        "aside: who leaves first undoes the patches of all",
        "aside.py",
        "                if not self._blocks:\n                    self._undo.close()",
        "                self._undo.close()",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "state form: the random state is not restored for a repeated draw",
        "recording.py",
        "            set_random_state(state)\n",
        "            pass\n",
        (f"{EQUIVALENCE}::test_state_form_is_exact_up_to_rounding",),
    ),
    Mutant(
        "state form: a repeated draw moves the generator on",
        "recording.py",
        "                set_random_state(now)\n",
        "                pass\n",
        (RECORDING,),
    ),
    Mutant(
        "state form: constants are what forward has made of them in the end",
        "recording.py",
        "self._constants[key] = tensor, tensor.detach().clone()",
        "self._constants[key] = tensor, tensor.detach()",
        (RECORDING,),
    ),
    Mutant(
        "state form: an operation is repeated under whatever autocast is on",
        "recording.py",
        "            if autocast == autocast_state():",
        "            if True:",
        (RECORDING,),
    ),
    Mutant(
        "state form: a write is repeated in the parent's own memory",
        "recording.py",
        "wholes[id(target.base)] = now(target.old).clone()",
        "wholes[id(target.base)] = now(target.old)",
        (f"{EQUIVALENCE}::test_state_form_is_exact_up_to_rounding",),
    ),
    Mutant(
        "state form: a write to a part goes to the whole",
        "recording.py",
        "return whole if target.view is None else target.view(whole)",
        "return whole",
        (RECORDING,),
    ),
    Mutant(
        "state form: a part begins where its memory does",
        "recording.py",
        "whole.storage_offset() + offset",
        "whole.storage_offset()",
        (RECORDING,),
    ),
    Mutant(
        "state form: whether the repeated loss is the forward's is not looked at",
        "rules/zil_state.py",
        "                check_replay(replayed.detach(), loss)",
        "                pass",
        (RECORDING,),
    ),
    Mutant(
        "state form: a write under no_grad is left out",
        "recording.py",
        "        if any(tensor._version != version for tensor, version in versions):",
        "        if False:",
        (RECORDING,),
    ),
    Mutant(
        "state form: a write by a function's own way is left out",
        "recording.py",
        "        if any(id(owner) not in bases for owner in changed) or (len(bases) < len(targets) and not named):",
        "        if False:",
        (RECORDING,),
    ),
    Mutant(
        "state form: a function that nobody has seen is taken for a view",
        "recording.py",
        " or isinstance(edge[0], torch._C._FunctionBase):",
        ":",
        (RECORDING,),
    ),
    Mutant(
        "state form: hooks on values are left out",
        "recording.py",
        "    def _hooked(self, *args, **kwargs):\n        raise",
        "    def _hooked(self, *args, **kwargs):\n        return super()._hooked(*args, **kwargs)\n        raise",
        (RECORDING,),
    ),
    Mutant(
        "state form: a module's hooks on gradients are left out",
        "recording.py",
        'if function.__name__ == "BackwardHookFunction":',
        "if False:",
        (RECORDING,),
    ),
    Mutant(
        "state form: what is saved otherwise than it was is not looked at",
        "recording.py",
        "if type(hooks) is saved_tensors_hooks or",
        "if False and",
        (RECORDING,),
    ),
    Mutant(
        "state form: a module's own function is unseen",
        "aside.py",
        '        undo.enter_context(patch.object(torch.autograd.Function, "apply", classmethod(seen_apply)))\n',
        "",
        (RECORDING,),
    ),
    Mutant(
        "graph: an activation is a vertex of its own",
        "graph.py",
        "            merge_chains\n            and len(made)",
        "            False\n            and len(made)",
        (GRAPH,),
    ),
    Mutant(
        "graph: a vertex goes on behind a value with several readers",
        "graph.py",
        "            and len(readers[reads[0]]) == 1\n",
        "",
        (EQUIVALENCE, LEVELS),
    ),
    Mutant(
        "graph: an output that is read inside has another level than 0",
        "graph.py",
        "        if readers[value.operation]:",
        "        if False:",
        (EQUIVALENCE, LEVELS),
    ),
    Mutant(
        "graph: a normalised weight is a vertex",
        "graph.py",
        "        if not reads and not operation.inputs and number not in outputs:",
        "        if False:",
        (GRAPH,),
    ),
    Mutant(
        "graph: the model's own random numbers are drawn",
        "graph.py",
        "        with kept_randomness():",
        "        if True:",
        (GRAPH,),
    ),
    Mutant(
        "graph: made on the user's own model",
        "graph.py",
        "        model = copied(model)\n",
        "",
        (GRAPH,),
    ),
    Mutant(
        "comparisons: NumPy's random state is not put back",
        "randomness.py",
        "        np.random.set_state(numpys)\n",
        "",
        (DIVERGENCE,),
    ),
    Mutant(
        "comparisons: Python's random state is not put back",
        "randomness.py",
        "        random.setstate(pythons)\n",
        "",
        (DIVERGENCE,),
    ),
    Mutant(
        "comparisons: the rule is blamed where backpropagation does not repeat itself",
        "measure/divergence.py",
        "    if again.equals(expected):",
        "    if True:",
        (DIVERGENCE,),
    ),
    Mutant(
        "comparisons: a fused network is converted although it should be kept whole",
        "measure/verify.py",
        "counterparts.convert(model) if convert else model",
        "counterparts.convert(model)",
        (DIVERGENCE,),
    ),
    Mutant(
        "a packed sequence comes back sorted",
        "nn/recurrent.py",
        "in_order = input.sorted_indices is None",
        "in_order = True",
        (RECURRENT,),
    ),
    Mutant(
        "gradients of a second update overwrite the first one's",
        "rules/_base.py",
        "            leaf.grad += gradient",
        "            leaf.grad = gradient",
        (f"{EQUIVALENCE}::test_gradients_accumulate_over_calls_and_steps_with_the_bits_of_backprop",),
    ),
    Mutant(
        "two parameters share one gradient",
        "rules/_base.py",
        " and storage.data_ptr() not in taken and",
        " and",
        (f"{EQUIVALENCE}::test_no_two_parameters_share_one_gradient_tensor",),
    ),
    Mutant(
        "a gradient lies in memory as it was computed",
        "rules/_base.py",
        "taken and _laid_out_alike(gradient, leaf)",
        "taken",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "what a hook keeps is written into by optimizers",
        "rules/_base.py",
        "gradient.clone() if leaf._backward_hooks else gradient",
        "gradient",
        (LIKE_AUTOGRAD,),
    ),
    Mutant(
        "a loss of NaN is learned from",
        "rules/_base.py",
        "    if not torch.isfinite(loss).all():",
        "    if False:",
        (RULES,),
    ),
    Mutant(
        "state form: gamma ignored",
        "rules/zil_state.py",
        "leaf + self.schedule.gamma * drive[leaf]",
        "leaf + drive[leaf]",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: sigma ignored, the noise always standard",
        "rules/zil_state.py",
        "mu + self.schedule.sigma * noise.to(mu)",
        "mu + noise.to(mu)",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: no initial error at all",
        "rules/zil_state.py",
        "mu + self.schedule.sigma * noise.to(mu)",
        "mu + 0 * noise.to(mu)",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: noise from the global generator",
        "rules/zil_state.py",
        "generator=self.generator, dtype",
        "dtype",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: the layer-dependent update one step late",
        "rules/zil_state.py",
        "t == (level if",
        "t == (level + 1 if",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: one inference step too few",
        "rules/zil_state.py",
        "            if t < steps:",
        "            if t < steps - 1:",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: an error with several origins overwritten, not summed",
        "rules/_inference.py",
        "sums[key] + term if key in sums else term",
        "term",
        (f"{EQUIVALENCE}::test_state_form_is_exact_up_to_rounding",),
    ),
    Mutant(
        "level by the shortest way to the output, not the longest",
        "graph.py",
        "max(levels[position] + 1, -1 if levels[parent] is None else levels[parent])",
        "min(levels[position] + 1, 10**9 if levels[parent] is None else levels[parent])",
        (LEVELS,),
    ),
    Mutant(
        "levelling: one identity vertex too few",
        "graph.py",
        "min(children[position], default=vertex.level), -1)",
        "min(children[position], default=vertex.level) + 1, -1)",
        (LEVELS,),
    ),
    Mutant(
        "divergence: the difference taken in the tensors' own dtype",
        "measure/divergence.py",
        "difference = a.double() - b.double()",
        "difference = a - b",
        (VERIFY,),
    ),
    Mutant(
        "divergence: the norm taken in float32",
        "measure/divergence.py",
        "vector_norm(tensor * scale)",
        "vector_norm((tensor * scale).float())",
        (COMPARE,),
    ),
    Mutant(
        "divergence: the norm of numbers that have no square",
        "measure/divergence.py",
        "scale = 2.0 ** min(-math.frexp(largest)[1], 1023)",
        "scale = 1.0",
        (COMPARE,),
    ),
    Mutant(
        "max_ulp: the sign forgotten",
        "measure/divergence.py",
        "torch.where(bits < 0, -magnitude, magnitude)",
        "magnitude",
        (COMPARE,),
    ),
    Mutant(
        "bitwise_equal: -0 counts as +0",
        "measure/divergence.py",
        "return torch.equal(_bits(a), _bits(b))",
        "return torch.equal(a, b)",
        (COMPARE,),
    ),
    Mutant(
        "resume forgets the optimizer's state",
        "measure/training.py",
        'self.optimizer.load_state_dict(state["optimizer"])',
        "pass",
        (TRAINING,),
    ),
    Mutant(
        "resume forgets the noise generator's state",
        "measure/training.py",
        'self.noise.set_state(state["noise"])',
        "pass",
        (TRAINING,),
    ),
    Mutant(
        "every epoch has the order of the first one",
        "measure/matched.py",
        'stream(seed, "order", epoch)',
        'stream(seed, "order")',
        (TRAINING,),
    ),
    Mutant(
        "each rule draws dropout masks of its own",
        "measure/training.py",
        'with global_stream(seed, "dropout", epoch, step):',
        'with global_stream(seed, "dropout", epoch, step, name):',
        (TRAINING,),
    ),
    Mutant(
        "accuracy measured in training mode",
        "measure/training.py",
        "    model.eval()\n",
        "",
        (TRAINING,),
    ),
    Mutant(
        "gate: at most counts as at least",
        "check/gate.py",
        'value <= bounds["max"]',
        'value >= bounds["max"]',
        (GATE,),
    ),
    Mutant(
        "gate: a missing figure passes",
        "check/gate.py",
        'return Finding(FAIL, what, "missing"',
        'return Finding(PASS, what, "missing"',
        (GATE,),
    ),
    Mutant(
        "gate: a task that vanished is out of sight",
        "check/gate.py",
        'tasks = [name for name in names if task in ("*", name)]',
        'tasks = [name for name in measured if task in ("*", name)]',
        (GATE,),
    ),
    Mutant(
        "gate: a time fails where any of its interval is beyond the bound",
        "check/gate.py",
        'met = low <= bounds.get("at_most", low)',
        'met = high <= bounds.get("at_most", high)',
        (GATE,),
    ),
    Mutant(
        "gate: a time without an interval passes",
        "check/gate.py",
        'return Finding(NOT_COMPARABLE, what, "no interval: too few measurements", text)',
        'return Finding(PASS, what, "no interval: too few measurements", text)',
        (GATE,),
    ),
    Mutant(
        "baseline: an accuracy that rises is a fall",
        "check/baseline.py",
        'alternative="less"',
        'alternative="greater"',
        (f"{BASELINE}::test_p_is_the_part_of_all_signs_that_give_as_low_a_mean",),
    ),
    Mutant(
        "baseline: a test that cannot fail passes",
        "check/baseline.py",
        "if least >= level:",
        "if least > 1:",
        (f"{BASELINE}::test_too_few_seeds_are_no_pass",),
    ),
    Mutant(
        "baseline: the margin is left out",
        "check/baseline.py",
        "(np.asarray(differences) + beyond,)",
        "(np.asarray(differences),)",
        (f"{BASELINE}::test_chance_is_not_taken_for_a_regression",),
    ),
    Mutant(
        "baseline: seeds are not compared in pairs",
        "check/baseline.py",
        "[new[seed] - old[seed] for seed in old if seed in new]",
        "[a - b for a, b in zip(sorted(new.values()), sorted(old.values()), strict=False)]",
        (f"{BASELINE}::test_chance_is_not_taken_for_a_regression", f"{BASELINE}::test_other_seeds_have_no_pairs"),
    ),
    Mutant(
        "baseline: all tasks together are not looked at",
        "check/baseline.py",
        "if len(of_tasks) > 1:",
        "if False:",
        (f"{BASELINE}::test_what_a_few_seeds_of_one_task_cannot_tell_those_of_all_tasks_can",),
    ),
    Mutant(
        "baseline: a slower engine is compared with its own interval",
        "check/baseline.py",
        'if new["low"] <= beyond * old["high"]',
        'if new["low"] <= beyond * new["high"]',
        (f"{BASELINE}::test_a_slower_engine_is_found_and_noise_is_not",),
    ),
    Mutant(
        "baseline: times of another machine are compared",
        "check/baseline.py",
        "            elif other or unknown:",
        "            elif False:",
        (f"{BASELINE}::test_times_of_another_machine_are_not_compared_and_accuracies_are",),
    ),
    Mutant(
        "baseline: figures of other parameters are compared",
        "check/baseline.py",
        "    other = params.differing(*experiments)\n",
        "    other = ()\n",
        (f"{BASELINE}::test_figures_of_other_parameters_are_not_compared_and_it_is_said_which",),
    ),
    Mutant(
        "baseline: a run that falls short becomes one",
        "judging.py",
        "    if printing.shortfalls(findings):\n",
        "    if printing.shortfalls(findings) and False:\n",
        (f"{BASELINE}::test_a_run_that_falls_short_becomes_no_baseline",),
    ),
    Mutant(
        "baseline: results of other code become one",
        "check/baseline.py",
        "if recorded != stages.code_of(source.stage, behind):",
        "if False:",
        (f"{BASELINE}::test_a_run_of_other_results_or_code_than_lie_here_becomes_no_baseline",),
    ),
    Mutant(
        "check: exit code 0 whatever fell short",
        "judging.py",
        "    if counts[gate.FAIL]:\n        raise typer.Exit(1)",
        "    if counts[gate.FAIL]:\n        raise typer.Exit(0)",
        (f"{CLI}::test_check_exits_with_one_and_names_what_fell_short",),
    ),
    Mutant(
        "verify: exit code 0 whatever the verdict",
        "judging.py",
        "raise typer.Exit(0 if same else 1)",
        "raise typer.Exit(0)",
        (f"{CLI}::test_verifys_exit_code_is_its_verdict",),
    ),
    Mutant(
        "reproduction: a GPU's bits are held to those of another kind",
        "check/reproduction.py",
        'if where.get("gpu"):',
        'if where.get("gpus"):',
        ("tests/contracts/test_reproduction.py",),
    ),
    Mutant(
        "device: a GPU that is not here is taken for one that is",
        "devices.py",
        "if index >= found:",
        "if index > found:",
        ("tests/contracts/test_devices.py",),
    ),
    Mutant(
        "device: an input that learns is moved with a history",
        "devices.py",
        "leaf.detach().to(device)",
        "leaf.to(device)",
        ("tests/contracts/test_devices.py",),
    ),
    Mutant(
        "device: TF32 stays on for convolutions",
        "devices.py",
        "torch.backends.cudnn.allow_tf32 = False",
        "pass",
        ("tests/contracts/test_devices.py",),
    ),
    Mutant(
        "device: a result does not depend on it",
        "params.py",
        'device: Parameters = {"device": parameters["device"]}',
        "device: Parameters = {}",
        ("tests/contracts/test_params.py",),
    ),
    Mutant(
        "device: the batch stays on the CPU",
        "measure/matched.py",
        "yield split.inputs[indices].to(self.device), split",
        "yield split.inputs[indices], split",
        ("tests/contracts/test_matched.py",),
    ),
    Mutant(
        "device: the model stays on the CPU",
        "measure/matched.py",
        "return made.to(self.device)",
        "return made",
        ("tests/contracts/test_matched.py",),
    ),
    Mutant(
        "device: the baseline's figures are compared with another device's",
        "check/baseline.py",
        '"device": of["device"],',
        '"device": None,',
        (BASELINE,),
    ),
    Mutant(
        "reproduction: other bits count as identical",
        "check/reproduction.py",
        "elif _changed(_results(before), _results(stage)):",
        "elif False:",
        ("tests/contracts/test_reproduction.py",),
    ),
    Mutant(
        "fingerprint: the place of an element is not looked at",
        "measure/fingerprint.py",
        "(bits * _multipliers(len(bits))).sum(dtype=np.uint64)",
        "(bits * np.uint64(3)).sum(dtype=np.uint64)",
        ("tests/contracts/test_fingerprint.py",),
    ),
    Mutant(
        "comparison: what one run lacks is no matter",
        "check/comparison.py",
        "verdicts & {IDENTICAL, COMPATIBLE} and NOT_COMPARABLE not in verdicts",
        "verdicts & {IDENTICAL, COMPATIBLE, NOT_COMPARABLE}",
        ("tests/contracts/test_comparison.py",),
    ),
    Mutant(
        "comparison: the last update that differs is taken for the first",
        "check/comparison.py",
        "for update, (a, b) in enumerate(zip(*updates, strict=False), 1):",
        "for update, (a, b) in reversed([*enumerate(zip(*updates, strict=False), 1)]):",
        ("tests/contracts/test_comparison.py",),
    ),
    Mutant(
        "report: results of other parameters are taken",
        "report/results.py",
        "        if other:\n",
        "        if False:\n",
        ("tests/contracts/test_report.py",),
    ),
    Mutant(
        "gate: metrics of other parameters are taken",
        "check/gate.py",
        'if metrics.get("parameters_sha256") != digest(params.of_profile(parameters, profile)):',
        "if False:",
        (CLI,),
    ),
    Mutant(
        "verify: sys.exit() in the user's code passes for a verdict",
        "errors.py",
        "except (Exception, SystemExit) as error:",
        "except Exception as error:",
        (CLI,),
    ),
    Mutant(
        "claims: exactness of float64 alone is asked for",
        "report/ledger/exactness.py",
        'elif not found["bitwise_equal"]:',
        'elif not found["bitwise_equal"] and dtype == "float64":',
        (CLAIMS,),
    ),
    Mutant(
        "claims: the zoo's buffers do not count",
        "report/ledger/exactness.py",
        'if not (found["bitwise_equal"] and found["buffers_equal"])',
        'if not found["bitwise_equal"]',
        (CLAIMS,),
    ),
    Mutant(
        "claims: a guarantee may have exceptions",
        "report/ledger/cost.py",
        "if no_worse:",
        "if len(no_worse) == len(counted):",
        (CLAIMS,),
    ),
    Mutant(
        "claims: better than Z-IL on one task is better",
        "report/ledger/training.py",
        "elif names and len(names) == len(tasks):",
        "elif names:",
        (CLAIMS,),
    ),
    Mutant(
        "claims: one mixture that does not beat Z-IL refutes the other too",
        "report/ledger/training.py",
        "if len(beaten) == len(MIXTURES):",
        "if beaten:",
        (CLAIMS,),
    ),
    Mutant(
        "claims: a mixture that beats Z-IL alone beats BP",
        "report/ledger/training.py",
        "all(_below(found[other][task], cells[task]) for other in found)",
        '_below(found["zil"][task], cells[task])',
        (CLAIMS,),
    ),
    Mutant(
        "parameters: what some tasks alone are trained by is every task's",
        "params.py",
        "if name in only.get(rule, [name])",
        "if rule",
        ("tests/contracts/test_params.py",),
    ),
    Mutant(
        "claims: a scale for each tensor is a scale",
        "report/ledger/rules.py",
        'return cell["verdict"] == verdicts.SCALED and cell["of"] == verdicts.MEASURES["residual"]',
        'return cell["verdict"] == verdicts.SCALED',
        (CLAIMS,),
    ),
    Mutant(
        "claims: a free energy that is not settled tells",
        "report/ledger/energy.py",
        'if finite(distance) <= energies[place]["settled"]["residual"]',
        "if finite(distance) < 0",
        (CLAIMS,),
    ),
    Mutant(
        "published: milliseconds are compared",
        "report/published_table.py",
        'value["zil"] / value["bp"]',
        'value["zil"]',
        (PUBLISHED,),
    ),
    Mutant(
        "data: a corrupted file is loaded",
        "data/_store.py",
        "if found != expected:",
        "if not found:",
        (f"{CLI}::test_a_corrupted_data_file_is_named_with_both_checksums",),
    ),
    Mutant(
        "params.yaml: unknown keys ignored",
        "forms.py",
        'model_config = ConfigDict(extra="forbid",',
        'model_config = ConfigDict(extra="ignore",',
        ("tests/contracts/test_params.py",),
    ),
    Mutant(
        "rules: a section's rules in the section's order, not the table's",
        "params.py",
        "{name: rules[name] for name in rules if name in listed",
        "{name: rules[name] for name in listed",
        ("tests/contracts/test_params.py",),
    ),
    Mutant(
        "matched models: initial weights that do not depend on the seed",
        "measure/matched.py",
        'with global_stream(seed, "init"):',
        'with global_stream(0, "init"):',
        ("tests/contracts/test_matched.py",),
    ),
    Mutant(
        "free energy: a hidden error's square without its half",
        "measure/free_energy.py",
        "for each in apart) / 2",
        "for each in apart)",
        (FREE_ENERGY,),
    ),
    Mutant(
        "free energy: half a step of Z-IL's inference for a whole one",
        "measure/free_energy.py",
        "cut(leaf - of[leaf] if",
        "cut(leaf - 0.5 * of[leaf] if",
        (FREE_ENERGY,),
    ),
    Mutant(
        "free energy: at its least on Z-IL's graph, not IL's",
        "measure/free_energy.py",
        "graph = run.graph\n",
        "graph = run.graph.levelled()\n",
        (FREE_ENERGY,),
    ),
    Mutant(
        "free energy: the sum over the batch is the mean",
        "measure/free_energy.py",
        'if reduction == "sum" else 1',
        'if reduction == "all" else 1',
        (FREE_ENERGY,),
    ),
    Mutant(
        "free energy: the slopes of the forward pass for those where F is least",
        "measure/free_energy.py",
        "least, slopes, learned = _slopes(run, graph, x)",
        "least, slopes, learned = _slopes(run, graph, _forward(graph))",
        (FREE_ENERGY,),
    ),
    Mutant(
        "conditions: each point of the grid has its own noise",
        "measure/conditions.py",
        'partial(make_rule, {**entry, **at}, seed=settings["seed"])',
        'partial(make_rule, {**entry, **at}, seed=settings["seed"] + len(points))',
        (CONDITIONS,),
    ),
    Mutant(
        "conditions: layer-dependent or not is one",
        "measure/conditions.py",
        '"layer_dependent": layer_dependent}',
        '"layer_dependent": True}',
        (CONDITIONS,),
    ),
    Mutant(
        "conditions: one is necessary if one point without it is not zero",
        "report/metrics.py",
        '{"necessary": spread["zero"] == 0, **spread}',
        '{"necessary": spread["zero"] < spread["points"] or not spread["points"], **spread}',
        (CONDITIONS,),
    ),
    Mutant(
        "conditions: what is not finite is zero",
        "report/metrics.py",
        "value is not None and value <= rounding",
        "value is None or value <= rounding",
        (CONDITIONS,),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: ``caught`` by which test, and in how many seconds; or what went wrong instead."""

    caught: bool
    told: str
    seconds: float
    ran: bool = True


def plant(mutant, package):
    """Edit the copy of pcbench at ``package``; say what is wrong if that cannot be done, otherwise None."""
    path = package / mutant.file
    if not path.is_file():
        return f"there is no pcbench/{mutant.file}"
    text = path.read_text(encoding="utf-8")
    if (found := text.count(mutant.old)) != 1:
        return f"pcbench/{mutant.file} holds {found} times, not once: {mutant.old!r}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return None


def copy_repository(folder):
    """Copy what git tracks, as it is now, into ``folder``; return the package there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return Path(folder) / "pcbench"


def run_tests(folder, tests):
    """Run ``tests`` in the copy in ``folder``, up to the first failure."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    options = ("-x", "-q", "--no-header", "--tb=no", "-rfE", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)


def attempt(mutant):
    """Plant one fault and run its tests."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pcbench-mutant-") as folder:
        wrong = plant(mutant, copy_repository(folder))
        if wrong:
            return Outcome(False, wrong, 0.0, ran=False)
        try:
            done = run_tests(folder, mutant.tests)
        except subprocess.TimeoutExpired:
            return Outcome(False, f"no answer in {TIMEOUT} s", time.perf_counter() - start, ran=False)
    seconds = time.perf_counter() - start
    if done.returncode == 0:
        return Outcome(False, "SURVIVED", seconds)
    failed = [line.split(" - ")[0].split(maxsplit=1)[1] for line in done.stdout.splitlines() if line[:7] == "FAILED "]
    if done.returncode != 1 or not failed:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        return Outcome(False, f"the tests do not run: {' '.join(last)}", seconds, ran=False)
    return Outcome(True, failed[0].removeprefix("tests/"), seconds)


def check_innocent(mutants):
    """Without a fault every test passes, and what they test is the copy; return what is wrong, otherwise None."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with tempfile.TemporaryDirectory(prefix="pcbench-mutant-") as folder:
        copy_repository(folder)
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONSAFEPATH": "1"}
        where = [sys.executable, "-c", "import pcbench; print(pcbench.__file__)"]
        found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True).stdout.strip()
        if not Path(found).is_relative_to(folder):
            return f"the tests would import {found}, not the copy in {folder}"
        done = run_tests(folder, ["-n", str(WORKERS), *tests])
    return None if done.returncode == 0 else f"tests fail without any fault:\n{done.stdout}{done.stderr}"


def main(words):
    """Plant the faults whose names contain one of ``words``, or all; return the exit code."""
    console = Console(width=None if sys.stdout.isatty() else 160, soft_wrap=True)
    mutants = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    if not mutants:
        console.print(f"no fault has one of {words} in its name")
        return 2
    wrong = check_innocent(mutants)
    if wrong:
        console.print(wrong, markup=False)
        return 2
    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = list(pool.map(attempt, mutants))
    table = Table("fault", Column("caught by", overflow="fold"), Column("s", justify="right"))
    for mutant, outcome in zip(mutants, outcomes, strict=True):
        colour = "green" if outcome.caught else "bold red"
        table.add_row(mutant.name, f"[{colour}]{outcome.told.replace('[', chr(92) + '[')}[/]", f"{outcome.seconds:.0f}")
    console.print(table)
    caught = sum(outcome.caught for outcome in outcomes)
    console.print(f"{caught} of {len(outcomes)} faults caught")
    if not all(outcome.ran for outcome in outcomes):
        return 2
    return 0 if caught == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
