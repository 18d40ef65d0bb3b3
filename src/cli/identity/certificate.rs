//! A certificate, from a handshake or from a file.

use std::{
    fs::File,
    io::{self, Read},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::CertificateDer;

use super::{Document, Watched, columns};
use crate::{
    cli::{
        error::{CliError, NOT_PASSED},
        output::Output,
    },
    evidence::{CertificateFacts, chain_of},
    identity::{
        Bundle, SpiffeId, TrustDomain, X509Bundle, X509BundleSet,
        x509::{Inspection, inspect},
    },
    spire::{self, Belief, text},
};

/// Bytes of a file that are read.
const LONGEST: u64 = 4 << 20;

/// Tells the certificate that a pod showed.
pub(super) fn of_pod(seen: &Watched, out: &Output) -> Result<ExitCode, CliError> {
    let chain = inspections(&seen.svid.chain)?;
    let holds = chain.iter().all(Inspection::holds) && seen.svid.belief.holds != Some(false);
    if out.json() {
        out.value(&Document {
            namespace: Some(&seen.namespace),
            pod: Some(&seen.pod),
            svid: Some(&seen.svid),
            holds,
            certificates: chain,
            belief: None,
        })?;
        return Ok(code(holds));
    }
    out.line(format!("{}/{}", seen.namespace, seen.pod))?;
    out.line(text::shown(&seen.svid, seen.world.now_s, columns()).trim_end())?;
    tell(&chain, out)?;
    Ok(code(holds))
}

/// Tells the certificates of a file.
pub(super) fn file(name: &str, bundle: Option<&str>, pem: bool, out: &Output) -> Result<ExitCode, CliError> {
    let chain = certificates(name)?;
    if pem {
        return as_pem(&chain, out);
    }
    let inspected = inspections(&chain)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let belief = match bundle {
        None => None,
        Some(bundle) => Some(believed(&chain, bundle, now_s)?),
    };
    let holds = inspected.iter().all(Inspection::holds) && belief.as_ref().is_none_or(|one| one.holds == Some(true));
    if out.json() {
        out.value(&Document {
            namespace: None,
            pod: None,
            svid: None,
            holds,
            certificates: inspected,
            belief,
        })?;
        return Ok(code(holds));
    }
    tell(&inspected, out)?;
    match belief {
        Some(belief) => {
            let word = if belief.holds == Some(true) {
                "believed"
            } else {
                "NOT believed"
            };
            out.line(format!("{word}: {}", belief.because))?;
        }
        None => out.note("whether its trust domain signed it was not asked: --bundle FILE does"),
    }
    Ok(code(holds))
}

/// Prints certificates as PEM (RFC 7468), and nothing else.
pub(super) fn as_pem(chain: &[Vec<u8>], out: &Output) -> Result<ExitCode, CliError> {
    for der in chain {
        out.line("-----BEGIN CERTIFICATE-----")?;
        let text = BASE64_STANDARD.encode(der);
        for line in text.as_bytes().chunks(64) {
            out.line(String::from_utf8_lossy(line))?;
        }
        out.line("-----END CERTIFICATE-----")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn code(holds: bool) -> ExitCode {
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_PASSED)
    }
}

fn tell(chain: &[Inspection], out: &Output) -> Result<(), CliError> {
    for (at, one) in chain.iter().enumerate() {
        let which = match (chain.len(), at) {
            (1, _) => "Certificate".to_owned(),
            (many, at) => format!("Certificate {} of {many}", at + 1),
        };
        out.line("")?;
        out.line(out.bold(&which))?;
        out.line(text::certificate(one, columns()).trim_end())?;
    }
    Ok(())
}

fn inspections(chain: &[Vec<u8>]) -> Result<Vec<Inspection>, CliError> {
    let read = chain.iter().map(|der| inspect(&CertificateDer::from(der.as_slice())));
    read.collect::<Result<_, _>>().map_err(|error| {
        CliError::with_hint(
            error,
            "SPIFFE's rules are for X.509 certificates, version 3, in DER or PEM",
        )
    })
}

/// The bytes of a file, or of standard input.
fn bytes(name: &str) -> Result<Vec<u8>, CliError> {
    let failed = |error: io::Error| CliError::new(format!("cannot read {name}: {error}"));
    let mut bytes = Vec::new();
    let input: Box<dyn Read> = if name == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(name).map_err(failed)?)
    };
    input.take(LONGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LONGEST {
        return Err(CliError::new(format!("{name} has more than {LONGEST} bytes")));
    }
    Ok(bytes)
}

/// The certificates of a file: PEM, or one in DER.
fn certificates(name: &str) -> Result<Vec<Vec<u8>>, CliError> {
    let bytes = bytes(name)?;
    // DER begins with a sequence, and text does not.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let chain = chain_of(&bytes).map_err(|why| {
        CliError::with_hint(
            format!("{name}: {why}"),
            "a certificate is PEM text (BEGIN CERTIFICATE) or DER; `spire-agent api fetch x509 -write DIR` makes svid.0.pem",
        )
    })?;
    Ok(chain.iter().map(|der| der.to_vec()).collect())
}

/// Whether a chain is signed by the trust domain that it names, whose bundle a file holds.
fn believed(chain: &[Vec<u8>], bundle: &str, now_s: i64) -> Result<Belief, CliError> {
    let first = chain.first().map(|der| CertificateFacts::read(der));
    let facts = match first {
        Some(Ok(facts)) => facts,
        Some(Err(why)) => return Err(CliError::new(why)),
        None => return Err(CliError::new("there is no certificate")),
    };
    let id = match facts.uris.as_slice() {
        [one] => SpiffeId::parse(one).ok(),
        _ => None,
    };
    let Some(id) = id else {
        return Ok(spire::belief(chain, None, None, now_s));
    };
    let set = X509BundleSet::default().with(read_bundle(id.trust_domain(), bundle)?);
    Ok(spire::belief(chain, Some(&id), Some(&set), now_s))
}

fn read_bundle(trust_domain: &TrustDomain, name: &str) -> Result<X509Bundle, CliError> {
    let bytes = bytes(name)?;
    let failed = |why: String| {
        CliError::with_hint(
            format!("{name} is no bundle: {why}"),
            "a bundle is certificates in PEM, or SPIFFE's JSON, as `spire-server bundle show` prints them",
        )
    };
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first == Some(&b'{') {
        let bundle = Bundle::from_json(trust_domain.clone(), &bytes).map_err(|error| failed(error.to_string()))?;
        return Ok(bundle.x509().clone());
    }
    let bundle = X509Bundle::from_pem(trust_domain.clone(), &bytes).map_err(|error| failed(error.to_string()))?;
    if bundle.is_empty() {
        return Err(failed("it holds no certificate".to_owned()));
    }
    Ok(bundle)
}
