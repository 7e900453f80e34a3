#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode
# The work is done by plugins/action/dc_job.py; this file documents it, as Ansible does for its own actions.

from __future__ import annotations

DOCUMENTATION = r"""
module: dc_job
short_description: Run a job of a datacenter's API and wait for it
description:
  - Submits a job (a repave or a reboot of one server) to the API of the server's datacenter and waits until it
    has ended.
  - The same O(request_id) never starts a second job, so the task can be run again after any interruption.
  - Runs in the controller's process, whatever the host's connection is. Nothing is needed on the host.
  - Connection errors, HTTP 5xx and 429 are tried again with growing pauses. While another job is active on the
    server, the task waits for its end first.
  - Speaks to servers of the first contract too (without idempotency keys and long polls), by plain polling.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.attributes.action
  - stargate.core.dc_api
attributes:
  check_mode:
    support: full
    details:
      - Only reads from the API, and does not try again for longer than O(timeout).
  diff_mode:
    support: none
  platform:
    support: full
    platforms: all
options:
  type:
    description:
      - What the job does. Needed unless O(job_id) names a job that is known.
    type: str
    choices:
      - repave
      - reboot
  server_id:
    description:
      - The server, as the datacenter knows it. Needed with O(type).
    type: str
  mac:
    description:
      - The server's hardware address.
    type: str
  ipv4:
    description:
      - The server's address.
    type: str
  os_version:
    description:
      - The version of the operating system to install.
    type: str
  os_image:
    description:
      - The URL of the image to install.
    type: str
  cloud_init:
    description:
      - User data for the first boot.
    type: str
  kubernetes_version:
    description:
      - The version of Kubernetes to install.
    type: str
  force:
    description:
      - With O(type=reboot), whether to cycle the power without asking the operating system.
    type: bool
  strategy:
    description:
      - How the server is to be repaved. Anything but V(dcApi) is refused with the code C(UnsupportedStrategy)
        before the API is contacted, so that a play needs no task of its own for that.
    type: str
    default: dcApi
  request_id:
    description:
      - The idempotency key of the job, at most 255 visible characters. The API answers the same key with the
        same job.
      - Made of the host's name, O(type) and the time when it is not set; the result has it as RV(request_id).
    type: str
  state:
    description:
      - V(submitted) returns as soon as the API has accepted the job.
      - V(finished) waits for the end of the job; a job that failed or was canceled fails the task.
      - V(canceled) cancels the job O(job_id); a job that has ended, or is not known, is left as it is.
    type: str
    choices:
      - submitted
      - finished
      - canceled
    default: finished
  job_id:
    description:
      - A job submitted earlier. With O(state=finished) the task waits for this one instead of submitting a job.
      - When the API does not know it any more, the job is submitted once more with the same O(request_id),
        provided O(type) is set. Without O(type), or when that job vanishes too, the task fails with the code
        C(JobVanished).
    type: str
  deadline:
    description:
      - Seconds after which the task gives up. The job is left as it is.
    type: float
    default: 3600.0
  unreachable_after:
    description:
      - Seconds without one usable answer after which the task gives up, before O(deadline).
    type: float
    default: 300.0
  poll_interval:
    description:
      - Seconds between two questions to a server that cannot hold a request until the job ends; varied by a fifth.
    type: float
    default: 10.0
  report:
    description:
      - When it is set, a task that succeeds tells of its host what M(ansible.builtin.set_stats) would, without a task
        of its own. The variable C(stargate) gets the keys C(dcJobID) and C(message), and those given here, such as
        C(os) and C(final).
    type: dict
seealso:
  - name: Mock datacenter
    description: The program C(stargate-mock-dc) serves this API and describes it at C(/openapi.json).
    link: https://github.com/stargate/stargate#readme
"""

EXAMPLES = r"""
- name: Repave a server and wait for the end
  stargate.core.dc_job:
    url: http://127.0.0.1:8080
    type: repave
    server_id: server-001
    mac: aa:bb:cc:dd:ee:01
    ipv4: 10.0.1.5
    os_version: 2.0.0
    os_image: https://images.example.com/ubuntu-22-aks-2.0.0.img
    request_id: repave-server-001-to-2.0.0

- name: Start a reboot
  stargate.core.dc_job:
    url: https://dc-west.example.com
    token_file: /etc/stargate/dc-west.token
    ca_file: /etc/stargate/dc-west.pem
    type: reboot
    server_id: server-001
    state: submitted
  register: reboot

- name: Wait for it, half an hour at most
  stargate.core.dc_job:
    url: https://dc-west.example.com
    token_file: /etc/stargate/dc-west.token
    ca_file: /etc/stargate/dc-west.pem
    job_id: "{{ reboot.job.jobId }}"
    deadline: 1800

- name: Cancel a job
  stargate.core.dc_job:
    url: http://127.0.0.1:8080
    job_id: job-1768500000000000000
    state: canceled
"""

RETURN = r"""
job:
  description:
    - The job as the API last showed it. Servers of the first contract give C(jobId), C(phase) and C(message) only.
  returned: when a job was submitted, followed or canceled
  type: dict
  contains:
    jobId:
      description: The job's name in the API.
      returned: always
      type: str
      sample: job-1768500000000000000
    serverId:
      description: The server.
      returned: when the API says so
      type: str
    type:
      description: What the job does.
      returned: when the API says so
      type: str
    phase:
      description: One of C(pending), C(running), C(succeeded), C(failed), C(canceled).
      returned: always
      type: str
      sample: succeeded
    message:
      description: One sentence for people.
      returned: always
      type: str
      sample: Repave completed successfully
    stage:
      description: The step that the job is in, or ended in.
      returned: when the API says so
      type: str
    progress:
      description: Per cent done.
      returned: when the API says so
      type: int
    error:
      description: What went wrong, with C(code), C(message) and C(retryable).
      returned: when the API says so
      type: dict
request_id:
  description: The idempotency key that was used.
  returned: when O(type) is set
  type: str
  sample: 5b7ff3b5-6b2a-4b53-8a93-0f5a0d4f5c2e
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - The API's own code, or one of C(BadAnswer), C(BadRequest), C(CancelUnsupported),
          C(CertificateInvalid), C(DatacenterUnknown), C(Deadline), C(Invalid), C(JobCanceled),
          C(JobFailed), C(JobVanished), C(NotFound), C(Redirected), C(ServerBusy), C(ServerError),
          C(SubmissionUnknown), C(Throttled), C(TokenUnreadable), C(Unauthorized), C(Unreachable),
          C(UnsupportedStrategy).
      type: str
      sample: Unreachable
    details:
      description: The other side's own words, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""
