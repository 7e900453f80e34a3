# SPDX-License-Identifier: Apache-2.0
"""Looks after machines in service: Nodes and probes in; conditions, Events, metrics and, by policy, a repave out.

The leader's workers call it for one Server at a time, after its Operations. It decides nothing: that is `health.py`'s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

from ansible_collections.stargate.core.plugins.module_utils import _server

from . import health, machines, status
from .errors import UserError
from .events import Recorder
from .health import Sight, Verdict
from .kube import Kube
from .live import LiveRuns
from .machines import Answer, Count, Machine, NodeView, Place, Target
from .metrics import Metrics
from .model import Object, Server, ServerKey, formatted_time
from .nodes import Nodes
from .prober import TIMEOUT, Prober
from .queue import KeyQueue
from .settings import Settings
from .watch import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ties:
    """What it shares with the rest of the daemon."""

    kube: Kube
    store: Store
    live: LiveRuns
    queue: KeyQueue[ServerKey]
    recorder: Recorder
    metrics: Metrics


class Caretaker:
    """Machines by Server, those that ail, and the circuit of each place."""

    def __init__(self, ties: Ties, settings: Settings) -> None:
        self._ties = ties
        self._settings = settings
        self._care = health.Care(settings.max_unhealthy, settings.auto_repave_limit, settings.auto_repave_pause)
        self.nodes = Nodes(self._node_changed)
        self.prober = Prober(self._answered)
        self._lock = threading.RLock()
        self._machines: dict[ServerKey, Machine] = {}
        self._of_node: dict[str, set[ServerKey]] = defaultdict(set)
        self._ailing: set[ServerKey] = set()
        self._bad_since: dict[ServerKey, float] = {}
        self._open: dict[Place, str] = {}
        self._dirty = True
        self._acting = threading.Event()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to look after machines. From here on this process acts: call it as the leader only."""
        self.prober.start()
        threading.Thread(target=self._run, name="caretaker", daemon=True).start()

    def stop(self) -> None:
        """Act no more."""
        self._stopped.set()
        self._acting.clear()
        self.prober.stop()

    @property
    def _acts(self) -> bool:
        return self._acting.is_set() and not self._stopped.is_set()

    # -- one look at one Server

    def look(self, key: ServerKey) -> None:
        """See how a machine is, say so where it is news, and do what its policy asks for."""
        server = self._ties.store.server(key)
        if server is None:
            self._forget(key)
            return
        machine = self._known(server)
        if not self._acts or self._is_left_alone(server):
            return
        sight = self._sight(server, machine)
        self._mind(sight)
        verdict = health.assess(sight, self._care)
        if verdict.start and not self._is_still_so(sight):
            self._ties.queue.add(key, after=1.0)
            return
        written = self._say(server, verdict, sight.now)
        if verdict.start:
            self._start(sight, verdict.start, written)
        elif verdict.after is not None:
            self._ties.queue.add(key, after=verdict.after)

    def _is_left_alone(self, server: Server) -> bool:
        """Whether another reconciler serves it, or an Operation has it just now."""
        foreign = self._settings.providers and server.provider not in self._settings.providers
        return bool(foreign or server.active_operation or self._ties.live.of_server((server.namespace, server.name)))

    def _known(self, server: Server) -> Machine:
        machine = machines.machine(server)
        with self._lock:
            before = self._machines.get(machine.key)
            if before != machine:
                self._machines[machine.key] = machine
                self._of_node[machine.node].add(machine.key)
                self._dirty = True
                if before is not None and before.node != machine.node:
                    self._let_go(before)
        return machine

    def _forget(self, key: ServerKey) -> None:
        with self._lock:
            machine = self._machines.pop(key, None)
            if machine is None:
                return
            self._ailing.discard(key)
            self._bad_since.pop(key, None)
            self._let_go(machine)
            self._dirty = True

    def _let_go(self, machine: Machine) -> None:
        self._of_node[machine.node].discard(machine.key)
        if not self._of_node[machine.node]:
            del self._of_node[machine.node]
            self.nodes.forget(machine.node)

    def _sight(self, server: Server, machine: Machine) -> Sight:
        now, key = datetime.now(UTC), machine.key
        node = self.nodes.view(machine.node)
        operations = self._ties.store.operations(key)
        unfinished = [o.name for o in operations if not o.phase.is_final]
        ends = [ended for o in operations if (ended := o.time("completionTime"))]
        profile = self._ties.store.profiles(key[0]).get(machine.profile) if machine.heals else None
        strategy = _server.strategy(server.raw, profile.raw if profile else None, self._settings.datacenters)
        bad_for = self._bad_for(server, machine, node, now)
        return Sight(
            machine=machine,
            status=server.status,
            node=node,
            now=now,
            last=self.nodes.gone(machine.node),
            answer=self._fresh(machine.target, bad_for),
            open=self._open.get(machine.place, ""),
            bad_for=bad_for,
            unfinished=unfinished[0] if unfinished else "",
            operations={o.name for o in operations},
            quiet_for=max(0.0, (now - max(ends)).total_seconds()) if ends else float("inf"),
            shared=self._is_shared(machine, node),
            in_place=strategy == "inPlace",
        )

    def _is_shared(self, machine: Machine, node: NodeView | None) -> bool:
        with self._lock:
            others = [self._machines[key] for key in self._of_node.get(machine.node, ())]
        return sum(machines.is_member(other, node) for other in others) > 1

    def _bad_for(self, server: Server, machine: Machine, node: NodeView | None, now: datetime) -> float:
        """Return for how many seconds a Node has not been Ready, by a clock that does not jump.

        What an earlier leader saw counts, unless the Node has been Ready since.
        """
        if not machines.is_bad(machine, node):
            self._bad_since.pop(machine.key, None)
            return 0.0
        if machine.key not in self._bad_since:
            since = machines.not_ready_since(server.status, node)
            before = max(0.0, (now - since).total_seconds()) if since else 0.0
            self._bad_since[machine.key] = time.monotonic() - before
        return time.monotonic() - self._bad_since[machine.key]

    def _fresh(self, target: Target | None, bad_for: float) -> Answer | None:
        """Return what a target last answered, None when that was before its machine was in doubt."""
        answer = self.prober.last(target)
        doubt = time.monotonic() - min(bad_for or float("inf"), self._settings.probe_seconds * 3)
        return answer if answer is not None and answer.at >= doubt else None

    def _mind(self, sight: Sight) -> None:
        """Have a machine probed as long as there is a reason."""
        machine = sight.machine
        needed = machine.target is not None and health.needs_probe(sight)
        with self._lock:
            (self._ailing.add if needed else self._ailing.discard)(machine.key)
        if needed and machine.target is not None and sight.answer is None:
            self.prober.ask(machine.target)
            self._ties.queue.add(machine.key, after=TIMEOUT + 0.5)

    def _say(self, server: Server, verdict: Verdict, now: datetime) -> Object:
        """Write what is news, and tell of it; returns the Server as it now stands."""
        if not verdict.wanted and not verdict.fields:
            return server.raw
        meta = server.raw["metadata"]
        listed = status.conditions(server.status.get("conditions"), verdict.wanted, now, meta.get("generation", 0))
        patch = {"conditions": listed, "lastUpdated": formatted_time(now), **verdict.fields}
        item = self._ties.kube.patch_status(
            "Server", server.namespace, server.name, patch, version=server.resource_version
        )
        for note in verdict.notes:
            self._ties.recorder.note("Server", item, note)
        self._ties.store.put("Server", item)
        return item

    # -- the act

    def _is_still_so(self, sight: Sight) -> bool:
        """Whether a repave may begin, by a Node that is read now and a circuit that is counted now."""
        machine = sight.machine
        found = self._ties.kube.node(machine.node)
        seen = machines.node_view(found) if found is not None else None
        if seen != sight.node:
            return False
        self._recount()
        return self._open.get(machine.place, "") == sight.open and self._acts

    def _start(self, sight: Sight, name: str, server: Object) -> None:
        """Create the Operation that the Server's status accounts for.

        Raises UserError when the cluster's CRDs have no room for the account: repaves would have no limit then.
        """
        machine = sight.machine
        if health.Record.read(server.get("status") or {}).operation != name:
            raise UserError("The CRD of Servers is too old for automatic repaves. Run `make install-crds`")
        ready = health.node_ready(sight)
        why = ready[2] if ready else ""
        if self._ties.kube.create_operation(health.repave(machine, name, why)):
            self._ties.metrics.auto_repaves.labels(machine.key[0]).inc()
            logger.warning("Server %s/%s: Operation %s is created. %s", *machine.key, name, why)

    # -- what changes by itself

    def _node_changed(self, name: str) -> None:
        with self._lock:
            concerned = list(self._of_node.get(name, ()))
            self._dirty = self._dirty or bool(concerned)
        if not concerned:
            self.nodes.forget(name)
        for key in concerned:
            self._ties.queue.add(key)

    def _answered(self, target: Target) -> None:
        with self._lock:
            self._dirty = True
            concerned = [key for key in self._ailing if self._machines[key].target == target]
        for key in concerned:
            self._ties.queue.add(key)

    def _run(self) -> None:
        while not self.nodes.synced:
            if self._stopped.wait(0.2):
                return
        self._meet_all()
        next_round = 0.0
        while not self._stopped.wait(1.0):
            if self._dirty:
                self._recount()
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + self._settings.probe_seconds
                self._probe_round()

    def _meet_all(self) -> None:
        """Know and count every machine before anything is decided for one."""
        keys = self._ties.store.server_keys()
        for key in keys:
            server = self._ties.store.server(key)
            if server is not None:
                self._known(server)
        self._recount()
        self._acting.set()
        for key in keys:
            self._ties.queue.add(key)

    def _probe_round(self) -> None:
        """Probe every router, and the machines that ail."""
        with self._lock:
            targets = {m.target for m in self._machines.values() if m.target and m.target.is_router}
            targets |= {target for key in self._ailing if (target := self._machines[key].target)}
        self.prober.keep(targets)
        for target in targets:
            self.prober.ask(target)

    # -- circuits

    def _recount(self) -> None:
        """Count the machines of each place, and tell of circuits that open or close."""
        with self._lock:
            if not self._dirty:
                return
            self._dirty = False
            counts, routers = self._counted()
            found = {
                place: machines.circuit(place, count, self.prober.last(routers.get(place)), self._care.share)
                for place, count in counts.items()
            }
            before, self._open = self._open, found
        self._ties.metrics.show_places(counts, {place: bool(why) for place, why in found.items()})
        for place, why in found.items():
            if bool(why) != bool(before.get(place)):
                self._flipped(place, why)

    def _counted(self) -> tuple[dict[Place, Count], dict[Place, Target]]:
        counts: dict[Place, Count] = defaultdict(Count)
        routers: dict[Place, Target] = {}
        for machine in self._machines.values():
            node = self.nodes.view(machine.node)
            count = counts[machine.place]
            count.total += machines.is_member(machine, node)
            count.bad += machines.is_bad(machine, node)
            if machine.target is not None and machine.target.is_router:
                routers[machine.place] = machine.target
        return counts, routers

    def _flipped(self, place: Place, why: str) -> None:
        """Tell of a circuit once, at the first machine concerned, and have all of them looked at."""
        with self._lock:
            here = sorted((m for m in self._machines.values() if m.place == place and m.heals), key=lambda m: m.key)
        ill = [m for m in here if machines.is_bad(m, self.nodes.view(m.node))]
        for machine in ill:
            self._ties.queue.add(machine.key)
        if why:
            logger.warning("Nothing automatic is started: %s", why)
        servers = [server for m in ill or here if (server := self._ties.store.server(m.key))]
        if servers and not any(health.knows_of_circuit(server.status, why) for server in servers):
            self._ties.recorder.note("Server", servers[0].raw, health.circuit_note(place, why))
