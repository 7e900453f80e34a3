# SPDX-License-Identifier: Apache-2.0
"""What is in the machines' image: packages, files, services. Data and its digest; nothing is built here.

Whatever changes what a built image holds stands here (or in the programs put into it), so that the digest changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUITE = "bookworm"
NAME = "debian-12"
PAUSE_TAG = "localhost/stargate/pause:1"
COMMAND_LINE = "root=/dev/vda rw console=ttyS0"
DISK_SIZE = "10G"  # of the file system; its file holds what is used
LAYOUT = 2  # raised when image_root.py or image_disk.py makes something else of the same recipe

_SYSTEM = """
systemd-sysv dbus libpam-systemd udev systemd-resolved kmod procps busybox-static less
linux-image-cloud-{architecture} initramfs-tools zstd e2fsprogs
cloud-init netplan.io cloud-guest-utils openssh-server sudo python3 python3-apt
iproute2 iputils-ping iptables nftables ca-certificates curl gnupg
"""
_WORKER = "containerd runc containernetworking-plugins conntrack socat ebtables ethtool tini"

# Nothing that works on its own in the background: on an emulated machine that is half of its first minute.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
)
ENABLED = ("containerd.service", "ssh.service", "systemd-networkd.service", "systemd-resolved.service")

# Laid over the base system before the other packages come, so that the kernel's package makes its initramfs once.
FILES = {
    "etc/initramfs-tools/conf.d/stargate": "MODULES=list\nCOMPRESS=zstd\n",
    "usr/share/initramfs-tools/modules.d/stargate": "virtio_pci\nvirtio_blk\nvirtio_mmio\next4\n",
    "etc/cloud/cloud.cfg.d/90-stargate.cfg": "datasource_list: [NoCloud, None]\nlocale: false\n",
    "etc/fstab": "LABEL=root / ext4 defaults,noatime 0 1\n",
}
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
KEPT = ("/usr/share/doc/*/copyright",)


@dataclass(frozen=True)
class Recipe:
    """What one image is made of: the architecture, and for each Kubernetes version its programs' files."""

    architecture: str
    kubernetes: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    @property
    def packages(self) -> list[str]:
        """The Debian packages that are asked for."""
        return f"{_SYSTEM} {_WORKER}".format(architecture=self.architecture).split()

    @property
    def digest(self) -> str:
        """The first twelve digits of the digest of everything that goes in, but for the state of the archive."""
        programs = {
            version: {name: sha256(file) for name, file in sorted(files.items())}
            for version, files in sorted(self.kubernetes.items())
        }
        parts = [LAYOUT, SUITE, self.packages, programs, FILES, MASKED, ENABLED, LEFT_OUT, KEPT, PAUSE_TAG, DISK_SIZE]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
