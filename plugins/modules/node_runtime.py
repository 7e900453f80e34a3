#!/usr/bin/python
# Copyright (c) 2026 The Stargate Authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: EXE001  # ansible-test asks for the shebang and forbids the mode

from __future__ import annotations

DOCUMENTATION = r"""
module: node_runtime
short_description: Make a machine able to run pods, with a given version of the kubelet
description:
  - Does in one task what a worker needs before it can join a cluster, and keeps it so. Kernel modules and sysctls are
    set now and at boot, swap is off now and at boot, containerd is there with its configuration, kubelet and kubeadm
    are there in the version that is asked for.
  - A version that differs is really changed, up or down, and the version in the result is the one that the installed
    kubelet itself states.
  - The kubelet is not enabled here, since without a cluster it would only fail again and again;
    M(stargate.core.kubeadm_join) enables it.
  - A second run with the same options starts no program at all when nothing has changed, unless O(images_dir) is set.
  - Debian, Ubuntu and what derives from them are supported.
version_added: 0.1.0
author:
  - The Stargate authors (@stargate)
extends_documentation_fragment:
  - stargate.core.attributes
attributes:
  check_mode:
    support: full
    details:
      - The newest patch of a minor version is looked up at the source, which needs the network.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: debian
options:
  kubernetes_version:
    description:
      - The version of kubelet and kubeadm, such as V(1.34.2), with or without a C(v) before it.
      - A minor version such as V(1.34) means the newest patch that the source has.
    type: str
    required: true
  source:
    description:
      - Where kubelet and kubeadm come from.
      - V(packages) is an APT repository with the layout of C(pkgs.k8s.io), at O(repository). Its source and key get
        files of their own, and the packages are held.
      - V(binaries) is a directory tree with the layout of C(dl.k8s.io), at O(binaries_url). The checksum beside each
        program is compared before the program is installed.
      - V(directory) is a directory on the machine with C(.deb) files and C(SHA256SUMS), O(packages_dir).
    type: str
    choices:
      - packages
      - binaries
      - directory
    default: packages
  repository:
    description:
      - With O(source=packages), the URL below which C(v1.34/deb/) and the like are.
    type: str
    default: "https://pkgs.k8s.io/core:/stable:"
  repository_key:
    description:
      - The URL of the repository's signing key, ASCII armoured. C(Release.key) beside the packages when not set.
    type: str
    default: ""
  binaries_url:
    description:
      - With O(source=binaries), the URL below which C(v1.34.2/bin/linux/amd64/kubelet), C(kubelet.sha256) beside it
        and, for minor versions, C(stable-1.34.txt) are.
      - C(http), C(https) and C(file) are understood. Below C(file) the directories are listed, and
        C(stable-1.34.txt) is not needed.
    type: str
    default: https://dl.k8s.io/release
  packages_dir:
    description:
      - With O(source=directory), where the packages are. Packages other than kubelet and kubeadm are installed when the
        machine has none of that name.
    type: path
  container_runtime:
    description:
      - Where containerd comes from.
      - V(distribution) is the package C(containerd) of the machine's own distribution.
      - V(vendor) is the package C(containerd.io) from O(container_runtime_repository).
      - V(installed) means that it is there already; the task fails when it is not.
    type: str
    choices:
      - distribution
      - vendor
      - installed
    default: distribution
  container_runtime_repository:
    description:
      - With O(container_runtime=vendor), the URL below which C(debian/) and C(ubuntu/) are.
    type: str
    default: https://download.docker.com/linux
  container_runtime_key:
    description:
      - The URL of that repository's signing key, ASCII armoured. The file C(gpg) below the distribution's directory
        when not set.
    type: str
    default: ""
  sandbox_image:
    description:
      - The image that holds a pod's namespaces. containerd's own default when not set.
    type: str
    default: ""
  images_dir:
    description:
      - A directory on the machine with image archives (C(*.tar), as C(docker save) and OCI tools write them). Images
        that containerd does not have are imported from there.
    type: path
  cni:
    description:
      - V(none) leaves the pod network to what the cluster brings (Flannel, Cilium). A network of V(bridge) that this
        module made earlier is taken away.
      - V(bridge) gives the machine a bridge of its own with addresses from O(pod_cidr). The plug-ins must be there.
    type: str
    choices:
      - none
      - bridge
    default: none
  pod_cidr:
    description:
      - With O(cni=bridge), the machine's pods get their addresses from here, such as V(10.244.1.0/24).
    type: str
    default: ""
  cni_bin_dir:
    description:
      - Where the CNI plug-ins are. When not set, C(/usr/lib/cni) with O(cni=bridge) if the plug-ins are there, and
        C(/opt/cni/bin) otherwise.
    type: path
  cgroup_driver:
    description:
      - Who manages control groups, for containerd and the kubelet alike.
    type: str
    choices:
      - systemd
      - cgroupfs
    default: systemd
  restrict_oom_score_adj:
    description:
      - Whether containerd may not lower the C(oom_score_adj) of containers below its own. Needed on machines that are
        containers themselves.
    type: bool
    default: false
  kubelet_extra_args:
    description:
      - More arguments for the kubelet, such as C(--max-pods=50). They are written to C(/etc/default/kubelet), which
        this module owns.
    type: list
    elements: str
    default: []
  restart_kubelet:
    description:
      - Whether a kubelet that belongs to a cluster is taken to the new version at once. When the minor version changes,
        C(kubeadm upgrade node) brings its configuration along first.
      - With V(false) it runs on as it is until it is restarted, which is right before the machine is reset.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that one download, or one run of a package manager, may take.
    type: int
    default: 600
seealso:
  - module: stargate.core.kubeadm_join
"""

