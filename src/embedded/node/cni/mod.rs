//! The pod network: routed veths, no bridge.
//!
//! A pod has an address of its own (`/32`) and one neighbour, `169.254.1.1`, which is the node; the node has a route to
//! each pod. Every packet between pods is therefore forwarded by the node and meets its nftables rules, whichever kernel
//! modules this machine has. Each side is one netlink batch: interface numbers and hardware addresses are chosen here, so
//! that later messages can name them.

use std::{ffi::CString, net::Ipv4Addr, os::fd::AsRawFd};

use rustix::fd::OwnedFd;

use super::{
    netlink::{Batch, CREATE, EXCL, NetlinkError, REPLACE, Socket},
    sys,
};

/// The node, as every pod sees it.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The number of a pod's `eth0` in its own namespace: above those that some kernels take for `tunl0` or `sit0`.
const POD_INDEX: u32 = 10;
/// The first interface number of pods' node sides.
const FIRST_INDEX: u32 = 1000;

// linux/rtnetlink.h, linux/if_link.h, linux/neighbour.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEIGH: u16 = 28;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_FORWARDING: u16 = 1;
const IPV4_DEVCONF_SEND_REDIRECTS: u16 = 6;
const IPV4_DEVCONF_RP_FILTER: u16 = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;

/// The node's side of the pod network.
#[derive(Debug)]
pub struct PodNetwork {
    node: Socket,
    /// The address that the node's own connections to pods come from.
    source: Option<Ipv4Addr>,
    next: u32,
}

/// A pod that is connected.
#[derive(Debug)]
pub struct Attachment {
    /// The interface's number on the node.
    pub index: u32,
    /// The interface's name on the node.
    pub name: String,
    /// The pod's address.
    pub address: Ipv4Addr,
}

impl PodNetwork {
    /// Brings up the loopback interface of the calling thread's network namespace, gives it `addresses`, and routes
    /// `service_range` (address, prefix length) to it, so that the node's own connections to Services meet the NAT rules.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn start(addresses: &[Ipv4Addr], service_range: (Ipv4Addr, u8)) -> Result<Self, NetlinkError> {
        let node = Socket::route()?;
        let mut batch = Batch::default();
        up(&mut batch, 1, "bring up the node's loopback interface");
        for &address in addresses {
            local_address(&mut batch, 1, address);
        }
        let (range, length) = service_range;
        if let Some(&source) = addresses.first() {
            let fixed = route_header(length, RT_SCOPE_LINK, 0);
            batch.message(RTM_NEWROUTE, CREATE | REPLACE, &fixed, "route the Services' addresses");
            batch.bytes(RTA_DST, &range.octets());
            batch.u32(RTA_OIF, 1);
            batch.bytes(RTA_PREFSRC, &source.octets());
        }
        node.send(&batch)?;
        quiet_ipv6();
        say_every_refusal();
        Ok(Self {
            node,
            source: addresses.first().copied(),
            next: FIRST_INDEX,
        })
    }

    /// Connects a pod: `netns` is its network namespace, `pod` a socket made in it.
    ///
    /// # Errors
    /// What the kernel refused; nothing is left then.
    pub(super) fn attach(
        &mut self,
        netns: &OwnedFd,
        pod: &Socket,
        address: Ipv4Addr,
    ) -> Result<Attachment, NetlinkError> {
        let index = self.next;
        self.next += 1;
        let name = format!("veth{index}");
        let attachment = Attachment { index, name, address };
        let made = self.node.send(&node_side(&attachment, netns, self.source));
        if let Err(error) = made.and_then(|()| pod.send(&pod_side(index, address))) {
            self.remove_link(&attachment);
            return Err(error);
        }
        // a capture then shows whole checksums and packets of the size of a wire's; a kernel that will not is no obstacle
        for (socket, device) in [(&self.node, attachment.name.as_str()), (pod, "eth0")] {
            if let Ok(device) = CString::new(device) {
                let _ = sys::disable_transmit_offload(socket.fd(), &device);
            }
        }
        Ok(attachment)
    }

    /// Disconnects a pod at once by taking back its route. Its interface goes with its network namespace, which the kernel
    /// clears up on its own time.
    pub(super) fn detach(&self, attachment: &Attachment) {
        let mut batch = Batch::default();
        let fixed = route_header(32, RT_SCOPE_LINK, 0);
        batch.message(RTM_DELROUTE, 0, &fixed, "remove a pod's route");
        batch.bytes(RTA_DST, &attachment.address.octets());
        batch.u32(RTA_OIF, attachment.index);
        self.tidy(&batch, attachment);
    }

    fn remove_link(&self, attachment: &Attachment) {
        let mut batch = Batch::default();
        batch.message(
            RTM_DELLINK,
            0,
            &link_header(attachment.index, 0, 0),
            "remove a pod's interface",
        );
        self.tidy(&batch, attachment);
    }

    fn tidy(&self, batch: &Batch, attachment: &Attachment) {
        if let Err(error) = self.node.send(batch) {
            tracing::debug!(%error, interface = attachment.name, "it had gone already");
        }
    }
}

/// A pod's interfaces have no IPv6 addresses, so that a capture of a silent pod is silent. Acts on the network namespace of
/// the calling thread; a kernel without IPv6 has no such file.
pub(super) fn quiet_ipv6() {
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
}

/// ICMP errors are rationed to a host, a second apart, and a client that meets a Service without endpoints would wait for
/// nothing: those that say "unreachable" (type 3) are exempt here. Acts on the network namespace of the calling thread.
fn say_every_refusal() {
    // the kernel's own value, 6168, without bit 3
    if let Err(error) = std::fs::write("/proc/sys/net/ipv4/icmp_ratemask", "6160") {
        tracing::debug!(%error, "ICMP errors are rationed");
    }
}

