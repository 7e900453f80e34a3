# SPDX-License-Identifier: Apache-2.0
"""The reconciler: watches Operations, plans, runs playbooks, writes status.

Nothing here knows how a machine is changed: that is in the collection's roles and playbooks.
"""

from __future__ import annotations

__version__ = "0.1.0"
