# SPDX-License-Identifier: Apache-2.0
"""A container image of a few files, written as a docker archive: the same bytes each time, without Docker.

containerd takes it in with `ctr images import`. Which files it holds is the caller's question.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CREATED = "1970-01-01T00:00:00Z"
_NOBODY = "65534:65534"


def write(target: Path, files: Mapping[str, bytes], *, tag: str, entrypoint: Sequence[str], architecture: str) -> None:
    """Write an image of one layer whose files are all programs, run as nobody."""
    layer = _tar({name.lstrip("/"): content for name, content in files.items()}, mode=0o755)
    identity = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": _CREATED,
            "config": {"Entrypoint": list(entrypoint), "User": _NOBODY, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [identity]},
            "history": [{"created": _CREATED, "created_by": "stargate"}],
        }
    )
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = _json([{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}])
    target.write_bytes(_tar({name: config, "layer.tar": layer, "manifest.json": manifest}, mode=0o644))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _tar(files: Mapping[str, bytes], *, mode: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
