#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode
# The work is done by plugins/action/server.py; this file documents it, as Ansible does for its own actions.

from __future__ import annotations

DOCUMENTATION = r"""
module: server
short_description: Have a Server object say what is known of a machine
description:
  - Creates the object, or patches in those fields of O(spec) that are missing or, for facts about where the machine is,
    wrong. Such facts are C(mac), C(ipv4), C(provider), C(routerIP), C(routerPort), C(sshHostKeys) and C(podCIDR).
  - Everything else that a person has set stays as it is. The object is never replaced.
  - An object that was created for a O(site) is marked with the annotation C(stargate.io/site), and only such an object
    is deleted with its site.
  - Runs in the controller's process, whatever the host's connection is.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.attributes.action
  - stargate.core.kube
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: all
options:
  name:
    description:
      - The object's name. Without it, O(state=absent) and O(state=read) mean every Server of the O(site).
    type: str
  namespace:
    description:
      - Its namespace, which is created when it is missing.
    type: str
    required: true
  spec:
    description:
      - The fields of the object's spec. Needed with O(state=present).
    type: dict
  site:
    description:
      - The site that the machine belongs to. A Server of another site is refused.
    type: str
    default: ""
  state:
    description:
      - V(present) has the object exist with O(spec).
      - V(absent) deletes it, if O(site) made it; without O(site), whoever made it.
      - V(read) returns what there is.
    type: str
    choices:
      - present
      - absent
      - read
    default: present
"""

EXAMPLES = r"""
- name: Declare a machine behind its router
  stargate.core.server:
    name: dc-worker-1
    namespace: simulator-dc
    site: dc-router
    spec:
      provider: qemu
      mac: 52:54:00:aa:bb:cc
      ipv4: 192.168.100.11
      routerIP: 127.0.0.1
      routerPort: 20022

- name: Delete the Servers of a site
  stargate.core.server:
    namespace: simulator-dc
    site: dc-router
    state: absent
"""

RETURN = r"""
server:
  description: The object, in check mode as it was, or as it would be created.
  returned: with O(state=present)
  type: dict
  contains:
    name:
      description: Its name.
      returned: success
      type: str
    namespace:
      description: Its namespace.
      returned: success
      type: str
    uid:
      description: Its uid, empty when it does not exist yet.
      returned: success
      type: str
    site:
      description: The site that made it, empty for none.
      returned: success
      type: str
    state:
      description: What its status says of the machine.
      returned: success
      type: str
    active_operation:
      description: The Operation that is at work on it, empty for none.
      returned: success
      type: str
    spec:
      description: Its spec.
      returned: success
      type: dict
servers:
  description: The objects that there are, or that were deleted, each as RV(server) has it.
  returned: with O(state=read) and O(state=absent)
  type: list
  elements: dict
kept:
  description: The objects that were not deleted, because the site did not make them.
  returned: with O(state=absent)
  type: list
  elements: dict
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description: >-
        C(NameTaken) for a Server that stands for another machine, C(CrdsMissing), C(Invalid), or one of those of
        M(stargate.core.node).
      type: str
      sample: NameTaken
    details:
      description: What the cluster said, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""
