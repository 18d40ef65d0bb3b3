//! The expressions of rules.

use std::borrow::Cow;

use super::{super::netlink::Batch, DATA_VALUE, LIST_ELEMENT};

const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
/// The register that ends a rule.
const VERDICT_REGISTER: u32 = 0;
const META_MARK: u32 = 3;
const META_IIF: u32 = 4;
const META_L4PROTO: u32 = 16;
const CT_DIRECTION: u32 = 1;
const CT_DIRECTION_REPLY: u8 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const NG_RANDOM: u32 = 1;
const NAT_SOURCE: u32 = 0;
const NAT_DESTINATION: u32 = 1;
const NFPROTO_IPV4: u32 = 2;
const REJECT_ICMP: u32 = 0;
const REJECT_TCP_RESET: u32 = 1;
const ICMP_PORT_UNREACHABLE: u8 = 3;
const EQUAL: u32 = 0;
const LESS_OR_EQUAL: u32 = 3;
const GREATER_OR_EQUAL: u32 = 5;
const DYNAMIC_UPDATE: u32 = 1;
/// The number of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave the base chain.
    Accept,
    /// The packet is gone.
    Drop,
    /// Go on in another chain; from its end, come back to the next rule.
    Jump(String),
    /// Go on in another chain and do not come back.
    Goto(String),
}

