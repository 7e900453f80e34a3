# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that are followed: as they are now, and again when one of them has changed, whatever happens to the watch.

PRIVATE to the collection. Lists, watches from there, and lists again when the watch has expired or was cut.
"""

from __future__ import annotations

import math
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._errors import Denied, Unavailable, Unreachable
from ansible_collections.stargate.core.plugins.module_utils._kube import LONGEST_PAUSE, SHORTEST_PAUSE, Cluster, Object

LONGEST_WATCH = 60
"""Seconds; a connection that is half open is noticed some time after that."""


class Followed:
    """The objects of one list with one field selector, by uid."""

    def __init__(self, cluster: Cluster, path: str, selector: str, doing: str) -> None:
        """Ask nothing yet. `doing` completes "Failed to" in what is raised."""
        self._cluster = cluster
        self._path = path
        self._selector = selector
        self._doing = doing
        self._version = ""
        self._pause = 0.0
        self._was_denied = False
        self._objects: dict[str, Object] = {}

    def now(self) -> list[Object]:
        """Return the objects as they were last seen; lists them the first time."""
        if not self._version:
            found, self._version = self._cluster.items(self._path, self._doing, fieldSelector=self._selector)
            self._objects = {item["metadata"]["uid"]: item for item in found}
        return list(self._objects.values())

    def changed(self, seconds: float) -> list[Object]:
        """Wait until one of them changes, `seconds` at most or a little more, and return them all."""
        self.now()
        self._cluster.clock.sleep(min(self._pause, seconds))
        try:
            went_well = self._watch(max(1, min(math.ceil(seconds), LONGEST_WATCH)))
            self._was_denied = False
        except (Unreachable, Unavailable):
            went_well = False
        except Denied:  # once is no denial: a server that has just started denies what it allows
            if self._was_denied:
                raise
            went_well, self._was_denied = False, True
        self._pause = 0.0 if went_well else min(max(SHORTEST_PAUSE, self._pause * 2), LONGEST_PAUSE)
        self._version = self._version if went_well else ""
        return self.now()

    def _watch(self, seconds: int) -> bool:
        """Take in one change, if there is one in time; returns False when everything has to be listed again."""
        options: dict[str, Any] = {"fieldSelector": self._selector, "resourceVersion": self._version}
        for event in self._cluster.watch(self._path, self._doing, seconds=seconds, **options):
            kind, item = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                return False
            metadata = item["metadata"]
            self._version = metadata["resourceVersion"]
            if kind == "BOOKMARK":
                continue
            self._objects.pop(metadata["uid"], None)
            if kind != "DELETED":
                self._objects[metadata["uid"]] = item
            return True
        return True
