# SPDX-License-Identifier: Apache-2.0
"""From options to a result: tokens of the API and of kubeadm, in check mode first, on a cluster in memory.

The same in real plays is in tests/integration/test_join_token.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.plugins.module_utils.scripted_api import Clock
from tests.unit.plugins.module_utils.test__bootstrap_token import config_map, signature
from tests.unit.plugins.module_utils.test__join_token_kubeadm import kubeadm

from ansible_collections.stargate.core.plugins.module_utils import _join_token_module
from ansible_collections.stargate.core.plugins.module_utils._bootstrap_token import token_id
from ansible_collections.stargate.core.plugins.module_utils._errors import Conflict, Denied
from ansible_collections.stargate.core.plugins.module_utils._join_token_module import TOKEN_SPEC, perform
from ansible_collections.stargate.core.plugins.module_utils._kube_answer import Answer
from stargate_reconciler.local import certificates

Object = dict[str, Any]
NAME = f"bootstrap-token-{token_id('w1')}"


class FakeTokens:
    """A cluster with Secrets, cluster-info and a signer that takes its time; 0 seconds is at once, -1 never."""

    address = "https://fake"

    def __init__(self, ca: str, *, signs_after: float = 0.0) -> None:
        """Begin without tokens."""
        self.ca = ca
        self.clock = Clock()
        self.secrets: dict[str, Object] = {}
        self.info: Object | None = config_map(ca)
        self.kubeadm_config: Object | None = None
        self._signs_after = signs_after

    def __enter__(self) -> FakeTokens:
        return self

    def __exit__(self, *_exception: object) -> None:
        return

    def ask(self, _method: str, _path: str, _doing: str) -> Answer:
        """Return the version."""
        return Answer(200, {"gitVersion": "v1.20.2"}, date="Sat, 21 Nov 2026 13:00:00 GMT")

    def find(self, path: str, doing: str) -> Object | None:
        """Return cluster-info, or kubeadm-config when that may be read."""
        if path.endswith("cluster-info"):
            return self.info
        if self.kubeadm_config is None:
            raise Denied(f"Failed to {doing}.")
        return self.kubeadm_config

    def create(self, _path: str, doing: str, body: Object) -> Object:
        """Keep a Secret."""
        name = body["metadata"]["name"]
        if name in self.secrets:
            raise Conflict(f"Failed to {doing}.")
        self.secrets[name] = body["stringData"]
        if self._signs_after == 0.0:
            self._sign()
        return body

    def delete(self, path: str, _doing: str) -> bool:
        """Forget a Secret."""
        return self.secrets.pop(path.rpartition("/")[2], None) is not None

    def items(self, _path: str, _doing: str, **_query: Any) -> tuple[list[Object], str]:
        """Return cluster-info as a list."""
        return [self._listed()], "1"

    def watch(self, _path: str, _doing: str, *, seconds: int, **_query: Any) -> Iterator[Object]:
        """Sign when it is time."""
        if 0 < self._signs_after <= seconds:
            self.clock.now += self._signs_after
            self._sign()
            yield {"type": "MODIFIED", "object": self._listed()}
        self.clock.now += seconds

    def _listed(self) -> Object:
        return {"metadata": {"uid": "i", "resourceVersion": "2"}, **copy.deepcopy(self.info or {})}

    def _sign(self) -> None:
        assert self.info is not None
        for secret in self.secrets.values():
            text = signature(self.info["data"]["kubeconfig"], secret["token-secret"])
            self.info["data"][f"jws-kubeconfig-{secret['token-id']}"] = text


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a CA certificate."""
    directory = tmp_path_factory.mktemp("pki")
    certificates.make_all(directory)
    return (directory / "ca.crt").read_text(encoding="ascii")


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what does a task in a cluster in memory."""

    def run(world: FakeTokens | None, *, check_mode: bool = False, **options: Any) -> Object:
        monkeypatch.setattr(_join_token_module.Cluster, "of", lambda _params, _environ: world)
        params = {name: option.get("default") for name, option in TOKEN_SPEC["argument_spec"].items()}
        return perform({**params, "node": "w1", **options}, {}, check_mode=check_mode)

    return run


def test_made(act: Any, ca: str) -> None:
    """A check makes nothing; a token is made, signed, and replaced by the next one, whose signature is its own."""
    world = FakeTokens(ca)
    foreseen = act(world, check_mode=True)
    assert (foreseen["changed"], foreseen["join"]["token"], world.secrets) == (True, "", {})
    first, second = act(world)["join"], act(world)["join"]
    assert list(world.secrets) == [NAME]
    assert first["token"] != second["token"]
    assert second["token"] == f"{second['token_id']}.{world.secrets[NAME]['token-secret']}"
    assert world.secrets[NAME]["expiration"] == "2026-11-21T13:15:00Z"
    assert (second["endpoint"], second["server_version"], second["ca"]) == ("10.0.2.2:6443", "v1.20.2", ca)
    assert (second["dns"], second["cluster_dns"]) == ("", "")


def test_signed_later(act: Any, ca: str) -> None:
    """The signature is waited for; without one the token is taken back."""
    world = FakeTokens(ca, signs_after=7.0)
    assert act(world)["changed"]
    assert world.clock.now == 1007.0
    never = FakeTokens(ca, signs_after=-1)
    assert act(never, timeout=30)["failure"]["code"] == "TokenNotSigned"
    assert never.secrets == {}


def test_dns(act: Any, ca: str) -> None:
    """Where kubeadm-config may be read, the cluster's DNS is known."""
    world = FakeTokens(ca)
    text = "networking: {dnsDomain: cluster.local, serviceSubnet: 10.96.0.0/12}"
    world.kubeadm_config = {"data": {"ClusterConfiguration": text}}
    join = act(world, check_mode=True)["join"]
    assert (join["dns"], join["cluster_dns"]) == ("cluster.local", "10.96.0.10")


