# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: servers
short_description: Hosts and groups from Stargate Servers
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
description:
  - Makes a host of every Server in a Kubernetes cluster, or of every Server in a snapshot file.
  - A host is named C(<name>.<namespace>), so Servers of the same name in two namespaces are two hosts.
  - Every host is in the groups C(namespace_<namespace>), C(provider_<provider>), C(state_<state>) and
    C(profile_<profile>), with C(unknown) where the Server says nothing and C(_) for characters that a group's name
    cannot have.
  - Every host has the variables C(stargate_name), C(stargate_namespace), C(stargate_uid), C(stargate_provider),
    C(stargate_state), C(stargate_node_name), C(stargate_server) (the whole object), C(stargate_profile) (the whole
    ProvisioningProfile of the same namespace that the Server names, C({}) when there is none), C(stargate_operation)
    (C({}) unless the reconciler runs the play), C(stargate_strategy) (how it is repaved) and C(stargate_dc) (name,
    url, token_file and ca_file of its datacenter API, C({}) when there is none).
  - The group C(all) has C(stargate_kubeconfig) and C(stargate_kube_context), where the Servers come from, each only
    when it was given; plays that act on Nodes act on that cluster. The reconciler adds C(stargate_defaults), with what
    profiles may leave out.
  - C(ansible_host), C(ansible_port) and C(ansible_user) come from the Server and its profile, and a Server with
    C(spec.routerIP) is reached through that router, at C(spec.routerPort), by C(ansible_ssh_common_args). A Server
    without an address, or with a malformed one, gets an C(ansible_host) that never resolves, and a warning names the
    malformed value.
  - C(metadata.managedFields) and kubectl's C(last-applied-configuration) annotation are left out of the objects.
  - Nothing in a Server or profile is ever rendered as a template, whatever is written there.
