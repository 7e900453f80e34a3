# SPDX-License-Identifier: Apache-2.0
"""Reads the Node of a machine whose play has succeeded, before anybody is told of the success.

What the Node has to be is `evidence.py`'s. Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from . import evidence
from .decision import Live
from .errors import Forbidden
from .kube import Kube
from .model import Outcome, Result


class Witness:
    """Turns successes into what the cluster bears out."""

    def __init__(self, kube: Kube, datacenters: Mapping[str, Mapping[str, str]]) -> None:
        self._kube = kube
        self._datacenters = datacenters

    def heard(self, live: Live) -> Live:
        """Return what is live with its result judged. Raises WorldError when the Node cannot be read now."""
        if live.result is None or live.result.outcome is not Outcome.SUCCEEDED or live.job is None:
            return live
        claim = evidence.claim(live.job, live.result.facts, self._datacenters)
        if claim is None:
            return live
        try:
            return replace(live, result=evidence.judged(claim, self._kube.node(claim.node), live.result))
        except Forbidden as error:
            return replace(live, result=Result(Outcome.FAILED, "Forbidden", str(error), retryable=False))
