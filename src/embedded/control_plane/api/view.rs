//! Reading an object's fields.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// An object whose fields are read with Go's zero values for what is absent or of the wrong type.
#[derive(Clone, Copy)]
pub struct Object<'a>(pub &'a Value);

static NULL: Value = Value::Null;

impl<'a> Object<'a> {
    /// The value at a path such as `status.phase`.
    pub fn at(self, path: &str) -> Object<'a> {
        let found = path.split('.').try_fold(self.0, |value, key| value.get(key));
        Object(found.unwrap_or(&NULL))
    }

    /// Whether there is a value.
    pub fn is_set(self) -> bool {
        !self.0.is_null()
    }

    /// A string, or empty.
    pub fn str(self, path: &str) -> &'a str {
        self.at(path).0.as_str().unwrap_or_default()
    }

    /// A string, or another text where it is empty.
    pub fn str_or(self, path: &str, otherwise: &str) -> Value {
        let text = self.str(path);
        json!(if text.is_empty() { otherwise } else { text })
    }

    /// An integer, or 0.
    pub fn int(self, path: &str) -> i64 {
        self.at(path).0.as_i64().unwrap_or_default()
    }

    /// A boolean, or false.
    pub fn bool(self, path: &str) -> bool {
        self.at(path).0.as_bool().unwrap_or_default()
    }

    /// The items of a list, or none.
    pub fn items(self, path: &str) -> impl DoubleEndedIterator<Item = Object<'a>> + ExactSizeIterator {
        self.at(path)
            .0
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(Object)
    }

    /// The entries of a map, or none.
    pub fn entries(self, path: &str) -> Option<&'a Map<String, Value>> {
        self.at(path).0.as_object()
    }

    /// A time.
    pub fn time(self, path: &str) -> Option<Timestamp> {
        self.str(path).parse().ok()
    }

    /// A number or text as text.
    pub fn text(self) -> String {
        self.0.as_str().map_or_else(|| self.0.to_string(), str::to_owned)
    }
}
