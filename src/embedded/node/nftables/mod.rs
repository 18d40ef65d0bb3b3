//! A small encoder of nftables messages, and their way to the kernel.
//!
//! It covers what the node's rules need: base chains, verdict maps and sets with concatenated keys, address translation.
//! `nft list ruleset` reads the result back. Everything in a [`Transaction`] takes effect at once or not at all.
//!
//! Source: linux/netfilter/nf_tables.h. Attributes are in network byte order; a field of a concatenation is padded to four
//! bytes.

mod expression;

pub(crate) use expression::{Expression, Verdict};

use super::netlink::{Batch, CREATE, Mark, NetlinkError, Socket, attributes as attributes_of};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFPROTO_IPV4: u8 = 2;

const NEWTABLE: u16 = 0;
const NEWCHAIN: u16 = 3;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const DELSET: u16 = 11;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const GETGEN: u16 = 16;

const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_DESCRIPTION: u16 = 9;
const DESCRIPTION_SIZE: u16 = 1;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENTS_SET_ID: u16 = 4;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const GENERATION_ID: u16 = 1;

const FLAG_ANONYMOUS: u32 = 1;
const FLAG_CONSTANT: u32 = 2;
const FLAG_INTERVAL: u32 = 4;
const FLAG_MAP: u32 = 8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_EVAL: u32 = 0x20;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// At most this many elements go into one message: a nested attribute is bounded by 64 KiB.
const ELEMENTS_AT_ONCE: usize = 256;

/// The name that the kernel makes the name of an anonymous map of.
const NUMBERED: &str = "__map%d";
/// nft's longest comment, without its final zero.
const LONGEST_COMMENT: usize = 127;
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;

/// A note for `nft list`: the byte order of a map's keys (tag 0) or data (tag 1).
fn byte_order(tag: u8, order: u32) -> Vec<u8> {
    [&[tag, 4], &order.to_ne_bytes()[..]].concat()
}

/// A note for `nft list`: a comment on a set (tag 7), cut to what nft reads. Nothing in it ends nft's quotes.
fn comment(note: &str) -> Vec<u8> {
    let plain = |byte: u8| {
        if byte.is_ascii_graphic() && byte != b'"' || byte == b' ' {
            byte
        } else {
            b'?'
        }
    };
    let mut text: Vec<u8> = note.bytes().map(plain).take(LONGEST_COMMENT).collect();
    text.push(0);
    [&[7, text.len() as u8], &text[..]].concat()
}

/// A netfilter hook of the `ip` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainType {
    Filter,
    Nat,
}

/// The types of keys and data, by nft's numbers, with their lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Integer,
    Address,
    Protocol,
    Port,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Integer => 4,
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }

    /// nft's number of a concatenation: six bits a type.
    fn concatenated(types: &[Self]) -> u32 {
        types.iter().fold(0, |number, kind| number << 6 | kind.number())
    }
}

/// What a map maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    Verdict(Verdict),
    Value(Vec<u8>),
}

/// An element of a set (`None`) or map.
pub(crate) type Element = (Vec<u8>, Option<Data>);

/// Changes that take effect together.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    table: &'static str,
    anonymous: u32,
}

impl Transaction {
    /// A transaction on one table of the `ip` family.
    pub(crate) fn new(table: &'static str) -> Self {
        let mut batch = Batch::default();
        batch.silent(BATCH_BEGIN, 0, &[0, 0, 0, SUBSYSTEM as u8]);
        Self {
            batch,
            table,
            anonymous: 0,
        }
    }

    fn message(&mut self, kind: u16, flags: u16, what: String) {
        self.batch
            .message(SUBSYSTEM << 8 | kind, flags, &[NFPROTO_IPV4, 0, 0, 0], what);
        self.batch.text(TABLE, self.table);
    }

    /// Its size so far, bytes; a transaction is bounded by the socket's send buffer.
    pub(crate) fn len(&self) -> usize {
        self.batch.len()
    }

    /// Where it ends now, to come back to.
    pub(crate) fn mark(&self) -> Mark {
        self.batch.mark()
    }

