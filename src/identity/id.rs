//! SPIFFE IDs: `spiffe://trust-domain/path` (SPIFFE-ID section 2).

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Bytes of a whole SPIFFE ID that are accepted (SPIFFE-ID section 2.3).
pub const LONGEST_ID: usize = 2048;
/// Bytes of a trust domain's name that are accepted (SPIFFE-ID section 2.3).
pub const LONGEST_TRUST_DOMAIN: usize = 255;

const SCHEME: &str = "spiffe";

/// Why a text is no SPIFFE ID, or no part of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// There is nothing.
    #[error("the SPIFFE ID is empty: write it as spiffe://trust-domain/path")]
    Empty,
    /// It does not begin with `spiffe://`.
    #[error("the SPIFFE ID does not begin with spiffe://: write it as spiffe://trust-domain/path")]
    WrongScheme,
    /// No name between `spiffe://` and the path.
    #[error("the trust domain is missing: write the SPIFFE ID as spiffe://trust-domain/path")]
    MissingTrustDomain,
    /// A character that no trust domain has: a port, user information, a query and percent-encoding fail here too.
    #[error("the trust domain may not contain {0:?}: letters, digits, dots, dashes and underscores only")]
    TrustDomainCharacter(char),
    /// Longer than a host may be.
    #[error("the trust domain has {0} bytes, of which {LONGEST_TRUST_DOMAIN} are allowed")]
    TrustDomainTooLong(usize),
    /// A character that no path has: a query, a fragment and percent-encoding fail here too.
    #[error("the path may not contain {0:?}: letters, digits, dots, dashes and underscores only, between slashes")]
    PathCharacter(char),
    /// The path does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NoLeadingSlash,
    /// Two slashes, one after the other.
    #[error("the path has an empty segment: leave out the doubled slash")]
    EmptySegment,
    /// The path ends with a slash.
    #[error("the path ends with a slash: leave it out")]
    TrailingSlash,
    /// A segment that is `.` or `..`.
    #[error("the path has the segment {0:?}, which is relative: write the path in full")]
    RelativeSegment(&'static str),
    /// Longer than every implementation accepts.
    #[error("the SPIFFE ID has {0} bytes, of which {LONGEST_ID} are allowed")]
    TooLong(usize),
}

/// The name of a trust domain, in lower case (SPIFFE-ID section 2.1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Takes a name, as `shop.test`. Upper case is folded (SPIFFE-ID section 2.4).
    ///
    /// # Errors
    /// [`IdError`], when no trust domain may have this name.
    pub fn new(name: &str) -> Result<TrustDomain, IdError> {
        if name.is_empty() {
            return Err(IdError::MissingTrustDomain);
        }
        if name.len() > LONGEST_TRUST_DOMAIN {
            return Err(IdError::TrustDomainTooLong(name.len()));
        }
        match name.chars().find(|char| !is_allowed(*char)) {
            Some(char) => Err(IdError::TrustDomainCharacter(char)),
            None => Ok(TrustDomain(name.to_ascii_lowercase().into())),
        }
    }

    /// The name, as `shop.test`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trust domain itself, which its signing certificates carry: `spiffe://shop.test`.
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            trust_domain: self.clone(),
            path: Path::root(),
        }
    }
}

/// The path of a SPIFFE ID: nothing, or segments that each begin with a slash (SPIFFE-ID section 2.2). Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Arc<str>);

impl Path {
    /// The path without segments, which a trust domain's own id has.
    pub fn root() -> Path {
        Path("".into())
    }

    /// Takes a path, as `/ns/shop/sa/orders`; nothing is the root.
    ///
    /// # Errors
    /// [`IdError`], when no SPIFFE ID may have this path.
    pub fn new(text: &str) -> Result<Path, IdError> {
        if text.is_empty() {
            return Ok(Path::root());
        }
        let Some(segments) = text.strip_prefix('/') else {
            return Err(IdError::NoLeadingSlash);
        };
        if let Some(char) = segments.chars().find(|char| !is_allowed(*char) && *char != '/') {
            return Err(IdError::PathCharacter(char));
        }
        if segments.is_empty() || segments.ends_with('/') {
            return Err(IdError::TrailingSlash);
        }
        for segment in segments.split('/') {
            match segment {
                "" => return Err(IdError::EmptySegment),
                "." => return Err(IdError::RelativeSegment(".")),
                ".." => return Err(IdError::RelativeSegment("..")),
                _ => {}
            }
        }
        // Whatever the trust domain, a path of this length makes an id too long.
        if text.len() > LONGEST_ID {
            return Err(IdError::TooLong(text.len()));
        }
        Ok(Path(text.into()))
    }

    /// Joins segments, none of which may hold a slash: what comes from a name of Kubernetes cannot become two segments.
    ///
    /// # Errors
    /// [`IdError`], when one of them is no segment.
    pub fn from_segments<'a>(segments: impl IntoIterator<Item = &'a str>) -> Result<Path, IdError> {
        let mut text = String::new();
        for segment in segments {
            if segment.is_empty() {
                return Err(IdError::EmptySegment);
            }
            if segment.contains('/') {
                return Err(IdError::PathCharacter('/'));
            }
            text.push('/');
            text.push_str(segment);
        }
        Path::new(&text)
    }

    /// Whether there is no segment.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path, as `/ns/shop`; nothing for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// Whether the first segments of this path are all those of `prefix`. Whole segments: `/ns/shop-evil` is not under
    /// `/ns/shop`. Every path is under the root and under itself.
    pub fn is_under(&self, prefix: &Path) -> bool {
        let mut segments = self.segments();
        prefix.segments().all(|wanted| segments.next() == Some(wanted))
    }
}

/// A SPIFFE ID. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Path,
}

impl SpiffeId {
    /// Reads `spiffe://trust-domain/path`. Scheme and trust domain may be in upper case and are folded; the path is taken as
    /// it is (SPIFFE-ID section 2.4).
    ///
    /// # Errors
    /// [`IdError`], when it is no SPIFFE ID.
    pub fn parse(text: &str) -> Result<SpiffeId, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > LONGEST_ID {
            return Err(IdError::TooLong(text.len()));
        }
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(IdError::WrongScheme),
        };
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        SpiffeId::new(TrustDomain::new(name)?, Path::new(path)?)
    }

    /// Joins a trust domain and a path.
    ///
    /// # Errors
    /// [`IdError::TooLong`], when the whole is longer than every implementation accepts.
    pub fn new(trust_domain: TrustDomain, path: Path) -> Result<SpiffeId, IdError> {
        let length = SCHEME.len() + "://".len() + trust_domain.0.len() + path.0.len();
        if length > LONGEST_ID {
            return Err(IdError::TooLong(length));
        }
        Ok(SpiffeId { trust_domain, path })
    }

    /// The trust domain it belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Its path; the root for the trust domain's own id.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_allowed(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '.' | '-' | '_')
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}://{}{}", self.trust_domain, self.path)
    }
}

/// Text in and out, for settings, files and messages: what `Display` writes is what is read.
macro_rules! as_text {
    ($type:ty, $read:path) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $type {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                $read(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $read(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

as_text!(TrustDomain, TrustDomain::new);
as_text!(Path, Path::new);
as_text!(SpiffeId, SpiffeId::parse);

#[cfg(test)]
#[path = "id_tests.rs"]
mod tests;
