# SPDX-License-Identifier: Apache-2.0
"""The mapping from Server to host, as tables: what goes in, what comes out, and what must never come out.

Whether Ansible takes it is tested in ../inventory/test_servers.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.stargate.core.plugins.module_utils import _server

Object = dict[str, Any]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8Zx9Zx9Zx9Zx9Zx9Zx9Zx9"
HOSTILE = [
    "{{ lookup('pipe', 'touch /tmp/x') }}",
    "$(touch /tmp/x)",
    "`id`",
    "-oProxyCommand=id",
    "a b",
    "a\nProxyCommand id",
    "a\x00b",
    "a;id",
    "a|id",
    "*",
    "!x",
    "%h",
    "fe80::1%eth0",
    "[::1]",
    'a"b',
    "a'b",
    "ü",
    "a" * 300,
]
ODD: list[Any] = [None, [], {}, "", 0, -1, True, 3.5, "text", ["x"], {"x": None}, [None]]


def server(name: str = "server-001", namespace: str = "dc-west", **spec: Any) -> Object:
    """Return a Server with an address and what else is given."""
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"ipv4": "10.0.1.5", **spec}}


def profile(**spec: Any) -> Object:
    """Return a profile with the given spec."""
    return {"metadata": {"name": "os-2", "namespace": "dc-west"}, "spec": spec}


def test_hostname_is_unique_over_namespaces() -> None:
    """The name and the namespace make the host's name; without a namespace it is default."""
    assert _server.hostname(server()) == "server-001.dc-west"
    assert _server.hostname({"metadata": {"name": "a"}}) == "a.default"


@pytest.mark.parametrize(
    "value",
    [
        "10.0.1.5",
        "127.0.0.1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "host",
        "a.example.com",
        "Node-1",
        "cafe",
        "1a.2b",
        "xn--4ca",
    ],
)
def test_addresses_that_are_fit(value: str) -> None:
    """IPv4, IPv6 and DNS names are fit."""
    assert _server.is_address(value)
    assert _server.problems(server(ipv4=value, routerIP=value)) == []


@pytest.mark.parametrize(
    "value",
    [
        *HOSTILE,
        "100.x.x.x",
        "10.0.0.X",
        "10.0.0.256",
        "010.0.0.1",
        "1234",
        "0x7f000001",
        "0x7f.1",
        "a.0",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "a_b",
        5,
        ["10.0.0.1"],
    ],
)
def test_addresses_that_are_not(value: Any) -> None:
    """Placeholders, numbers that ssh reads as addresses and everything with a meaning of its own are refused."""
    assert not _server.is_address(value)
    (sentence,) = _server.problems(server(ipv4=value))
    assert sentence.startswith("Server server-001: spec.ipv4 is ")
    assert len(sentence) < 260
    assert sentence.isprintable()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "field", ["routerIP", "routerPort", "nodeName", "provisioningProfile", "mac", "podCIDR", "sshPort"]
)
def test_hostile_server_is_named(field: str, text: str) -> None:
    """Every field that could reach a command is checked and named."""
    (sentence,) = _server.problems(server(**{field: text}))
    assert f"spec.{field} is " in sentence


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["adminUsername", "kubernetesVersion"])
def test_hostile_profile_is_named(field: str, text: str) -> None:
    """The profile's user and version are checked too, and the profile is named."""
    (sentence,) = _server.problems(server(), profile(**{field: text}))
    assert sentence.startswith(f"ProvisioningProfile os-2: spec.{field} is ")


def test_problems_name_values_of_any_type() -> None:
    """Values of the wrong type are shown, cut to 64 characters."""
    found = _server.problems(server(ipv4={"x": "y" * 500}, sshPort=True, podCIDR="10.0.0.0"))
    assert [sentence.split(" is ")[0] for sentence in found] == [
        "Server server-001: spec.ipv4",
        "Server server-001: spec.sshPort",
        "Server server-001: spec.podCIDR",
    ]
    assert all(len(sentence) < 220 for sentence in found)


