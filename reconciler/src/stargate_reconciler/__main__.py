# SPDX-License-Identifier: Apache-2.0
"""`python -m stargate_reconciler` is `stargate-reconciler`.

Nothing else belongs here.
"""

from __future__ import annotations

import sys

from .cli import main

sys.exit(main())
