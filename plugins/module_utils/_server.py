# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Server becomes a host: its name, variables, groups, datacenter, strategy and SSH configuration.

PRIVATE to the collection, and the only such mapping. Pure: dictionaries in, dictionaries and text out; it reads no
file, asks no cluster and knows nothing of Ansible. Objects of any shape are taken: what is not as the schema has it
counts as unset here, and problems() names it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

DATACENTER_ANNOTATION = "stargate.io/datacenter"
DEFAULT_USER = "ubuntu"
DEFAULT_PORT = 22
EVERY_DATACENTER = "*"
STRATEGIES = ("inPlace", "recreate", "reimage", "dcApi")
STRATEGY_OF_PROVIDER = {
    "dc-api": "dcApi",
    "qemu": "recreate",
    "nspawn": "recreate",
    "simulator": "recreate",
    "azure": "inPlace",
    "ssh": "inPlace",
}
LONGEST_VALUE = 64
# What is the API server's and kubectl's own bookkeeping, and repeats the object.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_SUBDOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DNS_NAME = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_LOOKS_LIKE_IP = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)|(?:[0-9]+|[xX]+)(?:\.(?:[0-9]+|[xX]+)){3}")
_IP_CHARACTERS = re.compile(r"[0-9A-Fa-f:.]+")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_VERSION = re.compile(r"v?1\.[0-9]{1,3}(?:\.[0-9]{1,3})?")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_ENDPOINT = re.compile(r"(?:https://)?[A-Za-z0-9.:\[][A-Za-z0-9.:\[\]-]*/?")
_PATH = re.compile(r"/[A-Za-z0-9_./+@:,=-]+")
_SOCKET_PATH = re.compile(r"/(?:[A-Za-z0-9_./+@:,=-]|%[CLhiklnpru])+")
_KEY_LINE = re.compile(r"(?P<name>[A-Za-z0-9.:\[\]-]+) [a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?: [^\x00-\x1f\x7f]*)?")
_ILLEGAL_IN_GROUP = re.compile(r"[^A-Za-z0-9_]")

Object = Mapping[str, Any]


def hostname(server: Object) -> str:
    """Return the host's name in inventories and SSH configurations, "<name>.<namespace>": unique over namespaces."""
    return f"{_text(server, 'metadata', 'name')}.{_text(server, 'metadata', 'namespace') or 'default'}"


def profile_name(server: Object) -> str:
    """Return the name of the profile that the Server asks for, else of the one it got last, else ""."""
    return _text(server, "spec", "provisioningProfile") or _text(server, "status", "appliedProvisioningProfile")


def problems(server: Object, profile: Object | None = None) -> list[str]:
    """Return a sentence for each value of the two objects that must not reach SSH, a command or a path; [] when fine.

    What is not set is no problem.
    """
    return [*broken("Server", server), *(() if profile is None else broken("ProvisioningProfile", profile))]


def has_fit_name(server: Object) -> bool:
    """Whether hostname() of the Server is a host's name, and not an address such as 127.0.0.1."""
    name = hostname(server)
    return len(name) <= 253 and _SUBDOMAIN.fullmatch(name) is not None and not _is_ip(name)


def hostvars(
    server: Object,
    profile: Object | None = None,
    *,
    operation: Object | None = None,
    datacenters: Object | None = None,
    ssh: Object | None = None,
) -> dict[str, Any]:
    """Return the host's variables.

    `ssh` may have `user` and `private_key_file` (from the profile's Secret), or `config`, the path of a file made by
    ssh_config(), which then alone says how the host is reached. The CRs in the result share their parts with the input.
    """
    chosen = datacenter(server, datacenters or {})
    return {
        **_connection(server, profile, ssh or {}),
        "stargate_name": _text(server, "metadata", "name"),
        "stargate_namespace": _text(server, "metadata", "namespace"),
        "stargate_uid": _text(server, "metadata", "uid"),
        "stargate_provider": _text(server, "spec", "provider"),
        "stargate_state": _text(server, "status", "state"),
        "stargate_node_name": _text(server, "spec", "nodeName")
        or _text(server, "status", "nodeName")
        or _text(server, "metadata", "name"),
        "stargate_server": tidied(server),
        "stargate_profile": tidied(profile or {}),
        "stargate_operation": dict(operation or {}),
        "stargate_strategy": strategy(server, profile, datacenters),
        "stargate_dc": chosen or {},
    }


