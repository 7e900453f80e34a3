# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Server becomes a host: its name, variables, groups, datacenter, strategy and what may stand in it.

PRIVATE to the collection, and the only such mapping. Pure: dictionaries in, dictionaries and text out; it reads no
file, asks no cluster and knows nothing of Ansible. Objects of any shape are taken: what is not as the schema has it
counts as unset here, and problems() names it.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

DATACENTER_ANNOTATION = "stargate.io/datacenter"
DEFAULT_USER = "ubuntu"
# Seconds that a duration of a CR may have.
LONGEST = 2**31 - 1
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
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_VERSION = re.compile(r"v?1\.[0-9]{1,3}(?:\.[0-9]{1,3})?")
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_ENDPOINT = re.compile(r"(?:https://)?[A-Za-z0-9.:\[][A-Za-z0-9.:\[\]-]*/?")
_KEY_LINE = re.compile(r"(?P<name>[A-Za-z0-9.:\[\]-]+) [a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?: [^\x00-\x1f\x7f]*)?")
_ILLEGAL_IN_GROUP = re.compile(r"[^A-Za-z0-9_]")

Object = Mapping[str, Any]


def hostname(server: Object) -> str:
    """Return the host's name in inventories and SSH configurations, "<name>.<namespace>": unique over namespaces."""
    return f"{text_at(server, 'metadata', 'name')}.{text_at(server, 'metadata', 'namespace') or 'default'}"


def node_name(server: Object) -> str:
    """Return the name of the Node that the Server is or becomes: the declared one, the one that it has, its own."""
    declared, seen = text_at(server, "spec", "nodeName"), text_at(server, "status", "nodeName")
    return declared or seen or text_at(server, "metadata", "name")


def profile_name(server: Object) -> str:
    """Return the name of the profile that the Server asks for, else of the one it got last, else ""."""
    return text_at(server, "spec", "provisioningProfile") or text_at(server, "status", "appliedProvisioningProfile")


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
    _ssh_config.ssh_config(), which then alone says how the host is reached; and `user_data_file`, the path of what a
    Secret has for cloud-init. The CRs in the result share their parts with the input.
    """
    chosen = datacenter(server, datacenters or {})
    return {
        **_connection(server, profile, ssh or {}),
        "stargate_name": text_at(server, "metadata", "name"),
        "stargate_namespace": text_at(server, "metadata", "namespace"),
        "stargate_uid": text_at(server, "metadata", "uid"),
        "stargate_provider": text_at(server, "spec", "provider"),
        "stargate_state": text_at(server, "status", "state"),
        "stargate_node_name": node_name(server),
        "stargate_server": tidied(server),
        "stargate_profile": tidied(profile or {}),
        "stargate_operation": dict(operation or {}),
        "stargate_strategy": strategy(server, profile, datacenters),
        "stargate_dc": chosen or {},
        **({"stargate_user_data_file": file} if (file := text_at(ssh, "user_data_file")) else {}),
    }


def groups(server: Object, profile: Object | None = None) -> list[str]:
    """Return the host's groups: its namespace, provider, state and profile, each "unknown" where it is not set."""
    used = text_at(profile or {}, "metadata", "name") or profile_name(server)
    return [
        _group("namespace", text_at(server, "metadata", "namespace")),
        _group("provider", text_at(server, "spec", "provider")),
        _group("state", text_at(server, "status", "state")),
        _group("profile", used),
    ]


def datacenter(server: Object, datacenters: Object | None) -> dict[str, str] | None:
    """Return name, url, token_file and ca_file of the Server's datacenter, "" where not configured; None without one.

    A Server that names a datacenter gets that one or none; others get the one named like their namespace, or "*".
    """
    known = datacenters if isinstance(datacenters, Mapping) else {}
    named = text_at(server, "metadata", "annotations", DATACENTER_ANNOTATION)
    name = named or text_at(server, "metadata", "namespace")
    found = known.get(name) if named else known.get(name, known.get(EVERY_DATACENTER))
    if not isinstance(found, Mapping) or not text_at(found, "url"):
        return None
    return {"name": name, **{key: text_at(found, key) for key in ("url", "token_file", "ca_file")}}


def strategy(server: Object, profile: Object | None, datacenters: Object | None) -> str:
    """Return how the Server is repaved, one of STRATEGIES: as the profile says, else as its provider has it."""
    wanted = text_at(profile or {}, "spec", "repave", "strategy")
    if wanted in STRATEGIES:
        return wanted
    usual = STRATEGY_OF_PROVIDER.get(text_at(server, "spec", "provider"))
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
    router, at = text_at(server, "spec", "routerIP").lower(), port(server, "routerPort")
    if not router:
        return ""
    alias = f"router:{text_at(server, 'metadata', 'namespace') or 'default'}"
    return f"{alias}:{router}" if at == DEFAULT_PORT else f"{alias}:{_bracketed(router)}:{at}"


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


