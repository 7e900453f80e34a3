# SPDX-License-Identifier: Apache-2.0
"""The one door to ansible-runner: jobs go in, one Result per host comes out as soon as that host has ended.

Results come from the event stream (set_stats, failed and unreachable tasks, the final statistics) and nowhere else.
What a result means for an Operation is `plan.py`'s to say.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ansible_runner import Runner
from ansible_runner.config.runner import RunnerConfig
from ansible_runner.exceptions import AnsibleRunnerException

from ansible_collections.stargate.core.plugins.module_utils import _server

from . import artifacts, guard, tether, verdict
from .inventory import RunFiles, learned_keys
from .model import Job, Outcome, Result
from .redact import redacted
from .settings import Settings

logger = logging.getLogger(__name__)

PASSED_ON = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
    | {"XDG_STATE_HOME", "XDG_CACHE_HOME", "STARGATE_STATE_DIR", "STARGATE_MACHINES_DIR", "STARGATE_CACHE_DIR"}
    | {"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"}
)
PASSED_PREFIXES = ("ANSIBLE_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
MARK = "STARGATE_RUN_ID"
"""Environment variable that every process of a run carries."""


ANSIBLES_OWN = "Validating arguments against arg spec"
"""How the steps begin that Ansible puts before a role's own."""


class Listener(Protocol):
    """Who hears of a run."""

    def staged(self, job: Job, stage: str, facts: Mapping[str, str]) -> None:
        """A host is at a new step, or has learned something."""

    def resulted(self, job: Job, result: Result) -> None:
        """A host has ended. Comes exactly once per job."""

    def run_ended(self, run: Run) -> None:
        """The process is gone; every job has had its result."""


@dataclass(frozen=True)
class Order:
    """What to run: the jobs share playbook and files."""

    run_id: str
    jobs: Sequence[Job]
    files: RunFiles
    forks: int
    settings: Settings


def environment(order: Order) -> dict[str, str]:
    """Return the environment of a run: little of the daemon's, and Ansible's settings for many hosts."""
    kept = {k: v for k, v in os.environ.items() if k in PASSED_ON or k.startswith(PASSED_PREFIXES)}
    here = str(Path(sys.executable).parent)
    path = kept.get("PATH", os.defpath)
    known = {"KUBECONFIG": order.settings.kubeconfig} if order.settings.kubeconfig else {}
    ours = {
        "PATH": path if here in path.split(os.pathsep) else f"{here}{os.pathsep}{path}",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        MARK: order.run_id,
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_SSH_EXECUTABLE": str(order.files.directory / "ssh"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(order.files.private / "cp"),
        "ANSIBLE_LOCAL_TEMP": str(order.files.private / "tmp"),
        "ANSIBLE_INVENTORY_ENABLED": "stargate.core.servers",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_PYTHON_INTERPRETER": kept.get("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3"),
        "ANSIBLE_TIMEOUT": kept.get("ANSIBLE_TIMEOUT", "15"),
    }
    return {**kept, **known, **ours}


