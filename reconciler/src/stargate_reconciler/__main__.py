# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate_reconciler` is `stargate-reconciler`.

Nothing else belongs here.
"""

from __future__ import annotations

from .cli import main

main()
