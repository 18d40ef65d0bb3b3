//! JWT-SVIDs: tokens that carry a SPIFFE ID (JWT-SVID).
//!
//! A [`JwtSvid`] has the form that the standard demands, and nobody vouches for it: it is one's own, on its way to a peer. What
//! a peer hands over becomes a [`VerifiedJwt`] by [`verify`], which wants the signature of the trust domain in `sub`, the
//! audience that the verifier is, and a time. A [`Signer`] is the issuer's half.
//!
//! The signatures are `ring`'s. A JWT library of others' making (`jsonwebtoken`) knows no algorithm more, brings a second
//! crypto provider, and leaves to its caller all that the standard demands beyond the signature: the closed set of headers,
//! `typ`, one audience of several, the key of the right trust domain.

mod compact;
mod error;
mod signer;
mod svid;
mod verify;

pub use error::JwtError;
pub use signer::Signer;
pub use svid::{JwtSvid, VerifiedJwt};
pub use verify::verify;

use std::fmt;

/// The algorithms of JWT-SVIDs (JWT-SVID section 2.1; RFC 7518 sections 3.3 to 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
    ];

    /// As the header `alg` has it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
        }
    }

    fn of_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
