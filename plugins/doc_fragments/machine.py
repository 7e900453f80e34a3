# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that make machines; their argument spec is in module_utils/_machine_module.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment stargate.core.machine."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - The machine's name within O(namespace), which is also its host name. Lower-case letters, digits and dashes.
    type: str
    required: true
  namespace:
    description:
      - What keeps the machines of one deployment apart from those of others.
    type: str
    default: default
  site:
    description:
      - The name of the router behind which the machine is. Needed for a new worker.
      - A router is its own site.
    type: str
  role:
    description:
      - Whether the machine is the router of its site or a worker behind it. Needed for a new machine.
    type: str
    choices:
      - router
      - worker
  state:
    description:
      - V(running) makes the machine if there is none and starts it if it does not run. One that runs is left alone.
      - V(stopped) makes the machine if there is none and stops it if it runs.
      - V(absent) stops the machine and removes everything that was made for it.
      - V(recreated) gives it a fresh disk, and a new instance id so that cloud-init runs as on a first boot. Its
        addresses and its host key stay the same.
    type: str
    choices:
      - running
      - stopped
      - absent
      - recreated
    default: running
  machines_dir:
    description:
      - The directory of all machines.
      - When it is not set, the environment variable E(STARGATE_MACHINES_DIR) is asked. Without that, it is
        C(/var/lib/stargate/vms) for root and C(~/.local/state/stargate/vms) for others.
    type: path
  cpus:
    description:
      - How many processors the machine has. 2 for a new machine when it is not set.
    type: int
  memory:
    description:
      - Its memory in MiB. 2048 for a new machine when it is not set.
    type: int
  disk:
    description:
      - The size of its disk in GiB. 20 for a new machine when it is not set.
    type: int
  image:
    description:
      - What its disk is made from. Needed for a new machine.
    type: str
  image_checksum:
    description:
      - The checksum of O(image), as C(sha256:) and 64 digits.
    type: str
  kernel:
    description:
      - The kernel to boot with, a path or URL. When it is not set, the image's own boot loader is used.
    type: str
  initrd:
    description:
      - The initial RAM disk that goes with O(kernel).
    type: str
  cmdline:
    description:
      - The command line that goes with O(kernel).
    type: str
  network:
    description:
      - V(user) leaves the host's network alone. The router is reached at a port of 127.0.0.1 and workers through
        the router. Machines reach the host's loopback as 10.0.2.2.
      - V(bridge) puts all machines on one bridge of the host. This needs root.
    type: str
    choices:
      - user
      - bridge
  netns:
    description:
      - With O(network=bridge), a network namespace for the bridge and the machines in place of the host's own.
    type: str
  bridge:
    description:
      - With O(network=bridge), the name of the bridge.
    type: str
  cidr:
    description:
      - The IPv4 network of the site. 192.168.100.0/24 for a new machine when it is not set.
      - The router gets the second address, workers those from the eleventh on.
    type: str
  dns:
    description:
      - The servers that a new machine asks for names. When it is not set, these are the host's.
    type: list
    elements: str
  admin_user:
    description:
      - The user who can log in and become root without a password. C(stargate) for a new machine when it is not set.
    type: str
  public_key:
    description:
      - The public key, one line, with which O(admin_user) logs in. Needed for a new machine.
    type: str
  pod_cidr:
    description:
      - The IPv4 network from which each new worker gets a /24 of its own for its pods. 10.244.0.0/16 when it is
        not set.
    type: str
  user_data:
    description:
      - More user data for cloud-init, of any kind that it knows. Host name, keys and O(admin_user) are not
        overridden by it.
    type: str
  instance_id:
    description:
      - The instance id that a fresh disk gets. A new one is made up when it is not set.
      - With O(state=recreated), a machine that has this instance id already is not recreated once more. A task
        that was interrupted can therefore be run again.
    type: str
  wait:
    description:
      - Seconds to wait until the machine's SSH server answers. With V(0) the task does not wait.
    type: float
    default: 0.0
  provider:
    description:
      - What the machine is called a machine of.
    type: str
notes:
  - A machine's definition is kept on disk. For a machine that exists, only O(name), O(namespace) and O(state) are
    needed. Other options that differ from the definition are reported as RV(drift) and applied by O(state=recreated)
    only.
  - A machine outlives the task that starts it. One that runs already is found again and left alone.
"""
