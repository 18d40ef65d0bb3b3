//! Fills raw types from the tree.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::U64Deserializer},
    forward_to_deserialize_any,
};

use super::{
    Place,
    tree::{Kind, Node, Tree},
};

/// The name by which [`super::Spanned`] asks for a place: it gets line, column, width and the value.
pub const SPANNED: &str = "ztlab place and value";

/// A value that the types do not take.
#[derive(Debug)]
pub struct Misfit {
    /// Why.
    pub message: String,
    /// Where.
    pub at: Place,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            at: Place::NONE,
        }
    }
}

/// A value of the tree, to be read as some type.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a Node);

impl Reader<'_> {
    /// An error without a place is of here.
    fn placed<T>(self, outcome: Result<T, Misfit>) -> Result<T, Misfit> {
        outcome.map_err(|misfit| Misfit {
            at: if misfit.at.line == 0 { self.0.at } else { misfit.at },
            ..misfit
        })
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let outcome = match &self.0.value {
            Tree::Null => visitor.visit_unit(),
            Tree::Scalar(scalar) => match scalar.kind {
                Kind::Bool(value) => visitor.visit_bool(value),
                Kind::Whole(value) => match (u64::try_from(value), i64::try_from(value)) {
                    (Ok(value), _) => visitor.visit_u64(value),
                    (_, Ok(value)) => visitor.visit_i64(value),
                    _ => Err(de::Error::custom("the number is too large")),
                },
                Kind::Number(value) => visitor.visit_f64(value),
                Kind::Text => visitor.visit_str(&scalar.text),
            },
            Tree::List(items) => visitor.visit_seq(Items(items.iter())),
            Tree::Map(fields) => visitor.visit_map(Fields {
                rest: fields.iter(),
                value: None,
            }),
        };
        self.placed(outcome)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Tree::Scalar(scalar) => self.placed(visitor.visit_str(&scalar.text)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.value {
            Tree::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        if name == SPANNED {
            visitor.visit_seq(WithPlace { node: self.0, next: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let outcome = match &self.0.value {
            Tree::Scalar(scalar) => visitor.visit_enum(scalar.text.as_str().into_deserializer()),
            Tree::Map(fields) => visitor.visit_enum(de::value::MapAccessDeserializer::new(Fields {
                rest: fields.iter(),
                value: None,
            })),
            _ => Err(de::Error::custom("expected a name")),
        };
        self.placed(outcome)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        self.0.next().map(|node| seed.deserialize(Reader(node))).transpose()
    }
}

struct Fields<'a> {
    rest: std::slice::Iter<'a, (super::Text, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key = de::value::StrDeserializer::<Misfit>::new(&key.value);
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let value = self
            .value
            .take()
            .ok_or_else(|| de::Error::custom("a value without a key"))?;
        seed.deserialize(Reader(value))
    }
}

struct WithPlace<'a> {
    node: &'a Node,
    next: u8,
}

impl<'de> SeqAccess<'de> for WithPlace<'_> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Place { line, column, width } = self.node.at;
        self.next += 1;
        let number = match self.next {
            1 => line,
            2 => column,
            3 => width,
            4 => return seed.deserialize(Reader(self.node)).map(Some),
            _ => return Ok(None),
        };
        let number: U64Deserializer<Misfit> = (number as u64).into_deserializer();
        seed.deserialize(number).map(Some)
    }
}
