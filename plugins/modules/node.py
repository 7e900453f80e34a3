#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode
# The work is done by plugins/action/node.py; this file documents it, as Ansible does for its own actions.

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Drain a Node, delete it, wait until it is ready, give it back
description:
  - Runs in the controller's process, whatever the host's connection is. Nothing is needed on the host.
  - A Node is told apart from another machine's of the same name by its annotation C(stargate.io/server), which
    O(state=ready) sets. A Node that is another Server's is refused with the code C(NodeNameTaken).
  - A cordon is told apart from a person's by the annotation C(stargate.io/cordoned-by), which is O(operation_uid).
    A person's cordon is never taken away.
  - Every state can be run again after any interruption, with the same O(operation_uid).
version_added: 0.2.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
  - stargate.core.attributes.action
  - stargate.core.kube
attributes:
  check_mode:
    support: full
    details:
      - Nothing is waited for. Everything that would refuse the task before it changes something does so.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: all
options:
  name:
    description:
      - The Node's name.
    type: str
    required: true
  state:
    description:
      - V(drained) cordons the Node and evicts its pods. A Node that does not exist is fine. See the notes.
      - V(absent) deletes the Node object, provided that it is the one meant; see O(node_uid).
      - V(ready) waits until the Node is Ready as the other options have it, and gives it labels, taints and
        annotations as soon as it is there. In the end a cordon of this O(operation_uid) is taken away.
      - V(uncordoned) takes away a cordon of this O(operation_uid), and no other. A Node that does not exist is fine.
      - V(read) only returns the Node.
    type: str
    choices:
      - drained
      - absent
      - ready
      - uncordoned
      - read
    default: read
  operation_uid:
    description:
      - Whose cordon it is. The reconciler gives the uid of the Operation.
    type: str
    default: playbook
  server:
    description:
      - The Server that the Node is, as C(namespace/name). When it is not set, the Node is not asked whose it is.
    type: str
    default: ""
  server_uid:
    description:
      - The uid of O(server), which the Node's annotation C(stargate.io/server-uid) tells to people.
    type: str
    default: ""
  address:
    description:
      - The address of the machine. A Node without the annotation C(stargate.io/server) counts as that of O(server)
        when it has this address, or none.
    type: str
    default: ""
  kubernetes_version:
    description:
      - The version of the kubelet, such as V(1.34) or V(1.34.2); any when it is empty.
      - With O(state=drained), the version that the machine is about to get. One that is newer than the API server, or
        more than three minor versions older (two, for an API server before 1.28), is refused with the code
        C(VersionSkew) before anything is changed.
      - With O(state=ready), the version to wait for.
    type: str
    default: ""
  evict:
    description:
      - With O(state=drained), whether pods are evicted. Otherwise the Node is only cordoned.
    type: bool
    default: true
  drain_timeout:
    description:
      - With O(state=drained), seconds that pods have to leave the Node.
    type: float
    default: 300.0
  drain_force:
    description:
      - With O(state=drained), whether to evict pods without a controller too, which nobody makes again, and to go on
        when pods are still there after O(drain_timeout). They are returned as RV(left).
    type: bool
    default: false
  node_uid:
    description:
      - With O(state=absent), the uid of the Node to delete. A Node with another uid is left, as it is the next one.
      - The Node that is there now when it is not set.
    type: str
    default: ""
  not_uid:
    description:
      - With O(state=ready), the uid of the Node of before, which is not the one to wait for.
    type: str
    default: ""
  not_boot_id:
    description:
      - With O(state=ready), the boot id of before, to wait for the machine's next start.
    type: str
    default: ""
  labels:
    description:
      - With O(state=ready), labels that the Node gets. Its other labels are left.
    type: dict
    default: {}
  annotations:
    description:
      - With O(state=ready), annotations that the Node gets. Its other annotations are left.
    type: dict
    default: {}
  taints:
    description:
      - With O(state=ready), taints that the Node gets. Taints of another key or effect are left.
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
  keep_cordon:
    description:
      - With O(state=ready), whether the Node is to be cordoned in the end, because a person had cordoned the one of
        before; see RV(node.cordoned_by_person).
    type: bool
    default: false
  timeout:
    description:
      - With O(state=ready), seconds to wait.
    type: float
    default: 600.0
