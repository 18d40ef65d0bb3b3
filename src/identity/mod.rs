//! SPIFFE identity: who a workload is, how it proves it, and who may do what.
//!
//! Bytes of a stranger enter as text, DER or JSON and leave as types that cannot be invalid: a [`SpiffeId`] in a
//! [`TrustDomain`], an [`X509Svid`] or a [`JwtSvid`], the [`Bundle`] of a trust domain. An identity is believed when it was
//! verified against the bundle of **its own** trust domain ([`BundleSet`]: bundles are looked up, never merged), and may do
//! what an [`Authorizer`] says, whose default is to deny. [`tls`] asks both questions on every connection.
//!
//! | module | source |
//! |---|---|
//! | [`SpiffeId`], [`TrustDomain`], [`Path`] | SPIFFE-ID |
//! | [`x509`] | X509-SVID, RFC 5280 |
//! | [`jwt`] | JWT-SVID, RFC 7515, 7518, 7519 |
//! | [`bundle`] | SPIFFE Trust Domain and Bundle, RFC 7517 |
//! | [`authorize`] | ours |
//! | [`tls`] | X509-SVID section 5, RFC 8446 |
//!
//! Pure but for [`tls`]: no I/O and no clock. Every validation takes the time as an argument. Text is compared whole, or by
//! whole segments; nothing here looks for a part of a string.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod authorize;
pub mod bundle;
mod der;
mod fuzz;
mod id;
pub mod jwt;
mod key;
mod source;
pub mod tls;
pub mod x509;

pub use authorize::{Authorizer, Decision, Rule};
pub use bundle::{Bundle, BundleError, BundleSet, JwtBundle, JwtBundleSet, X509Bundle, X509BundleSet};
#[doc(hidden)]
pub use fuzz::{fuzz_bundle, fuzz_certificates, fuzz_id, fuzz_jwt};
pub use id::{IdError, LONGEST_ID, LONGEST_TRUST_DOMAIN, Path, SpiffeId, TrustDomain};
pub use jwt::{JwtError, JwtSvid, VerifiedJwt};
pub use key::{Curve, KeyError, PublicKey};
pub use rustls_pki_types::UnixTime;
pub use source::{Live, NoSvid, Source, X509Context};
pub use x509::{Validity, X509Error, X509Svid};
