"""Clusters on one machine: nodes that are namespaces, with names, processes and folders of their own; and what they leave.

A node that is lost is its first process killed: the kernel kills all others with it, at once, as a power failure does.
"""

import ctypes
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
CELLS = "exactness:digits-mlp,train:digits-mlp"  # eight, of some tenths of a second
# Enough epochs that something can happen to a training.
LONG = {"profiles.smoke.tasks.digits-mlp": 60, "exactness.dtypes": ["float32"]}
STARTED: list[subprocess.Popen[str]] = []  # in this test
PATIENCE = 300  # seconds; a machine may be busy with something else


def until(what, condition, patience=PATIENCE):
    """Wait for the condition, and return what it gives."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {patience} seconds: {what() if callable(what) else what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Checkout:
    """A copy of the repository, with the digits data set, and with parameters changed: ``{"exactness.seeds": [0, 1]}``."""

    def __init__(self, folder, changed=()):
        self.folder = folder
        shutil.copytree(ROOT, folder, ignore=self._ignored)
        parameters = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for key, value in dict(changed).items():
            *path, last = key.split(".")
            table = parameters
            for part in path:
                table = table[part]
            table[last] = value
        (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False), encoding="utf-8")
        if not (folder / "datasets/digits/data").exists():
            done = self.start([sys.executable, "-m", "pcbench", "fetch", "digits"])
            said, wrong = done.communicate()
            assert done.returncode == 0, said + wrong

    @staticmethod
    def _ignored(folder, names):
        """What is not of the repository, or not needed: results, environments, tests, other data sets."""
        folder = Path(folder)
        if folder == ROOT:
            needed = ("pcbench", "profiles", "datasets", "benchmarks", ".dvc")
            return {name for name in names if (ROOT / name).is_dir() and name not in needed}
        unwanted = {"__pycache__", "cache", "tmp", "config.local"}
        return unwanted | ({"data"} if folder.parent == ROOT / "datasets" and folder.name != "digits" else set())

    def start(self, command, **variables):
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "200", **variables}
        environment["GIT_CEILING_DIRECTORIES"] = str(self.folder.parent)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=self.folder, env=environment, **pipes)
        STARTED.append(process)
        return process

    def drive(self, executor, asked, options=(), **variables):
        """Start computing cells."""
        command = [sys.executable, str(Path(__file__).with_name("drive.py")), executor, asked, *options]
        return self.start(command, **variables)

    def records(self):
        """What is stored: ``{stage/task/key: value}``."""
        home = self.folder / ".pcbench" / "cells"
        found = {}
        for path in home.rglob("*.json"):
            found[path.relative_to(home).as_posix()] = json.loads(path.read_text(encoding="utf-8"))["value"]
        return found

    def running(self):
        """Who computes cells now: ``[{"host", "pid", "since"}, ...]``."""
        found = []
        for path in (self.folder / ".pcbench" / "cells").rglob("*.running"):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError):  # over in between
                continue
        return found

    def halves(self):
        """What an interruption has left half written."""
        return [*(self.folder / ".pcbench" / "cells").rglob(".*.json.*")]


def ended(process, patience=PATIENCE):
    """Wait for the end of `Checkout.drive`: its outcomes by cell, its exit code, and what it said on standard error."""
    try:
        said, wrong = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    outcomes = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert len({each["cell"] for each in outcomes}) == len(outcomes), "a cell ended twice"
    return {each["cell"]: each["failed"] for each in outcomes}, process.returncode, wrong


class Node:
    """A node: processes in namespaces of their own.

    Args:
        name: its host name.
        command: what keeps it alive; runs in the foreground.
        log: where it writes what it says.
        hidden: folders that it does not have: it has empty ones.
        small: folders that are disks of their own there, of some kilobytes.
        variables: of its environment.
    """

    def __init__(self, name, command, log, hidden=(), small=(), **variables):
        self.log = log
        mounts = [f"mount -t tmpfs -o size=1m none '{folder}'" for folder in hidden]
        mounts += [f"mount -t tmpfs -o size=16k none '{folder}'" for folder in small]
        script = " && ".join([f"hostname {name}", *mounts, "exec " + " ".join(f"'{part}'" for part in command)])
        namespaces = ("--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--uts")
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "sh", "-c", script],
                env={**os.environ, **variables},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lose(self):
        """A power failure: with its first process, the kernel kills all others."""
        self._process.kill()
        self._process.wait()

    def kill(self, pid):
        """Kill -9 a worker, by the number that it has there; return whether it was there."""
        own = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]
        # On a node that came back, what a cell's file names may be another process.
        script = f"grep -aqE 'ray::|submitit' /proc/{pid}/cmdline && kill -9 {pid}"
        command = ["nsenter", "--target", own, "--pid", "--mount", "sh", "-c", script]
        return subprocess.run(command, capture_output=True).returncode == 0


class Ray:
    """A Ray cluster; `ray start` in each node. The driver is on none of them."""

    executor = "ray"

    def __init__(self, folder):
        self.address = f"127.0.0.1:{free_port()}"
        self.options = [f"address={self.address}"]
        self.variables = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # until the driver takes the head for gone
        self.nodes = {}
        self._folder = folder
        self._number = 0

    def start(self, name, head=False, **limits):
        """Start a node and wait until it has joined."""
        self._number += 1
        log = self._folder / f"{self._number}-{name}.log"
        command = [str(RAY), "start", "--num-cpus", "1", "--disable-usage-stats", "--log-color", "false", "--block"]
        if head:
            # Sockets lie in the folder for temporary files, and their paths must be short.
            own = ["--head", "--port", self.address.partition(":")[2], "--include-dashboard", "false"]
            command += [*own, "--temp-dir", f"/tmp/ray-{self.address.partition(':')[2]}-{self._number}"]
        else:
            command += ["--address", self.address]
        self.nodes[name] = Node(name, command, log, **limits)
        until(lambda: f"{name} joins\n{log.read_text()}", lambda: "Ray runtime started" in log.read_text())

    def lose(self, name):
        """Lose a node."""
        self.nodes.pop(name).lose()

    def stop(self):
        """Lose all, and remove what they leave."""
        for name in [*self.nodes]:
            self.lose(name)
        for folder in Path("/tmp").glob(f"ray-{self.address.partition(':')[2]}-*"):
            shutil.rmtree(folder, ignore_errors=True)


CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=2
# What a lost node was computing waits as long as its credentials are valid.
AuthInfo=cred_expire=15,socket={folder}/munge.socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Slurm's controller and nodes, each with its own daemon, and munge, by which they know one another."""

    executor = "slurm"
    options = ()

    def __init__(self, folder, names):
        self._folder = folder
        (folder / "state").mkdir()
        nodes = []
        for name in names:
            (folder / f"spool-{name}").mkdir()
            nodes.append(f"NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={free_port()} CPUs=1")
        file = folder / "slurm.conf"
        file.write_text(CONFIGURATION.format(port=free_port(), folder=folder, nodes="\n".join(nodes)))
        self.variables = {"SLURM_CONF": str(file)}
        self.nodes = {}
        self.controller = None
        self._munge = self._authority()
        self.start_controller()

    def _authority(self):
        """Who makes and knows credentials; all nodes have its key, and here, on one machine, its socket."""
        key = self._folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        places = [f"--{kind}-file={self._folder / f'munge.{kind}'}" for kind in ("key", "pid", "log", "seed")]
        answers = self._folder / "munge.socket"
        command = ["munged", "--foreground", "--force", f"--socket={answers}", *places]
        with (self._folder / "munge.said").open("ab") as said:
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        until("munge answers", answers.exists)
        return process

    def start_controller(self):
        """Start the controller, from the state that the last one has left."""
        with (self._folder / "controller.log").open("ab") as log:
            command = ["slurmctld", "-D", "-f", self.variables["SLURM_CONF"]]
            self.controller = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until("the controller answers", lambda: self.ask("scontrol", "ping").returncode == 0)

    def stop_controller(self):
        """Kill -9 the controller."""
        self.controller.kill()
        self.controller.wait()

    def ask(self, *command):
        """Run one of Slurm's commands."""
        return subprocess.run(command, env={**os.environ, **self.variables}, capture_output=True, text=True)

    def start(self, name, **limits):
        """Start a node and wait until it is idle."""
        command = ["slurmd", "-D", "-N", name, "-f", self.variables["SLURM_CONF"]]
        self.nodes[name] = Node(name, command, self._folder / f"{name}.log", **limits, **self.variables)
        until(f"{name} is idle", lambda: self.ask("sinfo", "-h", "-n", name, "-t", "idle", "-o", "%n").stdout.strip())

    def lose(self, name):
        """Lose a node."""
        self.nodes.pop(name).lose()

    def stop(self):
        """End everything."""
        for name in [*self.nodes]:
            self.lose(name)
        self.stop_controller()
        self._munge.kill()
        self._munge.wait()


class Stored:
    """Counts how often each cell's record is stored, by what the kernel says of the folder, until it is closed."""

    _MOVED_TO, _OVERFLOWN = 0x80, 0x4000

    def __init__(self, checkout, stage, task):
        folder = checkout.folder / ".pcbench" / "cells" / stage / task
        folder.mkdir(parents=True, exist_ok=True)
        library = ctypes.CDLL(None, use_errno=True)
        self._file = library.inotify_init1(os.O_NONBLOCK)
        assert library.inotify_add_watch(self._file, os.fsencode(folder), self._MOVED_TO) >= 0
        self.times = Counter()

    def count(self):
        """Read what has happened, and return how often each record was stored: ``{file name: times}``."""
        while True:
            try:
                told = os.read(self._file, 1 << 20)
            except BlockingIOError:
                return self.times
            while told:
                _, mask, _, length = struct.unpack_from("iIII", told)
                assert not mask & self._OVERFLOWN, "the kernel has lost count"
                name = os.fsdecode(told[16 : 16 + length].rstrip(b"\0"))
                if name.endswith(".json"):
                    self.times[name] += 1
                told = told[16 + length :]
