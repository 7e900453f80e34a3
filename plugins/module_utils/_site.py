# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of a site, as a plan, or everything that is wrong with it; pure.

PRIVATE to the collection. A site is a router and its workers in one namespace, named after its router. Nothing here
makes a machine or a file; what the host has is told by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Invalid
from ansible_collections.stargate.core.plugins.module_utils._image import local_path
from ansible_collections.stargate.core.plugins.module_utils._image_file import parsed
from ansible_collections.stargate.core.plugins.module_utils._lease import FIRST_WORKER, SLIRP
from ansible_collections.stargate.core.plugins.module_utils._server import is_user

PROVIDERS = ("nspawn", "qemu")
JAMMY = "https://cloud-images.ubuntu.com/jammy/current/jammy-server-cloudimg-amd64.img"
LONGEST_PREFIX = 28
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LEAST = {"qemu_cpus": (1, ""), "qemu_memory": (256, " MiB"), "qemu_disk": (1, " GiB")}

Problem = tuple[str, str]  # a code, and a sentence that begins with the name of the variable


@dataclass(frozen=True)
class Known:
    """A machine that is there already."""

    site: str
    provider: str
    role: str


@dataclass(frozen=True)
class Facts:
    """What the host has. `kind_of` says of a path "file", "directory", or "" when there is nothing."""

    is_root: bool = False
    deploy_num: str = ""
    cache_dir: str = ""
    known: Mapping[str, Known] = field(default_factory=dict)
    kind_of: Callable[[str], str] = lambda path: "file"


@dataclass(frozen=True)
class Site:
    """A site as it is to be: what the roles and modules get. Texts are "" where the module's own default holds."""

    name: str
    namespace: str
    provider: str
    definition: str
    network: str
    netns: str
    cidr: str
    pod_cidr: str
    machines: list[dict[str, str]]  # name and role; the router first
    admin_username: str
    image: str
    image_checksum: str
    kernel: str
    initrd: str
    cpus: int
    memory: int
    disk: int

    @property
    def workers(self) -> list[str]:
        """Return the workers' names."""
        return [machine["name"] for machine in self.machines if machine["role"] == "worker"]

    def as_dict(self) -> dict[str, Any]:
        """Return the plan for a play."""
        return {**asdict(self), "router": self.name, "workers": self.workers}


def planned(inputs: Mapping[str, Any], facts: Facts) -> Site:
    """Return the plan of a site, machines that the site has already included; raises Invalid with all problems."""
    wanted = {**inputs, **names(inputs, facts.deploy_num)}
    network = wanted["network"] or ("bridge" if facts.is_root and wanted["provider"] == "qemu" else "user")
    wanted["network"] = network
    refuse(list(problems(wanted, facts)), "read the input")
    router, asked = wanted["router_name"], wanted["vm"]
    standing = [name for name, known in facts.known.items() if known.site == router and known.role == "worker"]
    workers = [*asked, *(name for name in sorted(standing) if name not in asked)]
    nspawn = wanted["provider"] == "nspawn"
    return Site(
        name=router,
        namespace=wanted["namespace"],
        provider=wanted["provider"],
        definition="" if nspawn else wanted["definition"],
        network=network,
        netns=wanted["netns"],
        cidr=wanted["qemu_subnet_cidr"],
        pod_cidr=wanted["pod_cidr"],
        machines=[{"name": router, "role": "router"}, *({"name": name, "role": "worker"} for name in workers)],
        admin_username=wanted["admin_username"],
        image=_image(wanted, facts),
        image_checksum="" if nspawn else wanted["qemu_image_checksum"],
        kernel="" if nspawn else wanted["qemu_image_kernel"],
        initrd="" if nspawn else wanted["qemu_image_initrd"],
        cpus=0 if nspawn else wanted["qemu_cpus"],
        memory=0 if nspawn else wanted["qemu_memory"],
        disk=0 if nspawn else wanted["qemu_disk"],
    )


