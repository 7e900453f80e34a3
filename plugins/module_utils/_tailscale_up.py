# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's own part in a tailnet, through the tailscale program: is it in, and what does it offer?

PRIVATE to the collection. What the tailnet's owner approves is asked of the service's API, elsewhere.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, Invalid, StargateError, Timeout
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done, Host

MEMORY = "/run"  # a tmpfs: what is written here never reaches a disk


@dataclass(frozen=True)
class Membership:
    """What a machine does in a tailnet. `routes` are all networks that it offers."""

    routes: tuple[str, ...] = ()
    accept_routes: bool = True
    snat: bool = True
    hostname: str = ""
    login_server: str = ""

    def flags(self) -> list[str]:
        """Return the flags that `tailscale set` and `tailscale up` share."""
        words = [
            f"--advertise-routes={','.join(self.routes)}",
            f"--accept-routes={str(self.accept_routes).lower()}",
            f"--snat-subnet-routes={str(self.snat).lower()}",
        ]
        return [*words, f"--hostname={self.hostname}"] if self.hostname else words


@dataclass(frozen=True)
class Found:
    """What the machine is now; `membership` is what it was told before, in or not."""

    is_in: bool
    membership: Membership
    addresses: tuple[str, ...] = ()
    name: str = ""

    def told(self) -> dict[str, Any]:
        """Return it for a result."""
        known = {"joined": self.is_in, "addresses": list(self.addresses), "name": self.name}
        return {**known, **asdict(self.membership), "routes": list(self.membership.routes)}


def found(host: Host) -> Found:
    """Return what tailscaled says of itself."""
    status = json.loads(_must(host.run(["tailscale", "status", "--json"]), "ask tailscaled"))
    prefs = json.loads(_must(host.run(["tailscale", "debug", "prefs"]), "ask tailscaled"))
    own = status.get("Self") or {}
    return Found(
        is_in=status.get("BackendState") == "Running",
        membership=Membership(
            routes=tuple(sorted(prefs.get("AdvertiseRoutes") or ())),
            accept_routes=bool(prefs.get("RouteAll")),
            snat=not prefs.get("NoSNAT"),
            hostname=prefs.get("Hostname") or "",
            login_server=prefs.get("ControlURL") or "",
        ),
        addresses=tuple(own.get("TailscaleIPs") or ()),
        name=(own.get("DNSName") or "").rstrip("."),
    )


def plan(before: Found, wanted: Membership) -> str:
    """Return "up" for a machine that is out, "set" for one that offers something else, "" when all is right."""
    if not before.is_in:
        return "up"
    now = before.membership
    same = (
        now.routes == tuple(sorted(wanted.routes))
        and (now.accept_routes, now.snat) == (wanted.accept_routes, wanted.snat)
        and wanted.hostname in ("", now.hostname)
    )
    return "" if same else "set"


def apply(host: Host, verb: str, wanted: Membership, *, auth_key: str, timeout: int) -> None:
    """Carry out what was planned. The key is given in a file that nobody else can read, and that is gone after."""
    if verb == "set":
        _must(host.run(["tailscale", "set", *wanted.flags()]), "change the machine's part in the tailnet")
        return
    if not auth_key:
        raise Invalid("Failed to join the tailnet: the machine is not in it, and no auth key is given.")
    with tempfile.TemporaryDirectory(dir=host.path(MEMORY), prefix="stargate-") as scratch:
        path = Path(scratch) / "auth-key"
        path.touch(0o600)
        path.write_text(auth_key, encoding="utf-8")
        server = [f"--login-server={wanted.login_server}"] if wanted.login_server else []
        command = ["tailscale", "up", "--reset", f"--auth-key=file:{path}", f"--timeout={timeout}s", *server]
        done = host.run([*command, *wanted.flags()], timeout=timeout + 15)
    _must(_hushed(done, auth_key), "join the tailnet")


def refuse_unfit(routes: Sequence[str], auth_key: str) -> None:
    """Refuse what tailscale would take for something else."""
    if any("," in route or route.startswith("-") for route in routes) or len(auth_key.split()) > 1:
        raise Invalid("Failed to read the task's options: a route or the auth key is not one word.")


def _must(done: Done, doing: str) -> str:
    if done.code == 127:
        raise Invalid(
            f"Failed to {doing}: the program tailscale is not installed. Install the package tailscale.",
            code="ProgramMissing",
        )
    if done.ok:
        return done.out
    said = done.last_words
    if done.code is None or "timeout" in said:
        raise Timeout(f"Failed to {doing}: no answer in time. Can the machine reach the login server?", details=said)
    if "invalid key" in said or "expired" in said or "not valid" in said:
        raise Denied(f"Failed to {doing}: the auth key is not accepted. Make a new one.", details=said)
    raise StargateError(f"Failed to {doing}: {said or 'no word why'}.", code="TailscaleFailed", details=said)


def _hushed(done: Done, secret: str) -> Done:
    return Done(done.code, done.out.replace(secret, "********"), done.err.replace(secret, "********"))
