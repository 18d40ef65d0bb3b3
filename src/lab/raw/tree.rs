//! A YAML file as a tree in which everything knows its place: read within limits, and no shape expected of it yet.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{Error, Spanned as Read};

use super::{Place, Text};
use crate::lab::MAX_FILE;

/// One value of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Tree,
    /// Where it stands.
    pub at: Place,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// A word, a number, a text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// Fields, in the file's order; the same one may stand there twice.
    Map(Vec<(Text, Node)>),
}

/// A value without parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// As it is written, without quotes.
    pub text: String,
    /// What YAML takes it for.
    pub kind: Kind,
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Number(f64),
    /// Everything else, and everything in quotes.
    Text,
}

/// Reads a text.
///
/// # Errors
/// No YAML, or more of it than a lab can need.
pub fn read(text: &str) -> Result<Node, Error> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 24,
            max_nodes: 20_000,
            max_events: 50_000,
            max_aliases: 100,
            max_anchors: 100,
            max_documents: 1,
            flow_nesting_limit: 24,
            max_total_scalar_bytes: MAX_FILE,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: 100,
        },
        // A field that stands twice is reported with everything else that is wrong.
        duplicate_keys: serde_yaml::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    let read: Read<Parsed> = serde_yaml::from_str_with_options(text, options)?;
    Ok(node(text, read))
}

/// A value as the parser gives it.
enum Parsed {
    Null,
    Bool(bool),
    Whole(i128),
    Number(f64),
    Text(String),
    List(Vec<Read<Parsed>>),
    Map(Vec<(Read<String>, Read<Parsed>)>),
}

fn node(text: &str, read: Read<Parsed>) -> Node {
    let span = read.defined.span();
    // A number is kept as it is written: `1.10` may be meant as a text.
    let written = || {
        let from = usize::try_from(span.byte_offset()?).ok()?;
        let to = from.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        text.get(from..to).map(|text| text.trim().to_owned())
    };
    let scalar = |kind: Kind, shown: String| {
        let text = written().filter(|text| !text.is_empty()).unwrap_or(shown);
        Tree::Scalar(Scalar { text, kind })
    };
    let value = match read.value {
        Parsed::Null => Tree::Null,
        Parsed::Bool(value) => scalar(Kind::Bool(value), value.to_string()),
        Parsed::Whole(value) => scalar(Kind::Whole(value), value.to_string()),
        Parsed::Number(value) => scalar(Kind::Number(value), value.to_string()),
        Parsed::Text(text) => Tree::Scalar(Scalar { text, kind: Kind::Text }),
        Parsed::List(items) => Tree::List(items.into_iter().map(|item| node(text, item)).collect()),
        Parsed::Map(fields) => {
            let field =
                |(key, value): (Read<String>, _)| (Text::new(key.value, key.referenced.into()), node(text, value));
            Tree::Map(fields.into_iter().map(field).collect())
        }
    };
    let at = read.referenced.into();
    Node { value, at }
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Parsed, E> {
        Ok(Parsed::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Parsed, E> {
        Ok(Parsed::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Parsed, E> {
        Ok(Parsed::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Parsed, E> {
        Ok(Parsed::Whole(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Parsed, E> {
        Ok(Parsed::Whole(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Parsed, E> {
        Ok(Parsed::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Parsed, E> {
        Ok(Parsed::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Parsed::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Parsed::Map(fields))
    }
}
