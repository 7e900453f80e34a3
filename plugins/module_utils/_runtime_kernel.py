# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel modules and sysctls that pods need, now and at the next boot.

PRIVATE to the collection. A container has its host's kernel: what the host has loaded is enough there.
"""

from __future__ import annotations

from functools import partial

from ansible_collections.stargate.core.plugins.module_utils import _runtime_files as files
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host
from ansible_collections.stargate.core.plugins.module_utils._worker_ledger import Ledger

_OPTIONAL = "net.bridge.bridge-nf-call-ip6tables"  # not there when the kernel was started without IPv6


def ensure(ledger: Ledger) -> None:
    """Have the modules loaded and the sysctls set, and their files in place."""
    host = ledger.host
    ledger.file(files.MODULES_FILE, files.modules_load())
    for module in missing_modules(host):
        ledger.do(f"module {module}", partial(_load, host, module))
    ledger.file(files.SYSCTL_FILE, files.sysctls(files.SYSCTLS))
    for name, value in wrong_sysctls(host):
        ledger.do(f"{name} = {value}", partial(_set, host, name, value))


def missing_modules(host: Host) -> list[str]:
    """Return the modules whose effect cannot be seen, whether built in or loaded."""
    effects = {
        "overlay": "overlay" in (host.text("/proc/filesystems") or "").split(),
        "br_netfilter": host.path("/proc/sys/net/bridge").exists(),
    }
    return [name for name in files.MODULES if not effects[name]]


def wrong_sysctls(host: Host) -> list[tuple[str, str]]:
    """Return the sysctls that have another value than they ought to have, with the value that they ought to have."""
    wanted = [(name, value, host.text(_file_of(name))) for name, value in files.SYSCTLS.items()]
    absent_is_fine = _OPTIONAL if host.path("/proc/sys/net/bridge").exists() else ""
    return [
        (name, value)
        for name, value, now in wanted
        if (now or "").strip() != value and not (now is None and name == absent_is_fine)
    ]


def _file_of(sysctl: str) -> str:
    return "/proc/sys/" + sysctl.replace(".", "/")


def _load(host: Host, module: str) -> None:
    done = host.run(["modprobe", module], timeout=60)
    if module in missing_modules(host):
        remedy = " Load it on the host." if host.is_container else ""
        raise StargateError(
            f"Failed to load the kernel module {module}: {done.last_words or 'it has no effect'}.{remedy}",
            code="KernelModuleMissing",
            details=done.last_words,
        )


def _set(host: Host, name: str, value: str) -> None:
    path = host.path(_file_of(name))
    try:
        path.write_text(value + "\n", encoding="ascii")
    except OSError as error:
        raise StargateError(
            f"Failed to set the sysctl {name}: {error.strerror}.", code="SysctlRefused", details=str(error)
        ) from error