    /// Takes back every change that came after `mark`.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        self.batch.back_to(mark);
    }

    /// How many answers the kernel gives to it; all of them wait in the socket's receive buffer at once.
    pub(crate) fn answers(&self) -> usize {
        self.batch.answers()
    }

    /// Makes the table.
    pub(crate) fn add_table(&mut self) {
        self.message(NEWTABLE, CREATE, format!("add table {}", self.table));
    }

    /// Makes a chain that rules jump to.
    pub(crate) fn add_chain(&mut self, name: &str) {
        self.message(NEWCHAIN, CREATE, format!("add chain {name}"));
        self.batch.text(CHAIN_NAME, name);
    }

    /// Makes a chain that a hook runs, in order of priority; what reaches its end is accepted.
    pub(crate) fn add_base_chain(&mut self, name: &str, kind: ChainType, hook: Hook, priority: i32) {
        self.base_chain(name, kind, hook, priority, &Verdict::Accept);
    }

    /// Makes a filter chain that a hook runs, in order of priority; what reaches its end is dropped.
    pub(crate) fn add_closed_base_chain(&mut self, name: &str, hook: Hook, priority: i32) {
        self.base_chain(name, ChainType::Filter, hook, priority, &Verdict::Drop);
    }

    fn base_chain(&mut self, name: &str, kind: ChainType, hook: Hook, priority: i32, policy: &Verdict) {
        self.message(NEWCHAIN, CREATE, format!("add base chain {name}"));
        self.batch.text(CHAIN_NAME, name);
        self.batch.nest(CHAIN_HOOK, |b| {
            b.be32(HOOK_NUMBER, hook as u32);
            b.be32(HOOK_PRIORITY, priority.cast_unsigned());
        });
        self.batch.be32(CHAIN_POLICY, policy.code());
        self.batch.text(
            CHAIN_TYPE,
            match kind {
                ChainType::Filter => "filter",
                ChainType::Nat => "nat",
            },
        );
    }

    /// Removes all rules of a chain.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        self.message(DELRULE, 0, format!("flush chain {name}"));
        self.batch.text(RULE_CHAIN, name);
    }

    /// Removes a chain without rules that nothing jumps to.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.message(DELCHAIN, 0, format!("delete chain {name}"));
        self.batch.text(CHAIN_NAME, name);
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(&mut self, chain: &str, expressions: &[Expression]) {
        self.message(
            NEWRULE,
            CREATE | super::netlink::APPEND,
            format!("add a rule to chain {chain}"),
        );
        self.batch.text(RULE_CHAIN, chain);
        self.batch.nest(RULE_EXPRESSIONS, |b| {
            for expression in expressions {
                expression.encode(b);
            }
        });
    }

    /// Makes a set of concatenated keys.
    pub(crate) fn add_set(&mut self, name: &str, key: &[Type]) {
        self.set(name, key, 0);
    }

    /// Makes a set of concatenated keys that says what it holds to whoever lists it.
    pub(crate) fn add_noted_set(&mut self, name: &str, key: &[Type], note: &str) {
        self.set(name, key, 0);
        if !note.is_empty() {
            self.batch.bytes(SET_USERDATA, &comment(note));
        }
    }

    /// Makes a set that rules put elements into for a time; it holds `most` of them.
    pub(crate) fn add_dynamic_set(&mut self, name: &str, key: &[Type], most: u32) {
        self.set(name, key, FLAG_TIMEOUT | FLAG_EVAL);
        self.batch.nest(SET_DESCRIPTION, |b| b.be32(DESCRIPTION_SIZE, most));
    }

    /// Makes a set of ranges of addresses, for good: first and last address of each, in order and apart from each other.
    pub(crate) fn add_address_ranges(&mut self, name: &str, ranges: &[(u32, u32)]) {
        self.set(name, &[Type::Address], FLAG_INTERVAL);
        let id = self.anonymous;
        // a range is two elements: its first address, and the end mark at the address after its last, if there is one
        let marks: Vec<(u32, bool)> = ranges
            .iter()
            .flat_map(|&(first, last)| [Some((first, false)), last.checked_add(1).map(|end| (end, true))])
            .flatten()
            .collect();
        for part in marks.chunks(ELEMENTS_AT_ONCE) {
            self.message(NEWSETELEM, CREATE, format!("add to set {name}"));
            self.batch.text(ELEMENTS_SET, name);
            self.batch.be32(ELEMENTS_SET_ID, id);
            self.batch.nest(ELEMENTS, |b| {
                for (address, end) in part {
                    b.nest(LIST_ELEMENT, |b| {
                        b.nest(ELEMENT_KEY, |b| b.bytes(DATA_VALUE, &address.to_be_bytes()));
                        if *end {
                            b.be32(ELEMENT_FLAGS, INTERVAL_END);
                        }
                    });
                }
            });
        }
    }

    /// Removes a set or map that no rule uses.
    pub(crate) fn delete_set(&mut self, name: &str) {
        self.message(DELSET, 0, format!("delete set {name}"));
        self.batch.text(SET_NAME, name);
    }

    /// Makes a map from concatenated keys to verdicts.
    pub(crate) fn add_verdict_map(&mut self, name: &str, key: &[Type]) {
        self.set(name, key, FLAG_MAP);
        self.batch.be32(SET_DATA_TYPE, VERDICT_TYPE);
    }

    fn set(&mut self, name: &str, key: &[Type], flags: u32) {
        self.message(NEWSET, CREATE, format!("add set {name}"));
        self.batch.text(SET_NAME, name);
        self.batch.be32(SET_FLAGS, flags);
        self.batch.be32(SET_KEY_TYPE, Type::concatenated(key));
        self.batch.be32(SET_KEY_LENGTH, 4 * key.len() as u32);
        self.anonymous += 1;
        self.batch.be32(SET_ID, self.anonymous);
    }

    /// Makes a map that belongs to the next rule, from the numbers 0, 1, … to `values` of concatenated types; gives its id in
    /// this transaction.
    pub(crate) fn add_numbered_map(&mut self, values: &[Vec<u8>], data: &[Type]) -> u32 {
        self.set(NUMBERED, &[Type::Integer], FLAG_ANONYMOUS | FLAG_CONSTANT | FLAG_MAP);
        self.batch.be32(SET_DATA_TYPE, Type::concatenated(data));
        self.batch.be32(SET_DATA_LENGTH, 4 * data.len() as u32);
        let notes = [byte_order(0, HOST_ORDER), byte_order(1, NETWORK_ORDER)].concat();
        self.batch.bytes(SET_USERDATA, &notes);
        self.number(values.iter().cloned().map(Data::Value))
    }

    /// Makes a map that belongs to the next rule, from the numbers 0, 1, … to `verdicts`; gives its id in this transaction.
    pub(crate) fn add_numbered_verdicts(&mut self, verdicts: &[Verdict]) -> u32 {
        self.set(NUMBERED, &[Type::Integer], FLAG_ANONYMOUS | FLAG_CONSTANT | FLAG_MAP);
        self.batch.be32(SET_DATA_TYPE, VERDICT_TYPE);
        self.batch.bytes(SET_USERDATA, &byte_order(0, HOST_ORDER));
        let data = verdicts.iter().cloned().map(Data::Verdict);
        self.number(data)
    }

    /// The elements of the numbered map that was just made; its id.
    fn number(&mut self, data: impl Iterator<Item = Data>) -> u32 {
        let id = self.anonymous;
        let numbers = 0_u32..;
        let elements: Vec<Element> = numbers
            .zip(data)
            .map(|(number, data)| (number.to_ne_bytes().to_vec(), Some(data)))
            .collect();
        self.elements(NEWSETELEM, NUMBERED, Some(id), &elements);
        id
    }

    /// Adds elements to a set or map.
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(NEWSETELEM, set, None, elements);
    }

    /// Removes elements from a set or map.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELSETELEM, set, None, elements);
    }

    fn elements(&mut self, kind: u16, set: &str, id: Option<u32>, elements: &[Element]) {
        let what = if kind == NEWSETELEM { "add to" } else { "delete from" };
        for part in elements.chunks(ELEMENTS_AT_ONCE) {
            self.message(kind, CREATE, format!("{what} set {set}"));
            self.batch.text(ELEMENTS_SET, set);
            if let Some(id) = id {
                self.batch.be32(ELEMENTS_SET_ID, id);
            }
            self.batch.nest(ELEMENTS, |b| {
                for (key, data) in part {
                    b.nest(LIST_ELEMENT, |b| {
                        b.nest(ELEMENT_KEY, |b| b.bytes(DATA_VALUE, key));
                        match data {
                            None => {}
                            Some(Data::Verdict(verdict)) => b.nest(ELEMENT_DATA, |b| verdict.encode(b)),
                            Some(Data::Value(value)) => b.nest(ELEMENT_DATA, |b| b.bytes(DATA_VALUE, value)),
                        }
                    });
                }
            });
        }
    }

    /// Makes the changes.
    ///
    /// # Errors
    /// The first one that the kernel refused; none is made then.
    pub(crate) fn commit(mut self, socket: &Socket) -> Result<(), NetlinkError> {
        self.batch.silent(BATCH_END, 0, &[0, 0, 0, SUBSYSTEM as u8]);
        socket.send(&self.batch)
    }
}

