"""Planted faults: is there a test that fails when the code is wrong?

    python tests/mutants.py            every fault
    python tests/mutants.py resume     those whose name contains a word

Each fault is one textual edit in a temporary copy of the package, which stands first on PYTHONPATH; then the tests that
should notice run until one of them fails. Exit code 0: every fault was caught. 1: a fault survived. 2: a fault cannot be
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
TIMEOUT = 300  # seconds; a fault may make a loop endless

EQUIVALENCE = "tests/numerics/test_backprop_equivalence.py"
CLOSED_FORMS = "tests/numerics/test_closed_forms.py"
LOCALITY = "tests/numerics/test_locality.py"
COMPARE = "tests/properties/test_compare.py"
LEVELS = "tests/properties/test_levels.py"
TRAINING = "tests/contracts/test_training.py"
RULES = "tests/contracts/test_rules.py"
VERIFY = "tests/contracts/test_verify.py"
GRAPH_ERRORS = "tests/contracts/test_graph_errors.py"
GRAPH_TRACING = "tests/contracts/test_graph_tracing.py"
GATE = "tests/contracts/test_gate.py"
CLAIMS = "tests/contracts/test_claims.py"
CLI = "tests/contracts/test_cli.py"
PURITY = "tests/contracts/test_graph_purity.py"


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
        "Z-IL's sign flipped",
        "rules/zil.py",
        "accumulate({p: gradient for",
        "accumulate({p: -gradient for",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "Z-IL: the error of a value with several children overwritten, not summed",
        "rules/zil.py",
        "for r in receivers if r in arrived]",
        "for r in receivers if r in arrived and isinstance(r, torch.nn.Parameter)]",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: the gradient of a shared cell's parameters overwritten, not summed",
        "rules/zil.py",
        "for r in receivers if r in arrived]",
        "for r in receivers if r in arrived and not isinstance(r, torch.nn.Parameter)]",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: what has arrived is added in another order than autograd's",
        "rules/zil.py",
        "    gradients = torch.autograd.grad(roots, receivers, seeds, allow_unused=True)\n    arrived.update(",
        "    roots, seeds = roots[: len(errors)], seeds[: len(errors)]\n"
        "    gradients = torch.autograd.grad(roots, receivers, seeds, allow_unused=True)\n"
        "    gradients = [g + arrived[r] if g is not None and r in arrived else g"
        " for r, g in zip(receivers, gradients, strict=True)]\n"
        "    arrived.update(",
        ("tests/properties/test_random_networks.py::test_zil_has_the_bits_of_backprop",),
    ),
    Mutant(
        "Z-IL is backpropagation in disguise: values are not detached",
        "rules/zil.py",
        "values.append(map_leaves(_value, prediction))",
        "values.append(prediction)",
        (LOCALITY,),
    ),
    Mutant(
        "Z-IL: what is passed on as it is gets errors of its own",
        "rules/zil.py",
        "return mu if passed_on else detached(mu)",
        "return detached(mu)",
        (PURITY,),
    ),
    Mutant(
        "tracing: a graph that counts its calls is kept",
        "rules/_base.py",
        "                return graph  # its forward",
        "                pass  # its forward",
        (PURITY,),
    ),
    Mutant(
        "state form: buffers go on from evaluation to evaluation",
        "rules/dynamics.py",
        "                buffers.put_back()\n",
        "",
        (PURITY,),
    ),
    Mutant(
        "tracing: a forward may write into the caller's input",
        "_purity.py",
        'if other.op == "placeholder" and',
        "if False and",
        (GRAPH_ERRORS,),
    ),
    Mutant(
        "tracing: a list that grows from call to call is taken for a cache",
        "_purity.py",
        "return len(a) == len(b) and all(map(_alike, a, b))",
        "return True",
        (GRAPH_ERRORS,),
    ),
    Mutant(
        "tracing: what a forward keeps in an attribute stays frozen",
        "_trace.py",
        "if a.tracer.finished:",
        "if False:",
        (GRAPH_ERRORS,),
    ),
    Mutant(
        "tracing: a cache is taken for state",
        "_trace.py",
        "changed = first.after_a_call().differs_from(first)",
        "changed = first.differs_from(before)",
        (GRAPH_TRACING,),
    ),
    Mutant(
        "tracing: values of the graph stay behind in the model",
        "_trace.py",
        "    before.forget_traced_values()\n",
        "",
        (GRAPH_TRACING,),
    ),
    Mutant(
        "Z-IL: every vertex evaluated twice, its buffers advanced twice",
        "rules/zil.py",
        "        prediction = vertex.predict(",
        "        vertex.predict(*(values[p] for p in vertex.parents))\n        prediction = vertex.predict(",
        (EQUIVALENCE,),
    ),
    Mutant(
        "Z-IL: what is frozen gets a gradient of zeros",
        "rules/zil.py",
        "isinstance(p, torch.nn.Parameter)})\n        return loss",
        "isinstance(p, torch.nn.Parameter)})\n"
        "        for p in self.model.parameters():\n"
        "            p.grad = torch.zeros_like(p) if p.grad is None else p.grad\n"
        "        return loss",
        (EQUIVALENCE,),
    ),
    Mutant(
        "a loss of NaN is learned from",
        "rules/_base.py",
        "    if not torch.isfinite(loss).all():",
        "    if False:",
        (RULES,),
    ),
    Mutant(
        "gradients of a second update overwrite the first one's",
        "rules/_base.py",
        "parameter.grad += gradient",
        "parameter.grad = gradient",
        (f"{EQUIVALENCE}::test_gradients_accumulate_over_calls_and_steps_with_the_bits_of_backprop",),
    ),
    Mutant(
        "state form: buffers advanced at every step",
        "rules/dynamics.py",
        "buffer.copy_(value)",
        "pass",
        (f"{EQUIVALENCE}::test_buffers_and_random_state_afterwards_are_those_of_backprop",),
    ),
    Mutant(
        "state form: dropout mask drawn anew at every step",
        "rules/dynamics.py",
        "        _set_random_state(self._state[i])\n",
        "",
        (f"{EQUIVALENCE}::test_state_form_is_exact_up_to_rounding",),
    ),
    Mutant(
        "state form: gamma ignored",
        "rules/dynamics.py",
        "leaf + self.schedule.gamma * drive[leaf]",
        "leaf + drive[leaf]",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: sigma ignored, the noise always standard",
        "rules/dynamics.py",
        "mu + self.schedule.sigma * noise.to(mu)",
        "mu + noise.to(mu)",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: no initial error at all",
        "rules/dynamics.py",
        "mu + self.schedule.sigma * noise.to(mu)",
        "mu + 0 * noise.to(mu)",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: noise from the global generator",
        "rules/dynamics.py",
        "generator=self.generator, dtype",
        "dtype",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: the layer-dependent update one step late",
        "rules/dynamics.py",
        "t == (level if",
        "t == (level + 1 if",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: one inference step too few",
        "rules/dynamics.py",
        "            if t < steps:",
        "            if t < steps - 1:",
        (CLOSED_FORMS,),
    ),
    Mutant(
        "state form: an error with several origins overwritten, not summed",
        "rules/dynamics.py",
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
        "measure/_setup.py",
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
        "check: exit code 0 whatever fell short",
        "cli.py",
        "    if counts[gate.FAIL]:\n        raise typer.Exit(1)",
        "    if counts[gate.FAIL]:\n        raise typer.Exit(0)",
        (f"{CLI}::test_check_exits_with_one_and_names_what_fell_short",),
    ),
    Mutant(
        "verify: exit code 0 whatever the verdict",
        "cli.py",
        "raise typer.Exit(0 if same else 1)",
        "raise typer.Exit(0)",
        (f"{CLI}::test_verifys_exit_code_is_its_verdict",),
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
        "measure/verify.py",
        "except (Exception, SystemExit) as error:",
        "except Exception as error:",
        (CLI,),
    ),
    Mutant(
        "claims: exactness of float64 alone is asked for",
        "report/claims.py",
        'elif not found["bitwise_equal"]:',
        'elif not found["bitwise_equal"] and dtype == "float64":',
        (CLAIMS,),
    ),
    Mutant(
        "claims: the zoo's buffers do not count",
        "report/claims.py",
        'if not (found["bitwise_equal"] and found["buffers_equal"])',
        'if not found["bitwise_equal"]',
        (CLAIMS,),
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
        "params.py",
        "if key not in form and ... not in form:",
        "if False:",
        ("tests/contracts/test_params.py",),
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


def copy_package(folder):
    """Copy pcbench into ``folder``."""
    shutil.copytree(ROOT / "pcbench", Path(folder) / "pcbench", ignore=shutil.ignore_patterns("__pycache__"))
    return Path(folder) / "pcbench"


def run_tests(folder, tests):
    """Run ``tests`` on the package in ``folder``, up to the first failure."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    options = ("-x", "-q", "--no-header", "--tb=no", "-rfE", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT)


def attempt(mutant):
    """Plant one fault and run its tests."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pcbench-mutant-") as folder:
        wrong = plant(mutant, copy_package(folder))
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
        copy_package(folder)
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONSAFEPATH": "1"}
        where = [sys.executable, "-c", "import pcbench; print(pcbench.__file__)"]
        found = subprocess.run(where, cwd=ROOT, env=environment, capture_output=True, text=True).stdout.strip()
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
