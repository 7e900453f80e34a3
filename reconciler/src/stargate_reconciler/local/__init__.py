# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes API on loopback: etcd and kube-apiserver as plain processes, and where their programs come from.

Used by tests, by the demo and by people (`stargate-control-plane`). Nothing here knows Servers or Operations.
"""

from __future__ import annotations
