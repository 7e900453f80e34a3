# SPDX-License-Identifier: Apache-2.0
"""The few kinds of failure that the daemon tells apart.

What belongs here is only the kind and its sentence; who retries and who reports is decided elsewhere.
"""

from __future__ import annotations


class ReconcilerError(Exception):
    """A failure whose text is a sentence for a person."""


class UserError(ReconcilerError):
    """Somebody's mistake in an object, a flag or a file: reported, never retried."""


class WorldError(ReconcilerError):
    """The world did not answer as it should: retried with back-off."""


class Busy(WorldError):
    """The API server is there and cannot answer now (HTTP 429 or 5xx): the same again, later."""


class Conflict(WorldError):
    """The object changed since it was read (HTTP 409): read again, decide again."""


class Gone(WorldError):
    """The object does not exist any more (HTTP 404)."""


class Forbidden(ReconcilerError):
    """The API server refuses this identity (HTTP 401 or 403): a right is missing."""
