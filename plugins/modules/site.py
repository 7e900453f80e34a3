#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode
# The work is done by plugins/action/site.py; this file documents it, as Ansible does for its own actions.

from __future__ import annotations

DOCUMENTATION = r"""
module: site
short_description: Check, describe and record a site of local machines
description:
  - A site is a router and its workers on this host, in one namespace. It has the router's name.
  - Makes no machine. It checks what is asked for, says what the machines are to be, and keeps the site's files, such
    as the SSH configuration through which everything is reached.
  - Used by the playbook C(prep-dc-inventory.yml), whose variables are the suboptions of O(inputs).
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.attributes.action
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  state:
    description:
      - V(planned) checks all of O(inputs), reports everything that is wrong in one sentence each, and returns the
        plan as RV(site). A key pair is made for the site when there is none to use.
      - V(present) writes the SSH configuration, the known hosts, the outputs and the record of a site with O(machines).
      - V(read) returns what there is of a site.
      - V(absent) removes the site's files. Its machines have to be gone.
    type: str
    required: true
    choices:
      - planned
      - present
      - read
      - absent
  machines:
    description:
      - The machines as the modules that made them returned them, the router among them.
    type: list
    elements: dict
  inputs:
    description:
      - What is asked for.
    type: dict
    required: true
    suboptions:
      provider:
        description: The kind of the machines, V(qemu) or V(nspawn).
        type: str
        default: ""
      namespace:
        description: The namespace of the machines and of their Servers.
        type: str
        default: simulator-dc
      router_name:
        description:
          - The router's name, and so the site's. When it is not set, C(stargate-PROVIDER-router), with C(-NUMBER) where
            the environment variable E(DEPLOY_NUM) has a number.
        type: str
        default: ""
      vm:
        description:
          - The workers' names, as a list or with commas. When it is not set, C(stargate-PROVIDER-vm), or with
            E(DEPLOY_NUM) C(stargate-PROVIDER-vmNUMBER-1) and C(-2).
          - With O(state=read) and O(state=absent), only these workers are meant when it is set; the router and the
            files go with the last worker.
        type: raw
      qemu_cpus:
        description: Processors of each machine.
        type: int
        default: 2
      qemu_memory:
        description: Memory of each machine, in MiB.
        type: int
        default: 4096
      qemu_disk:
        description: Disk of each machine, in GiB.
        type: int
        default: 20
      qemu_image_url:
        description: The disk image, an address or a path. When it is not set, Ubuntu 22.04's cloud image.
        type: str
        default: ""
      qemu_image_checksum:
        description: Its checksum.
        type: str
        default: ""
      qemu_image_kernel:
        description: The kernel to boot, for an image without a boot loader.
        type: str
        default: ""
      qemu_image_initrd:
        description: The initial RAM disk that goes with the kernel.
        type: str
        default: ""
      nspawn_image:
        description:
          - The directory with the root file system of nspawn machines. When it is not set, the one that
            C(stargate-machine-image build) has made.
        type: str
        default: ""
      qemu_subnet_cidr:
        description: The network of the site.
        type: str
        default: 192.168.100.0/24
      pod_cidr:
        description: What the pod CIDRs of workers are cut from.
        type: str
        default: 10.244.0.0/16
      qemu_work_dir:
        description: The directory of all machines.
        type: str
        default: ""
      network:
        description:
          - V(user) or V(bridge). When it is not set, V(bridge) for QEMU machines of root, else V(user).
        type: str
        choices:
          - ""
          - user
          - bridge
        default: ""
      netns:
        description: The network namespace of the bridge.
        type: str
        default: ""
      definition:
        description: Whether QEMU machines are started directly or defined in libvirt.
        type: str
        choices:
          - qemu
          - libvirt
        default: qemu
      admin_username:
        description: The user who can log in to the machines.
        type: str
        default: ubuntu
      ssh_public_key:
        description:
          - The file with the public key that lets this user in. When it is not set, the one used before for this
            site, else C(~/.ssh/id_rsa.pub) or C(~/.ssh/id_ed25519.pub), else a key pair made for the site.
        type: str
        default: ""
      ssh_private_key:
        description: The file with the private key. When it is not set, the public key's without C(.pub).
        type: str
        default: ""
      kubeconfig:
        description: The kubeconfig of the cluster with the Servers, E(KUBECONFIG) when it is not set.
        type: str
        default: ""
      outputs_dir:
        description: Where the outputs are written, the site's directory when it is not set.
        type: str
        default: ""
      skip_server_cr:
        description: Whether no cluster is needed.
        type: bool
        default: false
      boot_timeout:
        description: Seconds that machines may take until they answer. Only checked here.
        type: float
        default: 600.0
      state:
        description: What the playbook is to do. Only checked here.
        type: str
        choices:
          - present
          - absent
        default: present
"""

EXAMPLES = r"""
- name: See what a site would be
  stargate.core.site:
    state: planned
    inputs:
      provider: nspawn
      router_name: dc-router
      vm: [dc-worker-1, dc-worker-2]
  register: plan

- name: Write the files of a site
  stargate.core.site:
    state: present
    inputs:
      provider: nspawn
      router_name: dc-router
      vm: [dc-worker-1, dc-worker-2]
    machines: "{{ machine_results }}"
"""

RETURN = r"""
site:
  description: The plan, with the paths of the site's files; with O(state=read) and O(state=absent) only what is known.
  returned: success
  type: dict
  contains:
    name:
      description: The site's name.
      returned: success
      type: str
      sample: stargate-qemu-router
    namespace:
      description: Its namespace.
      returned: success
      type: str
      sample: simulator-dc
    machines:
      description: Name and role of each machine, the router first, those that the site has already included.
      returned: O(state=planned) and O(state=present)
      type: list
      elements: dict
    paths:
      description: Where the site's files are.
      returned: O(state=planned) and O(state=present)
      type: dict
    whole:
      description: Whether the whole site is meant, and not some of its workers.
      returned: O(state=read) and O(state=absent)
      type: bool
machines:
  description: Name, role and provider of each machine that there is, the workers first.
  returned: O(state=read) and O(state=absent)
  type: list
  elements: dict
paths:
  description: The files and directories that belong to the site.
  returned: O(state=read) and O(state=absent)
  type: list
  elements: str
list:
  description: What taking the site down would remove, to be shown to people.
  returned: O(state=read) and O(state=absent)
  type: list
  elements: str
servers:
  description:
    - With O(state=present), a Server object per worker, with what is known of the machine.
    - With O(state=read) and O(state=absent), the names of the Servers that go with the machines; an empty one stands
      for all of the site.
  returned: success, but not with O(state=planned)
  type: list
  elements: raw
outputs:
  description: What the JSON file of the outputs has.
  returned: O(state=present)
  type: dict
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - The code of all problems when they share it, such as C(CidrInvalid), C(ImageUnavailable), C(KeyInvalid),
          C(KubeconfigMissing), C(NameTaken), C(ProviderUnsupported), C(RootNeeded); else C(InvalidInput).
      type: str
      sample: CidrInvalid
    details:
      description: Always empty.
      type: str
    retryable:
      description: Always false.
      type: bool
"""
