# SPDX-License-Identifier: Apache-2.0
"""One control plane on loopback: start it, know how it is, mend it, stop it, leave nothing behind.

Where its programs come from is known to binaries.py, their flags to flags.py. Not safe against two callers at
once: the callers hold the lock of the state directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from stargate_reconciler.errors import UserError, WorldError
from stargate_reconciler.local import certificates, joining, kubeconfig
from stargate_reconciler.local.api import Api
from stargate_reconciler.local.flags import CONTROLLERS, Joinable, Settings, command
from stargate_reconciler.local.ports import ADDRESS, free_ports, is_free
from stargate_reconciler.local.processes import Process

READY_SECONDS = 90.0
_ATTEMPTS = 3
# An API server with open watches would wait for them for a minute. What it has answered is in etcd.
_GRACE = {"kube-apiserver": 2.0}
_API = ("etcd", "kube-apiserver")
_VERSION_QUESTIONS = {"kubeadm": ["version", "--output=short"], "kubectl": ["version", "--client"]}


class PortTaken(WorldError):
    """Somebody else listens on a port that was free a moment ago."""


@dataclass(frozen=True)
class Status:
    """How a control plane is: running, degraded (something of it runs, but the API is not ready), or stopped."""

    state: str
    directory: str
    kubeconfig: str = ""
    url: str = ""
    version: str = ""
    controllers: bool = False
    endpoint: str = ""  # where machines reach it to join, "" when they cannot
    processes: dict[str, int | None] = field(default_factory=dict)
    message: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the status as JSON shows it."""
        return asdict(self)


