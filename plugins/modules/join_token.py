#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode
# The work is done by plugins/action/join_token.py; this file documents it, as Ansible does for its own actions.

from __future__ import annotations

DOCUMENTATION = r"""
module: join_token
short_description: Make or revoke the bootstrap token with which one machine joins a cluster
description:
  - Makes a bootstrap token for one Node that ends by itself after O(ttl), and returns it with everything else that
    C(kubeadm join) needs, the hash of the cluster's CA included. There is one token for a Node at most, an earlier one
    is revoked.
  - Asks the Kubernetes API, or, where that cannot be reached from here, C(kubeadm) on the control plane by O(kubeadm).
  - Runs in the controller's process, whatever the host's connection is. Nothing is needed on the host.
  - The result of a task that has made a token is never shown, as if it had C(no_log), but can be registered.
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
      - RV(join) has an empty token then. With O(state=absent) no change is foreseen.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: all
options:
  node:
    description:
      - The name of the Node whose token it is.
    type: str
    required: true
  state:
    description:
      - V(present) makes a token, and revokes the Node's earlier one.
      - V(absent) revokes the Node's token. One that does not exist is fine.
    type: str
    choices:
      - present
      - absent
    default: present
  token_id:
    description:
      - With O(state=absent), the public half of the token to revoke. All tokens of O(node) when it is not set.
    type: str
    default: ""
  ttl:
    description:
      - Seconds after which the token ends by itself, 60 at least.
    type: int
    default: 900
  endpoint:
    description:
      - The API server as machines reach it, C(host:port), with or without C(https://) before it. What the cluster says
        of itself in the ConfigMap C(kube-public/cluster-info) when it is not set.
    type: str
    default: ""
  verify_ca:
    description:
      - Whether the CA that C(cluster-info) names has to be one that our own connection trusts by the kubeconfig. Turn
        it off where the kubeconfig's server is a proxy with certificates of its own.
    type: bool
    default: true
  kubeadm:
    description:
      - The command line, up to C(kubeadm), that runs it where the control plane is. The API is used when it is empty.
      - It is run without a shell. With C(ssh), take care that host keys are checked.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds to wait until the cluster has signed C(cluster-info) with the token, or for each call of O(kubeadm).
    type: float
    default: 60.0
seealso:
  - module: stargate.core.kubeadm_join
  - module: stargate.core.node
"""

EXAMPLES = r"""
- name: Make a token
  stargate.core.join_token:
    node: dc-west-worker-1
  register: token

- name: Join with it
  stargate.core.kubeadm_join:
    node_name: dc-west-worker-1
    join: "{{ token.join }}"
  no_log: true

- name: Revoke it
  stargate.core.join_token:
    node: dc-west-worker-1
    state: absent

- name: Make a token in a kind cluster
  stargate.core.join_token:
    node: dc-west-worker-1
    kubeadm: [docker, exec, stargate-demo-control-plane, kubeadm]
  register: token
"""

RETURN = r"""
join:
  description: How the cluster is joined. The same, wherever it was asked.
  returned: when O(state=present)
  type: dict
  contains:
    method:
      description: Always C(kubeadm).
      type: str
    endpoint:
      description: The API server as machines reach it.
      type: str
      sample: 10.0.2.2:6443
    token:
      description: The bootstrap token. A secret.
      type: str
    token_id:
      description: Its public half.
      type: str
      sample: x7k2mq
    ca:
      description: The cluster's CA certificates (PEM); empty when C(kubeadm) was asked.
      type: str
    ca_hashes:
      description: The hashes of their public keys.
      type: list
      elements: str
      sample: ["sha256:1f7c8f0f5f2ad6c3f1a9fd2ab6b6ce3bd3d08b4c9a3fdcb64d7b2c2a0a9c3f10"]
    server_version:
      description: The version of the API server; empty when C(kubeadm) was asked.
      type: str
      sample: v1.34.2
    dns:
      description: The cluster's DNS domain, empty when the cluster does not say.
      type: str
      sample: cluster.local
    cluster_dns:
      description: The address of the cluster's DNS, empty when the cluster does not say.
      type: str
      sample: 10.96.0.10
token_id:
  description: The public half of the token that was made, or revoked when O(token_id) is set.
  returned: success
  type: str
  sample: x7k2mq
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(BadAnswer), C(CaMismatch), C(CertificateInvalid), C(ClusterInfoMissing), C(ControlPlaneUnreachable),
          C(Forbidden), C(Invalid), C(KubeadmFailed), C(KubeconfigInvalid), C(PackageMissing), C(ProgramMissing),
          C(ServerError), C(Throttled), C(TokenNotSigned), C(Unauthorized), C(Unreachable).
      type: str
      sample: CaMismatch
    details:
      description: The other side's own words, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""
