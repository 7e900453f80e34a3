# SPDX-License-Identifier: Apache-2.0
"""Files and programs of a machine: real files below a directory, real processes.

What is in the files is other files' business.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Done, Host, disk_errors


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host whose files are below a directory."""
    return Host(tmp_path)


def test_write_and_read(host: Host) -> None:
    """A file is put in place with its permissions, below directories that are made for it."""
    assert (host.text("/etc/a/b"), host.mode("/etc/a/b")) == (None, None)
    host.write("/etc/a/b", "one\n", 0o600)
    host.write("/etc/a/b", "two\n")
    assert (host.text("/etc/a/b"), host.mode("/etc/a/b")) == ("two\n", 0o644)
    assert (host.text("/etc/a/b/c"), host.mode("/etc/a/b/c")) == (None, None)
    assert [path.name for path in host.path("/etc/a").iterdir()] == ["b"]


def test_a_staged_file_that_is_not_used(host: Host) -> None:
    """When the block fails, the old file stays and the new one is gone."""
    host.write("/usr/bin/x", "old")

    def fail() -> None:
        with host.staged("/usr/bin/x") as new:
            new.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {path.name: path.read_text() for path in host.path("/usr/bin").iterdir()} == {"x": "old"}


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "DiskFull"), (errno.EDQUOT, "DiskFull"), (errno.EACCES, "CommandFailed")]
)
def test_disk_errors(number: int, code: str) -> None:
    """A full disk is told from other errors of the file system."""
    with pytest.raises(StargateError, match="Failed to write x: ") as caught, disk_errors("write x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.code == code


def test_run(host: Host) -> None:
    """A program gets its input, an environment in which nobody is asked, and tells how it ended."""
    script = 'cat; echo "$LC_ALL $DEBIAN_FRONTEND" >&2; exit 3'
    done = host.run(["sh", "-c", script], stdin="hello")
    assert done == Done(3, "hello", "C noninteractive\n")
    assert not done.ok
    assert host.run(["no-such-program"]) == Done(127, err="no-such-program: not found")
    host.write("/other", "for another machine\n", 0o755)
    program = str(host.path("/other"))
    assert host.run([program]) == Done(126, err=f"{program}: Exec format error")


def test_run_kills_what_it_started(host: Host, tmp_path: Path) -> None:
    """When the time is up, the program's children are killed too, and their last words are kept."""
    mark = tmp_path / "alive"
    start = time.monotonic()
    done = host.run(["sh", "-c", f"echo begun; (sleep 1; touch {mark}) & wait"], timeout=0.3)
    assert (done.code, done.out) == (None, "begun\n")
    assert time.monotonic() - start < 1
    time.sleep(1)
    assert not mark.exists()


def test_run_that_is_interrupted(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the module itself is told to end, what it has started does not outlive it."""
    mark = tmp_path / "alive"

    def interrupted(*_args: object, **_options: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("subprocess.Popen.communicate", interrupted)
    with pytest.raises(SystemExit):
        host.run(["sh", "-c", f"sleep 0.3; touch {mark}"])
    time.sleep(0.5)
    assert not mark.exists()


def test_run_does_not_wait_for_a_child_that_left(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grandchild in a session of its own may hold the pipe open; it is not waited for."""
    monkeypatch.setattr("ansible_collections.stargate.core.plugins.module_utils._worker_host.GRACE", 0.2)
    done = host.run(["sh", "-c", "echo begun; setsid sleep 3 & wait"], timeout=0.3)
    assert (done.code, done.out) == (None, "begun\n")


def test_must(host: Host) -> None:
    """A program that has to succeed says in one sentence why it did not."""
    assert host.must(["echo", "yes"], "try") == "yes\n"
    with pytest.raises(StargateError, match="Failed to try: sh ended with 2: it broke") as caught:
        host.must(["sh", "-c", "echo it broke >&2; exit 2"], "try")
    assert (caught.value.code, caught.value.details, caught.value.retryable) == ("CommandFailed", "it broke", False)
    with pytest.raises(StargateError, match="Failed to try: false ended with 1: no word why"):
        host.must(["false"], "try")
    with pytest.raises(StargateError, match="Failed to try: sleep did not end within 0 seconds") as caught:
        host.must(["sleep", "9"], "try", timeout=0.1)
    assert (caught.value.code, caught.value.retryable) == ("CommandTimeout", True)


@pytest.mark.parametrize(
    ("done", "words"),
    [(Done(1, "out\n", "one\n\n two \n\n"), "two"), (Done(1, "out\n", " \n"), "out"), (Done(1), "")],
)
def test_last_words(done: Done, words: str) -> None:
    """The last line of the errors says most, or that of the output when there are none."""
    assert done.last_words == words


def test_program(host: Host) -> None:
    """Programs are found where a system has them, whatever the caller's path."""
    assert host.program("sh") in ("/bin/sh", "/usr/bin/sh")
    assert host.program("no-such-program") == ""


@pytest.mark.parametrize(
    ("release", "accepted"),
    [
        ("ID=debian\n", True),
        ('ID="ubuntu"\nID_LIKE=debian\n', True),
        ("ID=raspbian\nID_LIKE=debian\n", True),
        ('PRETTY_NAME="Rocky Linux 9"\nID="rocky"\nID_LIKE="rhel centos fedora"\n', False),
        (None, False),
    ],
)
def test_require_debian(host: Host, release: str | None, *, accepted: bool) -> None:
    """Other families than Debian's are refused by name, with those that are supported."""
    if release is not None:
        host.write("/etc/os-release", release)
    if accepted:
        host.require_debian()
        return
    with pytest.raises(StargateError, match="which is not supported") as caught:
        host.require_debian()
    assert caught.value.code == "UnsupportedSystem"
    assert release is None or "Rocky Linux 9" in caught.value.message


def test_is_container(host: Host) -> None:
    """systemd's mark of a container is believed."""
    assert not host.is_container
    host.write("/run/systemd/container", "systemd-nspawn\n")
    assert host.is_container
