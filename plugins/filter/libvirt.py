# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that describe a machine of qemu_vm to libvirt: libvirt_domain, libvirt_network and libvirt_name.

Nothing is decided here: the descriptions are made in module_utils/_libvirt.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._libvirt import definition, domain, domain_name, network


def libvirt_domain(
    machine: Mapping[str, Any], directory: str, accel: str = "tcg", disk_cache: str = "writeback"
) -> str:
    """Return the XML of the domain of a machine, whose files are in a directory."""
    return _said(lambda: domain(definition(machine), str(directory), accel=accel, disk_cache=disk_cache))


def libvirt_network(machine: Mapping[str, Any]) -> str:
    """Return the XML of the network of a machine."""
    return _said(lambda: network(definition(machine)))


def libvirt_name(machine: Mapping[str, Any]) -> str:
    """Return the name of the domain of a machine."""
    return _said(lambda: domain_name(definition(machine)))


def _said(make: Callable[[], str]) -> str:
    try:
        return make()
    except StargateError as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filters by name."""
        return {
            "libvirt_domain": libvirt_domain,
            "libvirt_network": libvirt_network,
            "libvirt_name": libvirt_name,
        }
