#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: router_nat
short_description: Make a machine route and hide a network behind it
description:
  - Turns on forwarding and hides the addresses of O(sources) behind the machine's own when packets leave by any
    interface but O(interface), now and at each boot.
  - The rules are an nft table of their own, C(ip stargate_nat), loaded by the unit C(stargate-nat.service). No other
    table or rule is touched.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  sources:
    description:
      - The IPv4 networks behind the machine.
    type: list
    elements: str
    required: true
  interface:
    description:
      - The inner interface, on which these networks are.
    type: str
    default: lan
"""

EXAMPLES = r"""
- name: Route the site's network
  stargate.core.router_nat:
    sources: [192.168.100.0/24]
  become: true
"""

RETURN = r"""
changes:
  description: What differed, names of files, or V(forwarding), V(rules), V(boot).
  returned: success
  type: list
  elements: str
  sample: ["/etc/stargate/nat.nft", "rules"]
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description: One of C(CidrInvalid), C(CommandFailed), C(CommandTimeout), C(DiskFull), C(ProgramMissing).
      type: str
      sample: ProgramMissing
    details:
      description: What a program said, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stargate.core.plugins.module_utils import _router_nat as nat
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host


def main() -> None:
    """Read, plan, apply."""
    module = AnsibleModule(
        argument_spec={
            "sources": {"type": "list", "elements": "str", "required": True},
            "interface": {"type": "str", "default": "lan"},
        },
        supports_check_mode=True,
    )
    host = Host()
    try:
        before = nat.found(host)
        after = nat.wanted(module.params["sources"], module.params["interface"], before.sysctls)
        what = nat.changes(before, after)
        if not module.check_mode:
            nat.apply(host, after, what)
    except StargateError as error:
        module.fail_json(msg=error.message, failure=error.failure())
    module.exit_json(changed=bool(what), changes=what, diff={"before": before.shown(), "after": after.shown()})


if __name__ == "__main__":
    main()
