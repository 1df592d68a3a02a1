"""Table 5: whether one weight update of each rule is the same program as backpropagation's, for every input of its shape."""

from collections.abc import Callable
from functools import partial

from pcbench.errors import UnsupportedModule
from pcbench.measure.matched import Matched, make_rule
from pcbench.measure.proof import as_metrics, canonical_update, certify
from pcbench.params import Result, Settings
from pcbench.rules import Backprop

SEED = 0  # any: a program has no value of a weight or a batch in it, only their shapes


def proof(matched: Matched, settings: Settings, advance: Callable[[], None] = lambda: None) -> Result:
    """Compare the program of every rule's weight update with backpropagation's, on the first batch of one seed.

    Args:
        matched: `pcbench.measure.matched.Matched`.
        settings: the section ``proof`` of params.yaml.
        advance: called after every rule.

    Returns:
        The result as a JSON value: for each rule the certificate's figures, or why its update is no program.

    Raises:
        InvalidParameters: no model, or no rule, can be made of their entries.
    """
    inputs, targets = matched.first_batch(SEED)
    model = matched.model(SEED)

    def program(make):
        return canonical_update(model, make, inputs, targets, matched.task.loss)

    try:
        expected = program(Backprop)
    except UnsupportedModule as refusal:
        expected = refusal

    def certificate(entry):
        if isinstance(expected, UnsupportedModule):
            raise expected
        return certify(program(lambda copied: make_rule(entry, copied, SEED)), expected)

    results = []
    for name, entry in settings["rules"].items():
        metrics = as_metrics(partial(certificate, entry))
        results.append({"rule": name, "label": entry["label"], "metrics": metrics})
        advance()
    return {"schema": 1, "stage": "proof", "task": matched.task.name, "family": matched.task.family, "results": results}
