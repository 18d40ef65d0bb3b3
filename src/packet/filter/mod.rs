//! A small language to choose packets, messages and conversations by what is in them.
//!
//! ```text
//! http and from == orders-api
//! ip.addr == 10.244.0.0/24 and not tcp.port == 53
//! leak == card-number or text contains "Bearer"
//! verdict == readable and (tcp.dstport == 80 or tcp.dstport == 8080)
//! ```
//!
//! A word by itself holds where a field of that name exists, or where it is the protocol. `==` compares a number, a
//! name, an address or a range of addresses; where a field has several values, one that fits is enough (and `!=` holds
//! where none fits, unlike in Wireshark, where one that differs is enough). `contains` looks for text, without regard to case.
//! `and`, `or`, `not` may be written `&&`, `||`, `!`. Headers have Wireshark's names.

mod parse;
mod subject;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
pub use subject::names;

use super::{Flow, Frame, Layers, Message};

/// An expression that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Node);

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Something else was expected at a place.
    #[error("filter, character {at}: expected {expected}, found {found}")]
    Expected {
        /// Where, counted in characters from 1.
        at: usize,
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A name that no field has.
    #[error("filter, character {at}: there is no field {name:?}{}", .near.as_ref().map(|near| format!(", did you mean {near}?")).unwrap_or_default())]
    Field {
        /// Where, counted in characters from 1.
        at: usize,
        /// The name.
        name: String,
        /// The name that looks most like it.
        near: Option<String>,
    },
    /// Parentheses or negations deeper than anybody means.
    #[error("filter: nested more than {0} deep")]
    Deep(usize),
}

impl FilterError {
    /// What to do next.
    pub const fn hint(&self) -> &'static str {
        "for example `http and from == orders-api`, `ip.addr == 10.0.0.0/8`, `leak == card-number`; the page \"Reading \
         traffic\" of the book lists the fields"
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    All,
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    /// The field exists, or the word is the protocol.
    Has(String),
    Compare(String, Operator, Operand),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Contains,
}

/// The right side of a comparison: every way in which it can be read.
#[derive(Debug, Clone, PartialEq)]
struct Operand {
    text: String,
    number: Option<u64>,
    net: Option<IpNet>,
}

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
enum Value<'a> {
    Number(u64),
    Addr(IpAddr),
    Text(&'a str),
    Owned(String),
}

/// Whatever has fields: hands over every value of a name, and says whether it is of a protocol.
trait Subject {
    fn each(&self, name: &str, give: &mut dyn FnMut(Value<'_>));
    fn is(&self, protocol: &str) -> bool;
}

impl Filter {
    /// Reads an expression; an empty one lets everything through.
    ///
    /// # Errors
    /// Where it is none, with the place.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(Self)
    }

    /// Whether it holds of a packet, by its headers.
    pub fn packet(&self, frame: &Frame<'_>, layers: &Layers<'_>) -> bool {
        self.0.holds(&subject::Packet { frame, layers })
    }

    /// Whether it holds of a message; a header's field stands for the ends of its conversation.
    pub fn message(&self, message: &Message) -> bool {
        self.0.holds(message)
    }

    /// Whether it holds of a conversation.
    pub fn flow(&self, flow: &Flow) -> bool {
        self.0.holds(flow)
    }
}

impl Node {
    fn holds(&self, subject: &dyn Subject) -> bool {
        match self {
            Node::All => true,
            Node::And(one, other) => one.holds(subject) && other.holds(subject),
            Node::Or(one, other) => one.holds(subject) || other.holds(subject),
            Node::Not(node) => !node.holds(subject),
            Node::Has(name) => {
                let mut found = subject.is(name);
                subject.each(name, &mut |_| found = true);
                found
            }
            Node::Compare(name, Operator::NotEqual, operand) => {
                let mut equal = false;
                subject.each(name, &mut |value| equal |= operand.fits(Operator::Equal, &value));
                !equal
            }
            Node::Compare(name, operator, operand) => {
                let mut found = false;
                subject.each(name, &mut |value| found |= operand.fits(*operator, &value));
                found
            }
        }
    }
}

impl Operand {
    fn new(text: String) -> Self {
        let hex = text
            .strip_prefix("0x")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let net = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        Self {
            number: hex.or_else(|| text.parse().ok()),
            net,
            text,
        }
    }

    /// Whether a value stands in this relation to the operand.
    fn fits(&self, operator: Operator, value: &Value<'_>) -> bool {
        let text = match value {
            Value::Number(number) => {
                let Some(wanted) = self.number else { return false };
                return match operator {
                    Operator::Equal | Operator::NotEqual => *number == wanted,
                    Operator::Less => *number < wanted,
                    Operator::LessEqual => *number <= wanted,
                    Operator::Greater => *number > wanted,
                    Operator::GreaterEqual => *number >= wanted,
                    Operator::Contains => number.to_string().contains(&self.text),
                };
            }
            Value::Addr(addr) if operator == Operator::Contains => &addr.to_string(),
            Value::Addr(addr) => return self.net.is_some_and(|net| net.contains(addr)),
            Value::Text(text) => *text,
            Value::Owned(text) => text.as_str(),
        };
        match operator {
            Operator::Equal | Operator::NotEqual => text.eq_ignore_ascii_case(&self.text),
            Operator::Contains => text.to_lowercase().contains(&self.text.to_lowercase()),
            Operator::Less => text < self.text.as_str(),
            Operator::LessEqual => text <= self.text.as_str(),
            Operator::Greater => text > self.text.as_str(),
            Operator::GreaterEqual => text >= self.text.as_str(),
        }
    }
}
