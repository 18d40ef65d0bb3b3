//! `spire-server x509 mint` and `jwt mint`.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use tonic::transport::Channel;

use super::{OUTPUT, SOCKET};
use crate::{
    api::{
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        svid::{MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient},
    },
    cli::{
        CommandError, Output, as_json,
        flags::{Flag, Flags, value},
        said, show,
    },
    config, pem, protojson,
};

/// Flags of `x509 mint`.
pub const X509_FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value("spiffeID", "SPIFFE ID of the X509-SVID"),
    value("ttl", "TTL of the X509-SVID"),
    value(
        "dns",
        "DNS name that will be included in SVID. Can be used more than once.",
    ),
    value("write", "Directory to write output to instead of stdout"),
];

/// Flags of `jwt mint`.
pub const JWT_FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value("spiffeID", "SPIFFE ID of the JWT-SVID"),
    value("ttl", "TTL of the JWT-SVID"),
    value(
        "audience",
        "Audience claim that will be included in the SVID. Can be used more than once.",
    ),
    value("write", "File to write token to instead of stdout"),
];

/// What `x509 mint -output json` prints, all of it DER.
#[derive(serde::Serialize)]
struct Minted {
    #[serde(serialize_with = "protojson::many_bytes")]
    x509_svid: Vec<Vec<u8>>,
    #[serde(serialize_with = "protojson::bytes")]
    private_key: Vec<u8>,
    #[serde(serialize_with = "protojson::many_bytes")]
    root_cas: Vec<Vec<u8>>,
}

impl Minted {
    /// Chain, key and authorities as PEM.
    fn as_pem(&self) -> (String, String, String) {
        let certificates = |many: &[Vec<u8>]| many.iter().map(|der| pem::text("CERTIFICATE", der)).collect::<String>();
        (
            certificates(&self.x509_svid),
            pem::text("PRIVATE KEY", &self.private_key),
            certificates(&self.root_cas),
        )
    }
}

/// Says that less than was asked for was given.
fn tell_if_capped(what: &str, expires_at: i64, wanted: Duration, output: &mut Output<'_>) -> Result<(), CommandError> {
    // As SPIRE compares, to the fraction of a second: a life of whole seconds is always a little shorter.
    let left = u64::try_from(expires_at)
        .map_or(Duration::ZERO, Duration::from_secs)
        .saturating_sub(since_epoch());
    if left < wanted {
        let expires =
            jiff::Timestamp::from_second(expires_at).map_or_else(|_| expires_at.to_string(), |at| at.to_string());
        writeln!(
            output.err,
            "{what} lifetime was capped shorter than specified ttl; expires {expires:?}"
        )?;
    }
    Ok(())
}

fn since_epoch() -> Duration {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}

fn ttl(flags: &Flags) -> Result<(Duration, i32), CommandError> {
    let text = flags.text("ttl");
    if text.is_empty() {
        return Ok((Duration::ZERO, 0));
    }
    let ttl =
        config::duration(text).ok_or_else(|| said(format!("invalid value {text:?} for flag -ttl: parse error")))?;
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let seconds = i32::try_from(seconds).map_err(|_| said(format!("invalid value for TTL: {text}")))?;
    Ok((ttl, seconds))
}

/// `x509 mint`: the key is made here and never leaves this process but to where it is printed.
pub async fn x509(channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let text = flags.text("spiffeID");
    if text.is_empty() {
        return Err(said("spiffeID must be specified"));
    }
    show::id_message(text)?;
    let (wanted, seconds) = ttl(flags)?;
    let (csr, key) = request(text, flags.all("dns"))?;
    let svid = SvidClient::new(channel.clone())
        .mint_x509svid(MintX509svidRequest { csr, ttl: seconds })
        .await
        .map_err(|status| said(format!("unable to mint SVID: {}", crate::cli::rpc_error(&status))))?
        .into_inner()
        .svid
        .filter(|svid| !svid.cert_chain.is_empty())
        .ok_or_else(|| said("server response missing SVID chain"))?;
    let bundle = BundleClient::new(channel)
        .get_bundle(GetBundleRequest::default())
        .await?
        .into_inner();
    tell_if_capped("X509-SVID", svid.expires_at, wanted, output)?;
    let minted = Minted {
        x509_svid: svid.cert_chain,
        private_key: key.serialize_der(),
        root_cas: bundle.x509_authorities.into_iter().map(|one| one.asn1).collect(),
    };
    let directory = flags.text("write");
    if directory.is_empty() && as_json(flags, &[&minted], output)? {
        return Ok(());
    }
    let (chain, key, roots) = minted.as_pem();
    if directory.is_empty() {
        writeln!(
            output.out,
            "X509-SVID:\n{chain}\nPrivate key:\n{key}\nRoot CAs:\n{roots}"
        )?;
        return Ok(());
    }
    for (name, content, mode, what) in [
        ("svid.pem", &chain, 0o644, "X509-SVID"),
        ("key.pem", &key, 0o600, "Private key"),
        ("bundle.pem", &roots, 0o644, "Root CAs"),
    ] {
        let path = Path::new(directory).join(name);
        write_file(&path, content, mode)?;
        writeln!(output.out, "{what} written to {}", path.display())?;
    }
    Ok(())
}

fn request(id: &str, dns_names: &[String]) -> Result<(Vec<u8>, KeyPair), CommandError> {
    let unable = |error: rcgen::Error| said(format!("unable to generate CSR: {error}"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unable)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .subject_alt_names
        .push(SanType::URI(id.try_into().map_err(unable)?));
    for name in dns_names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into().map_err(unable)?));
    }
    let csr = params.serialize_request(&key).map_err(unable)?.der().to_vec();
    Ok((csr, key))
}

pub(in crate::cli) fn write_file(path: &Path, content: &str, mode: u32) -> Result<(), CommandError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(|error| said(format!("unable to write {}: {error}", path.display())))?;
    file.write_all(content.as_bytes())?;
    Ok(())
}

/// `jwt mint`.
pub async fn jwt(channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    if flags.text("spiffeID").is_empty() {
        return Err(said("spiffeID must be specified"));
    }
    if flags.all("audience").is_empty() {
        return Err(said("at least one audience must be specified"));
    }
    let (wanted, seconds) = ttl(flags)?;
    let request = MintJwtsvidRequest {
        id: Some(show::id_message(flags.text("spiffeID"))?),
        audience: flags.all("audience").to_vec(),
        ttl: seconds,
    };
    let answer = SvidClient::new(channel)
        .mint_jwtsvid(request)
        .await
        .map_err(|status| said(format!("unable to mint SVID: {}", crate::cli::rpc_error(&status))))?
        .into_inner();
    let svid = answer.svid.as_ref().filter(|svid| !svid.token.is_empty());
    let svid = svid.ok_or_else(|| said("server response missing token"))?;
    tell_if_capped("JWT-SVID", svid.expires_at, wanted, output)?;
    let path = flags.text("write");
    if path.is_empty() && as_json(flags, &answer, output)? {
        return Ok(());
    }
    if path.is_empty() {
        writeln!(output.out, "{}", svid.token)?;
        return Ok(());
    }
    write_file(Path::new(path), &svid.token, 0o600)?;
    writeln!(output.out, "JWT-SVID written to {path}")?;
    Ok(())
}