def test_revoked(act: Any, ca: str) -> None:
    """A token is revoked by its Node, or by its own name."""
    world = FakeTokens(ca)
    act(world)
    assert not act(world, state="absent", check_mode=True)["changed"]
    assert not act(world, state="absent", token_id="abcdef")["changed"]
    assert [act(world, state="absent")["changed"] for _ in range(2)] == [True, False]


def test_refused(act: Any, ca: str, tmp_path: Path) -> None:
    """Nothing is made for what cannot be joined."""
    certificates.make_all(tmp_path)
    other = FakeTokens(ca)
    other.ca = (tmp_path / "ca.crt").read_text(encoding="ascii")
    missing = FakeTokens(ca)
    missing.info = None
    worlds = [(other, {}), (missing, {}), (FakeTokens(ca), {"ttl": 5}), (FakeTokens(ca), {"node": "W"})]
    codes = [act(world, **options)["failure"]["code"] for world, options in worlds]
    assert codes == ["CaMismatch", "ClusterInfoMissing", "Invalid", "Invalid"]
    assert act(other, verify_ca=False)["changed"]


def test_a_loopback_address_is_warned_of(act: Any, ca: str) -> None:
    """An address that only this machine reaches is made, and warned of."""
    assert "127.0.0.1:6443" in act(FakeTokens(ca), endpoint="127.0.0.1")["warnings"][0]
    assert "warnings" not in act(FakeTokens(ca))


def test_by_kubeadm(act: Any, tmp_path: Path) -> None:
    """With kubeadm no cluster is asked."""
    program = kubeadm(tmp_path)[0]._command
    foreseen, made = act(None, kubeadm=program, check_mode=True), act(None, kubeadm=program)
    assert (foreseen["join"]["token"], made["join"]["token_id"], made["token_id"]) == ("", "abcdef", "abcdef")
    assert not act(None, kubeadm=program, state="absent", check_mode=True)["changed"]
    assert act(None, kubeadm=program, state="absent")["changed"]
    assert act(None, kubeadm=program, state="absent", token_id="abcdef")["changed"]
