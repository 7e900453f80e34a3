# SPDX-License-Identifier: Apache-2.0
"""Flags and environment of `stargate-reconciler` to Settings; errors to a sentence and an exit code.

The only place of the daemon that reads either.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import yaml

from ansible_collections.stargate.core.plugins.module_utils import _server

from . import __version__, logs
from .daemon import Daemon
from .errors import ReconcilerError, UserError
from .settings import Settings, state_home

EPILOG = """exit codes:
  0  stopped by a signal, or --once with every Operation Succeeded
  1  the Lease was lost, or --once with an Operation Failed
  2  wrong flags, kubeconfig, rights or addresses
  3  --once: something still waits for an object that is missing

Each flag can also be set in the environment: STARGATE_MAX_RUNS=4 is --max-runs 4. Repeatable ones take a list with
commas; STARGATE_VARS_FILES takes the paths of --vars-file with colons.
"""


CONTROL_PLANE = {
    "mode": "control_plane_mode",
    "endpoint": "control_plane_endpoint",
    "kindContainer": "kind_container",
    "sshHost": "control_plane_ssh_host",
    "sshUser": "control_plane_ssh_user",
}
"""Fields of a profile's spec.controlPlane, and the flags that set their defaults."""
SWITCHES = frozenset({"--once", "--dry-run"})
REPEATABLE = frozenset(
    {"--namespace", "--provider", "--dc-api-url", "--dc-api-token-file", "--dc-api-ca-file", "--operations-dir"}
    | {"--vars-file"}
)
SINGLE = frozenset(
    {"--kubeconfig", "--context", "--runs-dir", "--max-runs", "--max-hosts-per-run", "--forks", "--workers"}
    | {"--drain-seconds", "--default-deadline-seconds", "--retry-seconds", "--lease-namespace", "--lease-name"}
    | {"--kubernetes-version", "--kind-container", "--control-plane-mode", "--control-plane-endpoint"}
    | {"--control-plane-ssh-host", "--control-plane-ssh-user"}
    | {"--max-unhealthy", "--auto-repave-limit", "--auto-repave-pause-seconds", "--probe-seconds"}
    | {"--lease-seconds", "--metrics-bind-address", "--health-probe-bind-address", "--log-format", "--log-level"}
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    parser = argparse.ArgumentParser(
        prog="stargate-reconciler",
        description="Watches Operations and runs their playbooks on the Servers they name.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    groups = (_cluster_flags, _join_flags, _datacenter_flags, _play_flags, _run_flags, _health_flags)
    for group in (*groups, _election_flags, _log_flags):
        group(parser)
    return parser


def _cluster_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("cluster")
    group.add_argument("--kubeconfig", help="kubeconfig file (default: $KUBECONFIG, the pod's own, ~/.kube/config)")
    group.add_argument("--context", help="context in the kubeconfig")
    group.add_argument("--namespace", action="append", metavar="NS", help="serve only this namespace; repeatable")
    group.add_argument("--provider", action="append", metavar="NAME", help="serve only Servers of it; repeatable")
    group.add_argument("--once", action="store_true", help="do what there is to do, then exit")
    group.add_argument("--dry-run", action="store_true", help="print what would be done now, then exit")


def _join_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what profiles may leave out of spec.kubernetesVersion and spec.controlPlane")
    group.add_argument("--kubernetes-version", default=Settings().kubernetes_version, help="(%(default)s)")
    modes = "how join credentials are had: api, kind, ssh (or tailscale, its old name) (default: api)"
    group.add_argument("--control-plane-mode", choices=("api", "kind", "ssh", "tailscale"), help=modes)
    group.add_argument("--control-plane-endpoint", metavar="HOST:PORT", help="the API as machines reach it")
    group.add_argument("--kind-container", metavar="NAME", help="for kind: the control plane's container")
    group.add_argument("--control-plane-ssh-host", metavar="HOST", help="for ssh: the control plane machine")
    group.add_argument("--control-plane-ssh-user", metavar="USER", help="for ssh: the user there")


def _datacenter_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("datacenter API")
    urls = "[NAME=]URL of a datacenter's API; NAME is a namespace or what the annotation stargate.io/datacenter names"
    group.add_argument("--dc-api-url", action="append", metavar="[NAME=]URL", help=f"{urls}; repeatable")
    group.add_argument("--dc-api-token-file", action="append", metavar="[NAME=]PATH", help="file with a bearer token")
    group.add_argument("--dc-api-ca-file", action="append", metavar="[NAME=]PATH", help="CA certificate in PEM")


def _play_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("plays")
    group.add_argument(
        "--operations-dir",
        action="append",
        type=Path,
        metavar="DIR",
        help="more operations: DIR/<name>.yml; repeatable",
    )
    group.add_argument(
        "--vars-file",
        action="append",
        type=Path,
        metavar="PATH",
        help="YAML variables for every play, such as package mirrors; repeatable",
    )


def _run_flags(parser: argparse.ArgumentParser) -> None:
    usual = Settings()
    group = parser.add_argument_group("runs")
    group.add_argument(
        "--runs-dir", type=Path, metavar="DIR", help=f"run directories (default: {state_home(os.environ) / 'runs'})"
    )
    group.add_argument(
        "--max-runs", type=_count, default=usual.max_runs, help="ansible processes at once (%(default)s)"
    )
    group.add_argument(
        "--max-hosts-per-run", type=_count, default=usual.max_hosts_per_run, help="hosts in one process (%(default)s)"
    )
    group.add_argument(
        "--forks", type=_number, default=0, help="hosts served at once in a run (0: by cores and waiting)"
    )
    group.add_argument("--workers", type=_count, default=usual.workers, help="Servers looked at at once (%(default)s)")
    group.add_argument(
        "--drain-seconds",
        type=float,
        default=usual.drain_seconds,
        help="on SIGTERM, time for runs to end (%(default)s)",
    )
    group.add_argument(
        "--default-deadline-seconds",
        type=float,
        default=usual.default_deadline,
        help="for Operations without activeDeadlineSeconds (%(default)s)",
    )
    group.add_argument(
        "--retry-seconds", type=float, default=usual.retry_base, help="back-off before the first retry (%(default)s)"
    )


def _health_flags(parser: argparse.ArgumentParser) -> None:
    usual = Settings()
    group = parser.add_argument_group("health of machines, and repaves that spec.maintenance.autoRepave asks for")
    most = "where a greater share of Nodes is not Ready at once, nothing is repaved automatically (%(default)s)"
    limit = "automatic repaves of one machine until it has been well for a day (%(default)s)"
    rest = "between two of them; doubles each time (%(default)s)"
    probe = "how often routers are probed, and machines in doubt (%(default)s)"
    group.add_argument("--max-unhealthy", type=_share, default=usual.max_unhealthy, metavar="SHARE", help=most)
    group.add_argument("--auto-repave-limit", type=_number, default=usual.auto_repave_limit, metavar="N", help=limit)
    group.add_argument("--auto-repave-pause-seconds", type=float, default=usual.auto_repave_pause, help=rest)
    group.add_argument("--probe-seconds", type=_period, default=usual.probe_seconds, help=probe)


def _election_flags(parser: argparse.ArgumentParser) -> None:
    usual = Settings()
    group = parser.add_argument_group("leader election")
    group.add_argument(
        "--leader-elect", action=argparse.BooleanOptionalAction, default=True, help="act only while holding a Lease"
    )
    group.add_argument("--lease-namespace", default=usual.lease_namespace, help="namespace of the Lease (%(default)s)")
    group.add_argument("--lease-name", default=usual.lease_name, help="name of the Lease (%(default)s)")
    group.add_argument("--lease-seconds", type=float, default=usual.lease_duration, help="its length (%(default)s)")


def _log_flags(parser: argparse.ArgumentParser) -> None:
    usual = Settings()
    group = parser.add_argument_group("sockets and log")
    group.add_argument(
        "--metrics-bind-address", default=usual.metrics_address, help="HOST:PORT, 0 is off (%(default)s)"
    )
    group.add_argument(
        "--health-probe-bind-address", default=usual.health_address, help="HOST:PORT, 0 is off (%(default)s)"
    )
    group.add_argument("--log-format", choices=("auto", "human", "json"), default="auto", help="(%(default)s)")
    group.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(%(default)s)"
    )


def _number(text: str) -> int:
    return 0 if text == "0" else _count(text)


def _period(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError("must be from 1 to 86400")
    return seconds


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return share


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def from_environment(environment: Mapping[str, str]) -> list[str]:
    """Return the flags that STARGATE_<FLAG> variables stand for; they go before the command line's own, which win.

    A repeatable flag takes a list with commas, STARGATE_VARS_FILES one with colons; a switch takes true or false.
    Other variables are left alone.
    """
    found: list[str] = []
    for name, text in environment.items():
        if not name.startswith("STARGATE_") or not text.strip():
            continue
        flag = "--" + name.removeprefix("STARGATE_").lower().replace("_", "-")
        flag, separator = ("--vars-file", os.pathsep) if flag == "--vars-files" else (flag, ",")
        if flag in SWITCHES:
            found += [flag] if text.lower() in ("1", "true", "yes", "on") else []
        elif flag == "--leader-elect":
            found.append(flag if text.lower() in ("1", "true", "yes", "on") else "--no-leader-elect")
        elif flag in REPEATABLE:
            found += [part for value in text.split(separator) if value.strip() for part in (flag, value.strip())]
        elif flag in SINGLE:
            found += [flag, text]
    return found


def endpoints(urls: Sequence[str], tokens: Sequence[str], cas: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the datacenters by name (`*` for the one without a name) from the three repeatable flags.

    Raises UserError for an URL that is none, and for a token or CA of a name that has no URL.
    """
    found: dict[str, dict[str, str]] = {}
    for text in urls:
        name, url = _named(text)
        if not url.startswith(("http://", "https://")):
            raise UserError(f"--dc-api-url {text}: '{url}' is no http:// or https:// URL.")
        found[name] = {"url": url.rstrip("/")}
    for flag, key, texts in (("token", "token_file", tokens), ("ca", "ca_file", cas)):
        for text in texts:
            name, path = _named(text)
            if name not in found:
                raise UserError(f"--dc-api-{flag}-file {text}: there is no --dc-api-url for '{name}'.")
            if not Path(path).is_file():
                raise UserError(f"--dc-api-{flag}-file {text}: the file {path} does not exist.")
            found[name][key] = str(Path(path).resolve())
    return found


def _named(text: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if equals and "/" not in name and ":" not in name:
        return name, rest
    return "*", text


def join_defaults(version: str, flags: Mapping[str, str | None]) -> dict[str, str]:
    """Return spec.controlPlane as the flags have it. Raises UserError for a value that a profile could not have."""
    found = {key: value for key, value in flags.items() if value}
    if found.get("mode") == "tailscale":
        found["mode"] = "ssh"
    spec = {"kubernetesVersion": version, "controlPlane": found}
    for sentence in _server.broken("ProvisioningProfile", {"metadata": {"name": "of-flags"}, "spec": spec}):
        raise UserError(f"A flag is wrong: {sentence}")
    return found


class _AnyTag(yaml.SafeLoader):
    """A loader to which `!vault` and `!unsafe`, which only Ansible understands, are some value."""


_AnyTag.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix} at {node.start_mark.line}")


def checked_vars_file(path: Path) -> Path:
    """Return the absolute path of a file of variables. Raises UserError when it is not a YAML mapping."""
    advice = "Correct it, or leave out --vars-file."
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_AnyTag)  # noqa: S506 - a safe loader's child
    except (OSError, ValueError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise UserError(f"Failed to read the variables in {path}: {cause[:256]}. {advice}") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(f"Failed to read the variables in {path}: it holds {kind}, and no mapping. {advice}")
    return path.absolute()


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Return the Settings of parsed flags. Raises UserError."""
    lease = arguments.lease_seconds
    control_plane = {field: getattr(arguments, flag) for field, flag in CONTROL_PLANE.items()}
    urls, tokens, cas = (getattr(arguments, f"dc_api_{part}") or [] for part in ("url", "token_file", "ca_file"))
    return Settings(
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        namespaces=tuple(arguments.namespace or ()),
        providers=tuple(arguments.provider or ()),
        operations_dirs=tuple(arguments.operations_dir or ()),
        vars_files=tuple(checked_vars_file(path) for path in arguments.vars_file or ()),
        kubernetes_version=arguments.kubernetes_version,
        control_plane=join_defaults(arguments.kubernetes_version, control_plane),
        runs_dir=(arguments.runs_dir or state_home(os.environ) / "runs").resolve(),
        datacenters=endpoints(urls, tokens, cas),
        identity=f"{socket.gethostname()}_{os.getpid()}_{os.urandom(3).hex()}",
        lease_namespace=arguments.lease_namespace,
        lease_name=arguments.lease_name,
        lease_duration=lease,
        renew_deadline=lease * 2 / 3,
        renew_period=max(0.2, lease / 7.5),
        leader_elect=arguments.leader_elect,
        workers=arguments.workers,
        max_runs=arguments.max_runs,
        max_hosts_per_run=arguments.max_hosts_per_run,
        forks=arguments.forks,
        default_deadline=arguments.default_deadline_seconds,
        drain_seconds=arguments.drain_seconds,
        retry_base=arguments.retry_seconds,
        max_unhealthy=arguments.max_unhealthy,
        auto_repave_limit=arguments.auto_repave_limit,
        auto_repave_pause=arguments.auto_repave_pause_seconds,
        probe_seconds=arguments.probe_seconds,
        metrics_address=arguments.metrics_bind_address,
        health_address=arguments.health_probe_bind_address,
        once=arguments.once,
        dry_run=arguments.dry_run,
    )


def run(arguments: Sequence[str]) -> int:
    """Run the daemon; returns the exit code that `--help` lists."""
    parsed = build_parser().parse_args([*from_environment(os.environ), *arguments])
    logs.configure(parsed.log_level, parsed.log_format)
    try:
        return Daemon(settings_from(parsed)).run()
    except ReconcilerError as error:
        print(f"stargate-reconciler: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def main() -> NoReturn:
    """Be the program. Its end is the process's own: an interpreter that ends under its threads may abort instead."""
    faulthandler.enable()
    code = run(sys.argv[1:])
    logging.shutdown()
    with contextlib.suppress(OSError):  # nobody reads it any more
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