def groups(server: Object, profile: Object | None = None) -> list[str]:
    """Return the host's groups: its namespace, provider, state and profile, each "unknown" where it is not set."""
    used = _text(profile or {}, "metadata", "name") or profile_name(server)
    return [
        _group("namespace", _text(server, "metadata", "namespace")),
        _group("provider", _text(server, "spec", "provider")),
        _group("state", _text(server, "status", "state")),
        _group("profile", used),
    ]


def datacenter(server: Object, datacenters: Object | None) -> dict[str, str] | None:
    """Return name, url, token_file and ca_file of the Server's datacenter, "" where not configured; None without one.

    A Server that names a datacenter gets that one or none; others get the one named like their namespace, or "*".
    """
    known = datacenters if isinstance(datacenters, Mapping) else {}
    named = _text(server, "metadata", "annotations", DATACENTER_ANNOTATION)
    name = named or _text(server, "metadata", "namespace")
    found = known.get(name) if named else known.get(name, known.get(EVERY_DATACENTER))
    if not isinstance(found, Mapping) or not _text(found, "url"):
        return None
    return {"name": name, **{key: _text(found, key) for key in ("url", "token_file", "ca_file")}}


def strategy(server: Object, profile: Object | None, datacenters: Object | None) -> str:
    """Return how the Server is repaved, one of STRATEGIES: as the profile says, else as its provider has it."""
    wanted = _text(profile or {}, "spec", "repave", "strategy")
    if wanted in STRATEGIES:
        return wanted
    usual = STRATEGY_OF_PROVIDER.get(_text(server, "spec", "provider"))
    return usual or ("dcApi" if datacenter(server, datacenters) else "inPlace")


def tidied(obj: Object) -> dict[str, Any]:
    """Return a CR without managedFields and kubectl's copy of itself; its other parts are shared, not copied."""
    if not isinstance(obj, Mapping):
        return {}
    result = dict(obj)
    metadata = result.get("metadata")
    if isinstance(metadata, Mapping):
        result["metadata"] = kept = dict(metadata)
        kept.pop("managedFields", None)
        annotations = kept.get("annotations")
        if isinstance(annotations, Mapping) and _LAST_APPLIED in annotations:
            kept["annotations"] = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
    return result


def router_key_alias(server: Object) -> str:
    """Return the name under which the host key of the Server's router is known, "" when there is no router.

    It has colons, which no hostname() has, and its namespace, so that nobody pins keys for another namespace's router.
    A port other than 22 is part of it: routers behind forwarded ports share an address and have each a key.
    """
    address = _text(server, "spec", "routerIP").lower()
    if not address:
        return ""
    alias = f"router:{_text(server, 'metadata', 'namespace') or 'default'}"
    port = _router_port(server)
    return f"{alias}:{address}" if port == DEFAULT_PORT else f"{alias}:{_bracketed(address)}:{port}"


def pinned_keys(server: Object) -> list[str]:
    """Return the Server's known_hosts lines, from spec and status: only well-formed ones for itself or its router."""
    own = {hostname(server), router_key_alias(server)}
    lines: list[str] = []
    for part in ("spec", "status"):
        keys = _at(server, part, "sshHostKeys")
        for line in keys if isinstance(keys, list) else ():
            match = _KEY_LINE.fullmatch(line) if isinstance(line, str) else None
            if match and match["name"] in own and line not in lines:
                lines.append(line)
    return lines


