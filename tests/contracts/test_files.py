"""Writing and reading files; oracle: the documented contract.

Aimed at: half a result after an interruption, a NaN that only another program's parser stumbles over, bytes that differ
from run to run.
"""

import json
import os
import stat

import pytest

from pcbench.errors import PCBenchError, ResultError
from pcbench.files import atomic, read_json, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_fails_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_a_block_that_fails_makes_no_file(tmp_path):
    with pytest.raises(RuntimeError), atomic(tmp_path / "result.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_the_old_content_stands_until_the_block_has_ended(tmp_path):
    path = tmp_path / "result.json"
    write_text(path, "old")
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["result.json"]


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.md", "text")
    assert (tmp_path / "a" / "b" / "c.md").read_text() == "text"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PCBenchError, match=r"cannot write to '.*file/results' \(.*\); make it a writable folder"):
        write_text(tmp_path / "file" / "results" / "a.json", "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PCBenchError, match="cannot write to"):
        write_text(tmp_path / "a.json", "text")


def test_others_may_read_what_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.md", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.md").stat().st_mode) == 0o640


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_json_does_not_have_is_refused_before_anything_is_written(tmp_path, bad):
    path = tmp_path / "result.json"
    write_json(path, {"l2": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"l2": [1.0, bad]})
    assert read_json(path) == {"l2": 0.5}
    assert names(tmp_path) == ["result.json"]


def test_the_same_value_has_the_same_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, 0.1], "a": "γ"})
    write_json(tmp_path / "b.json", {"a": "γ", "b": [1, 0.1]})
    written = (tmp_path / "a.json").read_bytes()
    assert written == (tmp_path / "b.json").read_bytes()
    assert "γ".encode() in written and b"\r" not in written and written.endswith(b"}\n")


def test_numbers_come_back_with_every_bit(tmp_path):
    values = [0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308, 2**70]
    write_json(tmp_path / "a.json", values)
    assert [repr(value) for value in read_json(tmp_path / "a.json")] == [repr(value) for value in values]


def test_line_ends_are_unix_everywhere(tmp_path):
    write_text(tmp_path / "a.md", "one\ntwo\n")
    assert (tmp_path / "a.md").read_bytes() == b"one\ntwo\n"


def test_a_missing_result_is_named_with_what_makes_it(tmp_path):
    with pytest.raises(ResultError, match=r"'.*none\.json' does not exist; run `make repro` for its profile"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_a_broken_result_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(ResultError, match=r"'.*broken\.json' cannot be read .*; delete it and run"):
        read_json(tmp_path / "broken.json")


def test_what_is_written_can_be_read_by_any_json_parser(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1.5, None, "text"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"x": [1.5, None, "text"]}
