# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig given to the official client without a key of it ever being in a file on a disk.

PRIVATE to the collection; the daemon reads its kubeconfig by the same door. The client writes certificates and keys
that a kubeconfig has inline to temporary files, and removes them when Python ends: not when it is killed, and not in
what Ansible forks. So they are put into memory before the client sees the kubeconfig.
"""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.stargate.core.plugins.module_utils._kube_files import Hideout

FILES_OF = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key")}
"""Fields that name a file; with `-data` behind the name they have its content."""


def load(paths: str, context: str | None, settings: Any, files: Hideout) -> None:
    """Read a kubeconfig, or several with colons between, into the client's `settings`; keys are where `files` are.

    The kubeconfig itself is never written. Raises what the client, its parser and credential plugins raise.
    """
    from kubernetes.config import kube_config  # a third of a second, for those who have no use for a cluster

    merged = kube_config.KubeConfigMerger(paths).config
    if merged is None:
        raise kube_config.ConfigException(f"there is no kubeconfig in {paths}")
    if files.is_in_memory:
        _hide_inline(merged, context, files)
    loader = kube_config.KubeConfigLoader(merged, context, config_base_path=None, temp_file_path=files.directory)
    loader.load_and_set(settings)
    _hide_given(kube_config, settings, files)


def _hide_inline(merged: Any, context: str | None, files: Hideout) -> None:
    """Replace what the context's cluster and user have inline by the paths of files in memory."""
    chosen = merged["contexts"].get_with_name(context or merged["current-context"])["context"]
    for kind, fields in FILES_OF.items():
        found = merged[f"{kind}s"].get_with_name(chosen[kind], safe=True) if chosen.safe_get(kind) else None
        part: Any = found.value.get(kind) if found is not None else None
        for field in fields if isinstance(part, dict) else ():
            text = part.pop(f"{field}-data", None)
            if text:
                part[field] = files.kept(base64.standard_b64decode(text))


def _hide_given(kube_config: Any, settings: Any, files: Hideout) -> None:
    """Move what a credential plugin has given into memory, and let the client forget where that was."""
    for name in ("ssl_ca_cert", "cert_file", "key_file"):
        setattr(settings, name, files.moved(getattr(settings, name)))
    remembered = getattr(kube_config, "_temp_files", {})
    for content in [content for content, path in remembered.items() if files.holds(path)]:
        del remembered[content]
    files.empty()