class Run:
    """One ansible process over the hosts of an order."""

    def __init__(self, order: Order, listener: Listener) -> None:
        self.order = order
        self.id = order.run_id
        self.started = time.monotonic()
        self._listener = listener
        self._waiting = {_server.hostname(job.server.raw): job for job in order.jobs}
        self._facts: dict[str, dict[str, str]] = {}
        self._failures: dict[str, Result] = {}
        self._stats: Mapping[str, Mapping[str, int]] | None = None
        self._stages: dict[str, tuple[str, str]] = {}
        self._last_words: list[str] = []
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self.uids = frozenset(job.operation.uid for job in order.jobs)
        keys = {job.credentials.private_key for job in order.jobs if job.credentials}
        self._secrets = tuple(keys | {job.user_data for job in order.jobs if job.user_data})

    def start(self) -> None:
        """Start the process on a thread of its own; the kernel ends the process when that thread dies."""
        threading.Thread(target=self._run, name=f"run-{self.id}", daemon=True).start()

    def stop(self) -> None:
        """Ask the guard to end everything of this run; returns at once. Hosts without a result are interrupted."""
        self._stopped.set()
        if not self._signalled():
            threading.Thread(target=self._signal_soon, name=f"stop-{self.id}", daemon=True).start()

    def _signalled(self) -> bool:
        try:
            os.kill(int(self.order.files.pidfile.read_text(encoding="ascii")), signal.SIGTERM)
        except (OSError, ValueError):
            return False
        return True

    def _signal_soon(self) -> None:
        """Signal the guard once it has said who it is: a stop may come while its process is just beginning."""
        while not self._ended.wait(0.05) and not self._signalled():
            logger.debug("Run %s has no guard yet", self.id)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; returns whether it came."""
        return self._ended.wait(seconds)

    def _run(self) -> None:
        code = None
        try:
            code = self._execute()
        except (OSError, ValueError, AnsibleRunnerException) as error:
            logger.warning("Run %s could not be started: %s", self.id, error)
            self._last_words.append(str(error))
        finally:
            self._sweep()
            for host in list(self._waiting):
                self._resolve(host, self._verdict(host, code))
            self.order.files.remove_private()
            self._ended.set()
            self._listener.run_ended(self)

    def _execute(self) -> int | None:
        files = self.order.files
        for name in ("cp", "tmp"):
            (files.private / name).mkdir(mode=0o700)
        ssh = files.directory / "ssh"  # not on the tmpfs, which containers have without the right to execute
        ssh.write_text(tether.wrapper(os.environ.get("ANSIBLE_SSH_EXECUTABLE", "ssh")), encoding="utf-8")
        ssh.chmod(0o700)
        config = RunnerConfig(
            private_data_dir=str(files.directory),
            playbook=self.order.jobs[0].playbook,
            inventory=str(files.inventory),
            forks=self.order.forks,
            ident="artifacts",
            artifact_dir=str(files.private),
            quiet=True,
        )
        config.prepare()
        runner_needs = {k: v for k, v in config.env.items() if k.startswith(("AWX_", "RUNNER_", "ANSIBLE_"))}
        config.env = {**runner_needs, **environment(self.order)}
        config.env["ANSIBLE_STDOUT_CALLBACK"] = "awx_display"
        playbook = shutil.which("ansible-playbook", path=config.env["PATH"]) or "ansible-playbook"
        site = [part for path in self.order.settings.vars_files for part in ("-e", f"@{path}")]
        config.command = [
            sys.executable, "-I", "-S", guard.__file__, str(files.pidfile), playbook, *config.command[1:], *site,
        ]  # fmt: skip
        if self._stopped.is_set():
            return guard.STOPPED
        runner = Runner(config, event_handler=self._event)
        runner.run()
        code: int | None = runner.rc
        artifacts.keep(files.private / "artifacts", files.directory / "artifacts", self._secrets)
        return code

    def _event(self, event: Mapping[str, Any]) -> bool:
        """Take one event of the stream; returns False, so that ansible-runner writes no file for it."""
        kind = event.get("event")
        data = event.get("event_data") or {}
        if kind == "playbook_on_stats":
            self._stats = data
        elif kind in ("verbose", "error", "warning"):
            self._last_words = [*self._last_words, str(event.get("stdout", ""))][-20:]
        elif data.get("host") in self._waiting:
            self._host_event(str(kind), str(data["host"]), data)
        return False

    def _host_event(self, kind: str, host: str, data: Mapping[str, Any]) -> None:
        if kind == "runner_on_start" and not str(data.get("task", "")).startswith(ANSIBLES_OWN):
            role = f"{data['role']}: " if data.get("role") else ""
            self._at(host, redacted(f"{role}{data.get('task', '')}", limit=256))
        elif kind == "runner_on_skipped":
            self._at(host, self._stages.get(host, ("", ""))[0])
        elif kind == "runner_on_ok":
            stats = (data.get("res") or {}).get("ansible_stats")
            if stats:
                self._learn(host, stats.get("data") or {})
        elif kind == "runner_on_failed" and not data.get("ignore_errors"):
            self._failures[host] = verdict.failure(data, self._secrets)
        elif kind == "runner_on_unreachable":
            self._failures[host] = verdict.unreachable(self._waiting[host].server.name, data, self._secrets)

    def _at(self, host: str, stage: str) -> None:
        """Tell of a step, and remember the one before: a step that is skipped was none."""
        self._stages[host] = self._stages.get(host, ("", ""))[1], stage
        self._listener.staged(self._waiting[host], stage, {})

    def _learn(self, host: str, data: Mapping[str, Any]) -> None:
        said = data.get("stargate")
        if not isinstance(said, Mapping):
            return
        facts = self._facts.setdefault(host, {})
        facts.update(verdict.facts(said, self._secrets))
        if said.get("final"):
            self._resolve(host, Result(Outcome.SUCCEEDED, facts=dict(facts)))
        elif said.get("failed"):
            self._resolve(host, verdict.reported(said, self._failures.get(host, verdict.SILENT), self._secrets))
        else:
            self._listener.staged(self._waiting[host], facts.get("stage", ""), dict(facts))

    def _verdict(self, host: str, code: int | None) -> Result:
        """Return the result of a host that had none when the process ended."""
        if self._stopped.is_set() or code == guard.STOPPED:
            return Result(Outcome.INTERRUPTED, "Interrupted", "The run was stopped.")
        if self._stats is None:
            began = None if code == guard.UNSTARTED else code
            return verdict.crash(began, " ".join(self._last_words), self._secrets)
        if host in (self._stats.get("failures") or {}) or host in (self._stats.get("dark") or {}):
            return self._failures.get(host, verdict.SILENT)
        if host in (self._stats.get("processed") or self._stats.get("ok") or {}):
            return Result(Outcome.SUCCEEDED, facts=dict(self._facts.get(host, {})))
        return verdict.EMPTY

    def _resolve(self, host: str, result: Result) -> None:
        job = self._waiting.pop(host, None)
        if job is not None:
            self._listener.resulted(job, replace(result, host_keys=learned_keys(self.order.files, job)))

    def _sweep(self) -> None:
        """Kill whatever still carries this run's mark: what a guard that was itself killed could not."""
        mark = f"{MARK}={self.id}".encode()
        for pid, _ in guard.parents():
            try:
                carries = mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if carries and pid != os.getpid():
                logger.warning("Ending process %d, left over by run %s", pid, self.id)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