/// Whether a set or map has a key now. What does not exist has none.
///
/// # Errors
/// When the kernel refuses to say.
pub(crate) fn contains(socket: &Socket, table: &str, set: &str, key: &[u8]) -> Result<bool, NetlinkError> {
    let mut batch = Batch::default();
    let what = format!("look into set {set}");
    batch.message(SUBSYSTEM << 8 | GETSETELEM, 0, &[NFPROTO_IPV4, 0, 0, 0], what);
    batch.text(TABLE, table);
    batch.text(ELEMENTS_SET, set);
    batch.nest(ELEMENTS, |b| {
        b.nest(LIST_ELEMENT, |b| {
            b.nest(ELEMENT_KEY, |b| b.bytes(DATA_VALUE, key));
        });
    });
    match socket.send(&batch) {
        Ok(()) => Ok(true),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The number of the kernel's rules in this network namespace, which every transaction raises by one.
///
/// # Errors
/// When the kernel refuses to say.
pub(crate) fn generation(socket: &Socket) -> Result<u32, NetlinkError> {
    let what = "ask for the generation of the rules";
    let answer = socket.ask(SUBSYSTEM << 8 | GETGEN, &[NFPROTO_IPV4, 0, 0, 0], what)?;
    let attributes = answer.get(4..).unwrap_or_default();
    let id = attributes_of(attributes).find(|(kind, _)| *kind == GENERATION_ID);
    let id = id.and_then(|(_, value)| value.try_into().ok()).map(u32::from_be_bytes);
    id.ok_or_else(|| NetlinkError::new(what)(rustix::io::Errno::BADMSG))
}
