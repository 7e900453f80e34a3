#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: qemu_vm
short_description: Make, start, stop, recreate or remove a virtual machine with QEMU
description:
  - Makes a router or a worker of a site as a QEMU machine on this host, reachable over SSH with a known host key, and
    nothing more. All else is the work of roles.
  - The disk of a machine is an overlay on an image, so that making one takes a second. The image is used where it is
    when it is a file of this host, else it is loaded once into O(image_cache), checked and asked for again whenever a
    disk is made. A cut is gone on with; several tasks share one transfer.
  - Uses the processor's virtualization when it works, which is tried out once after each boot of this host. A
    C(/dev/kvm) that hangs, or that is slower than no hardware, is not used.
  - With O(network=user) nothing of the host's network is touched and no root is needed. The machines of a site are
    connected by a C(vde_switch), or inside the router's process where that is not installed.
  - With O(network=bridge) the bridge, one tap per machine, IP forwarding and a table C(ip stargate) of nftables are
    there as long as a machine needs them. IP forwarding stays switched on.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.machine
attributes:
  check_mode:
    support: full
    details:
      - Neither the network nor the image is asked for.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
    details:
      - Hosts with x86_64 processors.
options:
  provider:
    description:
      - What the machine is called a machine of. V(qemu) for a new machine when it is not set.
    type: str
    choices:
      - qemu
      - simulator
  image_cache:
    description:
      - The directory in which images are kept. A machine that exists remembers it.
      - For a new machine, C(images) below E(STARGATE_CACHE_DIR) when it is not set, and without that variable below
        C(~/.cache/stargate).
      - A version that is no longer what its address has is removed when no machine builds on it any more.
    type: path
  disk_cache:
    description:
      - How the host caches the machine's disk. A machine that exists remembers it; V(writeback) for a new one.
      - V(unsafe) is faster and loses the disk when the host fails. It is meant for tests.
    type: str
    choices:
      - writeback
      - none
      - writethrough
      - unsafe
requirements:
  - qemu-system-x86_64
  - qemu-img
  - ssh-keygen
  - xorrisofs, genisoimage or mkisofs
  - vde_switch (recommended for O(network=user))
  - ip, nft and nsenter (for O(network=bridge))
notes:
  - A machine that is made absent or recreated is ended at once; O(state=stopped) asks it to switch itself off first and
    gives it a minute.
  - With O(network=user), O(wait) has a meaning for the router only. Workers are reached through it.
seealso:
  - name: cloud-init, NoCloud
    description: How a machine gets its name, its user and its addresses.
    link: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

EXAMPLES = r"""
- name: Make the router of a site and wait until it answers
  stargate.core.qemu_vm:
    name: dc-west-router
    namespace: dc-west
    role: router
    image: https://cloud-images.ubuntu.com/jammy/current/jammy-server-cloudimg-amd64.img
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    memory: 1024
    wait: 300
  register: router

- name: Make a worker behind it
  stargate.core.qemu_vm:
    name: worker-1
    namespace: dc-west
    site: dc-west-router
    role: worker
    image: https://cloud-images.ubuntu.com/jammy/current/jammy-server-cloudimg-amd64.img
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    cpus: 4
    memory: 4096
    disk: 40

- name: Give the worker a fresh disk, once for this operation
  stargate.core.qemu_vm:
    name: worker-1
    namespace: dc-west
    state: recreated
    instance_id: repave-7c9f

- name: Make a router on a bridge of the host
  stargate.core.qemu_vm:
    name: lab
    namespace: lab
    role: router
    image: /srv/images/debian-12.qcow2
    image_checksum: sha256:2bd9a4f1b8a0c2f1c1c0cf47d9f1c3f6c2b04c1ad0f9b1fb7f2d53f9b0f1a2c3
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    network: bridge
    cidr: 192.168.120.0/24
  become: true

- name: Remove the worker and everything that was made for it
  stargate.core.qemu_vm:
    name: worker-1
    namespace: dc-west
    state: absent
"""

