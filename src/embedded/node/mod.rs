//! The node: kubelet, container runtime, pod network, Services.

pub mod beneath;
pub mod cgroup;
pub mod cni;
pub mod floor;
pub mod gate;
pub mod kube_proxy;
pub mod kubelet;
pub mod memory;
pub mod netlink;
pub mod network_policy;
pub mod nftables;
pub mod runtime;
pub mod sys;
