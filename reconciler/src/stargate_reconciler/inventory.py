# SPDX-License-Identifier: Apache-2.0
"""The files of one run: a snapshot of the CRs, the inventory source that names it, SSH configuration and keys.

Secrets go to a private directory on tmpfs that lives as long as the run. How a Server becomes a host is not known
here: that is `_server.py` of the collection.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils import _server, _ssh_config

from .model import FormerNode, Job, Object, Term
from .settings import Settings

TMPFS = (
    Path("/dev/shm"),  # noqa: S108 - directories in it are made by mkdtemp, 0700
    Path("/run/user") / str(os.getuid()),
)
PREFIX = "sg-"


@dataclass(frozen=True)
class RunFiles:
    """Where a run finds its things. `private` holds keys and sockets and goes first."""

    directory: Path
    private: Path
    inventory: Path
    pidfile: Path
    known_hosts: Path

    def remove_private(self) -> None:
        """Remove keys, sockets and host keys."""
        shutil.rmtree(self.private, ignore_errors=True)


def private_directory() -> Path:
    """Make a directory on tmpfs that only this user can enter; names this process so that leftovers can be told."""
    for base in TMPFS:
        if base.is_dir() and os.access(base, os.W_OK):
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
            break
    else:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
    (path / "owner").write_text(_identity(os.getpid()), encoding="ascii")
    return path


def _identity(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{pid} {fields[19]}"


def sweep_private() -> int:
    """Remove private directories of this user whose process is gone; returns how many."""
    removed = 0
    for base in TMPFS:
        for path in base.glob(f"{PREFIX}*") if base.is_dir() else ():
            try:
                owner = (path / "owner").read_text(encoding="ascii")
                mine = path.stat().st_uid == os.getuid()
            except OSError:
                continue
            pid = owner.partition(" ")[0]
            if mine and not (pid.isdecimal() and _identity(int(pid)) == owner):
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
    return removed


def sweep_runs(runs: Path, *, keep: int, seconds: float, size: int, live: Sequence[str] = ()) -> int:
    """Remove the oldest run directories beyond `keep`, `seconds` of age or `size` bytes; returns how many."""
    found = sorted((p for p in runs.glob("*") if p.is_dir() and p.name not in live), key=_modified, reverse=True)
    removed, total = 0, 0
    for index, path in enumerate(found):
        total += _size(path)
        if index >= keep or total > size or time.time() - _modified(path) > seconds:
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def tidy(settings: Settings, live: Sequence[str]) -> int:
    """Remove the run directories that the settings do not let us keep; returns how many."""
    keep, seconds, size = settings.keep_runs, settings.keep_runs_seconds, settings.keep_runs_bytes
    return sweep_runs(settings.runs_dir, keep=keep, seconds=seconds, size=size, live=live)


def _size(path: Path) -> int:
    """Return the bytes in a directory, as far as they can be counted: another sweep may be removing it."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += Path(directory, name).lstat().st_size
    return total


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def operation_facts(job: Job, term: Term) -> Object:
    """Return what a playbook may know of its Operation: `stargate_operation`."""
    operation = job.operation
    former = job.former_node or FormerNode()
    suffix = f"-{operation.job_requests}" if operation.job_requests else ""
    return {
        "name": operation.name,
        "uid": operation.uid,
        "operation": operation.act,
        "attempt": operation.attempts + 1,
        "authority": term.authority,
        "fence": term.fence,
        "failures": operation.failures,
        "request_id": f"{operation.uid}{suffix}",
        "former_node": {"uid": former.uid, "cordoned": former.cordoned},
        "job_id": str(operation.status.get("dcJobID") or ""),
    }


def snapshot(jobs: Sequence[Job], settings: Settings, term: Term) -> Object:
    """Return the snapshot that the inventory plugin reads instead of the cluster: a run makes no list of its own."""
    profiles = {job.profile.name: job.profile.raw for job in jobs if job.profile}
    return {
        "servers": [job.server.raw for job in jobs],
        "profiles": list(profiles.values()),
        "operations": {f"{job.server.namespace}/{job.server.name}": operation_facts(job, term) for job in jobs},
        "profile_of": {f"{j.server.namespace}/{j.server.name}": j.profile.name for j in jobs if j.profile},
        "datacenters": {name: dict(endpoint) for name, endpoint in settings.datacenters.items()},
        "cluster": dict(settings.cluster),
    }


def write_run(settings: Settings, run_id: str, jobs: Sequence[Job], *, term: Term = Term()) -> RunFiles:  # noqa: B008 - frozen
    """Write the files of a run; raises ValueError when an address is unfit, OSError when the disk is."""
    directory = settings.runs_dir / run_id
    directory.mkdir(mode=0o700, parents=True)
    (directory / "project").mkdir()
    private = private_directory()
    files = RunFiles(
        directory=directory,
        private=private,
        inventory=directory / "servers.stargate.yml",
        pidfile=directory / "guard.pid",
        known_hosts=private / "known_hosts",
    )
    try:
        ssh = _fill(files, jobs)
        content = {**snapshot(jobs, settings, term), "ssh": ssh, "ssh_config": str(private / "ssh_config")}
        _write(directory / "snapshot.json", json.dumps(content))
    except BaseException:
        files.remove_private()
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return files


def _fill(files: RunFiles, jobs: Sequence[Job]) -> Object:
    """Write what SSH needs and the inventory source; returns where each Server's part of it is."""
    directory, private = files.directory, files.private
    ssh: Object = {f"{job.server.namespace}/{job.server.name}": _secrets_of(job, private) for job in jobs}
    _write(private / "ssh_config", _ssh_config.ssh_config(_ssh_hosts(jobs, ssh, files)))
    _write(files.known_hosts, "".join(f"{line}\n" for line in _pinned(jobs)))
    source = {"plugin": "stargate.core.servers", "snapshot": str(directory / "snapshot.json")}
    _write(files.inventory, json.dumps(source))
    return ssh


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _secrets_of(job: Job, private: Path) -> Object:
    """Write what a job has of Secrets, once for all jobs of the Profile; returns where, and the user for SSH."""
    found: Object = {}
    if job.credentials is not None:
        key = job.credentials.private_key.rstrip("\n") + "\n"
        found["private_key_file"] = _once(private / f"key-{job.profile.secret if job.profile else 'default'}", key)
        found |= {"user": job.credentials.username} if job.credentials.username else {}
    if job.user_data:
        found["user_data_file"] = _once(private / "user-data", job.user_data)
    return found


def _once(path: Path, text: str) -> str:
    if not path.exists():
        _write(path, text)
    return str(path)


def _ssh_hosts(jobs: Sequence[Job], ssh: Mapping[str, Object], files: RunFiles) -> list[Object]:
    return [
        {
            "server": job.server.raw,
            "profile": job.profile.raw if job.profile else None,
            "known_hosts": str(files.known_hosts),
            "control_path": str(files.private / "cm-%C"),
            **ssh[f"{job.server.namespace}/{job.server.name}"],
        }
        for job in jobs
    ]


def _pinned(jobs: Sequence[Job]) -> list[str]:
    lines = [line for job in jobs for line in _server.pinned_keys(job.server.raw)]
    return list(dict.fromkeys(lines))


def learned_keys(files: RunFiles, job: Job) -> tuple[str, ...]:
    """Return the host keys that a run knows of a Server and its router, those of first contact included."""
    names = {_server.hostname(job.server.raw), _server.router_key_alias(job.server.raw)}
    try:
        lines = files.known_hosts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    return tuple(line for line in lines if line.partition(" ")[0] in names)