class ControlPlane:
    """The control plane whose files are in `directory`; with `bound` it dies with the process that started it."""

    def __init__(self, directory: Path, *, bound: bool = False) -> None:
        self.directory = directory
        self.kubeconfig = directory / "kubeconfig"
        self._bound = bound
        self._settings_file = directory / "settings.json"

    @property
    def settings(self) -> Settings | None:
        """What it was started with; None when there is no control plane here."""
        return Settings.load(self._settings_file)

    def process(self, name: str) -> Process:
        """Return one of its processes: etcd, kube-apiserver, kube-controller-manager or kube-scheduler."""
        return Process(name, self.directory / "run")

    def status(self) -> Status:
        """Return how it is now, asking the API server when one runs."""
        settings = self.settings
        if settings is None:
            return Status("stopped", str(self.directory))
        pids = {name: self.process(name).pid for name in settings.names}
        missing = [name for name, pid in pids.items() if pid is None]
        problem = f"{' and '.join(missing)} died" if missing else self._problem(settings)
        if not any(pids.values()):
            state, problem = "stopped", "nothing of it runs; up starts it again with its data"
        else:
            state = "degraded" if problem else "running"
        return Status(
            state=state,
            directory=str(self.directory),
            kubeconfig=str(self.kubeconfig),
            url=settings.url,
            version=settings.version,
            controllers=settings.controllers,
            endpoint=settings.endpoint,
            processes=pids,
            message=problem,
        )

    def start(
        self,
        programs: Mapping[str, Path],
        *,
        port: int | None = None,
        controllers: bool = False,
        joinable: Joinable | None = None,
        settled: bool = True,
    ) -> bool:
        """Start what does not run yet and wait until the API is ready; returns whether anything had to be done.

        With `joinable` machines can become its Nodes, which takes the controllers too; those are waited for as well
        unless `settled` is false, for who has other things to do meanwhile. Raises UserError when it runs
        already with another port or address or a given port is taken, WorldError when a process dies or is not ready
        in time; what this call has started is stopped again then.
        """
        before = self.status()
        settings = self.settings if any(before.processes.values()) else None
        joinable = joinable or (self.settings.joinable if self.settings else None)  # machines count on it
        controllers = controllers or joinable is not None
        if settings is not None:
            _refuse_change(settings, port, joinable)
            controllers = controllers or settings.controllers
            if before.state == "running" and (controllers, joinable) == (settings.controllers, settings.joinable):
                return False
            programs = dict(programs) | {name: Path(path) for name, path in settings.programs.items()}
        for attempt in range(1, _ATTEMPTS + 1):
            wanted = settings or self._new_settings(programs, port, joinable)
            paths = {name: str(path) for name, path in programs.items()}
            try:
                chosen = replace(wanted, controllers=controllers, programs=paths, joinable=joinable)
                self._launch(chosen, settled=settled)
                return True
            except PortTaken:
                if settings or port or attempt == _ATTEMPTS:
                    raise
        return True

    def _new_settings(self, programs: Mapping[str, Path], port: int | None, joinable: Joinable | None) -> Settings:
        bind = joinable.bind if joinable else ADDRESS
        if port and not is_free(port, bind):
            raise UserError(
                f"Failed to start the control plane: port {port} of {bind} is taken. "
                "Choose another --port, or leave it out to get a free one."
            )
        last = self.settings  # stopped, data kept: clients expect the same port
        own, etcd, peer = free_ports(3)
        if last is not None and is_free(last.port, bind):
            own = last.port
        return Settings(port or own, etcd, peer, version=version_of(programs["kube-apiserver"]))

    def _launch(self, settings: Settings, *, settled: bool) -> None:
        is_new = not self.directory.exists()
        before = {name for name in settings.names if self.process(name).pid}
        with self._undone_on_failure(settings, before, is_new):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            certificates.make_all(self.directory / "pki", names=settings.joinable.names if settings.joinable else ())
            self._write_kubeconfigs(settings)
            settings.save(self._settings_file)
            for name in settings.names:
                self._restart_if_changed(name, settings)
                if self.process(name).pid is None:
                    self.start_process(name)
                if name == "kube-apiserver":
                    self.wait_ready()
                    self._make_joinable(settings)
            if settings.controllers and settled:
                self._wait("/api/v1/namespaces/default/serviceaccounts/default", of=settings.names)

    def _restart_if_changed(self, name: str, settings: Settings) -> None:
        """Stop a process that runs with other flags than the settings ask for: who joins later finds it changed."""
        pid = self.process(name).pid
        if pid is None or name == "etcd":
            return
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        wanted = command(name, settings, self.directory)
        if words[-len(wanted) + 1 :] != wanted[1:]:
            self.stop_process(name)

    def _make_joinable(self, settings: Settings) -> None:
        if settings.joinable is None:
            return
        self._wait("/api/v1/namespaces/kube-public", of=_API)
        authority = (self.directory / "pki" / "ca.crt").read_text(encoding="ascii")
        for manifest in joining.manifests(settings, authority):
            self._api(settings).apply(manifest)

    @contextlib.contextmanager
    def _undone_on_failure(self, settings: Settings, before: set[str], is_new: bool) -> Iterator[None]:
        try:
            yield
        except BaseException:  # also Ctrl-C
            for name in reversed([name for name in settings.names if name not in before]):
                self.process(name).kill()
            if is_new:
                self.remove()
            raise

    def _write_kubeconfigs(self, settings: Settings) -> None:
        pki = self.directory / "pki"
        kubeconfig.write(self.kubeconfig, url=settings.url, pki=pki, user="admin")
        for name in CONTROLLERS:
            kubeconfig.write(self.directory / f"{name}.kubeconfig", url=settings.url, pki=pki, user=name)

    def start_process(self, name: str) -> None:
        """Start one process of a control plane that has been started before."""
        settings = self.settings
        if settings is None:
            raise UserError(f"Failed to start {name}: there is no control plane in {self.directory}.")
        # A clean environment: etcd reads each of its flags from a variable too.
        environ = {name: value for name in ("PATH", "HOME") if (value := os.environ.get(name))}
        self.process(name).start(command(name, settings, self.directory), environ=environ, bound=self._bound)

    def wait_ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Wait until the API server says that it is ready; WorldError when a process dies first or time is up."""
        self._wait("/readyz", of=_API, seconds=seconds)
        self._wait("/api/v1/namespaces/default", of=_API, seconds=seconds)

    def _wait(self, path: str, *, of: Sequence[str], seconds: float = READY_SECONDS) -> None:
        """Wait until the API answers a path with 200, as long as the processes `of` live."""
        deadline = time.monotonic() + seconds
        while self._get(path)[0] != 200:
            for process in map(self.process, of):
                if process.pid is None:
                    raise _death(process)
            if time.monotonic() > deadline:
                last = self.process(of[-1])
                raise WorldError(
                    f"Failed to start the control plane: not ready after {seconds:.0f} s. "
                    f"The last lines of {last.log}:\n{last.tail()}"
                )
            time.sleep(0.05)

    def _problem(self, settings: Settings) -> str:
        status, text = self._get("/readyz")
        return "" if status == 200 else f"{settings.url}/readyz says: {text[:256]}"

    def _api(self, settings: Settings) -> Api:
        return Api(settings.address, settings.port, self.directory / "pki")

    def _get(self, path: str) -> tuple[int, str]:
        """Return status and text of a request as admin; 0 and the reason when there is no answer."""
        settings = self.settings
        return (0, "there is no control plane") if settings is None else self._api(settings).get(path)

    def stop_process(self, name: str) -> bool:
        """Stop one process; returns whether it was running."""
        return self.process(name).stop(seconds=_GRACE.get(name, 10))

    def stop(self) -> bool:
        """Stop its processes, the API server before etcd; returns whether any was running. Files stay."""
        was_running = [self.stop_process(name) for name in reversed((*_API, *CONTROLLERS))]
        return any(was_running)

    def remove(self) -> None:
        """Remove its files; only when it is stopped."""
        shutil.rmtree(self.directory, ignore_errors=True)


def version_of(program: Path | str) -> str:
    """Return the version that a Kubernetes program says it has, "1.20.2"; WorldError when it does not say one."""
    question = _VERSION_QUESTIONS.get(Path(program).name, ["--version"])
    try:
        done = subprocess.run([program, *question], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorldError(f"Failed to run {program}: {error}.") from error
    match = re.search(r"v(\d+\.\d+\.\d+)", done.stdout)
    if match is None:
        raise WorldError(f"Failed to read the version of {program}: {(done.stdout + done.stderr)[:256].strip()}.")
    return match[1]


def _refuse_change(settings: Settings, port: int | None, joinable: Joinable | None) -> None:
    if port and port != settings.port:
        raise UserError(
            f"Failed to start the control plane on port {port}: it runs on port {settings.port}. Stop it first (down)."
        )
    if joinable and settings.joinable not in (None, joinable):
        raise UserError(
            f"Failed to start the control plane for machines that reach it at {joinable.advertise}: "
            f"it runs for others, at {settings.endpoint}. Stop it first (down)."
        )


def _death(process: Process) -> WorldError:
    log = process.tail()
    kind = PortTaken if "address already in use" in log else WorldError
    process.pidfile.unlink(missing_ok=True)
    return kind(f"Failed to start {process.name}: it ended at once. The last lines of its log:\n{log}")