def names(inputs: Mapping[str, Any], deploy_num: str = "") -> dict[str, Any]:
    """Return the router's and the workers' names: those given, else made of the provider and the deployment's number.

    Workers are given as a list, or as text with commas.
    """
    kind, given = inputs["provider"] or "site", inputs["vm"]
    listed = given.split(",") if isinstance(given, str) else [str(name) for name in given or ()]
    workers = [name.strip() for name in listed if name.strip()]
    usual = [f"stargate-{kind}-vm{deploy_num}-{n}" for n in (1, 2)] if deploy_num else [f"stargate-{kind}-vm"]
    suffix = f"-{deploy_num}" if deploy_num else ""
    return {
        "router_name": inputs["router_name"] or f"stargate-{kind}-router{suffix}",
        "vm": workers or usual,
    }


def refuse(found: Sequence[Problem], doing: str) -> None:
    """Raise one Invalid for all problems, with their code when they share it, else InvalidInput."""
    if found:
        codes = {code for code, __ in found}
        text = " ".join(sentence for __, sentence in found)
        raise Invalid(f"Failed to {doing}: {text}", code=codes.pop() if len(codes) == 1 else "InvalidInput")


def problems(wanted: Mapping[str, Any], facts: Facts) -> Iterator[Problem]:
    """Yield what is wrong with the input; names are those of names()."""
    unsupported = list(_provider_problems(wanted, facts))
    yield from unsupported
    if unsupported and wanted["provider"] not in PROVIDERS:
        return
    yield from _name_problems(wanted, facts)
    yield from _network_problems(wanted)
    yield from _size_problems(wanted)
    yield from _image_problems(wanted, facts)
    if not is_user(wanted["admin_username"]) or wanted["admin_username"] == "root":
        name = wanted["admin_username"]
        yield "InvalidInput", f'admin_username is "{name}", which is not the name of an ordinary user, such as ubuntu.'


def _provider_problems(wanted: Mapping[str, Any], facts: Facts) -> Iterator[Problem]:
    provider, network = wanted["provider"], wanted["network"]
    choice = f"Supported are {' and '.join(PROVIDERS)}, such as -e provider=qemu."
    if not provider:
        yield "InvalidInput", f"provider is not set. {choice}"
    elif provider not in PROVIDERS:
        known = "not supported by this playbook yet" if provider == "azure" else "not known"
        yield "ProviderUnsupported", f'provider is "{provider}", which is {known}. {choice}'
    if provider == "nspawn" and network == "bridge":
        yield "InvalidInput", "network is bridge, which nspawn machines do not have. Leave network out."
    if provider == "nspawn" and wanted["definition"] == "libvirt":
        yield "InvalidInput", "definition is libvirt, which nspawn machines do not have. Leave definition out."
    if not facts.is_root and provider == "nspawn":
        yield "RootNeeded", "provider is nspawn, which needs root. Run it with sudo, or use -e provider=qemu."
    if not facts.is_root and network == "bridge":
        yield "RootNeeded", "network is bridge, which needs root. Run it with sudo, or use -e network=user."
    if wanted["netns"] and network != "bridge":
        yield "InvalidInput", "netns is set, which goes with -e network=bridge only."


def _name_problems(wanted: Mapping[str, Any], facts: Facts) -> Iterator[Problem]:
    fit = "a lower-case DNS label: 1 to 63 letters a-z, digits and dashes, no dash at either end"
    flags = [("namespace", wanted["namespace"]), ("router_name", wanted["router_name"])]
    for flag, name in [*flags, *(("vm", name) for name in wanted["vm"])]:
        if not _LABEL.fullmatch(name):
            yield "InvalidInput", f'{flag} has "{name[:80]}", which is not {fit}.'
    for name in sorted({name for name in wanted["vm"] if wanted["vm"].count(name) > 1}):
        yield "InvalidInput", f'vm has "{name}" more than once.'
    if wanted["router_name"] in wanted["vm"]:
        yield "InvalidInput", f'vm has "{wanted["router_name"]}", which is the router\'s name.'
    roles = {wanted["router_name"]: "router", **dict.fromkeys(wanted["vm"], "worker")}
    # A machine of a simulator belongs to the site whose router it has, whatever it is made with.
    kinds = (wanted["provider"], "simulator")
    for name, known in facts.known.items():
        fits = known.site == wanted["router_name"] and known.provider in kinds and known.role == roles.get(name)
        if name in roles and not fits:
            taken = f"there is a {known.provider} machine {wanted['namespace']}/{name}, the {known.role} of site"
            remedy = "Choose another name, or take that site down first."
            yield "NameTaken", f'the name "{name}" is taken: {taken} "{known.site}". {remedy}'


