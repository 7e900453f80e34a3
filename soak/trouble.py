# SPDX-License-Identifier: Apache-2.0
"""The large faults, done: to processes, hosts and cables. Those of objects are `meddling.py`'s.

Each returns whether it really hit something, and puts what mends it later on the agenda.
"""

from __future__ import annotations

import heapq
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from soak import verdict
from soak.hosts import Host
from soak.script import Fault
from soak.world import World


class Agenda:
    """What is to be done later, soonest first."""

    def __init__(self) -> None:
        self._items: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def add(self, seconds: float, act: Callable[[], object]) -> None:
        """Have something done in some seconds."""
        self._count += 1
        heapq.heappush(self._items, (time.monotonic() + seconds, self._count, act))

    def work(self, *, everything: bool = False) -> None:
        """Do what is due, or everything that is there now."""
        due = [item for item in self._items if everything or item[0] <= time.monotonic()]
        self._items = [item for item in self._items if item not in due]
        heapq.heapify(self._items)
        for _, _, act in sorted(due, key=lambda item: item[:2]):
            act()


def processes() -> Iterator[tuple[int, list[str]]]:
    """Yield pid and command line of every process in the enclosure."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, of whichever of its threads."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def parent(pid: int) -> int:
    """Return the pid of a process's parent, 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def kill(pid: int, signum: int = signal.SIGKILL) -> bool:
    """Signal a process; returns whether it was there."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True


class Trouble:
    """Does faults to a world, and counts those that hit. `ended` is told of runs that a fault has ended."""

    def __init__(self, world: World, agenda: Agenda, ended: Callable[[set[str]], object]) -> None:
        self.world = world
        self.agenda = agenda
        self._ended = ended
        self.injected: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self._busy: set[int] = set()
        self._kinds: dict[str, Callable[[Fault], bool]] = {
            "kill-reconciler": lambda f: self._daemon(f).send(signal.SIGKILL),
            "drain-reconciler": lambda f: self._daemon(f).send(signal.SIGTERM),
            "freeze-leader": self._freeze,
            "cut-off-reconciler": self._cut_off,
            "end-connections": self._end_connections,
            "kill-guard": self._kill_guard,
            "kill-ansible": lambda f: self._kill_playbook(f, worker=False),
            "kill-worker": lambda f: self._kill_playbook(f, worker=True),
            "kill-ssh": lambda f: self._kill_one(f, lambda w: w[0].startswith("ssh:") or w[0].endswith("ssh")),
            "kill-module": self._kill_module,
            "restart-sshd-sessions": self._end_sessions,
            "hang-host": self._hang,
            "power-cut": self._power_cut,
            "power-cut-in-wipe": lambda f: self._arm(f, "crash"),
            "link-down": self._link_down,
            "link-down-in-wipe": lambda f: self._arm(f, "cut"),
            "link-one-way": self._one_way,
            "other-machine": self._other_machine,
            "disk-full": self._disk_full,
        }

    def add_kinds(self, kinds: dict[str, Callable[[Fault], bool]]) -> None:
        """Learn more kinds of faults."""
        self._kinds.update(kinds)

    def is_busy(self, number: int) -> bool:
        """Whether something is being done to a host."""
        return number in self._busy

    def inject(self, fault: Fault) -> bool:
        """Do a fault; returns whether it hit."""
        hit = self._kinds[fault.kind](fault)
        (self.injected if hit else self.missed)[fault.kind] += 1
        return hit

    # -- reconcilers

    def _daemon(self, fault: Fault) -> Any:
        daemons = self.world.daemons
        return (fault.pick % 3 and self.world.leader()) or daemons[fault.pick % len(daemons)]

    def _freeze(self, fault: Fault) -> bool:
        """Stop the leader, not its runs, for so long that another one may have begun the same work."""
        leader = self.world.leader()
        return leader is not None and leader.freeze(2 * leader.lease_seconds + 10 * fault.seconds)

    def _cut_off(self, fault: Fault) -> bool:
        daemon = self._daemon(fault)
        daemon.proxy.cut_off(fault.seconds * 3)
        return bool(daemon.pid)

    def _end_connections(self, fault: Fault) -> bool:
        daemon = self._daemon(fault)
        daemon.proxy.end_connections()
        return bool(daemon.pid)

    def _disk_full(self, fault: Fault) -> bool:
        """Fill the disk that the run directories are on."""
        daemon = self._daemon(fault)
        runs = daemon.directory / "runs"
        if not runs.is_mount():
            return False
        subprocess.run(["dd", "if=/dev/zero", f"of={runs}/fill", "bs=1M"], capture_output=True, check=False, timeout=30)
        self.agenda.add(fault.seconds, lambda: (runs / "fill").unlink(missing_ok=True))
        return True

    # -- processes of runs

    def _one(self, fault: Fault, is_one: Callable[[list[str]], bool]) -> int | None:
        found = sorted(pid for pid, words in processes() if words[0] and is_one(words))
        return found[fault.pick % len(found)] if found else None

    def _kill_one(self, fault: Fault, is_one: Callable[[list[str]], bool]) -> bool:
        pid = self._one(fault, is_one)
        return pid is not None and kill(pid)

    def _kill_guard(self, fault: Fault) -> bool:
        """Kill the process between a reconciler and its ansible-playbook: all of the run has to end with it."""
        pid = self._one(fault, lambda words: any(word.endswith("/guard.py") for word in words))
        run = verdict.run_of(pid) if pid is not None else ""
        if pid is None or not kill(pid):
            return False
        self._ended({run} - {""})
        return True

    def _kill_playbook(self, fault: Fault, *, worker: bool) -> bool:
        playbooks = {pid for pid, words in processes() if any(w.endswith("/ansible-playbook") for w in words[:2])}
        of = {pid: parent(pid) for pid in playbooks}
        found = sorted(pid for pid in playbooks if (of[pid] in playbooks) is worker)
        return bool(found) and kill(found[fault.pick % len(found)])

    # -- hosts

    def _host(self, fault: Fault) -> Host | None:
        """Return a host that nothing else is being done to; one at work rather than an idle one."""
        free = [host for host in self.world.hosts if host.number not in self._busy and host.is_on()]
        working = [host for host in free if len(self._on(host)) > 2]
        chosen = working or free
        return chosen[fault.pick % len(chosen)] if chosen else None

    def _on(self, host: Host) -> list[int]:
        """Return the processes on a host that are not its sshd."""
        found, unseen = [], children(host.root())
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            unseen.extend(children(pid))
        return found

    def _occupied(self, host: Host, seconds: float, mend: Callable[[], object]) -> bool:
        """Keep other faults from a host until it is mended."""
        self._busy.add(host.number)

        def mended() -> None:
            mend()
            self._busy.discard(host.number)

        self.agenda.add(seconds, mended)
        return True

    def _kill_module(self, fault: Fault) -> bool:
        host = self._host(fault)
        if host is None:
            return False
        found = sorted(pid for pid in self._on(host) if not _is_sshd(pid))
        return bool(found) and kill(found[fault.pick % len(found)])

    def _end_sessions(self, fault: Fault) -> bool:
        """Kill every process of sshd on a host but the one that listens: connections end, work is on its own."""
        host = self._host(fault)
        found = [pid for pid in self._on(host) if _is_sshd(pid)] if host else []
        return bool([pid for pid in found if kill(pid)])

    def _hang(self, fault: Fault) -> bool:
        """Stop everything on a host for a while: it takes connections and says nothing."""
        host = self._host(fault)
        if host is None:
            return False
        pids = [host.root(), *self._on(host)]
        for pid in pids:
            kill(pid, signal.SIGSTOP)
        return self._occupied(host, fault.seconds, lambda: [kill(pid, signal.SIGCONT) for pid in pids])

    def _power_cut(self, fault: Fault) -> bool:
        host = self._host(fault)
        if host is None:
            return False
        host.cut_power()
        return self._occupied(host, fault.seconds, host.start)

    def _arm(self, fault: Fault, trap: str) -> bool:
        """Have the next wipe on a host cut its own cable, or its power, as its first act."""
        host = self._host(fault)
        if host is None:
            return False
        (host.mnt / trap).touch()
        sprung, until = host.mnt / f"{trap}-done", time.monotonic() + 20
        self._busy.add(host.number)

        def look() -> None:
            if not sprung.exists() and time.monotonic() < until:
                self.agenda.add(0.05, look)
                return
            (host.mnt / trap).unlink(missing_ok=True)
            self._busy.discard(host.number)
            if sprung.exists():
                sprung.unlink()
                self._sprung(host, trap, fault.seconds)

        self.agenda.add(0.05, look)
        return False  # counted when the trap has sprung

    def _sprung(self, host: Host, trap: str, seconds: float) -> None:
        self.injected[{"cut": "link-down-in-wipe", "crash": "power-cut-in-wipe"}[trap]] += 1
        if trap == "crash":
            host.cut_power()
            self._occupied(host, seconds, host.start)
        else:
            self._occupied(host, seconds, lambda: _plug(host))

    def _link_down(self, fault: Fault) -> bool:
        host = self._host(fault)
        if host is None:
            return False
        _ip("link", "set", host.link, "down")
        return self._occupied(host, fault.seconds * 2, lambda: _ip("link", "set", host.link, "up"))

    def _one_way(self, fault: Fault) -> bool:
        """Let nothing reach a host that still can speak."""
        host = self._host(fault)
        if host is None:
            return False
        _ip("route", "add", "blackhole", host.address)
        return self._occupied(host, fault.seconds * 2, lambda: _ip("route", "del", "blackhole", host.address))

    def _other_machine(self, fault: Fault) -> bool:
        """Put another machine at a host's address for a while, once its own key is known."""
        host = self._host(fault)
        server = self.world.cluster.find("servers", host.name) if host else None
        if host is None or server is None or not (server.get("status") or {}).get("sshHostKeys"):
            return False
        host.cut_power()
        host.change_key()
        host.start()

        def back() -> None:
            host.cut_power()
            host.restore_key()
            host.start()

        return self._occupied(host, fault.seconds * 2, back)


def _is_sshd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("sshd")
    except OSError:
        return False


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=False, timeout=10)


def _plug(host: Host) -> None:
    """Put a cable back that the host has cut at its own end."""
    if pid := host.root():
        command = ["nsenter", "--net", "--target", str(pid), "ip", "link", "set", "eth0", "up"]
        subprocess.run(command, capture_output=True, check=False, timeout=10)
