//! `spire-server federation …`.

use tonic::{Code, Status, transport::Channel};

use super::{OUTPUT, SOCKET, bundles};
use crate::{
    api::{
        trustdomain::{trust_domain_client::TrustDomainClient, *},
        types::{self, federation_relationship::BundleEndpointProfile},
    },
    cli::{
        CommandError, Output, as_json,
        flags::{Flag, Flags, value},
        rpc_error, said, show,
    },
};

/// Flags of all of them.
pub const FLAGS: &[Flag] = &[
    SOCKET,
    OUTPUT,
    value(
        "trustDomain",
        "Name of the trust domain to federate with (e.g., example.org)",
    ),
    value("id", "SPIFFE ID of the trust domain"),
    value(
        "bundleEndpointURL",
        "URL of the SPIFFE bundle endpoint that provides the trust bundle (must use the HTTPS protocol)",
    ),
    value(
        "bundleEndpointProfile",
        "Endpoint profile type (either \"https_web\" or \"https_spiffe\")",
    ),
    value(
        "endpointSpiffeID",
        "SPIFFE ID of the SPIFFE bundle endpoint server. Only used for 'spiffe' profile.",
    ),
    value(
        "trustDomainBundlePath",
        "Path to the trust domain bundle data (optional).",
    ),
    value(
        "trustDomainBundleFormat",
        "The format of the bundle data (optional). Either \"pem\" or \"spiffe\".",
    ),
];

/// Runs one.
pub async fn run(name: &str, channel: Channel, flags: &Flags, output: &mut Output<'_>) -> Result<(), CommandError> {
    let mut client = TrustDomainClient::new(channel);
    match name {
        "list" => {
            let request = ListFederationRelationshipsRequest::default();
            let answer = client.list_federation_relationships(request).await;
            let answer = answer
                .map_err(|status| failed("error listing federation relationship", &status))?
                .into_inner();
            if as_json(flags, &answer, output)? {
                return Ok(());
            }
            let found = answer.federation_relationships;
            writeln!(
                output.out,
                "Found {} {}",
                found.len(),
                show::plural(found.len(), "federation relationship", "federation relationships")
            )?;
            for one in &found {
                writeln!(output.out)?;
                output.out.write_all(shown(one).as_bytes())?;
            }
            Ok(())
        }
        "show" => {
            let trust_domain = flags.text("trustDomain");
            if trust_domain.is_empty() {
                return Err(said("a trust domain name is required"));
            }
            let request = GetFederationRelationshipRequest {
                trust_domain: trust_domain.into(),
                output_mask: None,
            };
            let found = client.get_federation_relationship(request).await;
            let found = found
                .map_err(|status| failed("error showing federation relationship", &status))?
                .into_inner();
            if as_json(flags, &found, output)? {
                return Ok(());
            }
            writeln!(
                output.out,
                "Found a federation relationship with trust domain {}:\n",
                found.trust_domain
            )?;
            output.out.write_all(shown(&found).as_bytes())?;
            Ok(())
        }
        "delete" => {
            let id = flags.text("id");
            if id.is_empty() {
                return Err(said("id is required"));
            }
            let request = BatchDeleteFederationRelationshipRequest {
                trust_domains: vec![id.into()],
            };
            let answer = client.batch_delete_federation_relationship(request).await;
            let answer = answer
                .map_err(|status| failed("failed to delete federation relationship", &status))?
                .into_inner();
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
                    "failed to delete federation relationship {id:?}: {}",
                    status.message
                )));
            }
            writeln!(output.out, "federation relationship deleted.")?;
            Ok(())
        }
        "refresh" => refresh(&mut client, flags, output).await,
        verb => write(verb, &mut client, flags, output).await,
    }
}

fn failed(what: &str, status: &Status) -> CommandError {
    said(format!("{what}: {}", rpc_error(status)))
}

async fn refresh(
    client: &mut TrustDomainClient<Channel>,
    flags: &Flags,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let id = flags.text("id");
    if id.is_empty() {
        return Err(said("id is required"));
    }
    let request = RefreshBundleRequest {
        trust_domain: id.into(),
    };
    match client.refresh_bundle(request).await {
        Ok(_) if as_json(flags, &types::Status::default(), output)? => Ok(()),
        Ok(_) => Ok(writeln!(output.out, "Bundle refreshed")?),
        Err(status) if status.code() == Code::NotFound => Err(said(format!(
            "there is no federation relationship with trust domain {id:?}"
        ))),
        Err(status) => Err(failed("failed to refresh bundle", &status)),
    }
}

