//! The expressions of rules.

use super::{super::netlink::Batch, DATA_VALUE};

const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// The register that ends a rule.
const VERDICT_REGISTER: u32 = 0;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const NG_RANDOM: u32 = 1;
const NAT_DESTINATION: u32 = 1;
const NFPROTO_IPV4: u32 = 2;
const REJECT_ICMP: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
const ICMP_PORT_UNREACHABLE: u8 = 3;
const EQUAL: u32 = 0;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave the base chain.
    Accept,
    /// Go on in another chain and do not come back.
    Goto(String),
}

impl Verdict {
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Accept => 1,
            Self::Goto(_) => (-4_i32).cast_unsigned(),
        }
    }

    pub(super) fn encode(&self, b: &mut Batch) {
        b.nest(DATA_VERDICT, |b| {
            b.be32(VERDICT_CODE, self.code());
            if let Self::Goto(chain) = self {
                b.text(VERDICT_CHAIN, chain);
            }
        });
    }
}

/// One expression of a rule. Registers are 32 bits wide and counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// `ip saddr` into a register.
    SourceAddress(u32),
    /// `ip daddr` into a register.
    DestinationAddress(u32),
    /// `meta l4proto` into a register.
    Protocol(u32),
    /// `th dport` into a register.
    DestinationPort(u32),
    /// The key from register 0 on must be in this set.
    In(&'static str),
    /// The verdict that this map has for the key from register 0 on.
    VerdictOf(&'static str),
    /// A random number below this into register 0.
    Random(u32),
    /// What the transaction's map of this id has for register 0, into register 0 and on.
    MappedBy(u32),
    /// A value into a register.
    Load(u32, Vec<u8>),
    /// Translates the destination to the address in register 0 and the port in register 1.
    DestinationNat,
    /// Translates the source to the address of the interface it leaves by.
    Masquerade,
    /// A register must have this value.
    Equals(u32, Vec<u8>),
    /// Refuses with ICMP "port unreachable", which a connecting program sees as "connection refused".
    Reject,
    /// Refuses a TCP connection with a reset.
    Reset,
}

/// The kernel's number of a 32-bit register.
fn register(number: u32) -> u32 {
    8 + number
}

fn payload(b: &mut Batch, to: u32, base: u32, offset: u32, length: u32) {
    b.be32(1, register(to));
    b.be32(2, base);
    b.be32(3, offset);
    b.be32(4, length);
}

fn lookup(b: &mut Batch, set: &str, into: Option<u32>, id: Option<u32>) {
    b.text(1, set);
    b.be32(2, register(0));
    if let Some(into) = into {
        b.be32(3, into);
    }
    if let Some(id) = id {
        b.be32(4, id);
    }
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::SourceAddress(_) | Self::DestinationAddress(_) | Self::DestinationPort(_) => "payload",
            Self::Protocol(_) => "meta",
            Self::In(_) | Self::VerdictOf(_) | Self::MappedBy(_) => "lookup",
            Self::Random(_) => "numgen",
            Self::Load(..) => "immediate",
            Self::DestinationNat => "nat",
            Self::Masquerade => "masq",
            Self::Equals(..) => "cmp",
            Self::Reject | Self::Reset => "reject",
        }
    }

    pub(super) fn encode(&self, b: &mut Batch) {
        b.text(NAME, self.name());
        b.nest(DATA, |b| match self {
            Self::SourceAddress(to) => payload(b, *to, NETWORK_HEADER, 12, 4),
            Self::DestinationAddress(to) => payload(b, *to, NETWORK_HEADER, 16, 4),
            Self::DestinationPort(to) => payload(b, *to, TRANSPORT_HEADER, 2, 2),
            Self::Protocol(to) => {
                b.be32(1, register(*to));
                b.be32(2, META_L4PROTO);
            }
            Self::In(set) => lookup(b, set, None, None),
            Self::VerdictOf(map) => lookup(b, map, Some(VERDICT_REGISTER), None),
            Self::MappedBy(id) => lookup(b, "__map%d", Some(register(0)), Some(*id)),
            Self::Random(modulus) => {
                b.be32(1, register(0));
                b.be32(2, *modulus);
                b.be32(3, NG_RANDOM);
            }
            Self::Load(to, value) => {
                b.be32(1, register(*to));
                b.nest(2, |b| b.bytes(DATA_VALUE, value));
            }
            Self::DestinationNat => {
                b.be32(1, NAT_DESTINATION);
                b.be32(2, NFPROTO_IPV4);
                b.be32(3, register(0));
                b.be32(5, register(1));
            }
            Self::Masquerade => {}
            Self::Equals(of, value) => {
                b.be32(1, register(*of));
                b.be32(2, EQUAL);
                b.nest(3, |b| b.bytes(DATA_VALUE, value));
            }
            Self::Reset => b.be32(1, REJECT_TCP_RESET),
            Self::Reject => {
                b.be32(1, REJECT_ICMP);
                b.bytes(2, &[ICMP_PORT_UNREACHABLE]);
            }
        });
    }
}
