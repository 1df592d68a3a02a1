"""The figures of a report in which everything is as theory has it, for tests to change: the shape is a real report's."""

import edits

DTYPES = ("float32", "float64")
FAMILIES = {"mlp-task": "mlp", "cnn-task": "cnn", "rnn-task": "rnn", "skip-task": "transformer"}


def divergence(relative_l2):
    equal = relative_l2 == 0.0
    found = {"l2": relative_l2, "relative_l2": relative_l2, "max_ulp": 0 if equal else 9, "bitwise_equal": equal}
    return {dtype: {**found, "seeds": 3, "seeds_equal": 3 * equal} for dtype in DTYPES}


def cost(ratio, operations=38):
    quartiles = {"median": ratio, "q1": 0.9 * ratio, "q3": 1.1 * ratio}
    return {"ratio": quartiles, "peak_ratio": 1.0, "operations": operations, "flops": 9000}


def captured(ratio):
    return {**cost(ratio), "captured_ratio": {"median": ratio, "low": 0.9 * ratio, "high": 1.1 * ratio}}


def accuracy(mean):
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "seeds": 5, "majority": 0.1}


def conformity(verdict, by=None, options=None, of=None, option=None, distance=0.0):
    rate = None if option is None else {"option": option, "kind": "exponent", "value": -1.0, "low": -1.1, "high": -0.9}
    return {
        **{"verdict": verdict, "by": by, "of": of, "rate": rate, "options": options or {}},
        **{
            "relative_l2": distance,
            "tensor_residual": distance / 10,
            "tensors": 6,
            "scaled_tensors": 6 * (distance == 0),
        },
    }


def grid():
    """Z-IL's requirements, each of them needed, and a free energy that is not followed."""
    apart = {"necessary": True, "points": 4, "zero": 0, "least": 0.1, "largest": 9.0}
    energy = {
        **{"start": 2.3, "end": 2.2},
        "settled": {"relative_l2": 0.02, "residual": 1e-4},
        "at_one_time": {"relative_l2": 0.4},
    }
    return {
        **{"sufficient": True, "relative_l2": 1e-14},
        **{name: dict(apart) for name in ("zero_initial_error", "unit_step", "layer_dependent")},
        "free_energy": {"mean": energy, "sum": energy},
    }


def task(family):
    return {
        "family": family,
        "identities": 3 if family == "transformer" else 0,
        "exactness": {
            "zil": divergence(0.0),
            "zil-state": divergence(1e-14),
            "not-layer-dependent": divergence(0.3),
            "not-levelled": divergence(0.2 if family == "transformer" else 1e-14),
            "sigma-1e-2": divergence(3.0),
            "sigma-6e-1": divergence(400.0),
            "gamma-half": divergence(0.5),
            "il-20": divergence(0.3),
            "il-100": divergence(0.02),
        },
        "cost": {
            "bp": cost(1.0),
            "bp-captured": captured(1.0),
            "zil": cost(1.2),
            "zil-captured": captured(1.0),
            "il-L": cost(4.0, 160),
            "il-20": cost(15.0, 670),
        },
        "weights": {
            "zil": {"max_ulp": 0, "bitwise_equal": True, "updates": 40, "updates_equal": 40, "final_l2": 0.0},
            "il-20": {"max_ulp": 99, "bitwise_equal": False, "updates": 40, "updates_equal": 0, "final_l2": 9.0},
        },
        "accuracy": {"bp": accuracy(0.96), "zil": accuracy(0.96), "il-20": accuracy(0.9)},
        "conformance": {
            "fixed-prediction": conformity("equal", "program", {"gamma": 1.0, "steps": 3}),
            "strict": conformity("does not", distance=0.4),
            "il": conformity("does not", distance=0.01),
            "output-variance": conformity("approaches", of="BP", option="variance", distance=1e-5),
            "one-step": conformity("approaches", of="BP with a scale for each tensor", option="gamma", distance=0.7),
        },
        "conditions": {"zil-state": grid()},
        "proof": {
            "zil": {"equal": True, "operations": 50, "own_operations": 50},
            "zil-state": {"equal": False, "operations": 50, "own_operations": 90},
            "il-2": {"equal": False, "refused": "dropout"},
        },
    }


ZOO = {"bitwise_equal": True, "buffers_equal": True, "bp_repeats_itself": True}
ZOO["proof"] = {"equal": True, "operations": 171}
METRICS = {
    "schema": 1,
    "profile": "test",
    "labels": {"il-20": "IL, T = 20", "gamma-half": "γ = 0.5"},
    "tasks": {name: task(family) for name, family in FAMILIES.items()},
    "zoo": {name: ZOO for name in ("a", "b", "resnet18")},
    "scaling": {
        "depth": {
            "bp": {"operations": 3073, "largest": 256, "smallest": 4},
            "zil": {"operations": 3073, "largest": 256, "smallest": 4},
        }
    },
}


def put(changes, metrics=METRICS):
    """``metrics`` with a value at each path ``a/b/c``; ``...`` removes what is there."""
    for where, value in changes.items():
        metrics = edits.put(metrics, where, value)
    return metrics


def everywhere(where, value):
    return {f"tasks/{name}/{where}": value for name in FAMILIES}


def of(name, where):
    return f"tasks/{name}/{where}"
