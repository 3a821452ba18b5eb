"""Processes that the measurement starts: their ports, what they cost, and their end."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
# The one that is measured has a core of its own; what loads it and what answers behind it share another, or have one each.
MEASURED = CORES[:1]
BEHIND = CORES[1:2] or MEASURED
LOAD = CORES[2:3] or BEHIND

START_SECONDS = 30
STOP_SECONDS = 5
PR_SET_PDEATHSIG = 1

started = []


def port():
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _prepare(cores, orphaned):
    # Should this script be killed, what it started ends with it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, orphaned)
    os.sched_setaffinity(0, cores)


class Process:
    """A server of ours, which ends at the signal `end`. Standard output and error go to a file, as a service manager would have it."""

    def __init__(self, command, folder, name, environment=None, cores=MEASURED, cwd=None, end=signal.SIGTERM):
        self.name = name
        self.end = end
        self.log = Path(folder) / f"{name}.log"
        self.output = open(self.log, "ab", buffering=0)
        self.child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **(environment or {})},
            cwd=cwd or folder,
            start_new_session=True,
            preexec_fn=lambda: _prepare(cores, end),
        )
        started.append(self)

    def await_port(self, number):
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} ended at once:\n{self.tail()}")
            try:
                socket.create_connection(("127.0.0.1", number), 1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"{self.name} does not listen on port {number}:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def empty_log(self):
        """Logs grow by hundreds of megabytes; the file is opened for appending, so it begins anew."""
        os.truncate(self.log, 0)

    def tree(self):
        """The process and all below it."""
        found, at = [self.child.pid], 0
        while at < len(found):
            for task in _list(f"/proc/{found[at]}/task"):
                found += [int(pid) for pid in _read(f"/proc/{found[at]}/task/{task}/children").split()]
            at += 1
        return found

    def cpu_seconds(self):
        """User and system time of the tree, with that of those below it that have ended."""
        ticks = 0
        for pid in self.tree():
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
        return ticks / TICKS

    def resident_bytes(self):
        total = 0
        for pid in self.tree():
            for line in _read(f"/proc/{pid}/status").splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        if self in started:
            started.remove(self)
        for kind in (self.end, signal.SIGKILL):
            if self.child.poll() is None:
                os.kill(self.child.pid, kind)
            try:
                self.child.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        self.output.close()


def stop_all():
    """Ends what is left, all at once, each by its own id."""
    for process in started:
        if process.child.poll() is None:
            os.kill(process.child.pid, process.end)
    while started:
        started[-1].stop()


def stolen_seconds():
    """What the host took from the machine."""
    return int(_read("/proc/stat").splitlines()[0].split()[8]) / TICKS


def run(command, **more):
    """A tool that ends by itself; its output."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **more
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(str(word) for word in command[:3])} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def scratch():
    """A folder in memory where there is one: what peers write there shall cost them nothing."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 1 << 28 else None


def _list(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


def _read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""