def test_names_are_problems_too() -> None:
    """No name, a hostile one and one that reads as an address are problems, and not fit to be a host's."""
    bad: list[Object] = [{}, server(name="../x"), server(namespace="a.b"), server("127.0.0", "1"), server("::1", "x")]
    assert [bool(_server.problems(item)) for item in bad] == [True] * 5
    assert [_server.has_fit_name(item) for item in (*bad, server(), server("10.0.0", "999"))] == [
        False,
        False,
        True,  # a namespace with a dot is named, and cannot exist
        False,
        False,
        True,
        True,
    ]


def test_the_control_plane_of_a_profile_is_checked() -> None:
    """Host, user and container of the control plane go to commands one day."""
    found = _server.problems(
        server(),
        profile(controlPlane={"sshHost": "-x", "sshUser": "a b", "kindContainer": "a;b", "endpoint": "-x:1"}),
    )
    assert len(found) == 4
    fine = ("10.0.2.2:6443", "https://api.example.com:6443/", "[fd00::1]:6443")
    assert [_server.problems(server(), profile(controlPlane={"endpoint": value})) for value in fine] == [[]] * 3


@pytest.mark.parametrize("odd", ODD)
def test_odd_objects_are_survived(odd: Any) -> None:
    """Whatever stands where an object should be, there is an answer and no exception."""
    shapes: list[Any] = [odd, {"metadata": odd}, {"metadata": {"name": odd, "annotations": odd}, "spec": odd}]
    shapes += [{**server(), "status": odd}, server(ipv4=odd, sshPort=odd, routerIP=odd, provider=odd)]
    shapes += [{**server(), "status": {"sshHostKeys": odd, "state": odd}}]
    for shape in shapes:
        assert isinstance(_server.problems(shape, odd), list)
        assert _server.hostvars(shape, odd, operation={}, datacenters=odd, ssh={"user": odd})["ansible_host"]
        assert len(_server.groups(shape, odd)) == 4
        assert _server.strategy(shape, odd, odd) in _server.STRATEGIES
        assert _server.pinned_keys(shape) == []


def test_hostvars_of_a_plain_server() -> None:
    """The documented variables, with what the Server, the profile and the operation say."""
    item = {**server(provider="ssh", sshPort=2222), "status": {"state": "ready", "nodeName": "node-1"}}
    item["metadata"]["uid"] = "u-1"
    used = profile(adminUsername="admin")
    assert _server.hostvars(item, used, operation={"uid": "o-1"}) == {
        "ansible_host": "10.0.1.5",
        "ansible_port": 2222,
        "ansible_user": "admin",
        "stargate_name": "server-001",
        "stargate_namespace": "dc-west",
        "stargate_uid": "u-1",
        "stargate_provider": "ssh",
        "stargate_state": "ready",
        "stargate_node_name": "node-1",
        "stargate_server": item,
        "stargate_profile": used,
        "stargate_operation": {"uid": "o-1"},
        "stargate_strategy": "inPlace",
        "stargate_dc": {},
    }


def test_bookkeeping_is_left_out() -> None:
    """Who wrote which field, and kubectl's copy of the object, are left out; the input keeps them."""
    item = server()
    item["metadata"] |= {"managedFields": [1], "annotations": {_server._LAST_APPLIED: "{}", "a": "b"}}
    kept = _server.hostvars(item)["stargate_server"]
    assert kept["metadata"] == {"name": "server-001", "namespace": "dc-west", "annotations": {"a": "b"}}
    assert set(item["metadata"]) == {"name", "namespace", "managedFields", "annotations"}


