//! `ztls`: the facts of a TLS handshake and of every certificate the server showed, each as it was measured.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::PoisonError, time::Duration};

use clap::Parser;
use rustls_pki_types::ServerName;
use serde::Serialize;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::tls::{self, Demand, Trust};
use crate::standins::{process, tls::Versions};

/// How long connecting and the handshake may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long is waited for a server that refuses a client only after the handshake, as TLS 1.3 has it.
const AFTERTHOUGHT: Duration = Duration::from_millis(300);

#[derive(Debug, Parser)]
#[command(
    name = "ztls",
    about = "Shakes hands with a TLS server and tells what was agreed and which certificates it showed",
    version
)]
struct Args {
    /// host:port
    server: String,
    /// Name to ask for, else the host
    #[arg(long, value_name = "NAME")]
    servername: Option<String>,
    /// Authorities to judge the server by, PEM; else the system's
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Client certificate to show, PEM
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its key, PEM; else in the certificate's file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Offer TLS 1.2 only
    #[arg(long = "tls1_2")]
    tls12: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Facts {
    version: Option<String>,
    cipher_suite: Option<String>,
    verified: bool,
    verify_error: Option<String>,
    /// What the server said after the handshake: how TLS 1.3 refuses a client.
    refused: Option<String>,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Serialize)]
struct Certificate {
    subject: String,
    issuer: String,
    serial: String,
    not_before: String,
    not_after: String,
    is_ca: bool,
    names: Vec<String>,
    key_usage: Vec<String>,
}

/// Shakes hands; 0 if the server is to be trusted and let us in, 1 if not, 2 if there was no handshake.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from("ztls")).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    process::run("ztls", async move {
        let outcome = tokio::time::timeout(TIMEOUT, handshake(&args)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no handshake within {} s", TIMEOUT.as_secs())));
        match outcome {
            Ok(facts) => {
                let good = facts.verified && facts.refused.is_none();
                let printed = process::print(&show(&facts, args.json));
                u8::from(!good || printed.is_err())
            }
            Err(why) => {
                process::complain("ztls", &format!("{}: {why}", args.server));
                2
            }
        }
    })
}

async fn handshake(args: &Args) -> Result<Facts, String> {
    let (host, _) = args.server.rsplit_once(':').ok_or("expected host:port")?;
    let name = args
        .servername
        .clone()
        .unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let key = args.key.as_deref().or(args.cert.as_deref());
    let (config, judgement) = tls::client(Trust {
        authorities: args.cacert.as_deref(),
        identity: args.cert.as_deref().zip(key),
        demand: Demand::Nothing,
        versions: if args.tls12 { Versions::Only12 } else { Versions::Both },
    })
    .map_err(|error| error.to_string())?;
    let stream = TcpStream::connect(&args.server)
        .await
        .map_err(|error| error.to_string())?;
    let mut stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let refused = match tokio::time::timeout(AFTERTHOUGHT, stream.read(&mut [0; 1])).await {
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(_)) | Err(_) => None,
    };
    let (_, session) = stream.get_ref();
    let judged = judgement.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let verify_error = match judged {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(error.to_string()),
        None => Some("the server showed no certificate".to_owned()),
    };
    Ok(Facts {
        version: session
            .protocol_version()
            .and_then(|version| version.as_str().map(str::to_owned)),
        cipher_suite: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str().map(str::to_owned)),
        verified: verify_error.is_none(),
        verify_error,
        refused,
        certificates: session
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|der| certificate(der))
            .collect::<Result<_, _>>()?,
    })
}