def _connection(server: Object, profile: Object | None, ssh: Object) -> dict[str, Any]:
    """Return Ansible's own variables of the connection; a Server with a bad value is never contacted."""
    config = text_at(ssh, "config")
    if config:
        arguments = f"-F {shlex.quote(config)}"
        return {
            "ansible_host": hostname(server),
            "ansible_ssh_common_args": arguments,
            "stargate_ssh_config": config,
            "stargate_ssh_key_file": text_at(ssh, "private_key_file"),
        }
    dialled, router = address(server), _at(server, "spec", "routerIP")
    user = text_at(ssh, "user") or text_at(profile or {}, "spec", "adminUsername") or DEFAULT_USER
    ports = _is_unset_or_port(server, "sshPort") and _is_unset_or_port(server, "routerPort")
    if not (dialled and (not router or is_address(router)) and is_user(user) and ports):
        return {"ansible_host": nowhere(server), "ansible_port": DEFAULT_PORT, "ansible_user": DEFAULT_USER}
    variables: dict[str, Any] = {"ansible_host": dialled, "ansible_port": port(server), "ansible_user": user}
    if router:
        at = port(server, "routerPort")
        jump = f"-o ProxyJump={user}@{_bracketed(router)}"
        variables["ansible_ssh_common_args"] = jump if at == DEFAULT_PORT else f"{jump}:{at}"
    if text_at(ssh, "private_key_file"):
        variables["ansible_ssh_private_key_file"] = text_at(ssh, "private_key_file")
    return variables


def address(server: Object) -> str:
    """Return the address to dial: the declared one, else the one that was seen; "" when there is none that is fit."""
    declared = _at(server, "spec", "ipv4")
    found = declared if declared not in (None, "") else _at(server, "status", "ipv4")
    return str(found) if is_address(found) else ""


def port(server: Object, field: str = "sshPort") -> int:
    """Return the port to dial, of the machine or (routerPort) of its router; 22 when there is none that is fit."""
    number = _at(server, "spec", field)
    return number if isinstance(number, int) and is_port(number) else DEFAULT_PORT


def _bracketed(name: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{name}]" if ":" in name else name


def _is_unset_or_port(server: Object, field: str) -> bool:
    number = _at(server, "spec", field)
    return number is None or is_port(number)


def nowhere(server: Object) -> str:
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


def is_name(value: object) -> bool:
    """Whether an object can have this name (RFC 1123), so that asking for it can mean nothing else."""
    return isinstance(value, str) and len(value) <= 253 and _SUBDOMAIN.fullmatch(value) is not None


def is_user(value: object) -> bool:
    """Whether this is a user name that ssh and a shell take as nothing else."""
    return isinstance(value, str) and USER.fullmatch(value) is not None


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
_MODES = ("api", "kind", "ssh", "tailscale", "aks")
_MODE = ("a way to the control plane", f"Set it to one of {', '.join(_MODES)}, or remove it.")
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
        (("spec", "sshCredentialsSecretRef"), _like(_SUBDOMAIN), _NAME),
        (("spec", "cloudInitSecretRef"), _like(_SUBDOMAIN), _NAME),
        (("spec", "tailscaleAuthKeySecretRef"), _like(_SUBDOMAIN), _NAME),
        (("spec", "controlPlane", "endpoint"), _like(_ENDPOINT), _API_ADDRESS),
        (("spec", "controlPlane", "sshHost"), is_address, _ADDRESS),
        (("spec", "controlPlane", "sshUser"), is_user, _USER_NAME),
        (("spec", "controlPlane", "mode"), lambda value: value in _MODES, _MODE),
        (("spec", "controlPlane", "kindContainer"), _like(_CONTAINER), _CONTAINER_NAME),
    ),
}


def broken(kind: str, obj: Object) -> Iterator[str]:
    """Yield a sentence for each value that problems() would name, for one object of the kind."""
    name = _at(obj, "metadata", "name")
    label = name if isinstance(name, str) and _SUBDOMAIN.fullmatch(name) else shown(name)
    if not name:
        yield f"{kind} without a name: metadata.name is not set. Give it a name."
    elif kind == "Server" and _is_ip(hostname(obj)):
        yield (
            f"{kind} {label}: metadata.name is {shown(name)}, which with its namespace reads as the address "
            f"{hostname(obj)}. Give it a name with a letter."
        )
    if isinstance(obj, Mapping) and "spec" in obj and not isinstance(obj["spec"], Mapping):
        yield f"{kind} {label}: spec is {shown(obj['spec'])}, which is not a mapping. Apply it again with one."
    for path, is_fit, (meant, remedy) in _CHECKS[kind]:
        value = _at(obj, *path)
        if value not in (None, "") and not is_fit(value):
            yield f"{kind} {label}: {'.'.join(path)} is {shown(value)}, which is not {meant}. {remedy}"


def shown(value: object) -> str:
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


def text_at(obj: object, *path: str) -> str:
    """Return the text at a path, "" when there is none."""
    value = _at(obj, *path)
    return value if isinstance(value, str) else ""
