# SPDX-License-Identifier: Apache-2.0
"""`stargate-control-plane`: a local Kubernetes API to try things against, started, looked at and stopped.

Only this file of the package reads the environment and decides on exit codes.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from stargate_reconciler.errors import ReconcilerError, UserError
from stargate_reconciler.local.binaries import directory_of, obtain, obtain_stamped
from stargate_reconciler.local.control_plane import ControlPlane
from stargate_reconciler.local.flags import Joinable
from stargate_reconciler.local.locks import locked
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.processes import wait_until_gone
from stargate_reconciler.local.programs import (
    ETCD_VERSION,
    EVERYTHING,
    KUBERNETES_VERSION,
    NEEDED,
    WITH_CONTROLLERS,
    Request,
)
from stargate_reconciler.local.progress import Progress

PROGRAM = "stargate-control-plane"
NOT_RUNNING = 3

_EPILOG = f"""
exit codes: 0 done; 1 failed; 2 wrong arguments; {NOT_RUNNING} not running (status, kubeconfig); 130 interrupted

environment:
  STARGATE_STATE_DIR      where it keeps its files (default $XDG_STATE_HOME/stargate or ~/.local/state/stargate)
  STARGATE_CACHE_DIR      where fetched and built programs are kept (default ~/.cache/stargate)
  STARGATE_KUBE_BIN_DIR   directory with etcd, kube-apiserver, kubectl; asked first, then PATH, then the cache
  STARGATE_KUBE_MIRROR    replaces https://dl.k8s.io/release; file:///directory works too
  STARGATE_ETCD_MIRROR    replaces the release downloads of etcd on GitHub; file:///directory works too

Programs that are not found are downloaded (Kubernetes {KUBERNETES_VERSION}, etcd {ETCD_VERSION}, checked against their
published SHA-256), or on Debian built from the archive's source package.
"""


@dataclass(frozen=True)
class Call:
    """One call of the program, read and understood."""

    places: Places
    progress: Progress
    port: int | None = None
    controllers: bool = False
    joinable: Joinable | None = None
    version: str | None = None
    keep: bool = False
    output: str = ""
    programs: tuple[str, ...] = NEEDED
    stamp: str = ""

    def plane(self, *, bound: bool = False) -> ControlPlane:
        """Return the control plane of the state directory."""
        return ControlPlane(self.places.state / "control-plane", bound=bound)

    def as_before(self) -> Call:
        """Return this call for a control plane that machines may join if its kept one was such: they come back."""
        settings = self.plane().settings
        return self if self.joinable or settings is None else replace(self, joinable=settings.joinable)

    def obtain(self) -> dict[str, Path]:
        """Return the programs, fetched or built when they are not here."""
        more = WITH_CONTROLLERS if self.controllers or self.joinable else ()
        wanted = tuple(dict.fromkeys((*self.programs, *more)))
        return obtain(Request(wanted, self.places, self.version, self.progress))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the state directory, and remove that when nothing is left in it."""
        note = f"waiting: another {PROGRAM} is at work in {self.places.state}"
        with locked(self.places.state, waiting=lambda: self.progress.note(note)):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # not empty
                    self.places.state.rmdir()


def up(call: Call) -> int:
    """Start in the background, or mend; the kubeconfig's path is the last line."""
    plane, call = call.plane(), call.as_before()
    started = time.monotonic()
    before = plane.status()
    if before.state != "stopped" and call.version not in (None, before.version):
        raise UserError(f"Failed to start Kubernetes {call.version}: {before.version} runs. Stop it first (down).")
    kept = plane.settings
    is_other = kept is None or kept.joinable != call.joinable
    if before.state != "running" or call.controllers or call.port or is_other:
        programs = call.obtain()
        with call.lock(), call.progress.step("starting etcd and kube-apiserver"):
            started = time.monotonic()
            changed = plane.start(programs, port=call.port, controllers=call.controllers, joinable=call.joinable)
    else:
        changed = False
    status = plane.status()
    done = f"ready in {time.monotonic() - started:.1f} s" if changed else "runs already"
    call.progress.note(f"{done}: Kubernetes {status.version} on {status.url}")
    if status.endpoint:
        call.progress.note(f"machines join it at {status.endpoint}")
    call.progress.note(f"export KUBECONFIG={plane.kubeconfig}")
    print(plane.kubeconfig)
    return 0


