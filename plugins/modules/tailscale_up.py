#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: tailscale_up
short_description: Have a machine join a tailnet and offer routes
description:
  - Brings the machine into the tailnet when it is not in it, and sees that it offers exactly O(routes).
  - The auth key reaches C(tailscale) in a file on a tmpfs that is removed at once; it never is an argument.
  - The program C(tailscale) and its daemon have to be there.
  - Routes that are offered have to be approved by the owner of the tailnet.
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
  auth_key:
    description:
      - The key that lets the machine in. Not needed, and not used, when it is in.
    type: str
    default: ""
  routes:
    description:
      - All networks that the machine offers; others are withdrawn.
    type: list
    elements: str
    default: []
  accept_routes:
    description:
      - Whether the machine uses the routes that others offer.
    type: bool
    default: true
  snat:
    description:
      - Whether packets from the tailnet get the machine's own address on the networks that it offers.
    type: bool
    default: true
  hostname:
    description:
      - The machine's name in the tailnet, its own host name when it is not set.
    type: str
    default: ""
  login_server:
    description:
      - The URL of the coordination server, Tailscale's own when it is not set.
    type: str
    default: ""
  timeout:
    description:
      - Seconds that joining may take.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Join the tailnet as the router of a site
  stargate.core.tailscale_up:
    auth_key: "{{ lookup('ansible.builtin.env', 'TAILSCALE_AUTH_KEY') }}"
    routes: [192.168.100.0/24]
  become: true
  no_log: true
"""

RETURN = r"""
tailnet:
  description: The machine's part in the tailnet.
  returned: success
  type: dict
  contains:
    joined:
      description: Whether the machine is in.
      returned: success
      type: bool
    addresses:
      description: Its addresses in the tailnet.
      returned: success
      type: list
      elements: str
      sample: [100.64.0.7]
    name:
      description: Its name in the tailnet's DNS.
      returned: success
      type: str
    routes:
      description: The networks that it offers.
      returned: success
      type: list
      elements: str
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description: One of C(Deadline), C(Denied), C(Invalid), C(ProgramMissing), C(TailscaleFailed).
      type: str
      sample: Denied
    details:
      description: What C(tailscale) said, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stargate.core.plugins.module_utils import _tailscale_up as tailscale
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host

SPEC = {
    "auth_key": {"type": "str", "default": "", "no_log": True},
    "routes": {"type": "list", "elements": "str", "default": []},
    "accept_routes": {"type": "bool", "default": True},
    "snat": {"type": "bool", "default": True},
    "hostname": {"type": "str", "default": ""},
    "login_server": {"type": "str", "default": ""},
    "timeout": {"type": "int", "default": 60},
}


def main() -> None:
    """Read, plan, apply."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host, params = Host(), module.params
    names = ("accept_routes", "snat", "hostname", "login_server")
    wanted = tailscale.Membership(tuple(params["routes"]), **{name: params[name] for name in names})
    try:
        tailscale.refuse_unfit(params["routes"], params["auth_key"])
        before = after = tailscale.found(host)
        verb = tailscale.plan(before, wanted)
        if verb and not module.check_mode:
            tailscale.apply(host, verb, wanted, auth_key=params["auth_key"], timeout=params["timeout"])
            after = tailscale.found(host)
    except StargateError as error:
        module.fail_json(msg=error.message, failure=error.failure())
    foretold = {**after.told(), "joined": True, "routes": sorted(params["routes"])} if verb else after.told()
    diff = {"before": before.told(), "after": foretold if module.check_mode else after.told()}
    module.exit_json(changed=bool(verb), tailnet=after.told(), diff=diff)


if __name__ == "__main__":
    main()