EXAMPLES = r"""
- name: Be ready to join with the newest 1.34 from the official packages
  stargate.core.node_runtime:
    kubernetes_version: "1.34"

- name: Be ready to join without reaching any repository
  stargate.core.node_runtime:
    kubernetes_version: v1.34.2
    source: binaries
    binaries_url: file:///opt/stargate/kubernetes
    container_runtime: installed
    sandbox_image: localhost/stargate/pause:1
    images_dir: /opt/stargate/images
    cni: bridge
    pod_cidr: 10.244.7.0/24

- name: Use the vendor's containerd, and packages from a mirror
  stargate.core.node_runtime:
    kubernetes_version: "1.34.2"
    repository: https://mirror.example.com/kubernetes
    container_runtime: vendor
    container_runtime_repository: https://mirror.example.com/docker/linux
"""

RETURN = r"""
kubernetes_version:
  description: The version that was asked for, with its patch.
  returned: success
  type: str
  sample: v1.34.2
kubelet_version:
  description:
    - What the installed kubelet says of itself after the task. In check mode what it says now, empty when there is
      none.
  returned: success
  type: str
  sample: v1.34.2
previous_version:
  description: What the installed kubelet said of itself before the task, empty when there was none.
  returned: success
  type: str
  sample: v1.33.6
containerd_version:
  description: The version of containerd, empty when it is not installed yet (check mode).
  returned: success
  type: str
  sample: 1.7.24
changes:
  description: What was changed, or would be in check mode, one short text each.
  returned: success
  type: list
  elements: str
  sample:
    - swap off
    - /etc/containerd/config.toml
    - kubelet v1.33.6 -> v1.34.2
restarted:
  description: The services that were restarted or started.
  returned: success
  type: list
  elements: str
  sample:
    - containerd
restart_pending:
  description: The services that still run as they were before, because O(restart_kubelet=false).
  returned: success
  type: list
  elements: str
  sample: []
seconds:
  description: How long the work on the machine took, without Ansible's own.
  returned: success
  type: float
  sample: 0.012
failure:
  description: What went wrong, for programs.
  returned: on failure
  type: dict
  contains:
    code:
      description:
        - One of C(ChecksumMismatch), C(CniPluginsMissing), C(CommandFailed), C(CommandTimeout), C(ContainerdMissing),
          C(DiskFull), C(HostBusy), C(Invalid), C(KernelModuleMissing), C(MirrorUnavailable), C(PackageInstallFailed),
          C(PackageLocked), C(SignatureInvalid), C(SourceConflict), C(StaleOperation), C(SysctlRefused),
          C(UnsupportedSystem), C(UpgradeFailed), C(VersionNotFound).
      type: str
      sample: VersionNotFound
    details:
      description: The other side's own words, cut to 256 characters.
      type: str
    retryable:
      description: Whether the same task may succeed later without anybody's doing.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.stargate.core.plugins.module_utils import _leash
from ansible_collections.stargate.core.plugins.module_utils._errors import StargateError
from ansible_collections.stargate.core.plugins.module_utils._journal import DIRECTORY, Journal, Step
from ansible_collections.stargate.core.plugins.module_utils._node_runtime import SPEC, perform
from ansible_collections.stargate.core.plugins.module_utils._worker_host import Host

STEP = Step("runtime", repeats=True)


def main() -> None:
    """Read the options, do the work, say how it went."""
    module = AnsibleModule(**SPEC)
    host = Host()
    journal = Journal(host.path(DIRECTORY))
    try:
        with _leash.turn(journal, module.params["timeout"], check_mode=module.check_mode) as turn, turn.step(STEP):
            result = perform(module.params, host, check_mode=module.check_mode)
    except StargateError as error:
        module.fail_json(msg=error.message, failure=error.failure())
    if not module._diff:  # noqa: SLF001  # the name by which every module asks for it
        del result["diff"]
    for warning in result.pop("warnings"):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