def down(call: Call) -> int:
    """Stop it and remove its files."""
    plane = call.plane()
    with call.lock():
        with call.progress.step("stopping"):
            was_running = plane.stop()
        if not call.keep:
            plane.remove()
    call.progress.note("stopped" if was_running else "was not running")
    return 0


def status(call: Call) -> int:
    """Show how it is."""
    found = call.plane().status()
    if call.output == "json":
        print(json.dumps(found.as_dict(), indent=2))
    else:
        print(f"{found.state}{f': {found.message}' if found.message else ''}")
        for name, pid in found.processes.items():
            print(f"  {name:24}{f'pid {pid}' if pid else 'does not run'}")
        rows = {
            "address": found.url,
            "joinable at": found.endpoint,
            "version": found.version,
            "kubeconfig": found.kubeconfig,
        }
        print("".join(f"  {name:24}{value}\n" for name, value in rows.items() if value), end="")
    return 0 if found.state == "running" else NOT_RUNNING


def run(call: Call) -> int:
    """Run in the foreground until Ctrl-C or SIGTERM, then stop everything and remove its files."""
    plane = call.plane(bound=True)
    if plane.status().state != "stopped":
        raise UserError(f"Failed to run: a control plane runs in {call.places.state} already. Stop it first (down).")
    call = replace(call.as_before(), keep=call.keep or plane.directory.exists())
    programs = call.obtain()
    try:
        with call.lock(), call.progress.step("starting etcd and kube-apiserver"):
            plane.start(programs, port=call.port, controllers=call.controllers, joinable=call.joinable)
        call.progress.note(f"ready on {plane.status().url}; Ctrl-C stops it")
        print(plane.kubeconfig, flush=True)
        settings = plane.settings
        names = settings.names if settings else ()
        gone = wait_until_gone([plane.process(name) for name in names], seconds=math.inf)
        time.sleep(0.5)  # who stops it from elsewhere takes the pidfile away
        if gone is not None and gone.pidfile.exists():
            raise UserError(f"Failed to keep running: {gone.name} died. The last lines of its log:\n{gone.tail()}")
        call.progress.note("stopped from elsewhere")
    except KeyboardInterrupt:
        call.progress.note("stopping")
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        with call.lock():
            plane.stop()
            if not call.keep:
                plane.remove()
    return 0


def binaries(call: Call) -> int:
    """Obtain the programs only; the directory with all of them is the last line."""
    if call.stamp:
        found = obtain_stamped(Request(call.programs, call.places, call.version, call.progress), call.stamp)
    else:
        found = call.obtain()
    print(directory_of(found, call.places))
    return 0


def kubeconfig(call: Call) -> int:
    """Print the path of the kubeconfig."""
    plane = call.plane()
    if plane.status().state == "stopped":
        call.progress.note(f"nothing runs in {call.places.state}; {PROGRAM} up starts it")
        return NOT_RUNNING
    print(plane.kubeconfig)
    return 0