def ssh_config(hosts: Sequence[Object]) -> str:
    """Return an OpenSSH client configuration with a block per host and one per router, for `ssh -F`.

    Each item of `hosts` has `server`, and may have `profile`, `user`, `private_key_file`, `known_hosts` (paths) and
    `control_path` (of the connection to the router, with ssh's % tokens). Raises ValueError, with a sentence, for a
    value that could mean more to ssh than itself; nothing is quoted, because nothing needs to be.
    """
    routes = [_Route(host) for host in hosts]
    pinned = {line.partition(" ")[0] for route in routes for line in pinned_keys(route.server)}
    blocks: dict[str, list[str]] = {}
    for route in routes:
        if route.jump:
            blocks[route.jump] = route.router_block(pinned)
        blocks[route.name] = route.host_block(pinned)
    return "\n".join(f"Host {name}\n" + "".join(f"  {line}\n" for line in lines) for name, lines in blocks.items())


class _Route:
    """How one host is reached, every value checked."""

    def __init__(self, host: Object) -> None:
        server = host.get("server")
        self.server: Object = server if isinstance(server, Mapping) else {}
        profile = host.get("profile")
        for sentence in problems(self.server, profile):
            raise ValueError(sentence)
        self.name = hostname(self.server)
        user = host.get("user") or _text(profile or {}, "spec", "adminUsername") or DEFAULT_USER
        self.user = self._fit(user, _USER, "the user name")
        self.key = self._fit(host.get("private_key_file"), _PATH, "the path of the private key")
        self.known_hosts = self._fit(host.get("known_hosts"), _PATH, "the path of the known hosts")
        self.control_path = self._fit(host.get("control_path"), _SOCKET_PATH, "the path of the control socket")
        self.router = _text(self.server, "spec", "routerIP")
        self.router_alias = router_key_alias(self.server)
        route = f"{self.router_alias}\n{self.user}\n{self.key}".encode()
        self.jump = f"router_{hashlib.sha256(route).hexdigest()[:16]}" if self.router else ""

    def _fit(self, value: object, pattern: re.Pattern[str], what: str) -> str:
        if value is None or value == "":
            return ""
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        raise ValueError(
            f"Failed to write the SSH configuration of Server {self.name}: {what} is {_shown(value)}, which has "
            "characters that ssh gives a meaning. Use letters, digits and '_', '-', '.' only."
        )

    def host_block(self, pinned: set[str]) -> list[str]:
        """Return the lines of the host itself; `pinned` has the names whose keys are known."""
        lines = [f"HostName {_address(self.server) or _nowhere(self.server)}", f"Port {_port(self.server)}"]
        lines += self._common(self.name, pinned)
        return [*lines, f"ProxyJump {self.jump}"] if self.jump else lines

    def router_block(self, pinned: set[str]) -> list[str]:
        """Return the lines of the router, whose connection all hosts behind it share."""
        lines = [f"HostName {self.router}", f"Port {_router_port(self.server)}"]
        lines += self._common(self.router_alias, pinned)
        return [*lines, "ControlMaster auto", f"ControlPath {self.control_path}"] if self.control_path else lines

    def _common(self, alias: str, pinned: set[str]) -> list[str]:
        lines = [f"User {self.user}"]
        lines += [f"IdentityFile {self.key}", "IdentitiesOnly yes"] if self.key else []
        lines += [f"UserKnownHostsFile {self.known_hosts}"] if self.known_hosts else []
        return [
            *lines,
            f"HostKeyAlias {alias}",
            f"StrictHostKeyChecking {'yes' if alias in pinned else 'accept-new'}",
            "HashKnownHosts no",
            "BatchMode yes",
            "ConnectTimeout 10",
            "ServerAliveInterval 15",
            "ServerAliveCountMax 4",
        ]


