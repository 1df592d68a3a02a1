"""Whatever goes wrong while data is fetched: an error that says what and what to do, or recovery; nothing half on disk.

A local HTTP server misbehaves, disks are full or read-only, processes are killed. The quiet failures aimed at: a corrupt
data set that verifies, a leftover that is taken for a data set, a file outside the data set's folder.
"""

import gzip
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_data_formats import place, small_cifar10, small_kmnist, small_mnist

from pcbench import cli
from pcbench.data import _store, load, module
from pcbench.errors import DataError

IMAGES = "train-images-idx3-ubyte.gz"


class Server:
    """Serves ``files``; ``faults`` maps a file name to a function that answers in its own way."""

    def __init__(self):
        self.files, self.faults, self.asked, self.closing = {}, {}, [], threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.removeprefix("/")
                outer.asked.append(self.path)
                if name in outer.faults:
                    outer.faults[name](self, outer.files.get(name))
                elif name in outer.files:
                    answer(self, outer.files[name])
                else:
                    self.send_error(404)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()


def answer(handler, content, status=200, length=None, kind="application/octet-stream"):
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    if length is not False:
        handler.send_header("Content-Length", str(length or len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """No waiting between rounds, no mirror and no proxy of the machine's."""
    monkeypatch.setattr(_store, "BACKOFF", 0.0)
    monkeypatch.delenv("PCBENCH_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetched(spec, root):
    folder = _store.fetch(spec, root)
    assert _store.problem(spec, folder) is None
    assert len(spec.read(folder).train.inputs) == 150
    return folder


def files_below(folder):
    """Every file but the lock, which stays."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".lock")


def stall(server):
    def fault(handler, content):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        server.closing.wait()

    return fault


def hang_up(handler, content):
    handler.close_connection = True


def endless(handler, content):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(2**20))
    except OSError:
        handler.close_connection = True


def bomb(handler, content):
    answer(handler, gzip.compress(bytes(48_000_000), 1))  # a thousandth of it on the wire


other_content = gzip.compress(b"another data set", mtime=0)
FAULTS = {
    "truncated": (lambda h, c: answer(h, c[: len(c) // 2], length=len(c)), "the connection broke off"),
    "truncated, length unknown": (lambda h, c: answer(h, c[: len(c) // 2], length=False), "not a whole gzip file"),
    "wrong content": (
        lambda h, c: answer(h, other_content),
        "wrong content: SHA256 [0-9a-f]{64}, expected [0-9a-f]{64}",
    ),
    "a bit flipped": (
        lambda h, c: answer(h, c[:5000] + bytes([c[5000] ^ 1]) + c[5001:]),
        "not a whole gzip|wrong content",
    ),
    "empty": (lambda h, c: answer(h, b""), "wrong content|not a whole gzip file"),
    "not found": (lambda h, c: h.send_error(404), "HTTP 404 Not Found"),
    "forbidden": (lambda h, c: h.send_error(403), "HTTP 403 Forbidden"),
    "server error": (lambda h, c: h.send_error(500), "HTTP 500 Internal Server Error"),
    "a web page": (
        lambda h, c: answer(h, b"<html>Log in", kind="text/html"),
        "not a whole gzip file .Not a gzipped file",
    ),
    "a length that is none": (lambda h, c: answer(h, c, length="many"), "answered nonsense"),
    "hangs up": (hang_up, "the connection broke off"),
    "a gzip bomb": (bomb, "it holds more than the expected 47040016 bytes"),
    "endless": (endless, "it holds more than the expected 47040016 bytes"),
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.values(), ids=FAULTS)
def test_a_server_that_fails_is_told_with_the_remedy_and_leaves_nothing(fault, says, server, tmp_path):
    spec, server.files = small_mnist(server.address)
    server.faults = {IMAGES: fault}
    with pytest.raises(DataError) as caught:
        _store.fetch(spec, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"mnist: no source gave {IMAGES}:\n  {server.address}/{IMAGES}: ")
    assert re.search(says, message)
    assert f"Put {', '.join(server.files)} into a folder, and name the folder in the environment variable" in message
    assert files_below(tmp_path) == ["mnist"]
    server.faults = {}
    fetched(spec, tmp_path)


def test_a_server_that_stalls_is_given_up(server, tmp_path, monkeypatch):
    spec, server.files = small_mnist(server.address)
    server.faults = {IMAGES: stall(server)}
    monkeypatch.setattr(_store, "TIMEOUT", 0.2)
    with pytest.raises(DataError, match=r"sent nothing for 0\.2 s"):
        _store.fetch(spec, tmp_path)
    assert files_below(tmp_path) == ["mnist"]


def test_a_server_that_is_not_there_is_told(tmp_path):
    with Server() as gone:
        pass
    spec, _ = small_mnist(gone.address)
    with pytest.raises(DataError, match=r"cannot be reached \(\[Errno 111\] Connection refused\)"):
        _store.fetch(spec, tmp_path)


@pytest.mark.parametrize("name", ["truncated", "server error", "hangs up"])
def test_a_server_that_fails_twice_is_asked_a_third_time(name, server, tmp_path):
    spec, server.files = small_mnist(server.address)
    left = [FAULTS[name][0]] * 2
    server.faults = {IMAGES: lambda h, c: left.pop()(h, c) if left else answer(h, c)}
    fetched(spec, tmp_path)
    assert server.asked.count(f"/{IMAGES}") == 3


def test_what_a_server_refuses_is_not_asked_again(server, tmp_path):
    spec, _ = small_mnist(server.address)
    with pytest.raises(DataError):
        _store.fetch(spec, tmp_path)
    assert server.asked == [f"/{IMAGES}"]


def test_every_source_is_tried_in_order_until_one_verifies(server, tmp_path, monkeypatch):
    spec, server.files = small_mnist(server.address)
    monkeypatch.setenv("PCBENCH_MIRROR", str(place({IMAGES: other_content}, tmp_path / "mirror")))
    fetched(spec, tmp_path / "datasets")
    assert server.asked == [f"/{name}" for name in server.files]


@pytest.mark.parametrize("layout", ["flat", "in a folder named like the data set"])
@pytest.mark.parametrize("kind", ["folder", "URL"])
def test_a_mirror_is_asked_before_the_official_address(layout, kind, server, tmp_path, monkeypatch):
    spec, files = small_mnist(f"{server.address}/official")
    inside = "mirror" if layout == "flat" else "mirror/mnist"
    if kind == "URL":
        server.files = {f"{inside}/{name}": content for name, content in files.items()}
        monkeypatch.setenv("PCBENCH_MIRROR", f"{server.address}/mirror/")
    else:
        place(files, tmp_path / inside)
        monkeypatch.setenv("PCBENCH_MIRROR", str(tmp_path / "mirror"))
    fetched(spec, tmp_path / "datasets")
    assert not any(path.startswith("/official") for path in server.asked)


def test_a_system_folder_is_asked_before_the_official_address(server, tmp_path):
    spec, files = small_mnist(server.address)
    spec.make.keywords["system"] = place(files, tmp_path / "usr")
    fetched(spec, tmp_path / "datasets")
    assert server.asked == []


def test_what_is_there_and_verifies_is_not_fetched_again(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    folder = fetched(spec, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    server.asked.clear()
    fetched(spec, tmp_path)
    assert server.asked == [] and before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("make", [small_mnist, small_kmnist])
def test_a_data_folder_that_was_damaged_does_not_verify_and_is_made_anew(make, server, tmp_path):
    spec, server.files = make(server.address)
    folder = fetched(spec, tmp_path)
    path = folder / spec.files[0].path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert re.search("is corrupted: its SHA-256 is [0-9a-f]{64}, it must be [0-9a-f]{64}", _store.problem(spec, folder))
    fetched(spec, tmp_path)
    path.unlink()
    assert "is missing" in _store.problem(spec, folder)
    fetched(spec, tmp_path)


def test_content_that_nobody_publishes_a_checksum_of_is_recorded_for_sha256sum(server, tmp_path):
    spec, server.files = small_kmnist(server.address)
    folder = fetched(spec, tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    known, _ = small_mnist(server.address)
    assert [line.split()[0] for line in (folder / "SHA256SUMS").read_text().splitlines()] == [
        file.sha256 for file in known.files
    ]
    before = _store.digest(spec, folder)
    (folder / "SHA256SUMS").unlink()
    assert "is not listed in SHA256SUMS" in _store.problem(spec, folder)
    assert _store.digest(spec, fetched(spec, tmp_path)) == before


def test_an_archive_is_verified_where_its_content_is_not_known(server, tmp_path):
    spec, server.files = small_kmnist(server.address)
    server.files = {**server.files, IMAGES: gzip.compress(gzip.decompress(server.files[IMAGES]), mtime=1)}
    with pytest.raises(DataError, match="wrong content: SHA256"):
        _store.fetch(spec, tmp_path)


@pytest.mark.parametrize("mirror", ["http://[nonsense", "ftp://127.0.0.1/", "http://", "~/no-such-folder", "\t"])
def test_a_mirror_that_is_nonsense_is_told_and_passed_over(mirror, server, tmp_path, monkeypatch):
    monkeypatch.setenv("PCBENCH_MIRROR", mirror)
    spec, _ = small_mnist(server.address)
    with pytest.raises(DataError, match=re.escape(f"{mirror.rstrip('/')}/mnist/{IMAGES}: ")):
        _store.fetch(spec, tmp_path / "datasets")
    _, server.files = small_mnist(server.address)
    fetched(spec, tmp_path / "datasets")


def test_a_mirror_that_cannot_be_read_is_told(server, tmp_path, monkeypatch):
    spec, _ = small_mnist(server.address)
    (tmp_path / "mirror" / IMAGES).mkdir(parents=True)
    monkeypatch.setenv("PCBENCH_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(DataError, match=f"mirror/{IMAGES}: is a directory"):
        _store.fetch(spec, tmp_path / "datasets")


@contextmanager
def tmpfs(folder, options):
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs to mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_and_left_as_it_was(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    with tmpfs(tmp_path / "disk", "size=64k") as disk:
        with pytest.raises(DataError) as caught:
            _store.fetch(spec, disk)
        assert str(caught.value) == (
            f"mnist: cannot write to '{disk}/mnist' (No space left on device); "
            "make room there, make it writable, or choose another folder"
        )
        assert files_below(disk) == ["mnist"]


def test_a_file_size_limit_is_told_and_leaves_nothing(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write to '.*/mnist' \(File too large\)"):
            _store.fetch(spec, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_below(tmp_path) == ["mnist"]


def test_a_read_only_folder_that_is_complete_is_enough(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    other, _ = small_kmnist(server.address)
    with tmpfs(tmp_path / "disk", "size=4m") as disk:
        folder = fetched(spec, disk)
        (disk / "mnist" / ".lock").unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert fetched(spec, disk) == folder
        with pytest.raises(
            DataError, match=r"kmnist: cannot write to '.*/kmnist' \(Read-only file system\); make room"
        ):
            _store.fetch(other, disk)


def test_a_folder_below_a_file_is_told(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    (tmp_path / "datasets").write_text("a file")
    with pytest.raises(DataError, match=r"cannot write to '.*/datasets/mnist' \(Not a directory\)"):
        _store.fetch(spec, tmp_path / "datasets")


FETCH = """
import sys
sys.path.insert(0, sys.argv[1])
from test_data_formats import small_mnist
from pcbench.data import _store
spec, _ = small_mnist(sys.argv[2])
print("ready", flush=True)
_store.fetch(spec, sys.argv[3])
"""


def start(server, root):
    arguments = [str(Path(__file__).parent), server.address, str(root)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen([sys.executable, "-c", FETCH, *arguments], **streams)


def test_two_processes_fetch_once(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    both_wait = threading.Event()

    def patient(handler, content):
        both_wait.wait()
        answer(handler, content)

    server.faults = {IMAGES: patient}
    with start(server, tmp_path) as one, start(server, tmp_path) as other:
        assert [one.stdout.readline(), other.stdout.readline()] == ["ready\n", "ready\n"]
        both_wait.set()
    assert [one.returncode, other.returncode] == [0, 0]
    assert server.asked == [f"/{name}" for name in server.files]
    fetched(spec, tmp_path)


def test_a_process_that_was_killed_leaves_no_data_set_and_the_next_fetch_cleans_up(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    last = list(server.files)[-1]
    server.faults = {last: stall(server)}
    with start(server, tmp_path) as process:
        while f"/{last}" not in server.asked:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert list((tmp_path / "mnist").glob(".partial-*")) and not (tmp_path / "mnist" / "data").exists()
    server.faults = {}
    fetched(spec, tmp_path)
    assert not list((tmp_path / "mnist").glob(".partial-*"))


def test_an_archive_without_any_source_is_told(tmp_path):
    spec, _ = small_mnist("http://127.0.0.1:9")
    nowhere = [replace(archive, addresses=()) for archive in spec.make.args[1]]
    with pytest.raises(DataError, match=f"no source gave {IMAGES}"):
        _store.fetch(_store.published("mnist", nowhere, spec.read), tmp_path)


def test_a_failure_keeps_the_other_data_sets(server, tmp_path):
    spec, server.files = small_mnist(server.address)
    folder = fetched(spec, tmp_path)
    broken, _ = small_cifar10(server.address)
    with pytest.raises(DataError, match="HTTP 404"):
        _store.fetch(broken, tmp_path)
    assert _store.problem(spec, folder) is None


def test_loading_says_what_is_wrong_and_how_to_mend_it(tmp_path):
    with pytest.raises(DataError, match=r"cifar10: '.*data_batch_1' is missing; run `pcbench fetch cifar10`"):
        load("cifar10", tmp_path)


def test_an_unknown_data_set_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pcbench", "fetch", "nope"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: unknown data set 'nope'; the data sets are ag-news, cifar10, cifar100")
    assert "Traceback" not in told


def test_offline_the_command_line_says_what_to_put_where(tmp_path, monkeypatch, capsys):
    spec, _ = small_mnist("http://127.0.0.1:9")
    monkeypatch.setattr(module("mnist"), "SPEC", spec)
    monkeypatch.setattr(sys, "argv", ["pcbench", "fetch", "mnist", "--datasets", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    told = capsys.readouterr().err
    assert caught.value.code == 2 and "Traceback" not in told
    assert "cannot be reached" in told and "PCBENCH_MIRROR" in told
