"""Table 3: every rule trained from the same weights on the same batches, in lockstep with backpropagation.

After every weight update the weights of every rule are compared with backpropagation's. All of it is a function of the
parameters, the data and the seed: an interrupted run goes on at its last finished epoch, to the same bits.

Where enough updates are ahead, a rule is captured as a program: the same bits, sooner. The reference never is: whatever is
replayed is held to autograd itself at every update.
"""

import copy
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from pcbench.data import Split
from pcbench.errors import NonFiniteLoss, ResultError, UnsupportedModule
from pcbench.files import atomic, finite_or_none
from pcbench.measure.divergence import compare
from pcbench.measure.fingerprint import Trace
from pcbench.measure.matched import Matched, make_rule
from pcbench.params import REFERENCE, Result, Settings
from pcbench.provenance import weights_digest
from pcbench.randomness import global_stream
from pcbench.rules import Captured, Rule

FOLLOWED = ("l2", "relative_l2", "max_ulp")
# How many updates must be ahead for a rule to be captured: on the default profile's tasks that took as long as 50 to 250 of
# them (Z-IL's, and IL's with T = 20).
REPAID = 200


@dataclass
class _Learner:
    """One model under training; ``epochs``, ``divergence`` and ``trace`` grow, and checkpoints keep them with the weights.

    ``captured`` is the rule for whole batches; None if that would not be repaid, or cannot be done.
    """

    rule: Rule
    optimizer: torch.optim.Optimizer
    captured: Captured | None = None
    epochs: list[Result] = field(default_factory=list)
    divergence: dict[str, list[float | None]] = field(default_factory=lambda: {key: [] for key in FOLLOWED})
    trace: Trace = field(default_factory=Trace)

    @property
    def model(self):
        return self.rule.model

    @property
    def noise(self):
        """Where the rule draws its noise from; None if it draws none."""
        return getattr(self.rule, "generator", None)

    def state(self):
        return {
            "noise": self.noise and self.noise.get_state(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "record": json.dumps([self.epochs, self.divergence, self.trace.updates, self.trace.tensors]),
        }

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.noise:
            self.noise.set_state(state["noise"])
        self.epochs, self.divergence, *trace = json.loads(state["record"])
        self.trace = Trace(*trace)


def train(
    matched: Matched,
    settings: Settings,
    seed: int,
    epochs: int,
    checkpoint: str | Path,
    advance: Callable[[], None] = lambda: None,
) -> Result:
    """Train every rule for one seed.

    Args:
        matched: `pcbench.measure.matched.Matched`.
        settings: the section ``train`` of params.yaml; its rules include ``bp``, the reference.
        seed: initial weights, order of batches, dropout masks and noise are streams of it.
        epochs: how many epochs.
        checkpoint: the file that holds what is finished; made after every epoch, read at the start. Where it holds more
            epochs than are asked for, all is trained anew.
        advance: called after every epoch, and once for each epoch that the checkpoint already held.

    Returns:
        The result as a JSON value.

    Raises:
        NonFiniteLoss: a rule's loss became NaN or infinite; names the rule, the seed, the epoch and the update.
        InvalidParameters: no model, optimizer or rule can be made of its entry.
        ResultError: the checkpoint cannot be read, or is of other models.
        PCBenchError: it cannot be written.
    """
    learners = _learners(matched, settings, seed)
    done = _restore(checkpoint, learners)
    if done > epochs:  # there is no way back
        learners, done = _learners(matched, settings, seed), 0
    _capture(matched, seed, epochs - done, learners)
    for _ in range(done):
        advance()
    for epoch in range(done, epochs):
        _train_epoch(matched, seed, epoch, learners)
        for learner in learners.values():
            learner.epochs[-1]["test_accuracy"] = accuracy(learner.model, matched.data.test)
        _save(checkpoint, learners)
        advance()
    updates = epochs * math.ceil(len(matched.data.train.targets) / matched.settings["batch_size"])
    return {
        "schema": 1,
        "stage": "train",
        "task": matched.task.name,
        "family": matched.task.family,
        "seed": seed,
        "results": [
            {
                "rule": name,
                "label": settings["rules"][name]["label"],
                "metrics": _metrics(learner, matched.data, updates),
            }
            for name, learner in learners.items()
        ],
    }


def _learners(matched, settings, seed):
    initial = matched.model(seed)
    learners = {}
    for name, entry in settings["rules"].items():
        model = copy.deepcopy(initial)
        learners[name] = _Learner(make_rule(entry, model, seed), matched.optimizer(model))
    return learners


def _capture(matched, seed, epochs, learners):
    """Capture every rule but the reference, if the epochs ahead repay it. Nothing is learned from the batch it is done on."""
    # Texts of all lengths would be a program each.
    train = matched.data.train
    if train.bucketed or epochs * (len(train.targets) // matched.settings["batch_size"]) < REPAID:
        return
    batch = matched.first_batch(seed)
    for name, learner in learners.items():
        if name != REFERENCE:
            before, captured = copy.deepcopy(learner.state()), Captured(learner.rule)
            try:
                with global_stream(seed, "dropout"):
                    captured.gradients(*batch, matched.task.loss)
                learner.captured = captured
            except UnsupportedModule:
                pass  # then it goes on as it is
            learner.restore(before)


def _train_epoch(matched, seed, epoch, learners):
    sums = dict.fromkeys(learners, 0.0)
    for step, (inputs, targets) in enumerate(matched.batches(seed, epoch)):
        for name, learner in learners.items():
            whole = learner.captured is not None and len(targets) == matched.settings["batch_size"]
            learner.optimizer.zero_grad()
            try:
                # The same masks for every rule.
                with global_stream(seed, "dropout", epoch, step):
                    loss = (learner.captured if whole else learner.rule).backward(inputs, targets, matched.task.loss)
            except NonFiniteLoss as error:
                where = f"{matched.task.name}, rule {name!r}, seed {seed}, epoch {epoch + 1}, update {step + 1}"
                raise NonFiniteLoss(f"{where}: {error}") from error
            learner.optimizer.step()
            sums[name] += loss.item() * len(targets)
        reference = learners[REFERENCE].model.state_dict()
        for name, learner in learners.items():
            learner.trace.add(learner.model.state_dict())
            if name != REFERENCE:
                distance = compare(learner.model.state_dict(), reference)
                for key in FOLLOWED:
                    learner.divergence[key].append(getattr(distance, key))
    for name, learner in learners.items():
        learner.trace.note(learner.model.state_dict())
        learner.epochs.append({"train_loss": sums[name] / len(matched.data.train.targets)})


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, batch_size: int = 1000) -> float:
    """The fraction of ``split`` that ``model`` classifies correctly, in evaluation mode; the mode is restored.

    Args:
        model: maps inputs to logits ``(batch, classes)``.
        split: the examples; they are classified where the model is.
        batch_size: how many are classified at once.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    correct = 0
    for inputs, targets in zip(split.inputs.split(batch_size), split.targets.split(batch_size), strict=True):
        correct += (model(inputs.to(device)).argmax(dim=1) == targets.to(device)).sum().item()
    model.train(was_training)
    return correct / len(split.targets)


def _metrics(learner, data, updates):
    majority = data.test.targets.bincount().max().item() / len(data.test.targets)
    followed = {key: [finite_or_none(value) for value in values] for key, values in learner.divergence.items()}
    return {
        "test_accuracy": learner.epochs[-1]["test_accuracy"],
        "majority_accuracy": majority,
        "epochs": learner.epochs,
        "weights_sha256": weights_digest(learner.model),
        "updates": updates,
        "divergence": followed if followed["l2"] else None,
        "fingerprints": learner.trace.value(learner.model.state_dict()),
    }


def _save(checkpoint, learners):
    states = io.BytesIO()  # PyTorch's own writer would not say that the disk is full
    torch.save({name: learner.state() for name, learner in learners.items()}, states)
    with atomic(checkpoint) as temporary:
        temporary.write_bytes(states.getbuffer())


def _restore(checkpoint, learners):
    """Load the checkpoint into ``learners`` if there is one; return how many epochs it holds."""
    if not Path(checkpoint).exists():
        return 0
    try:
        # To the CPU: a generator's state belongs there, and models and optimizers copy theirs to where they are.
        states = torch.load(checkpoint, weights_only=True, map_location="cpu")
        for name, learner in learners.items():
            learner.restore(states[name])
    except Exception as error:
        # PyTorch's own message would advise to load it unsafely.
        raise ResultError(
            f"checkpoint {str(checkpoint)!r} cannot be read, or is of other models ({type(error).__name__}); "
            "delete it and run again"
        ) from error
    return len(next(iter(learners.values())).epochs)