notes:
  - Pods are evicted with the API of that name, so PodDisruptionBudgets are respected. An eviction that one of them
    forbids is tried again until O(drain_timeout).
  - Pods of DaemonSets, static pods, and pods that have ended are left. A pod without a controller is refused with the
    code C(DrainBlocked) before anything is changed, unless O(drain_force).
  - What pods have in volumes of the kind C(emptyDir) is lost, as it is with every pod that goes. Pods have the grace
    period that they ask for.
  - When the kubelet does not report any more, pods that are evicted cannot be seen to end, so that is not waited for.
  - A drain that fails gives the Node back, unless a person has cordoned it.
seealso:
  - module: stargate.core.join_token
"""

EXAMPLES = r"""
- name: Drain the Node of a Server
  stargate.core.node:
    name: dc-west-worker-1
    state: drained
    server: dc-west/worker-1
    address: 192.168.100.11
    operation_uid: 5b7ff3b5-6b2a-4b53-8a93-0f5a0d4f5c2e
    kubernetes_version: "1.34"
    drain_timeout: 300
  register: drained

- name: Delete it
  stargate.core.node:
    name: dc-west-worker-1
    state: absent
    server: dc-west/worker-1
    address: 192.168.100.11
    node_uid: "{{ drained.node.uid }}"

- name: Wait until the next one is ready
  stargate.core.node:
    name: dc-west-worker-1
    state: ready
    server: dc-west/worker-1
    operation_uid: 5b7ff3b5-6b2a-4b53-8a93-0f5a0d4f5c2e
    kubernetes_version: "1.34"
    not_uid: "{{ drained.node.uid }}"
    keep_cordon: "{{ drained.node.cordoned_by_person }}"
    labels:
      topology.kubernetes.io/zone: dc-west

- name: Give the Node back
  stargate.core.node:
    name: dc-west-worker-1
    state: uncordoned
    operation_uid: 5b7ff3b5-6b2a-4b53-8a93-0f5a0d4f5c2e
"""

RETURN = r"""
node:
  description: The Node as it is after the task; in check mode as it is now.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: dc-west-worker-1
    exists:
      description: Whether there is one. When there is none, the texts below are empty.
      type: bool
    uid:
      description: Its uid. With O(state=absent), the uid of the Node that was deleted.
      type: str
      sample: 7d0a4f0e-4f5b-4b3a-9d0b-2f6a55c3a1b7
    version:
      description: The version of its kubelet.
      type: str
      sample: v1.34.2
    ready:
      description: Whether it is Ready.
      type: bool
    message:
      description: What its condition Ready says.
      type: str
      sample: kubelet is posting ready status
    server:
      description: The Server that it is, by its annotation.
      type: str
      sample: dc-west/worker-1
    address:
      description: Its internal address.
      type: str
      sample: 192.168.100.11
    pod_cidr:
      description: The addresses of its pods.
      type: str
      sample: 10.244.3.0/24
    boot_id:
      description: What changes whenever its machine starts.
      type: str
    unschedulable:
      description: Whether it is cordoned.
      type: bool
    cordoned_by_us:
      description: Whether it is cordoned by this O(operation_uid).
      type: bool
    cordoned_by_person:
      description: Whether it is cordoned, and by no Operation.
      type: bool
evicted:
  description: The pods that have left, each as C(namespace/name); in check mode those that would have to.
  returned: when O(state=drained)
  type: list
  elements: str
  sample: [shop/web-6d9f7c5b8-2xkqz]
left:
  description: The pods that are still there, with O(drain_force) or where the kubelet does not report.
  returned: when O(state=drained)
  type: list
  elements: str
  sample: []
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(CertificateInvalid), C(Conflict), C(DrainBlocked), C(Forbidden), C(Invalid), C(KubeconfigInvalid),
          C(NodeNameTaken), C(NodeNotReady), C(PackageMissing), C(ServerError), C(Throttled), C(Unauthorized),
          C(Unreachable), C(VersionSkew), C(WrongVersion).
      type: str
      sample: DrainBlocked
    details:
      description: The other side's own words, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""
