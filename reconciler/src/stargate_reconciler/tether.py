# SPDX-License-Identifier: Apache-2.0
"""The ssh that Ansible is given in a run: each command that it sends ends with its connection.

What does that on the host is `remote.py`. A host without Python gets the command as it is.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from . import remote

_ON_HOST = 'command -v python3 >/dev/null 2>&1 && exec python3 -I -S -c "$2" "$1"; exec /bin/sh -c "$1"'
# The last argument is a command, and the one before it a host, unless ssh is asked about a connection (-O) or itself.
_WRAPPER = """#!/bin/sh
[ $# -gt 4 ] || exec {ssh} "$@"
for argument; do [ "$argument" != -O ] || exec {ssh} "$@"; done
count=$#
while [ "$count" -gt 1 ]; do set -- "$@" "$1"; shift; count=$((count - 1)); done
rest=$1 command=
shift
while :; do
  case $rest in
    *"'"*) command=$command${{rest%%"'"*}}"'\\\\''" rest=${{rest#*"'"}} ;;
    *) break ;;
  esac
done
on_host={on_host}
leash={leash}
exec {ssh} "$@" "/bin/sh -c $on_host sh '$command$rest' $leash"
"""


def wrapper(ssh: str) -> str:
    """Return a shell script that is used as Ansible uses `ssh`."""
    program = Path(remote.__file__).read_text(encoding="utf-8")
    quoted = {"on_host": _ON_HOST, "leash": program}
    return _WRAPPER.format(ssh=shlex.quote(ssh), **{k: shlex.quote(shlex.quote(v)) for k, v in quoted.items()})
