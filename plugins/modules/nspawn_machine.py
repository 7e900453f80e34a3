#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: nspawn_machine
short_description: Make a machine of systemd-nspawn run, stop, begin anew, or be gone
description:
  - A machine of systemd-nspawn is a container that boots a whole system, with systemd, cloud-init and an SSH server.
    It starts in two seconds, takes little memory and runs containerd and a kubelet.
  - Its disk is an overlay on the directory of an image. Several machines share one image, which is never written to.
  - The machines of a site are in network namespaces of their own. No interface, address or rule is added to the
    host's network. A router has an interface C(wan), through which it reaches the host's loopback as 10.0.2.2, and a
    bridge C(lan). Workers have one interface C(lan) in that bridge, and the router as their gateway.
  - The router's SSH server is led to a port of the host's 127.0.0.1. Workers are reached through the router.
  - The machines are for development and tests. Root in such a machine is as powerful as root of the host.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
requirements:
  - root on a host that runs Linux
  - systemd-nspawn (Debian's package systemd-container), ip, nsenter and unshare
  - slirp4netns, for routers
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.machine
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  provider:
    choices:
      - nspawn
      - simulator
  image:
    description:
      - The directory of a root file system, or a directory with such a one named C(root) in it. The program
        C(stargate-machine-image) builds one.
  image_checksum:
    description:
      - Not for this kind of machine, and refused.
  kernel:
    description:
      - Ignored, as are O(initrd) and O(cmdline). The machine uses the kernel of the host.
  disk:
    description:
      - Ignored. The machine's disk takes what it needs below O(machines_dir).
notes:
  - The kernel's settings that a kubelet writes are shadowed in the machine, so that the host keeps its own.
  - Each machine takes about ten inotify instances, of which a kernel gives 128 to root by default. The task fails
    with the code C(InotifyExhausted) before they run out, and does not raise the host's limit.
  - With control groups of version 1 the kubelet in the machine needs the driver C(cgroupfs).
"""

EXAMPLES = r"""
- name: Make a site of one router and one worker
  become: true
  stargate.core.nspawn_machine:
    name: "{{ item.name }}"
    namespace: dc-west
    site: gateway
    role: "{{ item.role }}"
    image: ~/.cache/stargate/images/debian-12
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    wait: 60
  loop:
    - name: gateway
      role: router
    - name: worker-1
      role: worker
  register: site

- name: Give the worker a fresh disk
  become: true
  stargate.core.nspawn_machine:
    name: worker-1
    namespace: dc-west
    state: recreated
    instance_id: repave-42
    wait: 60

- name: Remove the worker
  become: true
  stargate.core.nspawn_machine:
    name: worker-1
    namespace: dc-west
    state: absent
"""

RETURN = r"""
machine:
  description: The machine. With O(state=absent) only C(name), C(namespace), C(provider) and C(state).
  returned: success
  type: dict
  contains:
    name:
      description: Its name and host name.
      type: str
      sample: worker-1
    namespace:
      description: Its namespace.
      type: str
      sample: dc-west
    site:
      description: The name of its router.
      type: str
      sample: gateway
    role:
      description: C(router) or C(worker).
      type: str
      sample: worker
    provider:
      description: What it is called a machine of.
      type: str
      sample: nspawn
    state:
      description: C(running), C(stopped) or C(absent).
      type: str
      sample: running
    address:
      description: Its address in the network of the site.
      type: str
      sample: 192.168.100.11
    mac:
      description: The hardware address that goes with it.
      type: str
      sample: "52:54:00:57:f0:ce"
    port:
      description: The port of 127.0.0.1 that leads to a router's SSH server, 0 for workers.
      type: int
      sample: 20627
    host_keys:
      description: The public keys of its SSH server. They stay the same when it is recreated.
      type: list
      elements: str
      sample: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHQ/cGy0ahEJtE4w9FhCT0q6xpOv+/NPvwx+VsTRory"]
    pid:
      description: The process from which all of the machine descends, 0 when it does not run.
      type: int
      sample: 4711
    console:
      description: The file with what it has said on its console.
      type: str
      sample: /var/lib/stargate/vms/dc-west/worker-1/console.log
    directory:
      description: The directory of all that is its own.
      type: str
      sample: /var/lib/stargate/vms/dc-west/worker-1
    accel:
      description: Always C(none), as nothing is emulated.
      type: str
      sample: none
    netns:
      description: The network namespace that it is in.
      type: str
      sample: sg-worker-1-1f0e9a2b
    instance_id:
      description: The instance id that cloud-init has of it.
      type: str
      sample: repave-42
    pod_cidr:
      description: The network that is leased to a worker for its pods.
      type: str
      sample: 10.244.1.0/24
drift:
  description: What the options ask for and O(state=recreated) would apply.
  returned: success
  type: list
  elements: str
  sample: ["memory is 2048, not 4096"]
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(AddressTaken), C(BootTimeout), C(CannotMove), C(CidrInvalid), C(Deadline), C(DefinitionBroken),
          C(Denied), C(DiskError), C(DiskFull), C(ImageUnavailable), C(InotifyExhausted), C(Invalid), C(Locked),
          C(MachineStopped), C(NameInvalid), C(PathInvalid), C(PortTaken), C(ProgramFailed), C(ProgramMissing),
          C(ProviderDiffers), C(RootNeeded), C(StartFailed).
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
from ansible_collections.stargate.core.plugins.module_utils._nspawn_host import Nspawn


def main() -> None:
    """Run the module."""
    module = AnsibleModule(**machine_spec(Nspawn.kinds))
    places = Places.chosen(module.params["machines_dir"])
    finish(module, Nspawn(places), places)


if __name__ == "__main__":
    main()
