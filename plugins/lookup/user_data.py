# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: user_data
short_description: Cloud-init that a Secret of the cluster keeps
description:
  - Returns the user data in the Secrets that ProvisioningProfiles name by C(cloudInitSecretRef).
  - The text may hold credentials. Use it where nothing is logged, such as the option C(user_data) of
    M(stargate.core.qemu_vm) and M(stargate.core.nspawn_machine).
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
options:
  _terms:
    description:
      - The names of the Secrets.
    required: true
  namespace:
    description:
      - Their namespace.
    type: str
    required: true
  key:
    description:
      - The key that has the text.
    type: str
    default: userData
  kubeconfig:
    description:
      - The kubeconfig, as for M(stargate.core.server).
    type: str
    default: ""
  context:
    description:
      - The context of the kubeconfig; its current one when not set.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Renew a machine with its profile's cloud-init
  stargate.core.qemu_vm:
    name: sim-worker-001
    namespace: dc-simulator
    state: recreated
    user_data: "{{ lookup('stargate.core.user_data', 'k8s-worker-cloud-init', namespace='dc-simulator') }}"
"""

RETURN = r"""
_raw:
  description:
    - The text of each Secret.
  type: list
  elements: str
"""

import base64
import binascii
import os
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._kube import Cluster, path_of


class LookupModule(LookupBase):
    """Read Secrets that hold user data."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the texts."""
        self.set_options(var_options=variables, direct=kwargs)
        params = {"kubeconfig": self.get_option("kubeconfig"), "context": self.get_option("context")}
        try:
            with Cluster.of({**params, "unreachable_after": 30.0}, os.environ) as cluster:
                return [self._text(cluster, str(name)) for name in terms]
        except StargateError as error:
            raise AnsibleError(error.message) from error

    def _text(self, cluster: Cluster, name: str) -> str:
        namespace, key = self.get_option("namespace"), self.get_option("key")
        doing = f"read the cloud-init in Secret {namespace}/{name}"
        secret = cluster.get(f"{path_of('/api/v1/namespaces', namespace)}/{path_of('secrets', name)}", doing)
        content = (secret.get("data") or {}).get(key)
        if not content:
            raise AnsibleError(f"Failed to {doing}: it has no key {key}. Put the user data there.")
        try:
            return base64.b64decode(content).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise AnsibleError(f"Failed to {doing}: what it has under {key} is no text.") from error
