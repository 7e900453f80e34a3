# SPDX-License-Identifier: Apache-2.0
"""The benchmark: how much Stargate adds to the remote work, as ratios within one run on one machine.

`python -m bench` measures, `row_*.py` is one question each. What the figures mean stands in docs/benchmarks.md.
"""

from __future__ import annotations
