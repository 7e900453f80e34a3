# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every action that speaks to a cluster; the argument slice beside them is in module_utils/_kube.py."""

from __future__ import annotations


class ModuleDocFragment:
    """The fragment stargate.core.kube."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - The kubeconfig; several files are separated as in the variable C(KUBECONFIG), which is used when this is not
        set. Without both, the cluster is the one whose pod this is, or else that of C(~/.kube/config).
    type: str
    default: ""
  context:
    description:
      - The context of the kubeconfig; its current one when not set.
    type: str
    default: ""
  unreachable_after:
    description:
      - Seconds without one usable answer of the API server after which the task gives up. Until then what it asked is
        asked again, with growing pauses.
    type: float
    default: 60.0
requirements:
  - The Python package kubernetes, of version 37 or later, where ansible runs.
"""
