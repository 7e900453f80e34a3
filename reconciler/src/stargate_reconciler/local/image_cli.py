# SPDX-License-Identifier: Apache-2.0
"""`stargate-machine-image`: the image that Stargate's local machines boot from, built, found, listed and removed.

Only reads arguments and environment and decides on exit codes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from stargate_reconciler.errors import ReconcilerError, UserError
from stargate_reconciler.local.image import Images
from stargate_reconciler.local.image_programs import programs_of
from stargate_reconciler.local.image_recipe import Recipe
from stargate_reconciler.local.places import Places
from stargate_reconciler.local.progress import Progress
from stargate_reconciler.local.release import architecture

PROGRAM = "stargate-machine-image"
NOT_BUILT = 3

_EPILOG = f"""
exit codes: 0 done; 1 failed; 2 wrong arguments; {NOT_BUILT} no image (path, list); 130 interrupted

environment:
  STARGATE_CACHE_DIR      where images and programs are kept (default ~/.cache/stargate)
  STARGATE_DEBIAN_MIRROR  where Debian's packages come from (default: as this machine's apt has it); a second address
                          behind it is for the security updates
  STARGATE_KUBE_MIRROR, STARGATE_KUBE_BIN_DIR as for stargate-control-plane

An image holds Debian 12 with systemd, cloud-init, sshd and containerd, Kubernetes in two patch versions below
/opt/stargate/kubernetes (not installed), and a sandbox image for containerd. QEMU boots disk.qcow2 with vmlinuz and
initrd, systemd-nspawn boots root/.
"""


@dataclass(frozen=True)
class Call:
    """One call of the program, read and understood."""

    places: Places
    progress: Progress
    mirror: str = ""
    version: str | None = None
    single: bool = False
    again: bool = False
    names: tuple[str, ...] = ()
    output: str = ""

    @property
    def images(self) -> Images:
        """The images of the cache."""
        return Images(self.places.cache / "images", self.progress)

    def show(self, answer: object, text: str) -> None:
        """Print an answer as JSON when that was asked for, else as text."""
        print(json.dumps(answer, indent=1) if self.output == "json" else text, flush=True)


def build(call: Call) -> int:
    """Build the image when it is not there; its directory is the last line."""
    started = time.monotonic()
    kubernetes = programs_of(call.places, call.progress, version=call.version, single=call.single)
    recipe = Recipe(architecture(), kubernetes)
    image = call.images.build(recipe, mirror=call.mirror, again=call.again)
    call.progress.note(f"Debian with Kubernetes {' and '.join(kubernetes)}: {time.monotonic() - started:.0f} s")
    call.show(image.facts, str(image.directory))
    return 0


def path(call: Call) -> int:
    """Print the directory of the current image."""
    image = call.images.find()
    if image is None:
        call.progress.note(f"there is no image in {call.images.directory}; {PROGRAM} build makes one")
        return NOT_BUILT
    call.show(image.facts, str(image.directory))
    return 0


def list_(call: Call) -> int:
    """List the images with what is in them."""
    current = call.images.find()
    rows = [image.facts | {"current": image == current} for image in call.images.all()]
    lines = [
        f"{'*' if row['current'] else ' '} {row['name']}-{row['digest']}  Debian {row['debian']}  "
        f"Kubernetes {', '.join(row['kubernetes']) or 'none'}  {row['built']}"
        for row in rows
    ]
    call.show([{name: value for name, value in row.items() if name != "packages"} for row in rows], "\n".join(lines))
    return 0 if rows else NOT_BUILT


def remove(call: Call) -> int:
    """Remove images by name, or all of them; machines made from one do not start any more."""
    names = list(call.names)
    if names == ["all"]:
        names = [image.directory.name for image in call.images.all()]
    if not names:
        raise UserError("Failed to remove an image: none is named. Name some as list shows them, or say all.")
    removed = call.images.remove(names)
    call.show(removed, "\n".join(removed))
    return 0


COMMANDS: dict[str, Callable[[Call], int]] = {"build": build, "path": path, "list": list_, "remove": remove}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    about = "The image that local machines boot from: Debian 12 with cloud-init, containerd and Kubernetes beside it."
    top = argparse.ArgumentParser(
        PROGRAM, description=about, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        text = (command.__doc__ or "").rstrip(".")
        one = commands.add_parser(name, help=text, description=f"{text}.")
        one.add_argument("-o", "--output", choices=["json"], default="", help="for machines")
        if command is build:
            one.add_argument(
                "--mirror", metavar="URL", help="where Debian's packages come from [STARGATE_DEBIAN_MIRROR]"
            )
            one.add_argument("--kube-version", metavar="VERSION", help="version of Kubernetes (default: what is found)")
            text = "only that version; without, a second patch version is put beside it, to upgrade to"
            one.add_argument("--single", action="store_true", help=text)
            one.add_argument("--again", action="store_true", help="also when it is there: with today's Debian packages")
        if command is remove:
            one.add_argument("name", nargs="*", help="as list shows it, or all")
    return top


def read(argv: Sequence[str]) -> tuple[Callable[[Call], int], Call]:
    """Return the command and the call that arguments and environment ask for; exits with 2 when they are wrong."""
    given = vars(parser().parse_args(argv))
    call = Call(
        places=Places.read(os.environ),
        progress=Progress(sys.stderr, prefix=PROGRAM),
        mirror=given.get("mirror") or os.environ.get("STARGATE_DEBIAN_MIRROR", ""),
        version=(given.get("kube_version") or "").removeprefix("v") or None,
        single=given.get("single", False),
        again=given.get("again", False),
        names=tuple(given.get("name") or ()),
        output=given["output"],
    )
    return COMMANDS[given["command"]], call


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
        call.progress.note(f"Failed: {error}. Is {call.places.cache} yours, with room on its disk?")
        return 1
    except KeyboardInterrupt:
        call.progress.note("interrupted; nothing is left of an image that was being built")
        return 130


if __name__ == "__main__":
    sys.exit(main())
