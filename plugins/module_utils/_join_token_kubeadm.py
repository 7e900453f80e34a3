# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens from kubeadm, run where the control plane is: in a kind container, or over SSH.

PRIVATE to the collection. Tokens are on its output only, never on a command line; texts that it is given are safe for
the shell that ssh has on the other side.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._bootstrap_token import (
    Token,
    description,
    endpoint,
    secret_name,
)
from ansible_collections.stargate.core.plugins.module_utils._errors import (
    Invalid,
    StargateError,
    Timeout,
    Unavailable,
    Unreachable,
    clipped,
)

SSH_FAILED = 255
_JOIN = re.compile(r"kubeadm join (\S+) .*--token ([a-z0-9]{6})\.([a-z0-9]{16})\b")
_HASH = re.compile(r"--discovery-token-ca-cert-hash (sha256:[0-9a-f]{64})\b")
_TOKEN = re.compile(r"\b([a-z0-9]{6})\.[a-z0-9]{16}\b")


class KubeadmTokens:
    """The tokens of the cluster that a kubeadm belongs to."""

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        """Keep the command line up to kubeadm, and how long one call may take."""
        self._command = [str(word) for word in command]
        self._timeout = timeout

    def make(self, node: str, ttl: int, override: str) -> dict[str, Any]:
        """Return how the cluster is joined with a new token for a Node; its earlier ones are revoked."""
        self.revoke_all(node)
        return self._created(node, ttl, override)

    def described(self, node: str, ttl: int, override: str) -> dict[str, Any]:
        """Return how the cluster is joined, without a token; nothing is changed."""
        return {**self._created(node, ttl, override, "--dry-run"), "token": "", "token_id": ""}

    def _created(self, node: str, ttl: int, override: str, *more: str) -> dict[str, Any]:
        words = ("--print-join-command", "--ttl", f"{ttl}s", "--description", description(node))
        said = self._run("make a join token", "create", *words, *more)
        line = " ".join(said.replace("\\\n", " ").split())
        match, hashes = _JOIN.search(line), _HASH.findall(line)
        if not match or not hashes:
            raise Invalid(
                f"Failed to make a join token: {self._name} printed no join command that pins the CA.",
                code="BadAnswer",
                details=_redacted(said),
            )
        token = Token(match[2], match[3])
        return {
            "method": "kubeadm",
            "endpoint": endpoint(override or match[1]),
            "token": token.text,
            "token_id": token.id,
            "ca": "",
            "ca_hashes": sorted(set(hashes)),
            "server_version": "",
            "dns": "",
            "cluster_dns": "",
        }

    def revoke_all(self, node: str) -> bool:
        """Revoke the tokens of a Node; returns whether there were any."""
        listed = _objects(self._run("list the join tokens", "list", "-o", "json"))
        mine = [str(item.get("token", ""))[:6] for item in listed if item.get("description") == description(node)]
        for identifier in mine:
            self.revoke(identifier)
        return bool(mine)

    def revoke(self, identifier: str) -> bool:
        """Revoke a token; kubeadm does not tell one that it does not know from one that it does."""
        secret_name(identifier)
        self._run("revoke a join token", "delete", identifier)
        return True

    @property
    def _name(self) -> str:
        return f"kubeadm (by {self._command[0]})" if len(self._command) > 1 else self._command[0]

    def _run(self, doing: str, *words: str) -> str:
        """Return what `kubeadm token` printed."""
        command = [*self._command, "token", *words]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=self._timeout,
            )
        except subprocess.TimeoutExpired as error:
            text = f"Failed to {doing}: {self._name} did not end within {self._timeout:.0f} s."
            raise Timeout(text, code="ControlPlaneUnreachable") from error
        except OSError as error:
            text = f"Failed to {doing}: {self._command[0]} cannot be run: {clipped(str(error))}. Is it installed?"
            raise Invalid(text, code="ProgramMissing") from error
        if done.returncode == 0:
            return done.stdout
        raise self._failure(doing, done)

    def _failure(self, doing: str, done: subprocess.CompletedProcess[str]) -> StargateError:
        said = _redacted(_last(done.stderr) or _last(done.stdout) or f"exit code {done.returncode}")
        if done.returncode == SSH_FAILED:
            if re.search("host key|permission denied|identification has changed", done.stderr, re.IGNORECASE):
                return Invalid(
                    f"Failed to {doing}: the control plane machine does not let us in: {said}. "
                    "Check the user and the key, and that its host key is in known_hosts.",
                    code="ControlPlaneUnreachable",
                    details=said,
                )
            text = f"Failed to {doing}: the control plane machine is not reached: {said}."
            return Unreachable(text, code="ControlPlaneUnreachable", details=said)
        text = f"Failed to {doing}: {self._name} ended with {done.returncode}: {said}."
        return Unavailable(text, code="KubeadmFailed", details=said)


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that follow each other in a text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (start := text.find("{", at)) >= 0:
        try:
            item, at = decoder.raw_decode(text, start)
        except ValueError as error:
            raise Invalid("Failed to list the join tokens: kubeadm printed no JSON.", code="BadAnswer") from error
        found.append(item)
    return found


def _last(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    meaningful = [line for line in lines if not line.startswith("To see the stack trace")]
    return (meaningful or lines or [""])[-1]


def _redacted(text: str) -> str:
    return clipped(_TOKEN.sub(r"\1.…", text)).rstrip(".")
