//! Values that know where they stand in the file.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_yaml::Location;

use super::fill::SPANNED;

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1; 0 for what stands nowhere.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters.
    pub width: usize,
}

impl Place {
    /// The place of what stands nowhere.
    pub const NONE: Self = Self {
        line: 0,
        column: 0,
        width: 1,
    };
}

impl From<Location> for Place {
    fn from(at: Location) -> Self {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            line: number(at.line()),
            column: number(at.column()),
            width: number(at.span().len()),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Place,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, at: Place) -> Self {
        Self { value, at }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SPANNED, Placed(PhantomData))
    }
}

struct Placed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Placed<T> {
    type Value = Spanned<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value and its place")
    }

    /// Read from anything but a lab file, it stands nowhere.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        T::deserialize(deserializer).map(|value| Spanned::new(value, Place::NONE))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let missing = || A::Error::custom("a value without its place");
        let mut number = || {
            let number: Option<u64> = seq.next_element()?;
            number
                .and_then(|number| usize::try_from(number).ok())
                .ok_or_else(missing)
        };
        let at = Place {
            line: number()?,
            column: number()?,
            width: number()?,
        };
        let value = seq.next_element()?.ok_or_else(missing)?;
        Ok(Spanned::new(value, at))
    }
}

/// As the value alone: that it knows its place is nothing an author sees.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
