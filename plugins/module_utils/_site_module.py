# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of stargate.core.site, and from options to a result.

PRIVATE to the collection. The only place that turns a site's errors into a result with `failed` and `failure`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils import _site_files as files
from ansible_collections.stargate.core.plugins.module_utils import _site_view as view
from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid, StargateError
from ansible_collections.stargate.core.plugins.module_utils._machine import Places
from ansible_collections.stargate.core.plugins.module_utils._site import Site, names, planned, refuse

_TEXTS = ("router_name", "qemu_image_url", "qemu_image_checksum", "qemu_image_kernel", "qemu_image_initrd")
_MORE_TEXTS = ("nspawn_image", "netns", "ssh_public_key", "ssh_private_key", "kubeconfig", "outputs_dir")
INPUTS: dict[str, dict[str, Any]] = {
    "provider": {"type": "str", "default": ""},
    "namespace": {"type": "str", "default": "simulator-dc"},
    "vm": {"type": "raw"},
    **{name: {"type": "str", "default": "", "no_log": False} for name in (*_TEXTS, *_MORE_TEXTS)},
    "qemu_cpus": {"type": "int", "default": 2},
    "qemu_memory": {"type": "int", "default": 4096},
    "qemu_disk": {"type": "int", "default": 20},
    "qemu_subnet_cidr": {"type": "str", "default": "192.168.100.0/24"},
    "qemu_work_dir": {"type": "str", "default": ""},
    "pod_cidr": {"type": "str", "default": "10.244.0.0/16"},
    "admin_username": {"type": "str", "default": "ubuntu"},
    "network": {"type": "str", "choices": ["", "user", "bridge"], "default": ""},
    "definition": {"type": "str", "choices": ["qemu", "libvirt"], "default": "qemu"},
    "skip_server_cr": {"type": "bool", "default": False},
    "boot_timeout": {"type": "float", "default": 600.0},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
SITE_SPEC: dict[str, Any] = {
    "argument_spec": {
        "state": {"type": "str", "choices": ["planned", "present", "read", "absent"], "required": True},
        "inputs": {"type": "dict", "required": True, "options": INPUTS},
        "machines": {"type": "list", "elements": "dict"},
    },
    "required_if": [("state", "present", ("machines",))],
}


def perform(params: Mapping[str, Any], environ: Mapping[str, str], *, check_mode: bool) -> dict[str, Any]:
    """Return the result of one task: changed, site and what belongs to the state; or failed, msg and failure."""
    try:
        task = Task(params["inputs"], environ, check_mode)
        if params["state"] == "planned":
            return task.plan()
        if params["state"] == "present":
            return task.write(params["machines"])
        return task.read() if params["state"] == "read" else task.remove()
    except StargateError as error:
        return failed(error)


def failed(error: StargateError) -> dict[str, Any]:
    """Return the part of a result that says what went wrong."""
    return {"changed": False, "failed": True, "msg": error.message, "failure": error.failure()}


class Task:
    """One task of a play about one site."""

    def __init__(self, inputs: Mapping[str, Any], environ: Mapping[str, str], check_mode: bool) -> None:
        """Keep the input; nothing is read yet."""
        self.inputs = inputs
        self.environ = environ
        self.check_mode = check_mode
        option = inputs["qemu_work_dir"] or environ.get("STARGATE_MACHINES_DIR")
        self.places = Places.chosen(option or None)

    def plan(self) -> dict[str, Any]:
        """Check everything that can be checked before anything is made; make the key pair where there is none."""
        facts = files.facts(self.places, self.inputs["namespace"], self.environ)
        site = planned(self.inputs, facts)
        kubeconfig = self._kubeconfig()
        pair = files.key_pair(
            self.inputs, self._directory(site.name), files.home(self.environ), check_mode=self.check_mode
        )
        return {"changed": pair.is_new, "site": self._told(site, pair, kubeconfig)}

    def write(self, machines: list[dict[str, Any]]) -> dict[str, Any]:
        """Write the SSH files, the outputs and the record of a site whose machines exist."""
        plan = self.plan()["site"]
        config, known = view.ssh_files(plan, machines, plan["paths"])
        outputs = view.outputs(plan, machines, plan["paths"])
        found = view.servers(plan, machines)
        wanted = {
            Path(plan["paths"]["ssh_config"]): config,
            Path(plan["paths"]["known_hosts"]): known,
            Path(plan["paths"]["json"]): view.json_text(outputs),
            Path(plan["paths"]["env"]): view.env_text(outputs),
            Path(plan["paths"]["directory"]) / files.RECORD: view.json_text(self._record(plan)),
        }
        diff = files.differences(wanted)
        if diff and not self.check_mode:
            files.write_all(wanted)
        return {"changed": bool(diff), "diff": diff, "site": plan, "servers": found, "outputs": outputs}

    def read(self) -> dict[str, Any]:
        """Return what there is of a site: machines, the workers first, and paths."""
        if not self.inputs["provider"] and not self.inputs["router_name"]:
            refuse([("InvalidInput", "neither provider nor router_name says which site is meant.")], "read the input")
        namespace, chosen = self.inputs["namespace"], names(self.inputs, self.environ.get("DEPLOY_NUM", ""))
        router = chosen["router_name"]
        directory = self._directory(router)
        machines = self._chosen([m for m in self.places.machines(namespace, router) if m.namespace == namespace])
        workers = {m.name for m in self.places.machines(namespace, router) if m.role == "worker"}
        whole = workers <= {name for name, __, __ in machines}
        listed = [{"name": n, "role": r, "provider": p} for n, r, p in machines if whole or r == "worker"]
        known = files.record(directory)
        paths = files.leftovers(directory) if whole else []
        site = {
            "name": router,
            "namespace": namespace,
            "whole": whole,
            "provider": known.get("provider") or self.inputs["provider"] or next((p for __, __, p in machines), ""),
            "definition": known.get("definition") or self.inputs["definition"],
            "machines_dir": str(self.places.machines_dir),
            "kubeconfig": self._kubeconfig(),
        }
        shown = [f"machine {machine['name']}" for machine in listed] + paths
        # An empty name stands for every Server that the site has made, those of machines that are gone included.
        servers = [""] if whole else [machine["name"] for machine in listed]
        found = {"site": site, "machines": listed, "servers": servers, "paths": paths, "list": shown}
        return {"changed": False, **found}

    def remove(self) -> dict[str, Any]:
        """Remove the site's files; its machines have to be gone."""
        found = self.read()
        if found["machines"]:
            standing = ", ".join(machine["name"] for machine in found["machines"])
            raise Invalid(f"Failed to remove the files of site {found['site']['name']}: {standing} still exist.")
        if found["paths"] and not self.check_mode:
            files.remove(self._directory(found["site"]["name"]))
        return {**found, "changed": bool(found["paths"])}

    def _chosen(self, machines: list[Any]) -> list[tuple[str, str, str]]:
        """Return name, role and provider of the machines that vm names, of all when it names none; workers first."""
        asked = names({**self.inputs, "provider": "x"})["vm"] if self.inputs["vm"] else None
        kept = [m for m in machines if asked is None or m.role == "router" or m.name in asked]
        return sorted(((m.name, m.role, m.provider) for m in kept), key=lambda m: (m[1] == "router", m[0]))

    def _directory(self, site: str) -> Path:
        return self.places.site(self.inputs["namespace"], site)

    def _kubeconfig(self) -> str:
        path = files.kubeconfig(self.inputs["kubeconfig"], self.environ)
        found = any(files.kind_of(part) == "file" for part in path.split(os.pathsep))
        if path and not self.inputs["skip_server_cr"] and not found:
            sentence = f"kubeconfig is {path}, and no such file is there. Check KUBECONFIG, or say skip_server_cr=true."
            refuse([("KubeconfigMissing", sentence)], "read the input")
        return path

    def _told(self, site: Site, pair: files.KeyPair, kubeconfig: str) -> dict[str, Any]:
        directory = self._directory(site.name)
        outputs = Path(self.inputs["outputs_dir"] or directory).expanduser().absolute()
        paths = {
            "directory": str(directory),
            "machines_dir": str(self.places.machines_dir),
            "ssh_config": str(directory / "ssh_config"),
            "known_hosts": str(directory / "known_hosts"),
            "private_key": pair.private_path,
            "public_key": pair.public_path,
            "json": str(outputs / f"{site.name}.json"),
            "env": str(outputs / f"{site.name}.env"),
            "kubeconfig": kubeconfig,
        }
        return {**site.as_dict(), "public_key": pair.public_key, "paths": paths}

    def _record(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        paths = plan["paths"]
        before = files.record(Path(paths["directory"])).get("outputs", [])
        outputs = sorted({*before, paths["json"], paths["env"]})
        known = {key: plan[key] for key in ("name", "namespace", "provider", "definition", "router", "workers")}
        keys = {"ssh_private_key": paths["private_key"], "ssh_public_key": paths["public_key"]}
        return {**known, **keys, "outputs": outputs}
