//! An SVID that a workload showed, and when it is to be replaced. Pure.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::Serialize;

use crate::{
    evidence::CertificateFacts,
    identity::{SpiffeId, UnixTime, X509BundleSet, x509},
};

/// SPIRE's agent replaces an SVID at half of its life, give or take a tenth of that half (`pkg/common/rotationutil` of SPIRE
/// 1.15), when it looks: every five seconds. An `availability_target` in its configuration makes it earlier.
const HALF: f64 = 0.5;
const JITTER: f64 = 0.1;
/// An agent looks every five seconds, and a server that is busy or away for a moment is asked again. In seconds.
const PATIENCE: i64 = 10;

/// When an SVID is to be replaced, by SPIRE's rule: an estimate, since the agent alone knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// Half of its life, in seconds since the Unix epoch.
    pub about_s: i64,
    /// A tenth of that half earlier.
    pub from_s: i64,
    /// A tenth of that half later.
    pub until_s: i64,
}

impl Rotation {
    /// Of a certificate that is valid between two seconds.
    pub fn of(not_before: i64, not_after: i64) -> Self {
        let life = not_after.saturating_sub(not_before).max(0) as f64;
        let at = |part: f64| not_before.saturating_add((life * part).round() as i64);
        Self {
            about_s: at(HALF),
            from_s: at(HALF * (1.0 - JITTER)),
            until_s: at(HALF * (1.0 + JITTER)),
        }
    }

    /// Whether it should have happened: [`PATIENCE`] after the latest moment.
    pub fn is_overdue(self, now_s: i64) -> bool {
        now_s > self.until_s.saturating_add(PATIENCE)
    }
}

/// Whether what was shown is believed, by the bundle that the server publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Belief {
    /// Whether it is; `None` where there was no bundle to ask.
    pub holds: Option<bool>,
    /// Why.
    pub because: String,
}

/// A certificate that a workload showed in a handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SvidView {
    /// The port it was shown on.
    pub port: u16,
    /// When, in seconds since the Unix epoch.
    pub seen_s: i64,
    /// Whom it is for; `None` for a certificate without a SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// Whom it is for in other words: its subject, or why it cannot be read.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Valid from, in seconds since the Unix epoch.
    pub not_before: i64,
    /// Valid until, in seconds since the Unix epoch.
    pub not_after: i64,
    /// When it is to be replaced; `None` where it is no SVID.
    pub rotation: Option<Rotation>,
    /// Whether it is believed.
    pub belief: Belief,
    /// Whether the workload asked the caller for a certificate too.
    pub asks_for_client: bool,
    /// The certificate and those that lead to its authority, in DER.
    #[serde(skip)]
    pub chain: Vec<Vec<u8>>,
}

impl SvidView {
    /// How long it lives.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(0))
    }

    /// Whether it is the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        self.chain.first() == other.chain.first()
    }

    /// Reads what was shown.
    pub(super) fn of(
        chain: Vec<Vec<u8>>,
        port: u16,
        asks_for_client: bool,
        bundles: Option<&X509BundleSet>,
        seen_s: i64,
    ) -> Option<Self> {
        let first = chain.first()?;
        let facts = CertificateFacts::read(first).unwrap_or_else(|why| CertificateFacts {
            subject: why,
            ..CertificateFacts::default()
        });
        // Exactly one URI (X509-SVID section 2).
        let spiffe_id = match facts.uris.as_slice() {
            [one] => SpiffeId::parse(one).ok(),
            _ => None,
        };
        Some(Self {
            port,
            seen_s,
            belief: belief(&chain, spiffe_id.as_ref(), bundles, seen_s),
            rotation: spiffe_id
                .is_some()
                .then(|| Rotation::of(facts.not_before, facts.not_after)),
            spiffe_id,
            subject: facts.subject,
            issuer: facts.issuer,
            serial: facts.serial,
            not_before: facts.not_before,
            not_after: facts.not_after,
            asks_for_client,
            chain,
        })
    }
}

/// Whether a chain is believed by the bundle of its trust domain.
pub(crate) fn belief(chain: &[Vec<u8>], id: Option<&SpiffeId>, bundles: Option<&X509BundleSet>, now_s: i64) -> Belief {
    let Some(id) = id else {
        return Belief {
            holds: Some(false),
            because: "it carries no SPIFFE ID, so it is no SVID".to_owned(),
        };
    };
    let Some(bundles) = bundles else {
        return Belief {
            holds: None,
            because: format!("there is no bundle of {} to verify it with", id.trust_domain()),
        };
    };
    let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_s).unwrap_or(0)));
    match x509::verify(&chain, bundles, now) {
        Ok(_) => Belief {
            holds: Some(true),
            because: format!("an authority of the bundle of {} signed it", id.trust_domain()),
        },
        Err(error) => Belief {
            holds: Some(false),
            because: crate::text::one_line(&error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spire::{
        model::{bundle_set, own_bundle},
        testing::bundle_json,
    };

    #[test]
    fn a_rotation_is_due_at_half_of_the_life_give_or_take_a_tenth() {
        let rotation = Rotation::of(1000, 4600);
        assert_eq!(
            (rotation.about_s, rotation.from_s, rotation.until_s),
            (2800, 2620, 2980)
        );
        assert!(!rotation.is_overdue(2990) && rotation.is_overdue(2991));
        // Whatever a certificate claims.
        assert_eq!(Rotation::of(100, 0).about_s, 100);
        assert!(Rotation::of(i64::MIN, i64::MAX).about_s > i64::MIN);
    }

    #[test]
    fn what_is_shown_is_believed_by_the_bundle_of_its_own_trust_domain_only() {
        let (authority, json) = bundle_json("shop.test");
        let (stranger, other) = bundle_json("evil.test");
        let bundles = bundle_set(&[own_bundle(&json).unwrap(), own_bundle(&other).unwrap()]);
        let id = "spiffe://shop.test/orders";
        let see = |der: Vec<u8>, bundles: Option<&X509BundleSet>, now: i64| {
            SvidView::of(vec![der], 8080, true, bundles, now).unwrap()
        };
        let svid = see(authority.svid(id, 0, 100), Some(&bundles), 50);
        assert_eq!(svid.spiffe_id.as_ref().unwrap().to_string(), id);
        assert_eq!((svid.belief.holds, svid.lifetime().as_secs()), (Some(true), 100));
        assert_eq!(svid.rotation.unwrap().about_s, 50);
        let forged = see(stranger.svid(id, 0, 100), Some(&bundles), 50);
        assert_eq!(forged.belief.holds, Some(false));
        assert!(forged.belief.because.contains("not signed by"), "{:?}", forged.belief);
        let late = see(authority.svid(id, 0, 100), Some(&bundles), 101);
        assert!(late.belief.because.contains("expired"), "{:?}", late.belief);
        assert_eq!(see(authority.svid(id, 0, 100), None, 50).belief.holds, None);
        let plain = see(authority.svid("https://shop.test", 0, 100), Some(&bundles), 50);
        assert_eq!(
            (plain.spiffe_id, plain.rotation, plain.belief.holds),
            (None, None, Some(false))
        );
        assert_eq!(SvidView::of(Vec::new(), 1, false, None, 0), None);
        assert!(see(vec![1, 2], None, 0).subject.contains("not a certificate"));
    }
}
