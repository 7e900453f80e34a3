# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few kinds of failure that the collection's code raises, each a sentence with the fields a caller may match on.

PRIVATE to the collection. Nothing here knows Ansible, HTTP or Kubernetes; turning a failure into a result of a
module is the business of the `*_module.py` beside it.
"""

from __future__ import annotations

LONGEST_FOREIGN_TEXT = 256


def clipped(text: str, limit: int = LONGEST_FOREIGN_TEXT) -> str:
    """Return text from elsewhere fit for a message: one line, printable, at most `limit` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class StargateError(Exception):
    """A failure with its sentence.

    `code` is for programs, `details` carries what the other side said (may be empty), `retryable` says
    whether the same act may succeed later without anybody's doing.
    """

    code = "Error"
    retryable = False

    def __init__(
        self, message: str, *, code: str | None = None, details: str = "", retryable: bool | None = None
    ) -> None:
        """Keep the sentence and the fields; None means what the kind of failure says by itself."""
        super().__init__(message)
        self.message = message
        self.details = clipped(details)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    def failure(self) -> dict[str, str | bool]:
        """Return the dictionary that results carry under the key `failure`."""
        return {"code": self.code, "details": self.details, "retryable": self.retryable}


class Invalid(StargateError):
    """Somebody's mistake: the request cannot be carried out as it stands."""

    code = "Invalid"


class NotFound(StargateError):
    """The other side does not know the object."""

    code = "NotFound"


class Denied(StargateError):
    """The other side does not accept our credential, or it cannot be read."""

    code = "Denied"


class Conflict(StargateError):
    """The object is in a state, or in use, that excludes the act for now."""

    code = "Conflict"
    retryable = True


class Timeout(StargateError):
    """The time that was given ran out."""

    code = "Deadline"
    retryable = True


class Unavailable(StargateError):
    """The other side answered that it cannot serve now. `retry_after` is in seconds, None when it did not say."""

    code = "ServerError"
    retryable = True
    retry_after: float | None = None


class Unreachable(StargateError):
    """No answer came. `sent` says whether the request may have arrived all the same."""

    code = "Unreachable"
    retryable = True
    sent: bool = False
