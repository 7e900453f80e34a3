# SPDX-License-Identifier: Apache-2.0
"""The docker archive: its parts name each other by digest, and it is the same each time.

That containerd takes it is shown by the machines' tests.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from stargate_reconciler.local import docker_archive


def write(path: Path) -> Path:
    """Write an archive of two programs."""
    files = {"/init": b"one", "shell": b"two"}
    docker_archive.write(path, files, tag="localhost/a:1", entrypoint=["/init", "--"], architecture="arm64")
    return path


def test_parts_name_each_other(tmp_path: Path) -> None:
    """The manifest names configuration and layer, the configuration the layer's digest, the layer holds programs."""
    with tarfile.open(write(tmp_path / "a.tar")) as tar:
        parts = {name: (tar.extractfile(name) or io.BytesIO()).read() for name in tar.getnames()}
    (manifest,) = json.loads(parts["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/a:1"]
    config = parts[manifest["Config"]]
    assert manifest["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    layer = parts["layer.tar"]
    said = json.loads(config)
    assert said["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert (said["architecture"], said["config"]["Entrypoint"]) == ("arm64", ["/init", "--"])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert {(entry.name, entry.mode, entry.mtime) for entry in tar} == {("init", 0o755, 0), ("shell", 0o755, 0)}


def test_same_bytes_each_time(tmp_path: Path) -> None:
    """Nothing of time or place is in it."""
    assert write(tmp_path / "a.tar").read_bytes() == write(tmp_path / "b.tar").read_bytes()