@pytest.mark.parametrize(
    ("spec", "ssh", "wanted"),
    [
        ({}, {}, ("10.0.1.5", 22, "ubuntu", None)),
        ({}, {"user": "root"}, ("10.0.1.5", 22, "root", None)),
        ({"routerIP": "100.64.0.1"}, {}, ("10.0.1.5", 22, "ubuntu", "-o ProxyJump=ubuntu@100.64.0.1")),
        ({"routerIP": "fd00::1"}, {}, ("10.0.1.5", 22, "ubuntu", "-o ProxyJump=ubuntu@[fd00::1]")),
        (
            {"routerIP": "127.0.0.1", "routerPort": 2221},
            {},
            ("10.0.1.5", 22, "ubuntu", "-o ProxyJump=ubuntu@127.0.0.1:2221"),
        ),
        (
            {"routerIP": "fd00::1", "routerPort": 2221},
            {},
            ("10.0.1.5", 22, "ubuntu", "-o ProxyJump=ubuntu@[fd00::1]:2221"),
        ),
        ({"routerIP": "r", "routerPort": "2221"}, {}, ("server-001.dc-west.invalid", 22, "ubuntu", None)),
        ({"routerIP": "x -oA"}, {}, ("server-001.dc-west.invalid", 22, "ubuntu", None)),
        ({"sshPort": "22"}, {}, ("server-001.dc-west.invalid", 22, "ubuntu", None)),
        ({}, {"user": "a b"}, ("server-001.dc-west.invalid", 22, "ubuntu", None)),
        ({"ipv4": "100.x.x.x"}, {}, ("server-001.dc-west.invalid", 22, "ubuntu", None)),
        ({"ipv4": None}, {}, ("server-001.dc-west.invalid", 22, "ubuntu", None)),
    ],
)
def test_how_a_host_is_reached(spec: Object, ssh: Object, wanted: tuple[Any, ...]) -> None:
    """Directly, through the router, or not at all when a value is not fit."""
    variables = _server.hostvars(server(**spec), ssh=ssh)
    names = ("ansible_host", "ansible_port", "ansible_user", "ansible_ssh_common_args")
    assert tuple(variables.get(name) for name in names) == wanted


def test_an_address_that_was_seen_is_used() -> None:
    """Without a declared address the one in the status is dialled; a bad declared one is not replaced by it."""
    item = {"metadata": {"name": "a", "namespace": "n"}, "spec": {}, "status": {"ipv4": "10.9.9.9"}}
    assert _server.hostvars(item)["ansible_host"] == "10.9.9.9"
    assert _server.hostvars({**item, "spec": {"ipv4": "100.x.x.x"}})["ansible_host"] == "a.n.invalid"
    assert _server.hostvars({**server(name="a b"), "spec": {}})["ansible_host"] == "server.invalid"


def test_an_ssh_configuration_says_everything() -> None:
    """With a configuration file the host's alias is dialled and nothing else is said of SSH."""
    variables = _server.hostvars(server(routerIP="100.64.0.1"), ssh={"config": "/run/a b/ssh", "user": "x"})
    assert {key: value for key, value in variables.items() if key.startswith("ansible_")} == {
        "ansible_host": "server-001.dc-west",
        "ansible_ssh_common_args": "-F '/run/a b/ssh'",
    }
    assert variables["stargate_ssh_config"] == "/run/a b/ssh"
    known = _server.hostvars(server(), ssh={"config": "/c", "private_key_file": "/k", "user_data_file": "/u"})
    assert (known["stargate_ssh_key_file"], known["stargate_user_data_file"]) == ("/k", "/u")
    assert _server.hostvars(server(), ssh={"private_key_file": "/k"})["ansible_ssh_private_key_file"] == "/k"


def test_groups_have_legal_names() -> None:
    """Namespace, provider, state and profile, with what a group's name cannot have replaced."""
    item = {**server(provider="dc-api", provisioningProfile="k8s-1.34"), "status": {"state": "{{ x }}"}}
    names = ["namespace_dc_west", "provider_dc_api", "state____x___", "profile_k8s_1_34"]
    assert _server.groups(item) == names
    assert _server.groups(item, profile())[3] == "profile_os_2"
    assert _server.groups({**server(), "status": {"appliedProvisioningProfile": "old"}})[3] == "profile_old"
    assert _server.groups({})[0] == "namespace_unknown"


