# SPDX-License-Identifier: Apache-2.0
"""The programs from nothing but the Debian archive: etcd unpacked, Kubernetes built from its source package.

With the archive's own Go, unpacked beside it, in GOPATH mode. How the archive is asked is in archive.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from stargate_reconciler.errors import WorldError
from stargate_reconciler.local.archive import Archive
from stargate_reconciler.local.programs import Request

_GIGABYTE = 10**9
_SPACE = 4 * _GIGABYTE
_REFLECT = "github.com/modern-go/reflect2"
_STAMP = ".stargate-prepared"


def upstream(version: str) -> str:
    """Return the upstream version in a Debian version: 1.20.5+really1.20.2-1.1 is 1.20.2; "" when there is none."""
    match = re.match(r"(?:\d+:)?(?:.*\+really)?(\d+\.\d+\.\d+)", version)
    return match[1] if match else ""


def from_debian(request: Request) -> dict[str, Path]:
    """Return the programs of a request, unpacked or built into the cache."""
    archive, versions = _asked(request)
    kubernetes = [program for program in request.programs if program != "etcd"]
    if kubernetes and not versions:
        raise WorldError("the archive has no source package kubernetes")
    version = request.version or (max(versions, key=_numbers) if versions else "etcd")
    if kubernetes and version not in versions:
        raise WorldError(f"the archive has Kubernetes {' and '.join(versions)}, not {version}")
    directory = request.kept / version
    directory.mkdir(parents=True, exist_ok=True)
    if "etcd" in request.programs:
        work = _work(request)
        archive.unpack(["etcd-server"], work / "etcd")
        _place(work / "etcd" / "usr" / "bin" / "etcd", directory)
        shutil.rmtree(work / "etcd")
    if kubernetes:
        _build(Build(archive, _work(request), version), versions[version], kubernetes, directory)
    return {program: directory / program for program in request.programs}


def stamped(request: Request, stamp: str) -> dict[str, Path]:
    """Return programs of the archive's source of Kubernetes `request.version` that say that they are `stamp`.

    For trying an upgrade where only one version can be had: the same source with another patch version linked in.
    They are kept apart from the real ones, so that nobody takes them for a release.
    """
    with contextlib.suppress(WorldError):
        return kept_stamped(request, stamp)
    directory = request.places.cache / "stamped" / stamp
    archive, versions = _asked(request)
    source = request.version or max(versions, key=_numbers, default="any")
    if source not in versions:
        raise WorldError(f"the archive has Kubernetes {' and '.join(versions) or 'not at all'}, not {source}")
    if source.rpartition(".")[0] != stamp.rpartition(".")[0]:
        raise WorldError(f"{stamp} is no patch version of the Kubernetes that the archive has, {source}")
    directory.mkdir(parents=True, exist_ok=True)
    _build(Build(archive, _work(request), source, stamp), versions[source], list(request.programs), directory)
    return {program: directory / program for program in request.programs}


def kept_stamped(request: Request, stamp: str) -> dict[str, Path]:
    """Return programs that were stamped earlier; WorldError when not all of them are kept."""
    directory = request.places.cache / "stamped" / stamp
    if not all(os.access(directory / program, os.X_OK) for program in request.programs):
        raise WorldError(f"no {' or '.join(request.programs)} in {directory}")
    return {program: directory / program for program in request.programs}


def _work(request: Request) -> Path:
    return request.places.cache / "debian"


def _asked(request: Request) -> tuple[Archive, dict[str, str]]:
    """Return the archive, and the versions of Kubernetes whose source it has with their Debian versions."""
    archive = Archive(_work(request), request.progress)
    archive.update()
    return archive, {upstream(version): version for version in archive.versions_of_source("kubernetes")}


def _build(build: Build, debian_version: str, programs: list[str], directory: Path) -> None:
    build.prepare(debian_version)
    build.make(programs)
    for program in programs:
        _place(build.bin / program, directory)
    build.archive.progress.note(f"{build.work} is kept (3 GB): others are built faster from it; it may be removed")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _place(program: Path, directory: Path) -> None:
    temporary = directory / f".{program.name}.new"
    shutil.copyfile(program, temporary)
    temporary.chmod(0o755)
    temporary.replace(directory / program.name)


@dataclass(frozen=True)
class Build:
    """The tree in which one version is built; kept, so that a program asked for later is built in a minute."""

    archive: Archive
    work: Path
    version: str
    stamp: str = ""  # another version that the programs shall say they are

    @property
    def gopath(self) -> Path:
        """Where Go looks for sources."""
        return self.work / f"kubernetes-{self.version}"

    @property
    def tree(self) -> Path:
        """Where the source of Kubernetes is."""
        return self.gopath / "src" / "k8s.io" / "kubernetes"

    @property
    def bin(self) -> Path:
        """Where built programs are put."""
        return self.gopath / f"bin{self.stamp}"

    def prepare(self, debian_version: str) -> None:
        """Unpack Go and the source, and write what the source package leaves out."""
        if (self.gopath / _STAMP).exists():
            return
        if shutil.disk_usage(self.work).free < _SPACE:
            raise WorldError(f"building needs {_SPACE // _GIGABYTE} GB free in {self.work}")
        shutil.rmtree(self.gopath, ignore_errors=True)
        self.tree.mkdir(parents=True)
        go = [name for name in self.archive.dependencies("golang-go") if re.fullmatch(r"golang-[\d.]+-go", name)]
        if not go:
            raise WorldError("the archive has no Go (golang-go)")
        packages = [go[0], go[0].removesuffix("-go") + "-src", "golang-github-modern-go-reflect2-dev"]
        self.archive.unpack(packages, self.gopath / "root")
        tar = self.archive.source("kubernetes", version=debian_version, into=self.gopath / "source")
        with self.archive.progress.step(f"unpacking the source of Kubernetes {self.version}"):
            self.archive.run(["tar", "-xf", str(tar), "-C", str(self.tree), "--strip-components=1"])
        shutil.rmtree(self.gopath / "source")
        self._replace_reflect()
        self._generate_openapi()
        (self.gopath / _STAMP).touch()

    def _replace_reflect(self) -> None:
        """Lay the archive's reflect2 over the vendored one, which crashes when built with Go 1.18 or newer."""
        vendored = self.tree / "vendor" / _REFLECT
        shutil.rmtree(vendored, ignore_errors=True)
        shutil.copytree(self.gopath / "root" / "usr" / "share" / "gocode" / "src" / _REFLECT, vendored)

    def _generate_openapi(self) -> None:
        """Write pkg/generated/openapi, which the source package lacks and kube-apiserver needs."""
        generator = self.tree / "vendor" / "k8s.io" / "kube-openapi" / "cmd" / "openapi-gen"
        if not generator.is_dir():
            raise WorldError(f"the source package of Kubernetes {self.version} is laid out in a way not known here")
        with self.archive.progress.step("generating the OpenAPI definitions of Kubernetes"):
            self._go("build", "-o", f"{self.bin}/openapi-gen", "./vendor/k8s.io/kube-openapi/cmd/openapi-gen")
            flags = {
                "--go-header-file": "hack/boilerplate/boilerplate.generatego.txt",
                "-O": "zz_generated.openapi",
                "-p": "k8s.io/kubernetes/pkg/generated/openapi",
                "-i": ",".join(openapi_packages(self.tree)),
                "-r": str(self.gopath / "violations"),
                "--output-base": str(self.gopath / "src"),
            }
            words = [word for flag in flags.items() for word in flag]
            self.archive.run([f"{self.bin}/openapi-gen", *words], cwd=self.tree, env=self._environment())

    def make(self, programs: list[str]) -> None:
        """Build programs into `bin`."""
        commands = [f"./cmd/{program}" for program in programs]
        stamp = f", stamped {self.stamp}" if self.stamp else ""
        text = f"building {' and '.join(programs)} {self.version}{stamp} (three to six minutes on two cores, once)"
        flags = f"-s -w {' '.join(_stamps(self.stamp or self.version))}"
        with self.archive.progress.step(text):
            self._go("build", "-ldflags", flags, "-o", f"{self.bin}/", *commands)

    def _go(self, *words: str) -> None:
        go = self._goroot() / "bin" / "go"
        self.bin.mkdir(exist_ok=True)
        self.archive.run(["nice", str(go), *words], cwd=self.tree, env=self._environment())

    def _goroot(self) -> Path:
        return next((self.gopath / "root" / "usr" / "lib").glob("go-*"))

    def _environment(self) -> dict[str, str]:
        temporary = self.gopath / "tmp"
        temporary.mkdir(exist_ok=True)
        goroot = self._goroot()
        return {
            "PATH": f"{goroot}/bin:{os.defpath}",
            "HOME": str(self.gopath),
            "GOROOT": str(goroot),
            "GOPATH": str(self.gopath),
            "GOCACHE": str(self.gopath / "cache"),
            "GOTMPDIR": str(temporary),
            "GO111MODULE": "off",
            "GOENV": "off",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }


def openapi_packages(tree: Path) -> list[str]:
    """Return the import paths below vendor/k8s.io and pkg that ask for OpenAPI definitions."""
    found = set()
    for root in (tree / "vendor" / "k8s.io", tree / "pkg"):
        for directory, _, files in os.walk(root, followlinks=True):  # vendor/k8s.io links to staging
            here = Path(directory)
            if "testdata" not in here.parts and any(_asks(here / name) for name in files if name.endswith(".go")):
                found.add(here)
    vendored = [str(here.relative_to(tree / "vendor")) for here in found if here.is_relative_to(tree / "vendor")]
    own = [f"k8s.io/kubernetes/{here.relative_to(tree)}" for here in found if here.is_relative_to(tree / "pkg")]
    return sorted(vendored + own)


def _asks(file: Path) -> bool:
    return file.is_file() and b"+k8s:openapi-gen=" in file.read_bytes()


def _stamps(version: str) -> list[str]:
    """Return linker flags that tell the programs their version; in GOPATH mode its package is a vendored one."""
    major, minor, _ = version.split(".")
    values = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
        "gitCommit": "",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return [f"-X k8s.io/kubernetes/vendor/{p}.{name}={value}" for p in packages for name, value in values.items()]
