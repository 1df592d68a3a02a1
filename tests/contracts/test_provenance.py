"""Named random streams and the record beside a result; oracle: the documented contract, and SHA-256 of files by hand.

Aimed at: streams that shift each other, a record that describes other bytes than those beside it, a time stamp in it.
"""

import hashlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcbench import instructions, provenance, randomness
from pcbench.files import read_json, write_json

names = st.lists(st.one_of(st.sampled_from(["init", "order", "dropout", "noise"]), st.integers(0, 9)), max_size=3)
seeds = st.integers(0, 2**32)


def draw(seed, *name):
    return torch.randint(2**62, (4,), generator=randomness.stream(seed, *name)).tolist()


@given(first=st.tuples(seeds, names), second=st.tuples(seeds, names))
def test_a_stream_is_a_function_of_its_seed_and_names_alone(first, second):
    torch.randn(3)
    (seed, name), (other_seed, other_name) = first, second
    assert draw(seed, *name) == draw(seed, *name)
    assert (draw(seed, *name) == draw(other_seed, *other_name)) == (first == second)


def test_drawing_more_from_one_stream_changes_nothing_in_another():
    expected = draw(0, "order", 0)
    dropout, order = randomness.stream(0, "dropout"), randomness.stream(0, "order", 0)
    torch.randn(1000, generator=dropout)
    assert torch.randint(2**62, (4,), generator=order).tolist() == expected


def test_names_that_run_together_are_not_the_same():
    assert (
        len({randomness.derive(1, *name) for name in (("a", "b"), ("ab",), ("a b",), ("b", "a"), ("a",), (1, "a"))})
        == 6
    )


def test_a_digest_does_not_depend_on_the_order_of_keys_but_on_every_value():
    assert provenance.digest({"a": 1, "b": [1, 2]}) == provenance.digest({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"b": 1}, [1, 2], [2, 1], None]
    assert len({provenance.digest(value) for value in values}) == len(values)


@pytest.fixture
def result(tmp_path):
    write_json(tmp_path / "digits-mlp.json", {"l2": 0.0})
    return tmp_path / "digits-mlp.json"


def test_the_record_beside_a_result_says_what_it_was_made_of(result):
    provenance.write_sidecar(result, {"task": {"epochs": 3}}, "ab" * 32)
    path = provenance.sidecar(result)
    assert path == result.with_name("digits-mlp.provenance.json")
    record = read_json(path)
    assert record["parameters"] == {"task": {"epochs": 3}}
    canonical = json.dumps(record["parameters"], sort_keys=True).encode()
    assert record["parameters_sha256"] == hashlib.sha256(canonical).hexdigest()
    assert record["data_sha256"] == "ab" * 32
    assert record["result_sha256"] == hashlib.sha256(b"digits-mlp.json\0" + result.read_bytes()).hexdigest()
    # With the build: `2.3.0+cpu` and `2.3.0+cu121` round differently.
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["versions"]["python"].split(".")[0] == "3"
    assert set(record["versions"]) == {"python", *provenance.RECORDED}
    assert record["threads"] == torch.get_num_threads()
    assert record["cpu"] and record["platform"]
    assert {"git_commit", "dirty", "gpu", "code_sha256"} <= set(record)
    assert record["instruction_set"] == instructions.in_force()


def test_the_record_is_the_same_whenever_it_is_made(result):
    provenance.write_sidecar(result, {}, None)
    first = provenance.sidecar(result).read_bytes()
    provenance.write_sidecar(result, {}, None)
    assert provenance.sidecar(result).read_bytes() == first


def test_a_folders_digest_sees_names_contents_and_files_that_are_gone(tmp_path):
    folder = tmp_path / "digits-mlp"
    seen = set()
    for name, value in (("seed-0", 1), ("seed-1", 1), ("seed-1", 2)):
        write_json(folder / f"{name}.json", value)
        seen.add(provenance.result_digest(folder))
    (folder / "seed-0.json").rename(folder / "seed-2.json")
    seen.add(provenance.result_digest(folder))
    (folder / "seed-2.json").unlink()
    seen.add(provenance.result_digest(folder))
    assert len(seen) == 5
    assert provenance.sidecar(folder).name == "digits-mlp.provenance.json"
