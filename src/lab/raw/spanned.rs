//! Values that know where they stand in the file.

use serde::{Deserialize, Deserializer};
use serde_yaml::Location;

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
        let spanned = serde_yaml::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self::new(spanned.value, spanned.referenced.into()))
    }
}
