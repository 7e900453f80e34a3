#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode
# The work is done by plugins/action/ssh_wait.py; this file documents it, as Ansible does for its own actions.

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_wait
short_description: Wait until machines let us in by SSH
description:
  - Tries all hosts at once with the C(ssh) program, through jump hosts and with host keys checked as O(ssh_config)
    has it, and shows while it waits whom it waits for.
  - A wrong host key, a machine that has stopped, and a login that stays denied end the wait at once.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.attributes.action
attributes:
  check_mode:
    support: full
    details:
      - Does the same, as it changes nothing.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
options:
  ssh_config:
    description:
      - A configuration of the OpenSSH client.
    type: path
    required: true
  hosts:
    description:
      - The hosts. What a module returned of a machine will do; keys that are not listed here are ignored.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The host's name in O(ssh_config).
        type: str
        required: true
      pid:
        description: The process on this machine without which there is nothing to wait for, V(0) for none.
        type: int
        default: 0
      console:
        description: The log of the machine's console, whose end is shown when it does not answer.
        type: str
        default: ""
  timeout:
    description:
      - Seconds to wait at most.
    type: float
    default: 600.0
  interval:
    description:
      - Seconds between two lines of progress.
    type: float
    default: 15.0
"""

EXAMPLES = r"""
- name: Wait for a worker behind its router
  stargate.core.ssh_wait:
    ssh_config: /var/lib/stargate/vms/simulator-dc/dc-router.site/ssh_config
    hosts:
      - name: dc-worker-1
    timeout: 300
"""

RETURN = r"""
seconds:
  description: How long each host took to answer.
  returned: success
  type: dict
  sample: {"dc-worker-1": 32.1}
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description: One of C(BootTimeout), C(Denied), C(HostKeyChanged), C(MachineStopped), C(ProgramMissing).
      type: str
      sample: BootTimeout
    details:
      description: What ssh said, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""
