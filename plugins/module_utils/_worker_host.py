# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that a module runs on, as the worker's modules touch it: files below a root, and programs.

PRIVATE to the collection. What ought to be in the files, and which programs ought to run, is not known here.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Invalid,
    StargateError,
    Timeout,
    clipped,
)

RUN_DIR = "/run/stargate"  # in memory, and only root's
GRACE = 5.0  # seconds for what a killed program had said
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Done:
    """How a program ended. `code` is None when it was killed because its time had run out."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked for."""
        return self.code == 0

    @property
    def last_words(self) -> str:
        """The last line that says something, of the errors if there are any."""
        lines = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines()]
        return next((clipped(line) for line in reversed(lines) if line), "")


class Host:
    """Files below `root`, and programs of the machine, which know nothing of `root`."""

    def __init__(self, root: str | Path = "/") -> None:
        """Keep where the files are."""
        self.root = Path(root)

    def path(self, name: str) -> Path:
        """Return where the file with this absolute name is."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str | None:
        """Return what stands in a file, None when there is no such file."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def mode(self, name: str) -> int | None:
        """Return the permissions of a file, None when there is no such file."""
        try:
            return stat.S_IMODE(self.path(name).stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: str, mode: int = 0o644) -> None:
        """Put a file in place at once: readers see the old or the new one, whole."""
        with disk_errors(f"write {name}"), self.staged(name) as new:
            with new.open("wb") as file:
                file.write(content.encode())
                settle(file.fileno(), mode)
            new.replace(self.path(name))

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """Give a new file beside the one of this name, which it can replace at once; it is gone if it does not."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        try:
            yield Path(new)
        finally:
            with suppress(FileNotFoundError):
                Path(new).unlink()

    def program(self, name: str) -> str:
        """Return where a program is, "" when the machine has none of this name."""
        return shutil.which(name, path=SYSTEM_PATH) or ""

    def run(self, argv: Sequence[str], *, timeout: float = 60.0, stdin: str = "") -> Done:
        """Run a program to its end, or until the time is up: then it is killed with all that it has started."""
        environment = {
            **os.environ,
            "PATH": SYSTEM_PATH,
            "LC_ALL": "C",
            "DEBIAN_FRONTEND": "noninteractive",
            "APT_LISTCHANGES_FRONTEND": "none",
            "NEEDRESTART_SUSPEND": "1",
        }
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True, cwd="/"
            )
        except FileNotFoundError:
            return Done(127, err=f"{argv[0]}: not found")
        except OSError as error:  # no program, or one for another machine
            return Done(126, err=f"{argv[0]}: {error.strerror}")
        try:
            out, err = process.communicate(stdin.encode(), timeout=timeout)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            _kill(process)
            out, err = _rest(process)
            code = None
        except BaseException:
            _kill(process)
            raise
        return Done(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def must(self, argv: Sequence[str], doing: str, *, timeout: float = 60.0, stdin: str = "") -> str:
        """Run a program that has to succeed; returns its output."""
        done = self.run(argv, timeout=timeout, stdin=stdin)
        if done.code is None:
            text = f"Failed to {doing}: {argv[0]} did not end within {timeout:.0f} seconds."
            raise Timeout(text, code="CommandTimeout", details=done.last_words)
        if not done.ok:
            text = f"Failed to {doing}: {argv[0]} ended with {done.code}: {done.last_words or 'no word why'}."
            raise StargateError(text, code="CommandFailed", details=done.last_words)
        return done.out

    @property
    def is_container(self) -> bool:
        """Whether this machine shares its kernel with a host, whose swap and modules are not ours to change."""
        return self.path("/run/systemd/container").exists() or self.path("/.dockerenv").exists()

    def require_debian(self) -> None:
        """Refuse machines of a family that the worker's modules do not know."""
        lines = (self.text("/etc/os-release") or "").splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        names = {word for key in ("ID", "ID_LIKE") for word in fields.get(key, "").strip("\"'").split()}
        if not names & {"debian", "ubuntu"}:
            name = fields.get("PRETTY_NAME", "").strip("\"'") or "a system without /etc/os-release"
            raise Invalid(
                f"Failed to prepare the machine: it runs {clipped(name, 60)}, which is not supported. "
                "Debian, Ubuntu and what derives from them are.",
                code="UnsupportedSystem",
            )


def settle(handle: int, mode: int) -> None:
    """Give a file that was just written its permissions, and have it on the disk."""
    os.fchmod(handle, mode)
    os.fsync(handle)


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn errors of the file system into a failure with a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        text = "no space is left on the disk" if full else clipped(error.strerror or str(error))
        raise StargateError(f"Failed to {doing}: {text}.", code="DiskFull" if full else "CommandFailed") from error


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _rest(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return what a killed program had said; a grandchild in a session of its own may hold the pipe open."""
    try:
        return process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired as error:
        return error.stdout or b"", error.stderr or b""