def _connection(server: Object, profile: Object | None, ssh: Object) -> dict[str, Any]:
    """Return Ansible's own variables of the connection; a Server with a bad value is never contacted."""
    config = _text(ssh, "config")
    if config:
        return {"ansible_host": hostname(server), "ansible_ssh_common_args": f"-F {shlex.quote(config)}"}
    address = _address(server)
    router = _at(server, "spec", "routerIP")
    user = _text(ssh, "user") or _text(profile or {}, "spec", "adminUsername") or DEFAULT_USER
    ports = _is_unset_or_port(server, "sshPort") and _is_unset_or_port(server, "routerPort")
    fit = address and (not router or is_address(router)) and is_user(user) and ports
    if not fit:
        return {"ansible_host": _nowhere(server), "ansible_port": DEFAULT_PORT, "ansible_user": DEFAULT_USER}
    variables: dict[str, Any] = {"ansible_host": address, "ansible_port": _port(server), "ansible_user": user}
    if router:
        jump, port = f"{user}@{_bracketed(router)}", _router_port(server)
        variables["ansible_ssh_common_args"] = f"-o ProxyJump={jump}" + (f":{port}" if port != DEFAULT_PORT else "")
    if _text(ssh, "private_key_file"):
        variables["ansible_ssh_private_key_file"] = _text(ssh, "private_key_file")
    return variables


def _address(server: Object) -> str:
    """Return the address to dial: the declared one, else the one that was seen; "" when there is none that is fit."""
    declared = _at(server, "spec", "ipv4")
    address = declared if declared not in (None, "") else _at(server, "status", "ipv4")
    return str(address) if is_address(address) else ""


def _port(server: Object, field: str = "sshPort") -> int:
    port = _at(server, "spec", field)
    return port if isinstance(port, int) and is_port(port) else DEFAULT_PORT


def _router_port(server: Object) -> int:
    return _port(server, "routerPort")