impl Verdict {
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => (-3_i32).cast_unsigned(),
            Self::Goto(_) => (-4_i32).cast_unsigned(),
        }
    }

    pub(super) fn encode(&self, b: &mut Batch) {
        b.nest(DATA_VERDICT, |b| {
            b.be32(VERDICT_CODE, self.code());
            if let Self::Goto(chain) | Self::Jump(chain) = self {
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
    In(Cow<'static, str>),
    /// The verdict that this map has for the key from register 0 on.
    VerdictOf(&'static str),
    /// The verdict that the transaction's map of this id has for register 0.
    NumberedVerdict(u32),
    /// Puts the key from register 0 on into a set, for this many milliseconds from now; `update @set { … timeout … }`.
    Remember(String, u64),
    /// Marks the packet, for rules of later hooks.
    Mark(u32),
    /// The packet has this mark.
    Marked(u32),
    /// A random number below this into register 0.
    Random(u32),
    /// What the transaction's map of this id has for register 0, into register 0 and on.
    MappedBy(u32),
    /// A value into a register.
    Load(u32, Vec<u8>),
    /// Translates the destination to the address in register 0 and the port in register 1.
    DestinationNat,
    /// Translates the source to the address in register 0.
    SourceNat,
    /// A register must have this value.
    Equals(u32, Vec<u8>),
    /// The packet came in by the loopback interface: the node speaks to itself.
    FromLoopback,
    /// The packet goes the other way than the one that began its connection.
    IsReply,
    /// The port in a register must be one of these, both ends included; nft shows `first-last`.
    PortBetween(u32, u16, u16),
    /// What becomes of the packet: the last expression of a rule.
    Then(Verdict),
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

/// Compares a register: an expression of its own, since some of ours are two of the kernel's.
fn compare(b: &mut Batch, of: u32, operator: u32, value: &[u8]) {
    b.be32(1, register(of));
    b.be32(2, operator);
    b.nest(3, |b| b.bytes(DATA_VALUE, value));
}

/// One of the kernel's expressions.
fn expression(b: &mut Batch, name: &str, data: impl FnOnce(&mut Batch)) {
    b.nest(LIST_ELEMENT, |b| {
        b.text(NAME, name);
        b.nest(DATA, data);
    });
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
    /// Appends the kernel's expressions for this one.
    pub(super) fn encode(&self, b: &mut Batch) {
        match self {
            Self::SourceAddress(to) => expression(b, "payload", |b| payload(b, *to, NETWORK_HEADER, 12, 4)),
            Self::DestinationAddress(to) => expression(b, "payload", |b| payload(b, *to, NETWORK_HEADER, 16, 4)),
            Self::DestinationPort(to) => expression(b, "payload", |b| payload(b, *to, TRANSPORT_HEADER, 2, 2)),
            Self::Protocol(to) => meta(b, *to, META_L4PROTO),
            Self::In(set) => expression(b, "lookup", |b| lookup(b, set, None, None)),
            Self::VerdictOf(map) => expression(b, "lookup", |b| lookup(b, map, Some(VERDICT_REGISTER), None)),
            Self::NumberedVerdict(id) => expression(b, "lookup", |b| {
                lookup(b, "__map%d", Some(VERDICT_REGISTER), Some(*id));
            }),
            Self::Remember(set, milliseconds) => expression(b, "dynset", |b| {
                b.text(1, set);
                b.be32(3, DYNAMIC_UPDATE);
                b.be32(4, register(0));
                b.bytes(6, &milliseconds.to_be_bytes());
            }),
            Self::Mark(mark) => {
                expression(b, "immediate", |b| {
                    b.be32(1, register(0));
                    b.nest(2, |b| b.bytes(DATA_VALUE, &mark.to_ne_bytes()));
                });
                expression(b, "meta", |b| {
                    b.be32(2, META_MARK);
                    b.be32(3, register(0));
                });
            }
            Self::Marked(mark) => {
                meta(b, 0, META_MARK);
                expression(b, "cmp", |b| compare(b, 0, EQUAL, &mark.to_ne_bytes()));
            }
            Self::MappedBy(id) => expression(b, "lookup", |b| lookup(b, "__map%d", Some(register(0)), Some(*id))),
            Self::Random(modulus) => expression(b, "numgen", |b| {
                b.be32(1, register(0));
                b.be32(2, *modulus);
                b.be32(3, NG_RANDOM);
            }),
            Self::Load(to, value) => expression(b, "immediate", |b| {
                b.be32(1, register(*to));
                b.nest(2, |b| b.bytes(DATA_VALUE, value));
            }),
            Self::DestinationNat => expression(b, "nat", |b| {
                b.be32(1, NAT_DESTINATION);
                b.be32(2, NFPROTO_IPV4);
                b.be32(3, register(0));
                b.be32(5, register(1));
            }),
            Self::SourceNat => expression(b, "nat", |b| {
                b.be32(1, NAT_SOURCE);
                b.be32(2, NFPROTO_IPV4);
                b.be32(3, register(0));
            }),
            Self::Equals(of, value) => expression(b, "cmp", |b| compare(b, *of, EQUAL, value)),
            Self::FromLoopback => {
                meta(b, 0, META_IIF);
                expression(b, "cmp", |b| compare(b, 0, EQUAL, &LOOPBACK.to_ne_bytes()));
            }
            Self::IsReply => {
                expression(b, "ct", |b| {
                    b.be32(1, register(0));
                    b.be32(2, CT_DIRECTION);
                });
                expression(b, "cmp", |b| compare(b, 0, EQUAL, &[CT_DIRECTION_REPLY]));
            }
            Self::PortBetween(of, first, last) if first == last => {
                expression(b, "cmp", |b| compare(b, *of, EQUAL, &first.to_be_bytes()));
            }
            Self::PortBetween(of, first, last) => {
                expression(b, "cmp", |b| compare(b, *of, GREATER_OR_EQUAL, &first.to_be_bytes()));
                expression(b, "cmp", |b| compare(b, *of, LESS_OR_EQUAL, &last.to_be_bytes()));
            }
            Self::Then(verdict) => expression(b, "immediate", |b| {
                b.be32(1, VERDICT_REGISTER);
                b.nest(2, |b| verdict.encode(b));
            }),
            Self::Reset => expression(b, "reject", |b| b.be32(1, REJECT_TCP_RESET)),
            Self::Reject => expression(b, "reject", |b| {
                b.be32(1, REJECT_ICMP);
                b.bytes(2, &[ICMP_PORT_UNREACHABLE]);
            }),
        }
    }
}

fn meta(b: &mut Batch, to: u32, key: u32) {
    expression(b, "meta", |b| {
        b.be32(1, register(to));
        b.be32(2, key);
    });
}