/// Lets programs without capabilities listen on low ports and send pings, as container runtimes do. Acts on the network
/// namespace of the calling thread.
pub(super) fn open_low_ports() {
    for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 0")] {
        if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value) {
            tracing::debug!(name, %error, "sysctl not set");
        }
    }
}

fn node_side(attachment: &Attachment, netns: &OwnedFd, source: Option<Ipv4Addr>) -> Batch {
    let Attachment {
        index,
        ref name,
        address,
    } = *attachment;
    let mut batch = Batch::default();
    // the kernel cannot bring up the peer before the pair is whole: its own side does
    let peer = link_header(POD_INDEX, 0, 0);
    batch.message(
        RTM_NEWLINK,
        CREATE | EXCL,
        &link_header(index, IFF_UP, IFF_UP),
        "make a pod's interface (veth)",
    );
    batch.text(IFLA_IFNAME, name);
    batch.bytes(IFLA_ADDRESS, &node_mac(index));
    batch.nest(IFLA_LINKINFO, |b| {
        b.text(IFLA_INFO_KIND, "veth");
        b.nest(IFLA_INFO_DATA, |b| {
            b.nest_after(VETH_INFO_PEER, &peer, |b| {
                b.text(IFLA_IFNAME, "eth0");
                b.bytes(IFLA_ADDRESS, &pod_mac(address));
                b.bytes(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
            });
        });
    });
    batch.message(
        RTM_NEWLINK,
        0,
        &link_header(index, 0, 0),
        "let a pod's interface forward",
    );
    batch.nest(IFLA_AF_SPEC, |b| {
        b.nest(u16::from(AF_INET), |b| {
            b.nest(IFLA_INET_CONF, |b| {
                b.u32(IPV4_DEVCONF_FORWARDING, 1);
                b.u32(IPV4_DEVCONF_RP_FILTER, 1);
                b.u32(IPV4_DEVCONF_SEND_REDIRECTS, 0);
            });
        });
    });
    local_address(&mut batch, index, GATEWAY);
    let fixed = route_header(32, RT_SCOPE_LINK, 0);
    batch.message(RTM_NEWROUTE, CREATE | EXCL, &fixed, format!("route to pod {address}"));
    batch.bytes(RTA_DST, &address.octets());
    batch.u32(RTA_OIF, index);
    if let Some(source) = source {
        batch.bytes(RTA_PREFSRC, &source.octets());
    }
    neighbour(&mut batch, index, address, pod_mac(address));
    batch
}

fn pod_side(index: u32, address: Ipv4Addr) -> Batch {
    let mut batch = Batch::default();
    up(&mut batch, POD_INDEX, "bring up a pod's eth0");
    local_address(&mut batch, POD_INDEX, address);
    neighbour(&mut batch, POD_INDEX, GATEWAY, node_mac(index));
    let fixed = route_header(0, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK);
    batch.message(RTM_NEWROUTE, CREATE, &fixed, "give a pod its default route");
    batch.u32(RTA_OIF, POD_INDEX);
    batch.bytes(RTA_GATEWAY, &GATEWAY.octets());
    batch
}

/// Brings up the loopback interface of the network namespace `pod` was made in.
pub(super) fn loopback(pod: &Socket) -> Result<(), NetlinkError> {
    let mut batch = Batch::default();
    up(&mut batch, 1, "bring up a pod's loopback interface");
    pod.send(&batch)
}

fn up(batch: &mut Batch, index: u32, what: &str) {
    batch.message(RTM_NEWLINK, 0, &link_header(index, IFF_UP, IFF_UP), what);
}

fn local_address(batch: &mut Batch, index: u32, address: Ipv4Addr) {
    // masquerading takes only addresses of this scope
    let mut fixed = vec![AF_INET, 32, 0, RT_SCOPE_UNIVERSE];
    fixed.extend_from_slice(&index.to_ne_bytes());
    batch.message(RTM_NEWADDR, CREATE | REPLACE, &fixed, format!("add address {address}"));
    batch.bytes(IFA_LOCAL, &address.octets());
    batch.bytes(IFA_ADDRESS, &address.octets());
}

fn neighbour(batch: &mut Batch, index: u32, address: Ipv4Addr, mac: [u8; 6]) {
    let mut fixed = vec![AF_INET, 0, 0, 0];
    fixed.extend_from_slice(&index.to_ne_bytes());
    fixed.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
    fixed.extend_from_slice(&[0, RTN_UNICAST]);
    batch.message(
        RTM_NEWNEIGH,
        CREATE | REPLACE,
        &fixed,
        format!("add neighbour {address}"),
    );
    batch.bytes(NDA_DST, &address.octets());
    batch.bytes(NDA_LLADDR, &mac);
}

/// `ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut fixed = vec![0; 4];
    for value in [index, flags, change] {
        fixed.extend_from_slice(&value.to_ne_bytes());
    }
    fixed
}

/// `rtmsg`.
fn route_header(length: u8, scope: u8, flags: u32) -> Vec<u8> {
    let mut fixed = vec![AF_INET, length, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST];
    fixed.extend_from_slice(&flags.to_ne_bytes());
    fixed
}

/// A locally administered address made of the interface's number.
fn node_mac(index: u32) -> [u8; 6] {
    let [a, b, c, d] = index.to_be_bytes();
    [0x02, 0x01, a, b, c, d]
}

/// A locally administered address made of the pod's address.
fn pod_mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x00, a, b, c, d]
}