def _bracketed(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def _is_unset_or_port(server: Object, field: str) -> bool:
    port = _at(server, "spec", field)
    return port is None or is_port(port)


def _nowhere(server: Object) -> str:
    """Return a name that never resolves (RFC 6761) and says whose address is missing."""
    name = hostname(server)
    return f"{name}.invalid" if _SUBDOMAIN.fullmatch(name) else "server.invalid"


def is_address(value: object) -> bool:
    """Whether this is an IPv4 or IPv6 address, or a DNS name, and nothing that merely looks like one."""
    return isinstance(value, str) and _is_address(value)


@lru_cache(maxsize=32768)
def _is_address(value: str) -> bool:
    if not 0 < len(value) <= 253:
        return False
    if _IP_CHARACTERS.fullmatch(value):
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            pass  # "cafe" is a DNS name all the same
        else:
            return not (address.is_unspecified or address.is_multicast)
    return _DNS_NAME.fullmatch(value) is not None and not _LOOKS_LIKE_IP.fullmatch(value)


def _is_ip(value: str) -> bool:
    if not value[-1:].isdigit() or not _IP_CHARACTERS.fullmatch(value):
        return False
    try:
        return bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def is_user(value: object) -> bool:
    """Whether this is a user name that ssh and a shell take as nothing else."""
    return isinstance(value, str) and _USER.fullmatch(value) is not None


def is_port(value: object) -> bool:
    """Whether this is a TCP port number."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def _like(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and len(value) <= 253 and pattern.fullmatch(value) is not None


def _is_range(value: object) -> bool:
    try:
        return isinstance(value, str) and "/" in value and bool(ipaddress.ip_network(value))
    except ValueError:
        return False


# What a value should be, and how to mend it.
_NAME = ("a lower-case DNS name (RFC 1123)", "Use letters a-z, digits, '-' and '.'.")
_ADDRESS = ("an IP address or a DNS name", "Set it to the address at which SSH answers, or remove it.")
_USER_NAME = ("a user name", "Use letters, digits, '_', '-' and '.'; at most 32, the first a letter or '_'.")
_TCP_PORT = ("a TCP port", "Set it to a number from 1 to 65535, or remove it.")
_RELEASE = ("a Kubernetes version", "Set it to a version such as 1.34 or 1.34.2.")
_API_ADDRESS = ("the address of an API", "Set it to host:port, optionally with https:// in front, or remove it.")
_CONTAINER_NAME = ("a container's name", "Use letters, digits, '_', '-' and '.'.")
# The path of a value, whether it is fit, and the two texts.
_Check = tuple[tuple[str, ...], Callable[[object], bool], tuple[str, str]]
_CHECKS: Mapping[str, Sequence[_Check]] = {
    "Server": (
        (("metadata", "name"), _like(_SUBDOMAIN), _NAME),
        (("metadata", "namespace"), _like(_NAMESPACE), _NAME),
        (("spec", "ipv4"), is_address, _ADDRESS),
        (("status", "ipv4"), is_address, _ADDRESS),
        (("spec", "routerIP"), is_address, _ADDRESS),
        (("spec", "routerPort"), is_port, _TCP_PORT),
        (("spec", "sshPort"), is_port, _TCP_PORT),
        (("spec", "nodeName"), _like(_SUBDOMAIN), _NAME),
        (("spec", "provisioningProfile"), _like(_SUBDOMAIN), _NAME),
        (("spec", "mac"), _like(_MAC), ("a MAC address", "Set it to six pairs of hexadecimal digits with colons.")),
        (("spec", "podCIDR"), _is_range, ("an address range", "Set it to a network such as 10.244.65.0/24.")),
    ),
    "ProvisioningProfile": (
        (("metadata", "name"), _like(_SUBDOMAIN), _NAME),
        (("metadata", "namespace"), _like(_NAMESPACE), _NAME),
        (("spec", "adminUsername"), is_user, _USER_NAME),
        (("spec", "kubernetesVersion"), _like(_VERSION), _RELEASE),
        (("spec", "controlPlane", "endpoint"), _like(_ENDPOINT), _API_ADDRESS),
        (("spec", "controlPlane", "sshHost"), is_address, _ADDRESS),
        (("spec", "controlPlane", "sshUser"), is_user, _USER_NAME),
        (("spec", "controlPlane", "kindContainer"), _like(_CONTAINER), _CONTAINER_NAME),
    ),
}


def broken(kind: str, obj: Object) -> Iterator[str]:
    """Yield a sentence for each value that problems() would name, for one object of the kind."""
    name = _at(obj, "metadata", "name")
    shown = name if isinstance(name, str) and _SUBDOMAIN.fullmatch(name) else _shown(name)
    if not name:
        yield f"{kind} without a name: metadata.name is not set. Give it a name."
    elif kind == "Server" and _is_ip(hostname(obj)):
        yield (
            f"{kind} {shown}: metadata.name is {_shown(name)}, which with its namespace reads as the address "
            f"{hostname(obj)}. Give it a name with a letter."
        )
    for path, is_fit, (meant, remedy) in _CHECKS[kind]:
        value = _at(obj, *path)
        if value not in (None, "") and not is_fit(value):
            yield f"{kind} {shown}: {'.'.join(path)} is {_shown(value)}, which is not {meant}. {remedy}"


def _shown(value: object) -> str:
    """Return a value fit for a sentence: escaped, and cut to LONGEST_VALUE characters."""
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…")
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


@lru_cache(maxsize=4096)
def _group(kind: str, value: str) -> str:
    return f"{kind}_{_ILLEGAL_IN_GROUP.sub('_', value) or 'unknown'}"


def _at(obj: object, *path: str) -> Any:
    """Return what stands at a path, None when there is no such place."""
    for key in path:
        obj = obj.get(key) if isinstance(obj, Mapping) else None
    return obj


def _text(obj: object, *path: str) -> str:
    """Return the text at a path, "" when there is none."""
    value = _at(obj, *path)
    return value if isinstance(value, str) else ""
