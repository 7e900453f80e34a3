#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a Node of one fresh machine by hand: the steps of node_runtime, join_token and kubeadm_join, which are measured
# against it. It works once on one kind of machine, and knows no second run, no other version and no failure but its own.
# Usage: KUBECONFIG=FILE SSH_CONFIG=FILE bench/bootstrap.sh NODE NODE_IP POD_CIDR VERSION CGROUP_DRIVER
set -euo pipefail

prepare_kernel() {
  printf '%s\n' overlay br_netfilter >/etc/modules-load.d/kubernetes.conf
  if ! systemd-detect-virt --quiet --container; then
    modprobe --all overlay br_netfilter
  fi
  cat >/etc/sysctl.d/90-kubernetes.conf <<'END'
net.bridge.bridge-nf-call-ip6tables = 1
net.bridge.bridge-nf-call-iptables = 1
net.ipv4.ip_forward = 1
END
  sysctl --quiet --load=/etc/sysctl.d/90-kubernetes.conf
  swapoff --all
  sed -i -E 's/^[^#].*\sswap\s.*/# &/' /etc/fstab
}

configure_containerd() {
  local systemd=true restricted=false
  [ "$driver" = systemd ] || { systemd=false restricted=true; }
  mkdir -p /etc/containerd /etc/cni/net.d
  cat >/etc/containerd/config.toml <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/stargate/pause:1"
  restrict_oom_score_adj = $restricted
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = $systemd
END
  cat >/etc/cni/net.d/10-pods.conflist <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pod_cidr"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  systemctl --quiet enable containerd
  systemctl restart containerd
}

import_images() {
  local archive
  for archive in /opt/stargate/images/*.tar; do
    ctr --namespace k8s.io images import "$archive" >/dev/null
  done
}

install_kubelet() {
  local source program
  source="/opt/stargate/kubernetes/v$version/bin/linux/$(dpkg --print-architecture)"
  for program in kubeadm kubelet; do
    echo "$(cat "$source/$program.sha256")  $source/$program" | sha256sum --check --quiet
    install -m 0755 "$source/$program" "/usr/local/bin/$program"
  done
  mkdir -p /etc/systemd/system/kubelet.service.d /etc/kubernetes/manifests
  cat >/etc/systemd/system/kubelet.service <<'END'
[Unit]
Description=The kubelet
Wants=network-online.target
After=network-online.target containerd.service

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
RestartSec=10
StartLimitInterval=0

[Install]
WantedBy=multi-user.target
END
  cat >/etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<'END'
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
END
  echo "KUBELET_EXTRA_ARGS=--cgroup-driver=$driver" >/etc/default/kubelet
  systemctl daemon-reload
  systemctl --quiet enable kubelet
}

join_cluster() {
  PATH=/usr/local/bin:$PATH kubeadm join --config /dev/stdin <<END
apiVersion: kubeadm.k8s.io/v1beta2
kind: JoinConfiguration
discovery:
  bootstrapToken:
    apiServerEndpoint: $endpoint
    token: $token
    caCertHashes: ["$ca_hash"]
nodeRegistration:
  name: $node
  criSocket: /run/containerd/containerd.sock
  ignorePreflightErrors: [FileExisting-crictl]
  kubeletExtraArgs: {node-ip: "$node_ip"}
END
}

on_the_machine() {
  set -euo pipefail
  prepare_kernel
  configure_containerd
  import_images
  install_kubelet
  join_cluster
}

node=$1 node_ip=$2 pod_cidr=$3 version=$4 driver=$5
cluster=$(kubectl --namespace kube-public get configmap cluster-info --output 'jsonpath={.data.kubeconfig}')
endpoint=$(sed -n 's|.*server: https://||p' <<<"$cluster")
ca_hash=sha256:$(sed -n 's|.*certificate-authority-data: ||p' <<<"$cluster" | base64 --decode |
  openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum | cut -d ' ' -f 1)
token=$(kubeadm token create --ttl 15m --description "bootstrap of $node")

# Everything goes through standard input, so that the token is in no list of processes.
{
  declare -p node node_ip pod_cidr version driver endpoint ca_hash token
  declare -f prepare_kernel configure_containerd import_images install_kubelet join_cluster on_the_machine
  echo on_the_machine
} | ssh -F "$SSH_CONFIG" "$node" sudo bash -s
