#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: operation_step
short_description: Run one command of an Operation at most as often as it may run
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
description:
  - Runs a command on the machine and writes into the machine's own journal, C(/var/lib/stargate/operation.json), when
    it began and how it ended. One step runs on a machine at a time.
  - Run by the reconciler, the step belongs to an attempt of an Operation. A controller that is no longer in charge, or
    an attempt that another one has followed, is refused by the machine; what either of them has left running is ended
    before the step begins.
  - A step that is done is not done again when a later attempt comes to it; the task gives the result of then.
  - When the connection to the machine ends, whatever the reason, so does the command with all that it has started,
    within two seconds. What has to stay is started as a service, by C(systemctl) or C(systemd-run).
  - Without a reconciler it is a plain command, one at a time on a machine.
options:
  name:
    description: What the step is called. An Operation has one step of a name.
    type: str
    required: true
  argv:
    description: The program and its arguments. There is no shell.
    type: list
    elements: str
  chdir:
    description: The directory to run it in. The root directory when it is left out.
    type: path
  stdin:
    description: What the command reads.
    type: str
  destructive:
    description:
      - The step begins at most once in an attempt. When it has begun and nobody has seen how it ended, the task fails
        with the code C(StepInterrupted), and it is the next attempt that runs it again.
    type: bool
    default: false
  reboots:
    description:
      - Instead of running a command, write down that the machine is about to be rebooted by the task that follows. The
        step is done when the machine has booted since; until then RV(step.state) is C(begun).
    type: bool
    default: false
  timeout:
    description: Seconds that the command has, and that another task on this machine may take before this one begins.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    details:
      - Nothing is run and nothing is written.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
"""

EXAMPLES = r"""
- name: Wipe the disk, once
  stargate.core.operation_step:
    name: wipe
    argv: [wipefs, --all, /dev/sdb]
    destructive: true
  become: true

- name: Announce the reboot
  stargate.core.operation_step:
    name: reboot
    reboots: true
  become: true
  register: announced

- name: Reboot
  ansible.builtin.reboot:
  become: true
  when: announced.step.state == 'begun'
"""

RETURN = r"""
rc:
  description: How the command ended; 128 and the signal's number when it was killed by one.
  returned: when the command has run, now or in an earlier attempt
  type: int
  sample: 0
stdout:
  description:
    - What it wrote, at most the last 65536 characters; of a step of an earlier attempt 4096, or nothing for C(no_log).
  returned: when the command has run, now or in an earlier attempt
  type: str
stderr:
  description: The same of its errors.
  returned: when the command has run, now or in an earlier attempt
  type: str
step:
  description: The step, as the journal has it.
  returned: when the command has run, now or in an earlier attempt
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    state:
      description: One of C(begun), C(done), C(failed).
      type: str
      sample: done
    resumed:
      description: Whether this is the result of then.
      type: bool
    boot_id:
      description: With O(reboots=true), what named the boot in which the step began.
      type: str
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(StaleOperation), C(HostBusy), C(StepInterrupted), C(StepFailed), C(StepTimeout), C(StepNotStarted),
          C(JournalUnreadable), C(DiskFull), C(Denied), C(Invalid).
      type: str
      sample: StepInterrupted
    details:
      description: The other side's own words, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stargate.core.plugins.module_utils import _leash
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._journal import Journal
from ansible_collections.stargate.core.plugins.module_utils._operation_step import SPEC, failure, perform, step_of


def main() -> None:
    """Read the options, do the step, say how it went."""
    module = AnsibleModule(**SPEC)
    params, result = module.params, {}
    try:
        step_of(params)
        with _leash.turn(Journal(), params["timeout"], check_mode=module.check_mode) as turn:
            result = perform(params, turn, check_mode=module.check_mode, secret=module.no_log)
        bad = failure(params["name"], result)
        if bad is not None:
            raise bad
    except StargateError as error:
        module.fail_json(msg=error.message, failure=error.failure(), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
