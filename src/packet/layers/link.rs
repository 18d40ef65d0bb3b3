//! What a frame begins with, and the tags between that and the network layer.

use std::net::Ipv4Addr;

use super::{Arp, Layers, Net, Trouble, be16, be32, ip};
use crate::{Frame, LinkType};

/// The link layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// None: the frame begins with IP, or with a link layer that is not known.
    None,
    /// Ethernet, IEEE 802.3.
    Ethernet {
        /// Receiver.
        dst: [u8; 6],
        /// Sender.
        src: [u8; 6],
    },
    /// Linux "cooked" capture, version 1.
    Sll {
        /// 0 to us, 1 broadcast, 2 multicast, 3 between others, 4 from us.
        packet_type: u16,
        /// Kind of the device, `ARPHRD_*`.
        hatype: u16,
        /// Sender's hardware address, where it has six bytes.
        src: Option<[u8; 6]>,
    },
    /// Linux "cooked" capture, version 2.
    Sll2 {
        /// Index of the interface.
        ifindex: u32,
        /// As in version 1.
        packet_type: u8,
        /// Kind of the device, `ARPHRD_*`.
        hatype: u16,
        /// Sender's hardware address, where it has six bytes.
        src: Option<[u8; 6]>,
    },
    /// BSD loopback: the address family, in the byte order of the machine that captured.
    Null {
        /// `AF_INET` and `AF_INET6` of that system.
        family: u32,
    },
}

impl Link {
    /// The interface the frame was seen on, where the link layer says.
    pub const fn ifindex(&self) -> Option<u32> {
        match self {
            Link::Sll2 { ifindex, .. } => Some(*ifindex),
            _ => None,
        }
    }

    /// Bytes of its header in the frame.
    pub(super) const fn len(&self) -> usize {
        match self {
            Link::None => 0,
            Link::Ethernet { .. } => 14,
            Link::Sll { .. } => 16,
            Link::Sll2 { .. } => 20,
            Link::Null { .. } => 4,
        }
    }
}

/// The VLAN tags of a frame, the outer first. Three are read; a frame with more is not followed further.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vlans {
    tags: [(u16, u16); VLANS],
    count: usize,
}

impl Vlans {
    /// The identifiers, 0 to 4095.
    pub fn ids(&self) -> impl Iterator<Item = u16> {
        self.tags().map(|(_, id)| id)
    }

    /// The type that announces each tag (802.1Q 0x8100, 802.1ad 0x88a8), and its identifier.
    pub fn tags(&self) -> impl Iterator<Item = (u16, u16)> {
        self.tags.iter().take(self.count).copied()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, kind: u16, control: u16) {
        if let Some(tag) = self.tags.get_mut(self.count) {
            *tag = (kind, control & 0x0fff);
            self.count += 1;
        }
    }
}

/// Bytes of a VLAN tag.
pub(super) const VLAN: usize = 4;
/// Tags read of one frame.
const VLANS: usize = 3;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Reads the link layer and everything behind it.
pub(super) fn decode<'a>(frame: &Frame<'a>, layers: &mut Layers<'a>) {
    let Some((link, ether)) = header(frame) else {
        layers.troubles.add(Trouble::Link);
        return;
    };
    layers.link = link;
    let at = link.len();
    let mut ether = match ether {
        Some(ether) => ether,
        // No type: the first half-byte of IP is its version.
        None => match frame.data.get(at).map(|byte| byte >> 4) {
            Some(4) => IPV4,
            Some(6) => IPV6,
            _ => {
                layers.troubles.add(Trouble::IpHeader);
                return;
            }
        },
    };
    let mut at = at;
    // IEEE 802.1Q, 802.1ad, and the number that came before 802.1ad.
    while matches!(ether, 0x8100 | 0x88a8 | 0x9100) && layers.vlans.len() < VLANS {
        let (Some(tag), Some(next)) = (be16(frame.data, at), be16(frame.data, at + 2)) else {
            layers.troubles.add(Trouble::Vlan);
            return;
        };
        layers.vlans.push(ether, tag);
        ether = next;
        at += VLAN;
    }
    layers.ether_type = Some(ether);
    let (read, trouble) = match ether {
        ARP => (arp(frame.data, at, layers), Trouble::Arp),
        IPV4 => (ip::v4(frame, at, layers), Trouble::IpHeader),
        IPV6 => (ip::v6(frame, at, layers), Trouble::IpHeader),
        _ => return,
    };
    if read.is_none() {
        layers.troubles.add(trouble);
    }
}

/// The link layer's header, and the EtherType of what follows where it says.
fn header(frame: &Frame<'_>) -> Option<(Link, Option<u16>)> {
    let data = frame.data;
    let hardware = |at: usize, length: usize| -> Option<[u8; 6]> {
        if length == 6 {
            data.get(at..at + 6)?.try_into().ok()
        } else {
            None
        }
    };
    Some(match frame.link {
        LinkType::ETHERNET => {
            let link = Link::Ethernet {
                dst: hardware(0, 6)?,
                src: hardware(6, 6)?,
            };
            (link, Some(be16(data, 12)?))
        }
        LinkType::LINUX_SLL => {
            let link = Link::Sll {
                packet_type: be16(data, 0)?,
                hatype: be16(data, 2)?,
                src: hardware(6, usize::from(be16(data, 4)?)),
            };
            (link, Some(be16(data, 14)?))
        }
        LinkType::LINUX_SLL2 => {
            data.get(..20)?;
            let link = Link::Sll2 {
                ifindex: be32(data, 4)?,
                packet_type: data[10],
                hatype: be16(data, 8)?,
                src: hardware(12, usize::from(data[11])),
            };
            (link, Some(be16(data, 0)?))
        }
        LinkType::NULL => {
            let family: [u8; 4] = data.get(..4)?.try_into().ok()?;
            // Families are small numbers, whichever end comes first.
            let family = u32::from_le_bytes(family).min(u32::from_be_bytes(family));
            (Link::Null { family }, None)
        }
        // 12 and 14 are the numbers that some systems write for raw IP (the tcpdump project's list of DLT_ values).
        LinkType::RAW | LinkType(12 | 14) => (Link::None, None),
        _ => return None,
    })
}

/// RFC 826; addresses are read where they have the lengths of Ethernet and IPv4.
fn arp(data: &[u8], at: usize, layers: &mut Layers<'_>) -> Option<()> {
    let bytes = data.get(at..)?;
    let operation = be16(bytes, 6)?;
    let (hardware, protocol) = (usize::from(bytes[4]), usize::from(bytes[5]));
    let len = 8 + 2 * (hardware + protocol);
    let bytes = bytes.get(..len)?;
    let plain = bytes[2..6] == [8, 0, 6, 4];
    let end = |at: usize| -> Option<([u8; 6], Ipv4Addr)> {
        let hardware = bytes.get(at..at + 6)?.try_into().ok()?;
        Some((hardware, Ipv4Addr::from(be32(bytes, at + 6)?)))
    };
    layers.net = Net::Arp(Arp {
        operation,
        sender: if plain { end(8) } else { None },
        target: if plain { end(18) } else { None },
        at,
        len,
    });
    Some(())
}
