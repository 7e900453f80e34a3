# SPDX-License-Identifier: Apache-2.0
"""A kubeconfig reaches the client whole, and nothing of it is in a file: not while it is used, not after a kill -9.

Which kubeconfig is taken stands in test__kube.py.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import Configuration

from ansible_collections.stargate.core.plugins.module_utils import _kube_files
from ansible_collections.stargate.core.plugins.module_utils._kube_files import Hideout
from ansible_collections.stargate.core.plugins.module_utils._kubeconfig import load

SEEN = ("ssl_ca_cert", "cert_file", "key_file")
WAITS = """
import sys
from kubernetes.client import Configuration
from ansible_collections.stargate.core.plugins.module_utils._kube_files import Hideout
from ansible_collections.stargate.core.plugins.module_utils._kubeconfig import load
settings = type.__call__(Configuration)
load(sys.argv[1], None, settings, Hideout())
print(open(settings.key_file).read(), flush=True)
sys.stdin.read()
"""


def inline(word: str) -> str:
    """Return a word as a kubeconfig has it inline."""
    return base64.b64encode(word.encode()).decode()


def kubeconfig(path: Path, user: dict[str, Any], **cluster: str) -> str:
    """Write a kubeconfig with a second context beside the one that is used; returns its path."""
    content = {
        "current-context": "a",
        "contexts": [{"name": n, "context": {"cluster": n, "user": n}} for n in ("a", "b")],
        "clusters": [
            {"name": "a", "cluster": {"server": "https://x", **cluster}},
            {"name": "b", "cluster": {"server": "https://y", "certificate-authority-data": inline("ca of b")}},
        ],
        "users": [
            {"name": "a", "user": user},
            {"name": "b", "user": {"client-key-data": inline("key of b"), "client-certificate-data": inline("b")}},
        ],
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


def loaded(paths: str, context: str | None = None) -> list[str | None]:
    """Return what the client would read as CA, certificate and key."""
    settings, files = type.__call__(Configuration), Hideout()
    load(paths, context, settings, files)
    found = [getattr(settings, name) for name in SEEN]
    texts = [Path(path).read_text() if path else None for path in found]
    files.close()
    return texts


KEY = {"client-certificate-data": inline("certificate"), "client-key-data": inline("key")}


def test_what_is_inline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inline content is had by path, of the context that is asked for; nothing is written where files can stay."""
    written: list[object] = []
    monkeypatch.setattr("tempfile.mkstemp", lambda **options: written.append(options))
    path = kubeconfig(tmp_path / "k", KEY, **{"certificate-authority-data": inline("ca")})
    assert loaded(path) == ["ca", "certificate", "key"]
    assert loaded(path, "b") == ["ca of b", "b", "key of b"]
    assert written == []
    assert loaded(f"/nowhere:{path}") == ["ca", "certificate", "key"]


def test_what_is_in_files(tmp_path: Path) -> None:
    """Files that a kubeconfig names are read where they are, seen from the kubeconfig."""
    for name in ("ca", "certificate", "key"):
        (tmp_path / name).write_text(f"{name} in a file")
    user = {"client-certificate": "certificate", "client-key": str(tmp_path / "key")}
    path = kubeconfig(tmp_path / "k", user, **{"certificate-authority": "ca"})
    assert loaded(path) == ["ca in a file", "certificate in a file", "key in a file"]
    assert loaded(kubeconfig(tmp_path / "k", {"token": "t"})) == [None, None, None]


def test_what_a_credential_plugin_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that a program hands out ends in memory too, and its directory is gone at once."""
    monkeypatch.setattr(_kube_files, "TMPFS", tmp_path)
    given = {"clientCertificateData": "certificate", "clientKeyData": "key"}
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": given}
    (tmp_path / "answer").write_text(json.dumps(answer))
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "cat",
        "args": [str(tmp_path / "answer")],
        "interactiveMode": "Never",
    }
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert loaded(kubeconfig(tmp_path / "k", {"exec": program})) == [None, "certificate", "key"]
    assert {entry.name for entry in tmp_path.iterdir()} == {"k", "answer"}
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_is_left_after_a_kill(tmp_path: Path) -> None:
    """While a process has its keys open, and after kill -9, no file has them."""
    path = kubeconfig(tmp_path / "k", {"client-certificate-data": inline("c"), "client-key-data": inline("canary-key")})
    shared = _kube_files.TMPFS
    before = {entry.name for entry in shared.iterdir()} if shared.is_dir() else set()
    (tmp_path / "tmp").mkdir()
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", WAITS, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "canary-key\n"
        assert list((tmp_path / "tmp").iterdir()) == []
        process.kill()
    left = {entry for entry in shared.iterdir() if entry.name not in before} if before else set()
    assert [entry for entry in left if entry.name.startswith("stargate-")] == []
    assert list((tmp_path / "tmp").iterdir()) == []