DATACENTERS = {"dc-west": {"url": "http://w", "token_file": "/t"}, "*": {"url": "http://d"}, "odd": 5, "none": {}}


@pytest.mark.parametrize(
    ("namespace", "annotation", "name", "url"),
    [
        ("dc-west", None, "dc-west", "http://w"),
        ("lab", None, "lab", "http://d"),
        ("lab", "dc-west", "dc-west", "http://w"),
        ("dc-west", "typo", None, None),
        ("odd", None, None, None),
        ("none", None, None, None),
    ],
)
def test_datacenter(namespace: str, annotation: str | None, name: str | None, url: str | None) -> None:
    """The annotation decides and is not replaced by a default; else the namespace, else the default."""
    item = server(namespace=namespace)
    if annotation:
        item["metadata"]["annotations"] = {_server.DATACENTER_ANNOTATION: annotation}
    found = _server.datacenter(item, DATACENTERS)
    assert (found and found["name"], found and found["url"]) == (name, url)
    if name == "dc-west":
        assert found == {"name": "dc-west", "url": "http://w", "token_file": "/t", "ca_file": ""}


@pytest.mark.parametrize(
    ("provider", "wanted"),
    [
        ("dc-api", "dcApi"),
        ("qemu", "recreate"),
        ("nspawn", "recreate"),
        ("simulator", "recreate"),
        ("azure", "inPlace"),
        ("ssh", "inPlace"),
        (None, "inPlace"),
        ("other", "inPlace"),
    ],
)
def test_strategy_of_provider(provider: str | None, wanted: str) -> None:
    """Each provider has a default, the profile may choose, nonsense does not."""
    item = server(provider=provider)
    assert _server.strategy(item, None, {}) == wanted
    assert _server.strategy(item, profile(repave={"strategy": "reimage"}), {}) == "reimage"
    assert _server.strategy(item, profile(repave={"strategy": "magic"}), None) == wanted


def test_strategy_without_provider_follows_the_datacenter() -> None:
    """A Server that says nothing goes through its datacenter's API when there is one."""
    assert _server.strategy(server(), None, DATACENTERS) == "dcApi"


@pytest.mark.parametrize(
    ("spec", "alias"),
    [
        ({}, ""),
        ({"routerPort": 2221}, ""),
        ({"routerIP": "100.64.0.1"}, "router:dc-west:100.64.0.1"),
        ({"routerIP": "127.0.0.1", "routerPort": 22}, "router:dc-west:127.0.0.1"),
        ({"routerIP": "127.0.0.1", "routerPort": 2221}, "router:dc-west:127.0.0.1:2221"),
        ({"routerIP": "FD00::1"}, "router:dc-west:fd00::1"),
        ({"routerIP": "fd00::1", "routerPort": 2221}, "router:dc-west:[fd00::1]:2221"),
    ],
)
def test_a_router_is_known_by_address_and_port(spec: Object, alias: str) -> None:
    """A port that is not 22 is part of the name under which a router's key is pinned."""
    item = server(**spec)
    assert _server.router_key_alias(item) == alias
    if alias:
        item["status"] = {"sshHostKeys": [f"{alias} {KEY}"]}
        assert _server.pinned_keys(item) == [f"{alias} {KEY}"]


def test_pinned_keys_are_the_servers_own() -> None:
    """Only well-formed lines for the host itself or its router count, once each."""
    own, router = f"server-001.dc-west {KEY}", f"router:dc-west:100.64.0.1 {KEY} comment"
    item = server(routerIP="100.64.0.1", sshHostKeys=[own, f"other.dc-west {KEY}", f"* {KEY}", 5])
    bad = [f"@cert-authority * {KEY}", f"{own}\n* {KEY}", "x", f"server-001.dc-west,* {KEY}"]
    item["status"] = {"sshHostKeys": [own, router, *bad]}
    assert _server.pinned_keys(item) == [own, router]