RETURN = r"""
machine:
  description: The machine as it is now; in check mode, as it would be.
  returned: success
  type: dict
  contains:
    name:
      description: The machine's name.
      returned: always
      type: str
      sample: worker-1
    namespace:
      description: Its namespace.
      returned: always
      type: str
      sample: dc-west
    site:
      description: The name of its site's router.
      returned: when it exists
      type: str
      sample: dc-west-router
    role:
      description: C(router) or C(worker).
      returned: when it exists
      type: str
      sample: worker
    provider:
      description: What it is a machine of.
      returned: always
      type: str
      sample: qemu
    state:
      description: C(running), C(stopped) or C(absent).
      returned: always
      type: str
      sample: running
    address:
      description: Its address on the site's network.
      returned: when it exists
      type: str
      sample: 192.168.100.11
    mac:
      description: Its hardware address there.
      returned: when it exists
      type: str
      sample: 52:54:00:7a:11:0c
    port:
      description: The port of 127.0.0.1 that leads to the router's SSH server, 0 for machines without one.
      returned: when it exists
      type: int
      sample: 20817
    pod_cidr:
      description: The network for a worker's pods, empty for a router.
      returned: when it exists
      type: str
      sample: 10.244.1.0/24
    host_keys:
      description: The host keys with which it identifies itself.
      returned: when it exists
      type: list
      elements: str
      sample: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC0m]
    pid:
      description: The process, 0 when it does not run.
      returned: when it exists
      type: int
    console:
      description: The file with what its serial console said since its disk was made. Older ones have a number.
      returned: when it exists
      type: str
    directory:
      description: The directory with everything that belongs to it.
      returned: when it exists
      type: str
    instance_id:
      description: The instance id of its disk.
      returned: when it exists
      type: str
    accel:
      description: C(kvm) or C(tcg), as it was started last, or would be.
      returned: when it exists
      type: str
      sample: kvm
    accel_reason:
      description: Why it is not C(kvm).
      returned: when it exists
      type: str
drift:
  description: A phrase for each option that differs from the machine, which is applied when it is recreated only.
  returned: success
  type: list
  elements: str
  sample: [memory is 2048, not 4096]
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(AddressTaken), C(BootTimeout), C(BridgeTaken), C(CannotMove), C(ChecksumInvalid),
          C(ChecksumMismatch), C(CidrInvalid), C(CidrTaken), C(Deadline), C(DefinitionBroken), C(Denied), C(DiskError),
          C(DiskFull), C(DiskInUse), C(DiskTooSmall), C(ImageChanged), C(ImageUnavailable), C(ImageUnfit), C(Invalid),
          C(LanFailed), C(LibvirtOwns), C(Locked), C(MachineDied), C(MemoryShort), C(NameInvalid), C(PortTaken),
          C(ProgramFailed), C(ProgramMissing), C(ProviderDiffers), C(QemuFailed), C(RootNeeded), C(RouterMissing),
          C(TapTaken).
      type: str
      sample: BootTimeout
    details:
      description: The other side's own words, such as the console's last lines, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stargate.core.plugins.module_utils._machine import Places
from ansible_collections.stargate.core.plugins.module_utils._machine_module import finish, machine_spec
from ansible_collections.stargate.core.plugins.module_utils._qemu_host import Qemu
from ansible_collections.stargate.core.plugins.module_utils._qemu_stock import Options, Stock

OWN = {
    "image_cache": {"type": "path"},
    "disk_cache": {"type": "str", "choices": ["writeback", "none", "writethrough", "unsafe"]},
}


def main() -> None:
    """Do what the options say."""
    spec = machine_spec(Qemu.kinds)
    spec["argument_spec"].update(OWN)
    module = AnsibleModule(**spec)
    places = Places.chosen(module.params["machines_dir"])
    options = Options(module.params["image_cache"], module.params["disk_cache"])
    provider = Qemu(places, Stock(places, options, module.warn), module.warn)
    provider.gently = module.params["state"] == "stopped"
    provider.renews = module.params["state"] == "recreated"
    provider.foretells = module.check_mode
    finish(module, provider, places)


if __name__ == "__main__":
    main()
