//! When a certificate holds.

use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};

/// The time in which a certificate may be used, both ends included (RFC 5280 section 4.1.2.5). Seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Validity {
    /// The first second.
    pub not_before: i64,
    /// The last second.
    pub not_after: i64,
}

impl Validity {
    /// Whether `now` is within it.
    pub fn contains(self, now: UnixTime) -> bool {
        let now = seconds(now);
        self.not_before <= now && now <= self.not_after
    }

    /// How long it is, in seconds; nothing for one that ends before it begins.
    pub fn seconds(self) -> u64 {
        u64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(0)
    }

    /// The second in its middle, at which SPIRE's agent asks for the next certificate.
    pub fn half_life(self) -> i64 {
        self.not_before.saturating_add_unsigned(self.seconds() / 2)
    }
}

/// `time` as certificates count it.
pub(crate) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