fn relationship(flags: &Flags) -> Result<types::FederationRelationship, CommandError> {
    let trust_domain = flags.text("trustDomain");
    if trust_domain.is_empty() {
        return Err(said("trust domain is required"));
    }
    if flags.text("bundleEndpointURL").is_empty() {
        return Err(said("bundle endpoint URL is required"));
    }
    let profile = match flags.text("bundleEndpointProfile") {
        "https_web" => BundleEndpointProfile::HttpsWeb(types::HttpsWebProfile {}),
        "https_spiffe" => {
            let id = flags.text("endpointSpiffeID");
            if id.is_empty() {
                return Err(said(
                    "endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set",
                ));
            }
            BundleEndpointProfile::HttpsSpiffe(types::HttpsspiffeProfile {
                endpoint_spiffe_id: id.into(),
            })
        }
        other => return Err(said(format!("unknown bundle endpoint profile type: {other:?}"))),
    };
    let path = flags.text("trustDomainBundlePath");
    let bundle = (!path.is_empty())
        .then(|| {
            let spiffe = bundles::spiffe_format(flags.text("trustDomainBundleFormat"))?;
            bundles::read(path, trust_domain, spiffe)
        })
        .transpose()?;
    Ok(types::FederationRelationship {
        trust_domain: trust_domain.into(),
        bundle_endpoint_url: flags.text("bundleEndpointURL").into(),
        bundle_endpoint_profile: Some(profile),
        trust_domain_bundle: bundle,
    })
}

async fn write(
    verb: &str,
    client: &mut TrustDomainClient<Channel>,
    flags: &Flags,
    output: &mut Output<'_>,
) -> Result<(), CommandError> {
    let asked = relationship(flags)?;
    let (status, made) = if verb == "create" {
        let request = BatchCreateFederationRelationshipRequest {
            federation_relationships: vec![asked.clone()],
            output_mask: None,
        };
        let answer = client.batch_create_federation_relationship(request).await;
        let answer = answer.map_err(|status| failed("request failed", &status))?.into_inner();
        if as_json(flags, &answer, output)? {
            return Ok(());
        }
        let results = answer.results;
        results
            .into_iter()
            .next()
            .map(|one| (one.status, one.federation_relationship))
            .unwrap_or_default()
    } else {
        let request = BatchUpdateFederationRelationshipRequest {
            federation_relationships: vec![asked.clone()],
            ..Default::default()
        };
        let answer = client.batch_update_federation_relationship(request).await;
        let answer = answer.map_err(|status| failed("request failed", &status))?.into_inner();
        if as_json(flags, &answer, output)? {
            return Ok(());
        }
        let results = answer.results;
        results
            .into_iter()
            .next()
            .map(|one| (one.status, one.federation_relationship))
            .unwrap_or_default()
    };
    let status = status.unwrap_or_default();
    writeln!(output.out)?;
    if status.code == 0 {
        output.out.write_all(shown(&made.unwrap_or_default()).as_bytes())?;
        return Ok(());
    }
    writeln!(
        output.err,
        "Failed to {verb} the following federation relationship (code: {}, msg: {:?}):",
        show::code_name(Code::from_i32(status.code)),
        status.message
    )?;
    output.err.write_all(shown(&asked).as_bytes())?;
    Err(said(format!("failed to {verb} one or more federation relationships")))
}

fn shown(one: &types::FederationRelationship) -> String {
    let mut text = format!(
        "Trust domain              : {}\nBundle endpoint URL       : {}\n",
        one.trust_domain, one.bundle_endpoint_url
    );
    match &one.bundle_endpoint_profile {
        Some(BundleEndpointProfile::HttpsWeb(_)) => text.push_str("Bundle endpoint profile   : https_web\n"),
        Some(BundleEndpointProfile::HttpsSpiffe(profile)) => text.push_str(&format!(
            "Bundle endpoint profile   : https_spiffe\nEndpoint SPIFFE ID        : {}\n",
            profile.endpoint_spiffe_id
        )),
        None => {}
    }
    text
}