COMMANDS: tuple[Callable[[Call], int], ...] = (up, down, status, run, binaries, kubeconfig)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    about = "A local Kubernetes API: etcd and kube-apiserver as processes on loopback, without root."
    top = argparse.ArgumentParser(
        PROGRAM, description=about, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        text = (command.__doc__ or "").rstrip(".")
        one = commands.add_parser(command.__name__, help=text, description=f"{text}.")
        one.add_argument("--state-dir", type=Path, metavar="DIR", help="where it keeps its files [STARGATE_STATE_DIR]")
        if command in (up, run):
            one.add_argument("--port", type=_port, help="port of the API on 127.0.0.1 (default: a free one)")
            _add_joinable(one)
        if command in (up, run, binaries):
            text = "also kube-controller-manager and kube-scheduler"
            one.add_argument("--with-controllers", action="store_true", help=text)
            text = f"exactly this version of Kubernetes, such as {KUBERNETES_VERSION} (default: what is found)"
            one.add_argument("--kube-version", type=_version, metavar="VERSION", help=text)
        if command in (down, run):
            one.add_argument("--keep", action="store_true", help="keep its files: data, keys and logs")
        if command is status:
            one.add_argument("-o", "--output", choices=["json"], default="", help="for machines")
        if command is binaries:
            text = "build Debian's source of Kubernetes so that it says it is this patch version, to try upgrades with"
            one.add_argument("--stamp", type=_version, metavar="VERSION", help=text)
            one.add_argument("program", nargs="*", help=f"one of {', '.join(EVERYTHING)}; all (default: what up needs)")
    return top


def _add_joinable(parser: argparse.ArgumentParser) -> None:
    text = "machines can become its Nodes with kubeadm join; brings the controllers along"
    parser.add_argument("--joinable", action="store_true", help=text)
    text = f"address under which machines reach it (default: {Joinable.advertise}, this machine's loopback for QEMU)"
    parser.add_argument("--advertise", type=_outside, metavar="ADDRESS", help=text)
    text = f"address on which it listens (default: {Joinable.bind})"
    parser.add_argument("--bind", type=_address, metavar="ADDRESS", help=text)
    text = "another name or address for its certificate; may be given several times"
    parser.add_argument("--san", action="append", metavar="NAME", help=text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no IPv4 address") from error


def _outside(text: str) -> str:
    address = ipaddress.IPv4Address(_address(text))
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        raise argparse.ArgumentTypeError(
            f"machines cannot reach {text}: use an address of this machine on their network"
        )
    return text


def _joinable(top: argparse.ArgumentParser, given: Mapping[str, Any]) -> Joinable | None:
    values = {name: given.get(name) for name in ("advertise", "bind", "san")}
    if not given.get("joinable"):
        if wrong := [name for name, value in values.items() if value]:
            top.error(f"--{wrong[0]} says how machines join: use it with --joinable")
        return None
    advertise, bind = values["advertise"] or Joinable.advertise, values["bind"] or Joinable.bind
    return Joinable(advertise, bind, tuple(values["san"] or ()))


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: use 1 to 65535")
    return value


def _version(text: str) -> str:
    match = re.fullmatch(r"v?(\d+\.\d+\.\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no version such as {KUBERNETES_VERSION}")
    return match[1]


def read(argv: Sequence[str]) -> tuple[Callable[[Call], int], Call]:
    """Return the command and the call that arguments and environment ask for; exits with 2 when they are wrong."""
    top = parser()
    given = vars(top.parse_args(argv))
    places = Places.read(os.environ)
    if given["state_dir"]:
        places = replace(places, state=given["state_dir"].absolute())
    programs = tuple(given.get("program") or NEEDED)
    if programs == ("all",):
        programs = EVERYTHING
    if unknown := [name for name in programs if name not in EVERYTHING]:
        top.error(f"there is no program {unknown[0]}; choose of {', '.join(EVERYTHING)}, or all")
    call = Call(
        places=places,
        progress=Progress(sys.stderr, prefix=PROGRAM),
        port=given.get("port"),
        controllers=given.get("with_controllers", False),
        joinable=_joinable(top, given),
        version=given.get("kube_version"),
        keep=given.get("keep", False),
        output=given.get("output", ""),
        programs=programs,
        stamp=given.get("stamp") or "",
    )
    return next(command for command in COMMANDS if command.__name__ == given["command"]), call


def _interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code."""
    command, call = read(sys.argv[1:] if argv is None else argv)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    try:
        return command(call)
    except ReconcilerError as error:
        call.progress.note(str(error))
        return 1
    except OSError as error:  # a directory that cannot be written, a full disk
        call.progress.note(
            f"Failed to {command.__name__}: {error}. Is {call.places.state} yours, with room on its disk?"
        )
        return 1
    except KeyboardInterrupt:
        call.progress.note("interrupted")
        return 130


if __name__ == "__main__":
    sys.exit(main())