requirements:
  - The Python package kubernetes, unless O(snapshot) is set.
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Marks the file as a source for this plugin.
    type: str
    required: true
    choices:
      - stargate.core.servers
  kubeconfig:
    description:
      - The kubeconfig file of the cluster, or several joined by C(:). A relative path starts where Ansible was started.
      - C(~/.kube/config) when it is not set, and the service account's access when that does not exist and Ansible
        runs in a pod.
    type: str
    env:
      - name: KUBECONFIG
  context:
    description: The context in the kubeconfig. The current one when it is not set.
    type: str
  namespaces:
    description: The namespaces whose Servers are wanted. All of the cluster when the list is empty.
    type: list
    elements: str
    default: []
  label_selector:
    description: A Kubernetes label selector, for example C(rack=r1,role!=spare). The API server applies it to Servers.
    type: str
    default: ""
  snapshot:
    description:
      - A JSON file to read instead of a cluster, such as the reconciler writes for every run. A relative path starts
        at the directory of the inventory file.
      - O(kubeconfig), O(context), O(namespaces), O(label_selector) and the cache have no effect on it.
      - An object with the lists C(servers) and C(profiles). It may have the dictionaries C(datacenters) (as
        O(datacenters)) and, by C(<namespace>/<name>) of the Server, C(operations), C(profile_of) (a profile's name) and
        C(ssh) (C(user), C(private_key_file) and C(user_data_file), which plays know as C(stargate_user_data_file)).
        With C(ssh_config), the path of an SSH client configuration, that file alone says how hosts are reached, and is
        known to plays as C(stargate_ssh_config). C(cluster) may have C(kubeconfig), C(context) and C(defaults).
    type: str
  datacenters:
    description:
      - The datacenter APIs by name, each with C(url) and, if needed, C(token_file) and C(ca_file).
      - A Server belongs to the one that its annotation C(stargate.io/datacenter) names, else to the one named like its
        namespace, else to the one named C(*).
    type: dict
    default: {}
  filters:
    description:
      - Conditions that say which Servers become hosts, tried in order for each.
      - C(include) and C(exclude) decide where their condition is true, and the rest of the list is not looked at.
        A plain condition drops the Server where it is false. A Server that nothing has decided on is kept, so end the
        list with C(exclude) set to V(true) when only what was included is wanted.
      - All variables that this plugin makes, and C(inventory_hostname), can be used; those of O(compose) cannot.
      - A condition that cannot be evaluated is an error, whatever O(strict) says, because nobody knows then whether
        the host was meant.
    type: list
    elements: raw
    default: []
  timeout:
    description: Seconds to wait for each answer of the API server. Connecting may take 5 seconds of them.
    type: float
    default: 30.0
notes:
  - Files named C(*.stargate.yml) or C(*.stargate.yaml) are taken, and any other C(.yml) or C(.yaml) file whose
    C(plugin) is C(stargate.core.servers). Ansible's own plugin P(ansible.builtin.auto#inventory), which is on by
    default, hands all of them to this one.
  - The cache is valid for one set of options, and until the kubeconfig changes.
"""

EXAMPLES = r"""
# servers.stargate.yml: all Servers of the cluster in KUBECONFIG
plugin: stargate.core.servers
---
# Two namespaces, one rack, only machines in service and no spare ones
plugin: stargate.core.servers
kubeconfig: ~/.kube/fleet
namespaces:
  - dc-west
  - dc-east
label_selector: rack=r12
filters:
  - stargate_state == 'ready'
  - exclude: stargate_server.spec.inventory.sku | default('') is match('SPARE')
---
# What was included and nothing else
plugin: stargate.core.servers
filters:
  - include: stargate_provider == 'azure'
  - include: inventory_hostname is match('lab-')
  - exclude: true
---
# Groups and variables of one's own
plugin: stargate.core.servers
strict: true
compose:
  rack: stargate_server.metadata.labels.rack | default('none')
keyed_groups:
  - key: rack
    prefix: rack
groups:
  needs_repave: stargate_state == 'error'
---
# Datacenter APIs, for playbooks that run without the reconciler
plugin: stargate.core.servers
datacenters:
  dc-west:
    url: https://dc-west.example.com
    token_file: /etc/stargate/dc-west.token
  "*":
    url: http://127.0.0.1:8080
---
# A file instead of a cluster, and no network at all
plugin: stargate.core.servers
snapshot: snapshot.json
---
# Ask the cluster once in ten minutes
plugin: stargate.core.servers
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.ansible/cache/stargate
cache_timeout: 600
"""

import gc
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible import template
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.stargate.core.plugins.module_utils import _server
from ansible_collections.stargate.core.plugins.module_utils._errors import clipped
from ansible_collections.stargate.core.plugins.module_utils._kube_files import Hideout
from ansible_collections.stargate.core.plugins.module_utils._kubeconfig import load

if hasattr(template, "trust_as_template"):  # since 2.19: what nobody declares as trusted is never a template

    def _never_template(value: Any) -> Any:
        return value
else:
    from ansible.utils.unsafe_proxy import wrap_var as _never_template


GROUP = "stargate.io"
VERSION = "v1alpha1"
PAGE = 500
CONNECT_SECONDS = 5.0
CLUSTER_VARIABLES = {
    "kubeconfig": "stargate_kubeconfig",
    "context": "stargate_kube_context",
    "defaults": "stargate_defaults",
}
NAMES_US = re.compile(r"""^\s*\{?\s*["']?plugin["']?\s*:\s*["']?stargate\.core\.servers\b""", re.MULTILINE)

Object = dict[str, Any]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """The inventory plugin stargate.core.servers."""

    NAME = "stargate.core.servers"

    def verify_file(self, path: str) -> bool:
        """Return whether the file is ours: by its name, or by the plugin that it names."""
        if not super().verify_file(path) or not path.endswith((".yml", ".yaml")):
            return False
        if path.endswith((".stargate.yml", ".stargate.yaml")):
            return True
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            return NAMES_US.search(file.read(65536)) is not None

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add hosts, variables and groups to the inventory; raises AnsibleError with a sentence."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        snapshot = self.get_option("snapshot")
        with collector_paused():
            found = (
                read_snapshot(Path(path).parent / Path(snapshot).expanduser())
                if snapshot
                else self._of_cluster(path, cache)
            )
            found["datacenters"] = found.get("datacenters") or self.get_option("datacenters")
            self._add(found)
        self._say_which_cluster((found.get("cluster") or {}) if snapshot else self._cluster())

    def _cluster(self) -> Object:
        files = kubeconfig_files(self.get_option("kubeconfig")) if self.get_option("kubeconfig") else []
        found = os.pathsep.join(str(Path(file).absolute()) for file in files)
        return {"kubeconfig": found, "context": self.get_option("context")}

    def _say_which_cluster(self, cluster: Object) -> None:
        for key, name in CLUSTER_VARIABLES.items():
            if cluster.get(key):
                self.inventory.set_variable("all", name, _never_template(cluster[key]))

    def _of_cluster(self, path: str, may_use_cache: bool) -> Object:
        """Return servers and profiles, from the cache where that is wanted and possible."""
        wanted = self.get_option("cache")
        key = self.get_cache_key(f"{path} {self._fingerprint()}")
        if wanted and may_use_cache:
            with suppress(KeyError):
                return dict(self._cache[key])
        cluster = Cluster(self.get_option)
        found: Object = {"profiles": cluster.profiles(), "servers": cluster.servers()}
        if wanted:
            found["servers"] = list(found["servers"])
            self._cache[key] = dict(found)
        return found

    def _fingerprint(self) -> str:
        """Return a text that changes when another cluster, or another part of it, is asked for."""
        names = ("kubeconfig", "context", "namespaces", "label_selector")
        files = [Path(name).expanduser() for name in kubeconfig_files(self.get_option("kubeconfig"))]
        times = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
        return json.dumps([*(self.get_option(name) for name in names), times])

    def _add(self, found: Object) -> None:
        profiles = {_key(profile): profile for profile in found["profiles"]}
        is_constructed = any(self.get_option(name) for name in ("compose", "groups", "keyed_groups"))
        conditions = [_condition(entry, number) for number, entry in enumerate(self.get_option("filters"), 1)]
        faults = [fault for profile in found["profiles"] for fault in _server.broken("ProvisioningProfile", profile)]
        hosts: list[tuple[str, Object, list[str]]] = []
        for server in found["servers"]:
            bad = _server.problems(server)
            faults += bad
            if bad and not _server.has_fit_name(server):
                continue
            name = _server.hostname(server)
            profile, variables = self._variables(server, found, profiles)
            if not conditions or self._is_wanted(name, variables, conditions):
                hosts.append((name, variables, _server.groups(server, profile)))
        for name, variables, groups in hosts:  # not before all are known: half an inventory is worse than none
            self._add_host(name, variables, groups)
            if is_constructed:
                self._construct(name)
        self._warn(faults)

    def _variables(self, server: Object, found: Object, profiles: Object) -> tuple[Object | None, Object]:
        key = _key(server)
        wanted = found.get("profile_of", {}).get(key) or _server.profile_name(server)
        profile = profiles.get(f"{key.partition('/')[0]}/{wanted}")
        ssh = found.get("ssh", {}).get(key) or {}
        variables = _server.hostvars(
            server,
            profile,
            operation=found.get("operations", {}).get(key),
            datacenters=found["datacenters"],
            ssh={**ssh, "config": found.get("ssh_config")},
        )
        return profile, _never_template(variables)

    def _add_host(self, name: str, variables: Object, groups: list[str]) -> None:
        """Add a host with all its variables at once: one by one would copy and label each text in them."""
        self.inventory.add_host(name)
        host = self.inventory.hosts[name]
        host.vars.update(variables)
        for group in groups:
            self.inventory.groups[self.inventory.add_group(group)].add_host(host)

    def _construct(self, name: str) -> None:
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), self.inventory.hosts[name].get_vars(), name, strict=strict)
        variables = self.inventory.hosts[name].get_vars()
        self._add_host_to_composed_groups(
            self.get_option("groups"), variables, name, strict=strict, fetch_hostvars=False
        )
        self._add_host_to_keyed_groups(
            self.get_option("keyed_groups"), variables, name, strict=strict, fetch_hostvars=False
        )

    def _is_wanted(self, name: str, variables: Object, conditions: list[tuple[str, Any]]) -> bool:
        """Return what the first deciding condition says, True when none decides."""
        self.templar.available_variables = {"inventory_hostname": name, **variables}
        for mode, condition in conditions:
            try:
                holds = self._holds(condition)
            except Exception as error:  # noqa: BLE001 - an expression can raise anything
                raise AnsibleError(
                    f"Failed to apply the filter {str(condition)!r} to the Server {name}: {clipped(str(error))} "
                    "Correct it, or give values that may be missing a default."
                ) from None
            if mode == "only" and not holds:
                return False
            if mode != "only" and holds:
                return mode == "include"
        return True

    def _holds(self, condition: Any) -> bool:
        if isinstance(condition, bool):
            return condition
        if hasattr(self.templar, "evaluate_conditional"):
            return bool(self.templar.evaluate_conditional(condition))
        return boolean(self.templar.template(f"{{% if {condition} %}}true{{% else %}}false{{% endif %}}"))

    def _warn(self, faults: list[str]) -> None:
        if faults:
            more = f" {len(faults) - 1} more values are malformed; -v shows them." if faults[1:] else ""
            self.display.warning(f"{faults[0]} Until then its host cannot be used as declared.{more}")
        for fault in faults[1:]:
            self.display.v(fault)


class Cluster:
    """The Servers and profiles of a Kubernetes cluster, as its API server lists them."""

    def __init__(self, option: Callable[[str], Any]) -> None:
        self._option = option
        self._timeout = (min(CONNECT_SECONDS, option("timeout")), option("timeout"))
        self._client = self._connected()

    def servers(self) -> Iterator[Object]:
        """Yield every wanted Server while the next ones are on their way; raises AnsibleError."""
        return self._all("servers", self._option("label_selector"))

    def profiles(self) -> list[Object]:
        """Return every profile of the wanted namespaces; raises AnsibleError."""
        return list(self._all("provisioningprofiles", ""))

    def _connected(self) -> Any:
        """Return the client's door to custom resources."""
        try:
            from kubernetes import client, config  # a third of a second, which a snapshot or the cache saves
        except ImportError:
            raise AnsibleError(
                "Failed to read the Servers: the Python package kubernetes is missing. "
                f"Install it: {sys.executable} -m pip install kubernetes"
            ) from None
        settings = type.__call__(client.Configuration)  # the class may hand out somebody's default
        try:
            self._configure(config, settings)
        except Exception as error:  # noqa: BLE001 - files, parsers and credential plugins raise their own kinds
            raise AnsibleError(
                f"Failed to load the kubeconfig {self._option('kubeconfig') or '~/.kube/config'}: "
                f"{clipped(str(error)).rstrip('.') or type(error).__name__}. "
                "Set the option kubeconfig, or KUBECONFIG, to a file that kubectl can use, and context to one of its "
                "contexts."
            ) from None
        settings.retries = False
        self.address = settings.host
        return client.CustomObjectsApi(client.ApiClient(settings))

    def _configure(self, config: Any, settings: Any) -> None:
        files = kubeconfig_files(self._option("kubeconfig"))
        context = self._option("context") or None
        if not self._option("kubeconfig") and not Path(files[0]).exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=settings)
            return
        missing = [file for file in files if not Path(file).exists()]
        if len(missing) == len(files):
            raise FileNotFoundError(f"there is no file {missing[0]}")
        load(os.pathsep.join(files), context, settings, Hideout())

    def _all(self, plural: str, selector: str) -> Iterator[Object]:
        query: dict[str, Any] = {"limit": PAGE, **({"label_selector": selector} if selector else {})}
        with ThreadPoolExecutor(1) as ahead:
            for namespace in self._option("namespaces") or [None]:
                coming = ahead.submit(self._page, plural, namespace, query)
                while coming is not None:
                    page = coming.result()
                    following = (page.get("metadata") or {}).get("continue")
                    rest = {**query, "_continue": following}
                    coming = ahead.submit(self._page, plural, namespace, rest) if following else None
                    yield from map(_server.tidied, page.get("items") or ())

    def _page(self, plural: str, namespace: str | None, query: Object) -> Object:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        call = self._client.list_cluster_custom_object
        names: tuple[str, ...] = (GROUP, VERSION, plural)
        if namespace is not None:
            call, names = self._client.list_namespaced_custom_object, (GROUP, VERSION, namespace, plural)
        try:
            answer = call(*names, _preload_content=False, _request_timeout=self._timeout, **query)
            status, body = answer.status, answer.data
            if status == 200:
                page = json.loads(body)
                return page if isinstance(page, dict) else {}
        except ApiException as error:
            status, body = error.status, error.body or error.reason
        except (HTTPError, OSError, ValueError) as error:
            status, body = 0, str(error)
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        raise AnsibleError(
            f"Failed to list the {plural} {where} of {self.address}: {_said(status, body)}. {_remedy(plural, status)}"
        )


def _remedy(plural: str, status: int) -> str:
    remedies = {
        0: "Is the API server up, and is this its address?",
        400: "Correct the option label_selector.",
        401: "The credentials of the kubeconfig are not accepted: log in again.",
        403: f"Let this user list {plural}.{GROUP} there, or set the option namespaces to where it may.",
        404: "Install the CRDs: kubectl apply -f crds/",
        410: "The cluster changed for too long while it was listed: try again.",
    }
    return remedies.get(status, "Try again.")


def _said(status: int, body: Any) -> str:
    """Return what the API server said, in one line."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    with suppress(ValueError, TypeError, KeyError):
        text = json.loads(text)["message"]
    return clipped(f"HTTP {status}, {text}" if status else text).rstrip(".")


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector from walking through ten thousand objects again and again while they are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def kubeconfig_files(option: str | None) -> list[str]:
    """Return the paths of the kubeconfig files, the default one when none is set."""
    return [str(Path(name).expanduser()) for name in (option or "~/.kube/config").split(os.pathsep) if name]


def read_snapshot(path: Path) -> Object:
    """Return what is in a snapshot file, with a list or dictionary for each part; raises AnsibleError."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AnsibleError(
            f"Failed to read the snapshot {path}: {clipped(str(error))}. Name a JSON file with servers and profiles."
        ) from None
    if not isinstance(content, dict):
        raise AnsibleError(f"Failed to read the snapshot {path}: it is not an object. Give it servers and profiles.")
    found: Object = {}
    for name in ("servers", "profiles"):
        part = content.get(name)
        found[name] = [item for item in part if isinstance(item, dict)] if isinstance(part, list) else []
    for name in ("operations", "profile_of", "ssh", "datacenters", "cluster"):
        part = content.get(name)
        found[name] = part if isinstance(part, dict) else {}
    return {**found, "ssh_config": content.get("ssh_config")}


def _key(obj: Object) -> str:
    metadata = obj.get("metadata")
    names = metadata if isinstance(metadata, Mapping) else {}
    return f"{names.get('namespace') or 'default'}/{names.get('name')}"


def _condition(entry: Any, number: int) -> tuple[str, Any]:
    """Return what an item of `filters` does when it decides, and its condition."""
    if isinstance(entry, (str, bool)):
        return "only", entry
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((mode, condition),) = entry.items()
        if mode in ("include", "exclude") and isinstance(condition, (str, bool)):
            return mode, condition
    raise AnsibleError(
        f"Failed to read item {number} of filters: {clipped(str(entry))}. "
        "Give a condition, or one of include and exclude with a condition."
    )
