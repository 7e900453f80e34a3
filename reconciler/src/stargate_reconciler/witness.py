# SPDX-License-Identifier: Apache-2.0
"""Looks at the Node of a machine before anybody is told of an end: is a success one, what is left after a failure?

What a Node has to be is `evidence.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from ansible_collections.stargate.core.plugins.module_utils import _server

from . import evidence
from .decision import Live
from .errors import Forbidden, Gone, UserError
from .kube import Kube
from .model import Job, Operation, Outcome, Result, Server
from .status import DISTURBS, PROVISIONS


class Witness:
    """Turns successes into what the cluster bears out."""

    def __init__(self, kube: Kube, datacenters: Mapping[str, Mapping[str, str]]) -> None:
        self._kube = kube
        self._datacenters = datacenters

    def met(self, job: Job) -> Job:
        """Return a job with the Node that its machine was when the Operation first started.

        Raises WorldError when it cannot be read now; where it may not be read, the play is the one to say so.
        """
        known, server, profile = job.operation.former_node, job.server.raw, job.profile
        strategy = _server.strategy(server, profile.raw if profile else None, self._datacenters)
        if known is None and job.operation.act in DISTURBS and strategy != "dcApi":
            with suppress(Forbidden):
                known = evidence.former(self._kube.node(_server.node_name(server)))
        return replace(job, former_node=known)

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

    def given_back(self, server: Server, operation: Operation, result: Result) -> Result:
        """Return the last word on a failed Operation, once its token and its cordon of a Node that works are gone.

        A play does both itself, unless it is stopped. A Node that does not work stays cordoned, and the result says so.
        Raises WorldError when the API server does not answer now.
        """
        if result.outcome is Outcome.SUCCEEDED or operation.act not in DISTURBS:
            return result
        name = _server.node_name(server.raw)
        if operation.act in PROVISIONS:
            self._kube.revoke_token(name)
        try:
            node = self._kube.node(name)
            if node is None or evidence.cordoned_by(node) != operation.uid:
                return result
            if evidence.is_ready(node):
                self._kube.uncordon(name, evidence.CORDONED_BY, operation.uid)
                return result
        except Gone:
            return result
        except (Forbidden, UserError) as error:
            return replace(result, message=f"{result.message} {error}")
        stays = f"Node {name} is not Ready and stays cordoned ({evidence.CORDONED_BY}: {operation.uid})."
        return replace(result, message=f"{result.message} {stays}")
