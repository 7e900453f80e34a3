# SPDX-License-Identifier: Apache-2.0
"""What can go wrong on the way from a machine to a Node, injected, as Operations end: each with its reason, in time.

One machine, one story: after each failure the same machine is taken on, and at the end one repave recovers it all.
Needs root. Mistakes in versions and names are in test_node_operations.py, those of prep-dc-inventory in its own file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.integration.daemon import profile
from tests.integration.node_story import FLAGS, NEEDS, Story, told
from tests.integration.nodes import JoinableCluster
from tests.unit.plugins.mirror import Mirror, mirror

pytestmark = NEEDS
MACHINE = "bad-1"
CLOSED = "10.0.2.2:9"
"""An address of the host's loopback where nobody listens, as machines see it."""


def profiles(user: str, version: str, newer: str) -> list[dict[str, Any]]:
    """Return profiles by the name of what is wrong with them, or with the world when they are used."""
    common = {"adminUsername": user, "sshCredentialsSecretRef": "ssh", "kubernetesVersion": version}
    here = {**common, "repave": {"strategy": "inPlace"}}
    found = [
        profile("well", **common),
        profile("here", **here),
        profile("impatient", **here, drain={"timeoutSeconds": 4}),
        profile("no-api", **here, controlPlane={"endpoint": CLOSED}, timeouts={"joinSeconds": 20}),
        profile("no-ssh", **common, timeouts={"bootstrapSeconds": 25}),
        profile("from-mirror", **{**here, "kubernetesVersion": newer}),
    ]
    for item in found:
        item["spec"].pop("osVersion")
    return found


@pytest.fixture(scope="module")
def packages() -> Iterator[Mirror]:
    """Return a mirror on the host's loopback that has nothing yet."""
    with mirror() as made:
        yield made


@pytest.fixture(scope="module")
def story(
    joinable_control_plane: JoinableCluster, tmp_path_factory: pytest.TempPathFactory, packages: Mirror
) -> Iterator[Story]:
    """Return a machine that is a Node, and a daemon that serves it."""
    directory = tmp_path_factory.mktemp("daemon")
    here = f"http://10.0.2.2:{packages.port}"
    source = "{{ 'http' if (stargate_profile.metadata.name == 'from-mirror') else 'image' }}"
    sources = {"http": here, "image": "file:///opt/stargate/kubernetes"}
    chosen = {"source": source, "sources": sources, "node_runtime_binaries_url": "{{ sources[source] }}"}
    (directory / "site.yml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    with told(joinable_control_plane, directory, MACHINE) as begun:
        begun.cluster.apply(*profiles(begun.user, *begun.versions[:2]))
        begun.daemon.start(*FLAGS, "--vars-file", str(directory / "site.yml"))
        begun.does("repave", "well")
        yield begun


def fails(story: Story, on: str, *, act: str = "repave", **spec: Any) -> tuple[str, str]:
    """Apply an Operation that is tried once and has two minutes; returns reason and message of its failure."""
    story.cluster.run("delete", "operation", f"{act}-{on}", "--ignore-not-found")
    return story.fails(act, on, retryLimit=0, activeDeadlineSeconds=120, **spec)


def instance(story: Story) -> Path:
    """Return the directory of the machine."""
    return story.prep.machines / story.cluster.namespace / MACHINE


def test_a_budget_blocks_the_drain(story: Story) -> None:
    """The drain ends at its timeout, names pod and budget, and gives the Node back; the machine was not touched."""
    pod = {"image": "localhost/stargate/pause:1", "name": "pause", "imagePullPolicy": "Never"}
    labels = {"matchLabels": {"app": "kept"}}
    template = {"metadata": {"labels": {"app": "kept"}}, "spec": {"containers": [pod]}}
    spec = {"replicas": 1, "selector": labels, "template": template}
    meta = {"name": "kept"}
    budget = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": meta}
    story.cluster.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {**budget, "spec": {"minAvailable": 1, "selector": labels}},
    )
    story.cluster.run("rollout", "status", "deployment/kept", "--timeout=60s")
    before = story.identity()
    reason, message = fails(story, "impatient")
    story.cluster.run("delete", "pdb,deployment", "kept")
    assert reason == "DrainBlocked"
    assert "kept" in message
    assert story.identity() == before
    story.assert_in_service()


def test_a_mirror_that_goes_away_in_the_middle(story: Story, packages: Mirror) -> None:
    """A download that is cut leaves the member on its version, in service, and says which file it was."""
    body, directory = b"x" * 1_000_000, f"/v{story.versions[1]}/bin/linux/amd64"
    checksum = hashlib.sha256(body).hexdigest().encode()
    for program in ("kubeadm", "kubelet"):
        packages.files |= {f"{directory}/{program}": body, f"{directory}/{program}.sha256": checksum}
    packages.cut.add(f"{directory}/kubeadm")
    before = story.identity()
    reason, message = fails(story, "from-mirror", act="upgrade")
    assert (reason, "kubeadm" in message) == ("MirrorUnavailable", True)
    assert story.identity() == before
    story.assert_in_service()


def test_the_api_server_is_not_reached_from_the_machine(story: Story) -> None:
    """The message names the address that the machine was told, and the next repave takes the machine on."""
    reason, message = fails(story, "no-api")
    assert (reason, CLOSED in message) == ("ApiUnreachable", True)
    story.cluster.run("delete", "operation", "repave-here", "--ignore-not-found")
    story.does("repave", "here")
    story.assert_in_service()


