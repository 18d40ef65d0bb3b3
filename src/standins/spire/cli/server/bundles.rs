//! `spire-server bundle …`.

use std::io::Read;

use tonic::transport::Channel;
use ztlab_identity::{Bundle, JwtBundle, TrustDomain, X509Bundle};

use super::{OUTPUT, SOCKET};
use crate::{
    api::{
        bundle::{batch_delete_federated_bundle_request::Mode, bundle_client::BundleClient, *},
        types,
    },
    cli::{
        CommandError, Output, as_json,
        flags::{Flag, Flags, value},
        said, show,
    },
};

/// Flags of all of them.
pub const FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value(
        "format",
        "The format of the bundle data. Either \"pem\" or \"spiffe\". (default \"pem\")",
    ),
    value("id", "SPIFFE ID of the trust domain"),
    value("path", "Path to the bundle data"),
    value(
        "mode",
        "Deletion mode: one of restrict, delete, or dissociate (default \"restrict\")",
    ),
];

/// Largest bundle that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// Runs one.
pub async fn run(name: &str, channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let spiffe = spiffe_format(flags.text("format"))?;
    let mut client = BundleClient::new(channel);
    match name {
        "show" => {
            let bundle = client.get_bundle(GetBundleRequest::default()).await?.into_inner();
            if as_json(flags, &bundle, output)? {
                return Ok(());
            }
            print(&bundle, spiffe, false, output)
        }
        "list" => list(&mut client, flags, spiffe, output).await,
        "set" => set(&mut client, flags, spiffe, output).await,
        "delete" => delete(&mut client, flags, output).await,
        _ => {
            let answer = client.count_bundles(CountBundlesRequest {}).await?.into_inner();
            if as_json(flags, &answer, output)? {
                return Ok(());
            }
            let count = answer.count;
            let many = usize::try_from(count).unwrap_or(0);
            writeln!(output.out, "{count} {}", show::plural(many, "bundle", "bundles"))?;
            Ok(())
        }
    }
}

pub(super) fn spiffe_format(name: &str) -> Result<bool, CommandError> {
    match name.to_lowercase().as_str() {
        "" | "pem" => Ok(false),
        "spiffe" => Ok(true),
        _ => Err(said(format!("invalid format: {name:?}"))),
    }
}

async fn list(
    client: &mut BundleClient<Channel>,
    flags: &Flags,
    spiffe: bool,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let id = flags.text("id");
    if !id.is_empty() {
        let request = GetFederatedBundleRequest {
            trust_domain: id.into(),
            output_mask: None,
        };
        let bundle = client.get_federated_bundle(request).await?.into_inner();
        if as_json(flags, &bundle, output)? {
            return Ok(());
        }
        return print(&bundle, spiffe, false, output);
    }
    let answer = client
        .list_federated_bundles(ListFederatedBundlesRequest::default())
        .await?
        .into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    for (at, bundle) in answer.bundles.iter().enumerate() {
        if at != 0 {
            writeln!(output.out)?;
        }
        print(bundle, spiffe, true, output)?;
    }
    Ok(())
}

fn print(bundle: &types::Bundle, spiffe: bool, header: bool, output: &mut Output<'_>) -> Result<(), CommandError> {
    if header {
        let stars = "*".repeat(40);
        writeln!(output.out, "{stars}\n* {}\n{stars}", bundle.trust_domain)?;
    }
    if spiffe {
        writeln!(output.out, "{}", document(bundle)?)?;
        return Ok(());
    }
    for authority in &bundle.x509_authorities {
        write!(output.out, "{}", crate::pem::text("CERTIFICATE", &authority.asn1))?;
    }
    Ok(())
}

/// The SPIFFE bundle document, with SPIRE's indentation.
fn document(message: &types::Bundle) -> Result<String, CommandError> {
    let bundle = crate::agent::bundle_of(message).map_err(|error| said(error.to_string()))?;
    let value = serde_json::to_value(&bundle).map_err(|error| said(error.to_string()))?;
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(&value, &mut serializer).map_err(|error| said(error.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads a bundle of `trust_domain` from a file, or from the standard input without one.
pub(super) fn read(path: &str, trust_domain: &str, spiffe: bool) -> Result<types::Bundle, CommandError> {
    let unable = |error: std::io::Error| said(format!("unable to load bundle data: open {path}: {error}"));
    let mut bytes = Vec::new();
    let mut input: Box<dyn Read> = if path.is_empty() {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(unable)?)
    };
    input.by_ref().take(LARGEST).read_to_end(&mut bytes).map_err(unable)?;
    let name = trust_domain.strip_prefix("spiffe://").unwrap_or(trust_domain);
    let name = TrustDomain::new(name).map_err(|error| said(format!("`{trust_domain}`: {error}")))?;
    let bundle = if spiffe {
        Bundle::from_json(name, &bytes).map_err(|error| said(format!("unable to parse to spiffe bundle: {error}")))?
    } else {
        let der: Vec<u8> = show::certificates_of_pem(&bytes)?.concat();
        let x509 = X509Bundle::from_der(name.clone(), &der)
            .map_err(|error| said(format!("unable to parse bundle data: {error}")))?;
        let jwt = JwtBundle::new(name, []).map_err(|error| said(error.to_string()))?;
        Bundle::new(x509, jwt).map_err(|error| said(error.to_string()))?
    };
    Ok(crate::agent::bundle_message_of(&bundle))
}

async fn set(
    client: &mut BundleClient<Channel>,
    flags: &Flags,
    spiffe: bool,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let id = flags.text("id");
    if id.is_empty() {
        return Err(said("id flag is required"));
    }
    let bundle = read(flags.text("path"), id, spiffe)?;
    let request = BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let answer = client.batch_set_federated_bundle(request).await?.into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let status = answer
        .results
        .into_iter()
        .next()
        .and_then(|one| one.status)
        .unwrap_or_default();
    if status.code != 0 {
        return Err(said(format!("failed to set federated bundle: {}", status.message)));
    }
    writeln!(output.out, "bundle set.")?;
    Ok(())
}

async fn delete(
    client: &mut BundleClient<Channel>,
    flags: &Flags,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let id = flags.text("id");
    if id.is_empty() {
        return Err(said("id is required"));
    }
    let mode = match flags.text("mode") {
        "" | "restrict" => Mode::Restrict,
        "delete" => Mode::Delete,
        "dissociate" => Mode::Dissociate,
        other => return Err(said(format!("unsupported mode {other:?}"))),
    };
    let request = BatchDeleteFederatedBundleRequest {
        trust_domains: vec![id.into()],
        mode: mode.into(),
    };
    let answer = client.batch_delete_federated_bundle(request).await?.into_inner();
    if as_json(flags, &answer, output)? {
        return Ok(());
    }
    let status = answer
        .results
        .into_iter()
        .next()
        .and_then(|one| one.status)
        .unwrap_or_default();
    if status.code != 0 {
        return Err(said(format!(
            "failed to delete federated bundle {id:?}: {}",
            status.message
        )));
    }
    writeln!(output.out, "bundle deleted.")?;
    Ok(())
}