/// Reads a certificate; it comes from a stranger.
fn certificate(der: &[u8]) -> Result<Certificate, String> {
    let (_, read) = X509Certificate::from_der(der).map_err(|error| format!("unreadable certificate: {error}"))?;
    let extension = |found: Result<_, x509_parser::error::X509Error>| found.ok().flatten();
    let names = read
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|names| names.value.general_names.iter().map(ToString::to_string).collect())
        .unwrap_or_default();
    let mut key_usage: Vec<String> = Vec::new();
    if let Some(usage) = read.key_usage().ok().flatten() {
        key_usage.push(usage.value.to_string());
    }
    if let Some(usage) = read.extended_key_usage().ok().flatten() {
        let purposes = [
            (usage.value.server_auth, "server authentication"),
            (usage.value.client_auth, "client authentication"),
        ];
        key_usage.extend(
            purposes
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, name)| (*name).to_owned()),
        );
    }
    Ok(Certificate {
        subject: read.subject().to_string(),
        issuer: read.issuer().to_string(),
        serial: read.raw_serial_as_string(),
        not_before: time(read.validity().not_before.timestamp()),
        not_after: time(read.validity().not_after.timestamp()),
        is_ca: extension(read.basic_constraints()).is_some_and(|constraints| constraints.value.ca),
        names,
        key_usage,
    })
}

fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{seconds} s since 1970"),
    }
}

fn show(facts: &Facts, json: bool) -> String {
    if json {
        return serde_json::to_string_pretty(facts).unwrap_or_default() + "\n";
    }
    let unknown = || "unknown".to_owned();
    let mut text = format!(
        "version       {}\ncipher suite  {}\nverified      {}\n",
        facts.version.clone().unwrap_or_else(unknown),
        facts.cipher_suite.clone().unwrap_or_else(unknown),
        facts
            .verify_error
            .as_ref()
            .map_or("yes".to_owned(), |why| format!("no: {why}")),
    );
    if let Some(refused) = &facts.refused {
        text.push_str(&format!("refused       {refused}\n"));
    }
    for (at, certificate) in facts.certificates.iter().enumerate() {
        text.push_str(&format!(
            "certificate {at}\n  subject     {}\n  issuer      {}\n  serial      {}\n  valid       {} to {}\n  \
             CA          {}\n  names       {}\n  key usage   {}\n",
            certificate.subject,
            certificate.issuer,
            certificate.serial,
            certificate.not_before,
            certificate.not_after,
            if certificate.is_ca { "yes" } else { "no" },
            certificate.names.join(", "),
            certificate.key_usage.join(", "),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handshake_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = crate::standins::tools::curl::tests::tls_server(dir.path(), false).await;
        let read = |extra: &[&str]| {
            let server = at.to_string();
            let args = [&["ztls", &server, "--servername", "shop.test"], extra].concat();
            Args::try_parse_from(args).unwrap()
        };
        let ca = dir.path().join("ca.pem").display().to_string();
        let facts = handshake(&read(&["--cacert", &ca])).await.unwrap();
        assert!(facts.verified, "{facts:?}");
        assert_eq!(facts.version.as_deref(), Some("TLSv1_3"));
        assert_eq!(facts.certificates[0].names, ["DNSName(shop.test)"]);
        assert!(!facts.certificates[0].is_ca);
        let facts = handshake(&read(&["--cacert", &ca, "--tls1_2"])).await.unwrap();
        assert_eq!(facts.version.as_deref(), Some("TLSv1_2"));
        let other = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        std::fs::write(dir.path().join("other.pem"), other.cert.pem()).unwrap();
        let wrong = dir.path().join("other.pem").display().to_string();
        let facts = handshake(&read(&["--cacert", &wrong])).await.unwrap();
        assert!(!facts.verified && facts.verify_error.is_some());
    }

    #[tokio::test]
    async fn a_client_that_shows_no_certificate_sees_the_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let at = crate::standins::tools::curl::tests::tls_server(dir.path(), true).await;
        let ca = dir.path().join("ca.pem").display().to_string();
        let args = ["ztls", &at.to_string(), "--servername", "shop.test", "--cacert", &ca];
        let facts = handshake(&Args::try_parse_from(args).unwrap()).await.unwrap();
        assert!(facts.refused.is_some(), "{facts:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_certificate_panics(der: Vec<u8>) {
            let _ = certificate(&der);
        }
    }
}