def _network_problems(wanted: Mapping[str, Any]) -> Iterator[Problem]:
    networks: dict[str, IPv4Network] = {}
    for flag, longest in (("qemu_subnet_cidr", LONGEST_PREFIX), ("pod_cidr", 24)):
        text = wanted[flag]
        try:
            networks[flag] = IPv4Network(text, strict=False)
        except (AddressValueError, NetmaskValueError, ValueError):
            yield "CidrInvalid", f'{flag} is "{text}", which is not an IPv4 network such as 192.168.100.0/24.'
            continue
        if "/" not in text or str(networks[flag]) != text:
            yield "CidrInvalid", f'{flag} is "{text}", which is not the address of a network. Meant: {networks[flag]}?'
        elif networks[flag].prefixlen > longest:
            yield "CidrInvalid", f"{flag} is {text}, which is too small: /{longest} at the most."
    cidr, pods = networks.get("qemu_subnet_cidr"), networks.get("pod_cidr")
    if cidr is None:
        return
    room = cidr.num_addresses - 1 - FIRST_WORKER
    if cidr.prefixlen <= LONGEST_PREFIX and room < len(wanted["vm"]):
        yield "CidrInvalid", f"qemu_subnet_cidr {cidr} has room for {room} workers, and vm has {len(wanted['vm'])}."
    for other, use in ((pods, "pod_cidr"), (SLIRP, "what user-mode networks use")):
        if other and cidr.overlaps(other) and not (other == SLIRP and wanted["network"] == "bridge"):
            yield "CidrInvalid", f"qemu_subnet_cidr {cidr} overlaps {other}, which is {use}. Choose another one."


def _size_problems(wanted: Mapping[str, Any]) -> Iterator[Problem]:
    for flag, (least, unit) in _LEAST.items():
        if wanted[flag] < least:
            yield "InvalidInput", f"{flag} is {wanted[flag]}, and at least {least}{unit} is needed."


def _image_problems(wanted: Mapping[str, Any], facts: Facts) -> Iterator[Problem]:
    image = _image(wanted, facts)
    if wanted["provider"] == "nspawn":
        if facts.kind_of(image) != "directory":
            remedy = "Build it with stargate-machine-image build, or give another directory."
            yield "ImageUnavailable", f"nspawn_image is {image}, and no such directory is there. {remedy}"
        return
    kernel, initrd = wanted["qemu_image_kernel"], wanted["qemu_image_initrd"]
    for flag, source in (("qemu_image_url", image), ("qemu_image_kernel", kernel), ("qemu_image_initrd", initrd)):
        path = local_path(source) if source else None
        if path is not None and facts.kind_of(str(path)) != "file":
            yield "ImageUnavailable", f"{flag} is {source}, and no such file is there."
    if initrd and not kernel:
        yield "InvalidInput", "qemu_image_initrd is set without qemu_image_kernel."
    try:
        parsed(wanted["qemu_image_checksum"])
    except Invalid:
        given = wanted["qemu_image_checksum"][:80]
        yield "ChecksumInvalid", f'qemu_image_checksum is "{given}", which is not sha256: and 64 hexadecimal digits.'


def _image(wanted: Mapping[str, Any], facts: Facts) -> str:
    if wanted["provider"] == "nspawn":
        return str(wanted["nspawn_image"] or f"{facts.cache_dir}/images/debian-12/root")
    return str(wanted["qemu_image_url"] or JAMMY)
