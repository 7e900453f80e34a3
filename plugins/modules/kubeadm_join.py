#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm_join
short_description: Make a machine a worker of a cluster with kubeadm, or take it out
description:
  - With O(state=present), a machine that is a member of this very cluster under this name is left alone. That is asked
    of the API server with the kubelet's own certificate, and of the kubelet.
  - Otherwise the API server is reached first, with the cluster's CA and the token, so that nothing is lost when it
    cannot be or the token has expired. Then leftovers of an earlier membership are removed and C(kubeadm join) is run.
  - The token is never on a command line. It is in a file that only root can read, on a file system in memory, as
    long as C(kubeadm) runs.
  - Whether the Node becomes Ready is not waited for.
  - Works with every version of kubeadm from 1.15.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
attributes:
  check_mode:
    support: full
    details:
      - The API server is reached in check mode too. A token is not needed for that.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: debian
options:
  state:
    description:
      - V(present) makes the machine a member of the cluster O(join).
      - V(reset) takes away what a membership has left on the machine, containers, mounts, pod network, C(KUBE-) and
        C(CNI-) rules of iptables included. containerd, and what M(stargate.core.node_runtime) has set up, stay. The
        Node object is not touched.
    type: str
    choices:
      - present
      - reset
    default: present
  node_name:
    description:
      - The name of the Node. Needed with O(state=present).
    type: str
  node_ip:
    description:
      - The address that the kubelet gives as its own. It finds one by itself when not set.
    type: str
    default: ""
  join:
    description:
      - How the cluster is joined, as M(stargate.core.join_token) returns it. Needed with O(state=present).
    type: dict
    suboptions:
      method:
        description: Always V(kubeadm).
        type: str
        choices:
          - kubeadm
        default: kubeadm
      endpoint:
        description: The API server as the machine reaches it, C(host:port).
        type: str
        required: true
      token:
        description: The bootstrap token. May be empty in check mode.
        type: str
        default: ""
      token_id:
        description: The public half of the token. Not used here.
        type: str
      ca:
        description: The cluster's CA certificates (PEM). Needed unless O(join.ca_hashes) is set.
        type: str
        default: ""
      ca_hashes:
        description: Hashes of the public keys of the cluster's CAs, C(sha256:) and hexadecimal digits.
        type: list
        elements: str
        default: []
      server_version:
        description: The version of the API server. Not used here.
        type: str
      dns:
        description: The cluster's DNS domain. Not used here.
        type: str
      cluster_dns:
        description: The address of the cluster's DNS. Not used here.
        type: raw
  labels:
    description:
      - Labels that the Node is registered with. Those that a kubelet may not give itself, such as
        C(node-role.kubernetes.io/worker), are left out and returned as RV(labels_left).
    type: dict
    default: {}
  taints:
    description:
      - Taints that the Node is registered with.
    type: list
    elements: dict
    default: []
    suboptions:
      key:
        description: The key.
        type: str
        required: true
      value:
        description: The value.
        type: str
        default: ""
      effect:
        description: What it does to pods that do not tolerate it.
        type: str
        choices:
          - NoSchedule
          - PreferNoSchedule
          - NoExecute
        required: true
  ignore_preflight_errors:
    description:
      - Checks of C(kubeadm) whose errors are only warnings, such as V(Swap). C(FileExisting-crictl) is added by itself
        when the machine has no C(crictl), since containerd is cleaned with C(ctr) here.
    type: list
    elements: str
    default: []
  cri_socket:
    description:
      - The socket of containerd.
    type: path
    default: /run/containerd/containerd.sock
  timeout:
    description:
      - Seconds that C(kubeadm join) may take; then it and all that it has started are killed.
    type: int
    default: 300
seealso:
  - module: stargate.core.node_runtime
  - module: stargate.core.join_token
"""

EXAMPLES = r"""
- name: Join the cluster
  stargate.core.kubeadm_join:
    node_name: dc-west-worker-1
    node_ip: 192.168.100.11
    join: "{{ control_plane_join }}"
    labels:
      topology.kubernetes.io/zone: dc-west

- name: Leave whatever cluster the machine is in
  stargate.core.kubeadm_join:
    state: reset
"""

RETURN = r"""
node_name:
  description: The name of the Node.
  returned: when O(state=present)
  type: str
  sample: dc-west-worker-1
node_uid:
  description: The uid of the Node object, empty when it could not be read (check mode, or not registered yet).
  returned: when O(state=present)
  type: str
  sample: 5b7ff3b5-6b2a-4b53-8a93-0f5a0d4f5c2e
endpoint:
  description: The API server that the kubelet talks to, C(host:port).
  returned: when O(state=present)
  type: str
  sample: 10.0.2.2:6443
kubelet_version:
  description: What the installed kubelet says of itself.
  returned: when O(state=present)
  type: str
  sample: v1.34.2
labels_left:
  description: Those of O(labels) that a kubelet may not give itself; somebody else has to set them.
  returned: when O(state=present)
  type: dict
  sample:
    node-role.kubernetes.io/worker: ""
changes:
  description: What was done, or would be in check mode, one short text each.
  returned: success
  type: list
  elements: str
  sample:
    - reset
    - joined 10.0.2.2:6443 as dc-west-worker-1
reason:
  description: Why the machine was not taken for a member already.
  returned: when O(state=present) and it was not
  type: str
  sample: the machine belongs to no cluster
seconds:
  description: How long each step took.
  returned: success
  type: dict
  sample:
    join: 6.1
    reach: 0.03
    reset: 0.0
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(ApiForbidden), C(ApiUnreachable), C(CaMismatch), C(CertificateUnreadable), C(CommandFailed),
          C(CommandTimeout), C(DiskFull), C(EndpointMismatch), C(HostBusy), C(Invalid), C(IsControlPlane),
          C(JoinFailed), C(JoinTimeout), C(KubeadmMissing), C(KubeletUnhealthy), C(NodeNameTaken), C(PreflightFailed),
          C(ResetFailed), C(StaleOperation), C(StepInterrupted), C(TokenExpired), C(UnsupportedVersion),
          C(VersionSkew).
      type: str
      sample: TokenExpired
    details:
      description: The other side's own words, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""

import signal

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stargate.core.plugins.module_utils import _leash
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._journal import DIRECTORY, Journal
from ansible_collections.stargate.core.plugins.module_utils._kubeadm_join import SPEC, perform
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host


def _end(*_args: object) -> None:
    """End as after SIGTERM, by way of the blocks that remove the token's file."""
    raise SystemExit(143)


def main() -> None:
    """Read the options, do the work, say how it went."""
    module = AnsibleModule(**SPEC)
    signal.signal(signal.SIGTERM, _end)
    host = Host()
    journal = Journal(host.path(DIRECTORY))
    try:
        with _leash.turn(journal, module.params["timeout"], check_mode=module.check_mode) as turn:
            result = perform(module.params, host, turn, check_mode=module.check_mode)
    except StargateError as error:
        module.fail_json(msg=error.message, failure=error.failure())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
