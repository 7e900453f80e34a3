# SPDX-License-Identifier: Apache-2.0
"""Tokens from kubeadm programs that are made up: what they are asked, what is read from them, how they fail.

The real kubeadm, in a container's stead and over SSH, is in tests/integration/test_control_plane_role.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._join_token_kubeadm import KubeadmTokens

HASH = f"sha256:{'a' * 64}"
TOKEN = "abcdef.0123456789abcdef"
JOIN = f"kubeadm join 10.0.0.1:6443 --token {TOKEN}     --discovery-token-ca-cert-hash {HASH} "
LISTED = [
    {"token": "aaaaaa.0123456789abcdef", "description": "stargate:node/w1"},
    {"token": "bbbbbb.0123456789abcdef", "description": "stargate:node/w10"},
    {"token": "cccccc.0123456789abcdef"},
]


def kubeadm(
    directory: Path, *, create: str = f"echo '{JOIN}'", listed: str | None = None
) -> tuple[KubeadmTokens, Path]:
    """Write a program that notes its arguments; returns what uses it, and the file with the notes."""
    program, notes = directory / "kubeadm", directory / "notes"
    (directory / "listed").write_text(listed if listed is not None else "\n".join(map(json.dumps, LISTED)))
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{notes}\ncase $2 in\ncreate) {create} ;;\nlist) cat {directory}/listed ;;\nesac\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    return KubeadmTokens([str(program)], timeout=10), notes


def test_make(tmp_path: Path) -> None:
    """The Node's earlier tokens are revoked, and no other; the join command is read, and no token is an argument."""
    tokens, notes = kubeadm(tmp_path)
    join = tokens.make("w1", 900, "")
    assert (join["endpoint"], join["token"], join["token_id"]) == ("10.0.0.1:6443", TOKEN, "abcdef")
    assert (join["method"], join["ca_hashes"], join["ca"]) == ("kubeadm", [HASH], "")
    assert notes.read_text().splitlines() == [
        "token list -o json",
        "token delete aaaaaa",
        "token create --print-join-command --ttl 900s --description stargate:node/w1",
    ]


def test_described(tmp_path: Path) -> None:
    """In check mode kubeadm tells the same without making a token; the one that it makes up is dropped."""
    tokens, notes = kubeadm(tmp_path, create=f"echo '[dryrun] Would perform action'; echo '{JOIN}'")
    join = tokens.described("w1", 900, "")
    assert (join["endpoint"], join["ca_hashes"], join["token"], join["token_id"]) == ("10.0.0.1:6443", [HASH], "", "")
    (asked,) = notes.read_text().splitlines()
    assert asked.endswith(" --dry-run")


def test_an_endpoint_of_one_s_own(tmp_path: Path) -> None:
    """The endpoint that is given counts, as when the cluster's name means nothing to machines."""
    assert kubeadm(tmp_path)[0].make("w1", 900, "https://172.18.0.2:6443")["endpoint"] == "172.18.0.2:6443"


def test_several_lines_and_hashes(tmp_path: Path) -> None:
    """Old kubeadms wrap the command; while CAs are changed it has several hashes."""
    other = f"sha256:{'b' * 64}"
    said = f"{JOIN.replace('     ', chr(92) * 2 + chr(10))} --discovery-token-ca-cert-hash {other}"
    join = kubeadm(tmp_path, create=f"printf '%b' '{said}'")[0].make("w1", 900, "")
    assert join["ca_hashes"] == [HASH, other]


def test_revoke(tmp_path: Path) -> None:
    """All tokens of a Node are revoked, or the one that is named."""
    tokens, notes = kubeadm(tmp_path)
    assert tokens.revoke_all("w1")
    assert not tokens.revoke_all("w2")
    assert tokens.revoke("abcdef")
    assert notes.read_text().splitlines()[1::2] == ["token delete aaaaaa", "token delete abcdef"]
    with pytest.raises(StargateError, match="token id"):
        tokens.revoke("--help")


@pytest.mark.parametrize(
    ("create", "code", "retryable", "words"),
    [
        ("echo nothing", "BadAnswer", False, "no join command that pins the CA"),
        (f"echo 'kubeadm join h:1 --token {TOKEN} --unsafe'", "BadAnswer", False, "pins the CA"),
        (f"echo 'no {TOKEN}' >&2; exit 1", "KubeadmFailed", True, "ended with 1: no abcdef.…"),
        (
            "printf 'timed out\\nTo see the stack trace of this error\\n' >&2; exit 1",
            "KubeadmFailed",
            True,
            "timed out",
        ),
        ("exit 3", "KubeadmFailed", True, "exit code 3"),
        ("echo 'ssh: connect: timed out' >&2; exit 255", "ControlPlaneUnreachable", True, "not reached: ssh: connect"),
        ("echo 'Host key verification failed.' >&2; exit 255", "ControlPlaneUnreachable", False, "does not let us in"),
        (
            "echo 'a: Permission denied (publickey)' >&2; exit 255",
            "ControlPlaneUnreachable",
            False,
            "Permission denied",
        ),
    ],
)
def test_failures(tmp_path: Path, create: str, code: str, retryable: bool, words: str) -> None:
    """What goes wrong is told apart, said in kubeadm's or ssh's own words, and never with a secret."""
    with pytest.raises(StargateError) as raised:
        kubeadm(tmp_path, create=create)[0].make("w1", 900, "")
    error = raised.value
    assert (error.code, error.retryable) == (code, retryable)
    assert words in error.message
    assert "0123456789abcdef" not in error.message + error.details


def test_no_json(tmp_path: Path) -> None:
    """A list that is no JSON is said."""
    with pytest.raises(StargateError, match="no JSON"):
        kubeadm(tmp_path, listed="{ TOKEN")[0].revoke_all("w1")


def test_programs_that_are_not_there_or_do_not_end(tmp_path: Path) -> None:
    """A program that is missing is a mistake; one that hangs may do better the next time."""
    with pytest.raises(StargateError, match="Is it installed") as raised:
        KubeadmTokens([str(tmp_path / "docker"), "exec", "c", "kubeadm"], 5).revoke_all("w1")
    assert (raised.value.code, raised.value.retryable) == ("ProgramMissing", False)
    with pytest.raises(StargateError, match=r"kubeadm \(by sh\) did not end") as raised:
        KubeadmTokens(["sh", "-c", "exec sleep 60", "sh"], 0.2).revoke_all("w1")
    assert (raised.value.code, raised.value.retryable) == ("ControlPlaneUnreachable", True)
