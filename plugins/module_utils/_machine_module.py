# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options and results of the modules that make machines, and what they all do in the same way, whatever the provider.

PRIVATE to the collection. Reads what is there, plans the steps, lets a provider take them. How a machine is started
or stopped is the provider's business.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._lease import Leases, Wanted, gateway
from ansible_collections.stargate.core.plugins.module_utils._machine import (
    Definition,
    Places,
    foretold,
    leased,
    load,
    released,
    save,
    write,
)

POD_CIDR = "10.244.0.0/16"
SLIRP_DNS = "10.0.2.3"
RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))

_FIELDS = {  # option -> field of the definition
    **{name: name for name in ("site", "role", "provider", "cpus", "memory", "disk", "image", "image_checksum")},
    **{name: name for name in ("kernel", "initrd", "cmdline", "network", "netns", "bridge", "cidr", "dns")},
    "admin_user": "user",
    "public_key": "public_key",
    "user_data": "user_data",
}
_KEPT = ("site", "role", "network", "netns", "bridge", "cidr")  # options that hold for a machine's whole life
_UNSHOWN = ("public_key", "user_data")


class Provider(Protocol):
    """What makes a kind of machine. All but `examine`, `pid` and `facts` is called under the machine's lock.

    `kinds` are the values of Definition.provider that it answers for, the first being its own; `defaults` is what
    it gives to new machines, by fields of the definition.
    """

    kinds: tuple[str, ...]
    defaults: Mapping[str, Any]

    def examine(self, definition: Definition) -> None:
        """Raise what stands in the way of making or starting this machine, before anything is changed."""

    def pid(self, definition: Definition) -> int:
        """Return the process of a machine that runs, else 0."""

    def renew(self, definition: Definition, instance_id: str) -> None:
        """Give a machine that does not run a fresh disk, and a seed with this instance id."""

    def start(self, definition: Definition) -> None:
        """Start a machine that does not run."""

    def stop(self, definition: Definition) -> None:
        """Stop a machine that runs."""

    def remove(self, definition: Definition) -> None:
        """Take away what is outside of the machine's directory, if anything. The definition may be a bare name."""

    def await_ssh(self, definition: Definition, seconds: float) -> None:
        """Return when the machine's SSH server answers; raise BootTimeout when it does not in time."""

    def facts(self, definition: Definition) -> dict[str, Any]:
        """Return `console`, `accel` and what else the result is to say of a machine that exists."""


@dataclass(frozen=True)
class Found:
    """A machine as it is: without definition there is none, without instance id its disk is not ready."""

    definition: Definition | None
    instance_id: str = ""
    pid: int = 0
    traces: bool = False  # whether anything at all is left of it

    @property
    def state(self) -> str:
        """Return the state in the words of the option."""
        return "absent" if self.definition is None else "running" if self.pid else "stopped"


def machine_spec(kinds: Iterable[str]) -> dict[str, Any]:
    """Return the argument spec. Nothing has a default that a definition on disk could contradict."""
    texts = ("site", "image", "image_checksum", "kernel", "initrd", "cmdline", "netns", "bridge", "cidr", "admin_user")
    return {
        "argument_spec": {
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "default": "default"},
            "state": {
                "type": "str",
                "choices": ["running", "stopped", "absent", "recreated"],
                "default": "running",
            },
            "role": {"type": "str", "choices": ["router", "worker"]},
            "provider": {"type": "str", "choices": list(kinds)},
            "machines_dir": {"type": "path"},
            "network": {"type": "str", "choices": ["user", "bridge"]},
            **{name: {"type": "int"} for name in ("cpus", "memory", "disk")},
            **{name: {"type": "str"} for name in texts},
            "dns": {"type": "list", "elements": "str"},
            "public_key": {"type": "str", "no_log": False},
            "pod_cidr": {"type": "str"},
            "user_data": {"type": "str", "no_log": True},
            "instance_id": {"type": "str"},
            "wait": {"type": "float", "default": 0.0},
        },
        "supports_check_mode": True,
    }


def finish(module: Any, provider: Provider, places: Places) -> None:
    """End an AnsibleModule whose options are those of machine_spec with its result, after the work is done."""
    result = Task(module.params, provider, places).perform(check_mode=module.check_mode)
    for sentence in result.get("drift", []):
        module.warn(f"Machine {module.params['namespace']}/{module.params['name']}: {sentence}. Recreate it to apply.")
    if result.get("failed"):
        module.fail_json(**result)
    if not module._diff:  # noqa: SLF001  # how Ansible tells its modules
        del result["diff"]
    module.exit_json(**result)