def test_a_token_that_is_no_longer_valid(story: Story) -> None:
    """A token that is gone before the machine has used it is told apart from other failures of a join."""
    over = threading.Event()
    thief = threading.Thread(target=steal_tokens, args=(story, over))
    thief.start()
    try:
        reason, _ = fails(story, "here")
    finally:
        over.set()
        thief.join()
    assert reason == "TokenExpired"


def steal_tokens(story: Story, over: threading.Event) -> None:
    """Delete every bootstrap token as soon as it is there."""
    kind = "--field-selector=type=bootstrap.kubernetes.io/token"
    while not over.is_set():
        story.cluster.run("delete", "secrets", "-n", "kube-system", kind, check=False)


def test_a_router_that_is_down(story: Story) -> None:
    """An Operation behind a router that does not answer is unreachable, and says which machine."""
    way = recorded(instance(story).with_name("router") / "slirp.json")
    os.kill(way, signal.SIGSTOP)
    try:
        reason, message = fails(story, "here")
    finally:
        os.kill(way, signal.SIGCONT)
    assert (reason, MACHINE in message) == ("Unreachable", True)


def recorded(pidfile: Path) -> int:
    """Return the process that a file of a machine names, 0 when there is no such file."""
    with contextlib.suppress(OSError, ValueError):
        return int(json.loads(pidfile.read_text(encoding="utf-8"))["pid"])
    return 0


def first_process(pid: int) -> int:
    """Return the first process of a machine whose supervisor is `pid`, 0 when it has none."""
    while pid:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        if re.search(r"^NSpid:.*\t1$", status, re.MULTILINE):
            return pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        pid = int(children[0]) if children else 0
    return 0


def test_another_machine_answers(story: Story) -> None:
    """A host key that is not the pinned one is refused by name; with the right one the machine is served again."""
    key = "/etc/ssh/ssh_host_ed25519_key"
    change = f"cp {key} {key}.right && rm {key} && ssh-keygen -q -t ed25519 -N '' -f {key} && systemctl restart ssh"
    inside(story, change)
    try:
        reason, message = fails(story, "here")
    finally:
        inside(story, f"mv {key}.right {key} && systemctl restart ssh")
    assert reason == "HostKeyChanged"
    assert MACHINE in message


def inside(story: Story, command: str) -> None:
    """Run a shell command in the machine as who owns it, without SSH."""
    init = first_process(recorded(instance(story) / "pid.json"))
    words = ["nsenter", "-t", str(init), "-m", "-p", "-n", "sh", "-ec", command]
    subprocess.run(words, check=True, timeout=60, capture_output=True)


def test_a_machine_that_never_lets_us_in(story: Story) -> None:
    """A fresh machine that hangs fails when its time is up, with what its console says, and is left to be looked at."""
    over = threading.Event()
    hanging = threading.Thread(target=hang, args=(instance(story) / "pid.json", over))
    hanging.start()
    try:
        reason, message = fails(story, "no-ssh")
    finally:
        over.set()
        hanging.join()
    assert (reason, MACHINE in message) == ("BootTimeout", True)


def hang(pidfile: Path, over: threading.Event) -> None:
    """Stop the first process of the machine that is there next."""
    before = recorded(pidfile)
    while not over.wait(0.02):
        with contextlib.suppress(OSError):
            if recorded(pidfile) not in (0, before) and (init := first_process(recorded(pidfile))):
                os.kill(init, signal.SIGSTOP)
                return


def test_a_program_that_is_missing(story: Story) -> None:
    """Where systemd-nspawn is not installed the Operation says so, and how to get it."""
    story.daemon.stop()
    hidden = 'mount --bind /dev/null "$(command -v systemd-nspawn)"; exec "$@"'
    story.daemon.prefix = ["unshare", "--mount", "sh", "-ec", hidden, "hidden"]
    story.daemon.start(*FLAGS)
    try:
        reason, message = fails(story, "well")
    finally:
        story.daemon.stop()
        story.daemon.prefix = []
        story.daemon.start(*FLAGS)
    assert (reason, "systemd-container" in message) == ("ProgramMissing", True)


def test_a_disk_that_is_full(story: Story, tmp_path: Path) -> None:
    """Where the machine's files have no room the Operation says so."""
    here = instance(story)
    in_use = ["upper", "work", "root", "containerd", "kubelet"]
    shutil.copytree(here, tmp_path / "kept", ignore=lambda *_: in_use, symlinks=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "full", str(here)], check=True)
    try:
        shutil.copytree(tmp_path / "kept", here, dirs_exist_ok=True, symlinks=True)
        with contextlib.suppress(OSError), (here / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"x" * 4096):
                pass
        reason, message = fails(story, "well")
    finally:
        subprocess.run(["umount", "-l", str(here)], check=True)
    assert (reason, "Make room" in message) == ("DiskFull", True)


def test_the_next_repave_recovers(story: Story) -> None:
    """After all this one plain repave ends with a Ready Node in service."""
    story.cluster.run("delete", "operation", "repave-well", "--ignore-not-found")
    story.does("repave", "well")
    story.assert_in_service()
