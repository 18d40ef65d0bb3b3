//! From a file to values, and what is wrong with it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{duration, hcl};

/// Largest configuration file, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("unable to read configuration at {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no HCL and no JSON.
    #[error("unable to decode configuration: {0}")]
    Syntax(String),
    /// A value is missing or wrong.
    #[error("{0}")]
    Value(String),
}

impl ConfigError {
    /// Something is wrong with a value.
    pub fn value(what: impl Into<String>) -> Self {
        Self::Value(what.into())
    }
}

/// Reads a file.
pub fn load(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        path: path.into(),
        source,
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > LARGEST {
        return Err(ConfigError::value(format!(
            "{} has {length} bytes, more than {LARGEST}",
            path.display()
        )));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Reads HCL, or JSON where the text begins as an object does.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let value: Value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?
    } else {
        hcl::parse(text).map_err(|error| ConfigError::Syntax(error.to_string()))?
    };
    serde_json::from_value(value).map_err(|error| ConfigError::Syntax(error.to_string()))
}

/// What of `rest` is known to SPIRE is warned of, what is not is refused.
pub fn check_rest(section: &str, rest: &Map<String, Value>, known: &[&str]) -> Result<(), ConfigError> {
    for key in rest.keys() {
        if !known.contains(&key.as_str()) {
            return Err(ConfigError::value(format!(
                "unknown configuration detected: `{key}` in `{section}`"
            )));
        }
        tracing::warn!(section, key, "this stand-in does not act on this setting");
    }
    Ok(())
}

/// A duration, or what is used without one.
pub fn duration_or(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, ConfigError> {
    match text {
        None | Some("") => Ok(default),
        Some(text) => duration(text)
            .ok_or_else(|| ConfigError::value(format!("could not parse {name} `{text}`: write it as 1h, 10m or 30s"))),
    }
}

/// The plugins of a file: by type, by name, their data. JSON files of SPIRE's Helm chart write each type as a list.
#[derive(Debug, Default)]
pub struct Plugins(BTreeMap<String, BTreeMap<String, Value>>);

impl Plugins {
    /// Reads the section `plugins`.
    pub fn read(section: Option<&Value>) -> Result<Self, ConfigError> {
        let mut read: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        let Some(section) = section else {
            return Ok(Self::default());
        };
        for (kind, named) in objects(section, "plugins")? {
            for (name, body) in objects(named, kind)? {
                let data = match body.get("plugin_data") {
                    Some(Value::Array(list)) => list.first().cloned().unwrap_or(Value::Null),
                    Some(data) => data.clone(),
                    None => Value::Object(Map::new()),
                };
                read.entry(kind.clone()).or_default().insert(name.clone(), data);
            }
        }
        Ok(Self(read))
    }

    /// The plugins of a type.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.0
            .get(kind)
            .into_iter()
            .flatten()
            .map(|(name, data)| (name.as_str(), data))
    }

    /// The types there are.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn objects<'a>(value: &'a Value, what: &str) -> Result<Vec<(&'a String, &'a Value)>, ConfigError> {
    match value {
        Value::Object(map) => Ok(map.iter().collect()),
        Value::Array(list) => {
            let mut all = Vec::new();
            for item in list {
                all.extend(objects(item, what)?);
            }
            Ok(all)
        }
        _ => Err(ConfigError::value(format!("`{what}` is no block"))),
    }
}