def steps(state: str, found: Found, instance_id: str) -> list[str]:
    """Return what leads from what was found to the state: stop, define, renew, start, remove.

    A machine that has the instance id already counts as recreated, which makes an act that was cut short safe to
    begin again: the instance id is written last.
    """
    stop = ["stop"] * bool(found.pid)
    if state == "absent":
        return stop + ["remove"] * found.traces
    if state == "recreated" and not (found.instance_id and found.instance_id == instance_id):
        return [*stop, "define", "renew", "start"]
    missing = ["define"] * (found.definition is None) + ["renew"] * (not found.instance_id)
    if state == "stopped":
        return stop + missing
    return (stop if missing else []) + missing + ["start"] * bool(missing or not found.pid)


def drift(definition: Definition, given: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each given field, by its option's name, that differs from the machine's definition."""
    told = []
    for option, field in _FIELDS.items():
        known = getattr(definition, field)
        if field in given and given[field] != known:
            told.append(f"{option} differs" if option in _UNSHOWN else f"{option} is {known}, not {given[field]}")
    return told


@dataclass(frozen=True)
class Task:
    """One task of a play: its options, and who carries them out."""

    params: Mapping[str, Any]
    provider: Provider
    places: Places

    @property
    def label(self) -> str:
        """Return the machine's name as sentences have it."""
        return f"{self.params['namespace']}/{self.params['name']}"

    def perform(self, *, check_mode: bool) -> dict[str, Any]:
        """Return the result: changed, machine, drift and diff, or what went wrong as failed, msg and failure."""
        taken: list[str] = []
        try:
            if check_mode:
                return self._perform(taken, foretell=True)
            with self.places.lock(self.params["namespace"], self.params["name"]):
                return self._perform(taken, foretell=False)
        except StargateError as error:
            return {"changed": bool(taken), "failed": True, "msg": error.message, "failure": error.failure()}

    def found(self) -> Found:
        """Return the machine as it is. One whose definition is broken can still be made absent."""
        namespace, name = self.params["namespace"], self.params["name"]
        directory = self.places.directory(namespace, name)
        traces = directory.exists() or self.label in self.places.peek()
        try:
            definition = load(self.places, namespace, name)
        except Invalid:
            if self.params["state"] != "absent":
                raise
            return Found(None, traces=traces)
        if definition is None:
            return Found(None, traces=traces)
        if definition.provider not in self.provider.kinds:
            raise Invalid(
                f"Failed to find machine {self.label}: it was made by the provider {definition.provider}. Make it "
                "absent with that provider's module first.",
                code="ProviderDiffers",
            )
        seed = directory / "instance-id"
        instance_id = seed.read_text(encoding="utf-8").strip() if seed.exists() else ""
        return Found(definition, instance_id, self.provider.pid(definition), traces=True)

    def wanted(self, found: Found) -> tuple[Definition, list[str]]:
        """Return the definition that the options ask for, and how the one that is there differs from it."""
        given = self._given()
        if found.definition is None:
            return self._new(given), []
        told = drift(found.definition, given)
        moved = [name for name in _KEPT if name in given and given[name] != getattr(found.definition, name)]
        if moved and self.params["state"] == "recreated":
            raise Invalid(
                f"Failed to recreate machine {self.label}: its {moved[0]} cannot change ({'; '.join(told)}). Make it "
                "absent first.",
                code="CannotMove",
            )
        return replace(found.definition, **given), told

    def _perform(self, taken: list[str], *, foretell: bool) -> dict[str, Any]:
        found, state, asked = self.found(), self.params["state"], self.params["instance_id"] or ""
        plan = steps(state, found, asked)
        if state == "absent":
            return self._remove(found, plan, taken=taken, foretell=foretell)
        definition, told = self.wanted(found)
        if found.definition and "define" not in plan:
            definition = found.definition
        elif not definition.address:
            definition = self._with_leases(definition, foretell=foretell)
        instance_id = (asked or f"{definition.name}-{uuid4().hex[:12]}") if "renew" in plan else found.instance_id
        if set(plan) - {"stop"}:
            self.provider.examine(definition)
        if not foretell:
            self._apply(plan, definition, instance_id=instance_id, taken=taken)
        left = [] if "define" in plan else told
        after = replace(found, definition=definition, instance_id=instance_id)
        name = "stopped" if state == "stopped" else "running"
        diff = {"before": _shown(found, found.state), "after": _shown(after, name)}
        machine = self._machine(definition, instance_id, name)
        return {"changed": bool(plan), "machine": machine, "drift": left, "diff": diff}

    def _apply(self, plan: list[str], definition: Definition, *, instance_id: str, taken: list[str]) -> None:
        directory = self.places.directory(definition.namespace, definition.name)
        for step in plan:
            taken.append(step)
            if step == "stop":
                self.provider.stop(definition)
            elif step == "define":
                save(self.places, definition)
            elif step == "renew":
                (directory / "instance-id").unlink(missing_ok=True)
                self.provider.renew(definition, instance_id)
                write(directory / "instance-id", instance_id + "\n")
            else:
                self.provider.start(definition)
        if self.params["state"] != "stopped" and self.params["wait"] > 0:
            self.provider.await_ssh(definition, self.params["wait"])

    def _remove(self, found: Found, plan: list[str], *, taken: list[str], foretell: bool) -> dict[str, Any]:
        namespace, name = self.params["namespace"], self.params["name"]
        kind = self.provider.kinds[0]
        definition = found.definition or Definition(name, namespace, self.params["site"] or name, kind, "worker")
        if plan and not foretell:
            taken.extend(plan)
            if found.pid:
                self.provider.stop(definition)
            self.provider.remove(definition)
            directory = self.places.directory(namespace, name)
            shutil.rmtree(directory, ignore_errors=not directory.exists())
            released(self.places, namespace, name)
        machine = {"name": name, "namespace": namespace, "provider": definition.provider, "state": "absent"}
        diff = {"before": _shown(found, found.state), "after": _shown(Found(None), "absent")}
        return {"changed": bool(plan), "machine": machine, "drift": [], "diff": diff}

    def _given(self) -> dict[str, Any]:
        given = {field: self.params[option] for option, field in _FIELDS.items() if self.params[option] is not None}
        if "public_key" in given:
            given["public_key"] = given["public_key"].strip()
        return given

    def _new(self, given: Mapping[str, Any]) -> Definition:
        fields = {"provider": self.provider.kinds[0], **self.provider.defaults, **given}
        if fields.get("role") == "router":
            fields.setdefault("site", self.params["name"])
        for option in ("role", "site", "image", "public_key"):
            if not fields.get(option):
                raise Invalid(f"Failed to define machine {self.label}: it is new and {option} is not set.")
        if (fields["role"] == "router") != (fields["site"] == self.params["name"]):
            raise Invalid(
                f"Failed to define machine {self.label}: a site is named after its router, but the {fields['role']} "
                f"{self.params['name']} is to be of site {fields['site']}."
            )
        self.places.site(self.params["namespace"], fields["site"])  # refuses what is no name
        if len(fields["public_key"].splitlines()) != 1:
            raise Invalid(f"Failed to define machine {self.label}: public_key is not one line.")
        definition = Definition(name=self.params["name"], namespace=self.params["namespace"], **fields)
        return definition if definition.dns else replace(definition, dns=_resolvers(definition.network))

    def _with_leases(self, definition: Definition, *, foretell: bool) -> Definition:
        base = self.params["pod_cidr"] or POD_CIDR
        names = ("namespace", "name", "site", "role", "network", "cidr", "netns", "bridge")
        wanted = Wanted(pod_cidr=base, **{name: getattr(definition, name) for name in names})
        leases: Leases = (foretold if foretell else leased)(self.places, wanted)
        held = {key: value for key, value in asdict(leases).items() if key not in ("segment", "cidr")}
        return replace(definition, gateway=gateway(wanted), **held)

    def _machine(self, definition: Definition, instance_id: str, state: str) -> dict[str, Any]:
        directory = self.places.directory(definition.namespace, definition.name)
        public = directory / "hostkey.pub"
        keys = [" ".join(public.read_text(encoding="utf-8").split()[:2])] if public.exists() else []
        names = ("name", "namespace", "site", "role", "provider", "address", "mac", "port", "pod_cidr")
        return {
            **{name: getattr(definition, name) for name in names},
            "state": state,
            "host_keys": keys,
            "pid": self.provider.pid(definition),
            "directory": str(directory),
            "instance_id": instance_id,
            **self.provider.facts(definition),
        }


def _shown(found: Found, state: str) -> dict[str, Any]:
    """Return what a diff has of a machine."""
    if found.definition is None:
        return {"state": state}
    known = {key: value for key, value in asdict(found.definition).items() if key not in _UNSHOWN}
    return {"state": state, "instance_id": found.instance_id, **known}


def _resolvers(network: str) -> list[str]:
    """Return whom a new machine asks for names: the user-mode network's own server, else the host's, if usable."""
    if network == "user":
        return [SLIRP_DNS]
    for path in RESOLVERS:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        servers = [words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver"]
        usable = [server for server in servers if not ip_address(server.partition("%")[0]).is_loopback]
        if usable:
            return usable
    return []
