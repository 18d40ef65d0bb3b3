//! What probes measure for a check, each with its positive control in the same moment.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use super::{GatherError, Scene, pods, store};
use crate::{
    check::{Evidence, Probes},
    evidence::ProbeResult,
    lab::{
        Client, Control, DnsCheck, FlowCheck, HttpCheck, Piece, Reach, Resolution, Source, Store, Target, TcpCheck,
        TlsCheck, TlsTry, TlsUse, pieces,
    },
    probe::{
        self, HttpProbe, ProbeKind, ProbeRequest, TlsIdentity, TlsOptions, TlsProbe,
        pki::{self, Recipe},
    },
};

/// How long a probe may take that is to come to nothing: its control shows how long success takes.
const NOTHING: Duration = Duration::from_millis(1500);

/// A probe to make, and from where.
struct Plan {
    from: Source,
    kind: ProbeKind,
    at: Option<IpAddr>,
    timeout: Duration,
}

impl Plan {
    async fn run(self, scene: &Scene) -> Result<ProbeResult, GatherError> {
        let pod: Pod = pods::running(scene, &self.from).await?;
        let mut request = ProbeRequest::new(&scene.namespace, pods::name_of(&pod), self.kind);
        request.at = self.at;
        request.timeout = self.timeout;
        Ok(probe::run(&scene.client, request).await?)
    }
}

/// Runs a probe and its control at once.
async fn both(scene: &Scene, plan: Plan, control: Option<Plan>) -> Result<Evidence, GatherError> {
    let control = async {
        match control {
            Some(control) => control.run(scene).await.map(Some),
            None => Ok(None),
        }
    };
    let (probe, control) = tokio::join!(plan.run(scene), control);
    Ok(Evidence::Probes(Box::new(Probes {
        probe: probe?,
        control: control?,
        expected: Vec::new(),
    })))
}

/// Where to connect: a pod's own address always; a Service's where the call is to come to nothing, so that cut DNS is
/// not taken for a cut connection.
async fn at(scene: &Scene, target: &Target, to_nothing: bool) -> Result<Option<IpAddr>, GatherError> {
    if to_nothing || matches!(target, Target::Pod(_)) {
        return Ok(pods::addresses_of(scene, target).await?.first().copied());
    }
    Ok(None)
}

/// A target as it stands in a URL or for a resolver.
fn host(target: &Target, at: Option<IpAddr>) -> String {
    match (target, at) {
        (Target::Pod(_), Some(address)) => Target::Address(address).to_string(),
        _ => target.to_string(),
    }
}

pub(super) async fn tcp(scene: &Scene, check: &TcpCheck) -> Result<Evidence, GatherError> {
    let to_nothing = check.expect != Reach::Allowed;
    let at = at(scene, &check.to, to_nothing).await?;
    let plan = |from: &Source| Plan {
        from: from.clone(),
        kind: ProbeKind::Tcp {
            host: host(&check.to, at),
            port: check.port,
        },
        at,
        timeout: if to_nothing { NOTHING } else { ProbeRequest::TIMEOUT },
    };
    both(scene, plan(&check.from), check.control.as_ref().map(plan)).await
}

pub(super) async fn dns(scene: &Scene, check: &DnsCheck) -> Result<Evidence, GatherError> {
    let plan = |from: &Source| Plan {
        from: from.clone(),
        kind: ProbeKind::Dns {
            name: check.name.clone(),
        },
        at: None,
        timeout: ProbeRequest::TIMEOUT,
    };
    let expected = match &check.to {
        Some(target) if check.expect == Resolution::Resolves => pods::addresses_of(scene, target).await?,
        _ => Vec::new(),
    };
    let evidence = both(scene, plan(&check.from), check.control.as_ref().map(plan)).await?;
    Ok(match evidence {
        Evidence::Probes(mut probes) => {
            probes.expected = expected;
            Evidence::Probes(probes)
        }
        other => other,
    })
}

pub(super) async fn http(scene: &Scene, check: &HttpCheck) -> Result<Evidence, GatherError> {
    let to_nothing = check.expect.outcome.is_some_and(|outcome| outcome != Reach::Allowed);
    let at = at(scene, &check.to, to_nothing).await?;
    let scheme = if check.secure { "https" } else { "http" };
    let mut headers = Vec::new();
    for (name, value) in &check.headers {
        headers.push((name.clone(), filled(scene, value).await?));
    }
    let body = match &check.body {
        Some(body) => Some(filled(scene, body).await?),
        None => None,
    };
    let plan = async |from: &Source, client: &Client| {
        let tls = options(scene, &check.tls, client, from).await?;
        Ok::<Plan, GatherError>(Plan {
            from: from.clone(),
            kind: ProbeKind::Http(HttpProbe {
                method: check.method.clone(),
                url: format!("{scheme}://{}:{}{}", host(&check.to, at), check.port, check.path),
                headers: headers.clone(),
                body: body.clone(),
                tls,
            }),
            at,
            timeout: if to_nothing { NOTHING } else { ProbeRequest::TIMEOUT },
        })
    };
    let probe = plan(&check.from, &check.tls.client).await?;
    let control = match &check.control {
        Some(Control { from, client }) => {
            let (from, client) = (from.as_ref(), client.as_ref());
            Some(plan(from.unwrap_or(&check.from), client.unwrap_or(&check.tls.client)).await?)
        }
        None => None,
    };
    both(scene, probe, control).await
}

pub(super) async fn tls(scene: &Scene, check: &TlsCheck) -> Result<Evidence, GatherError> {
    let session = &check.session;
    let to_nothing = check.expect.usable == Some(false);
    let probe = tls_plan(scene, session, &session.from, &session.tls.client, to_nothing).await?;
    let control = match &check.control {
        Some(Control { from, client }) => {
            let from = from.as_ref().unwrap_or(&session.from);
            let client = client.as_ref().unwrap_or(&session.tls.client);
            Some(tls_plan(scene, session, from, client, to_nothing).await?)
        }
        None => None,
    };
    both(scene, probe, control).await
}

async fn tls_plan(
    scene: &Scene,
    session: &TlsTry,
    from: &Source,
    client: &Client,
    to_nothing: bool,
) -> Result<Plan, GatherError> {
    let at = at(scene, &session.to, to_nothing).await?;
    Ok(Plan {
        from: from.clone(),
        kind: ProbeKind::Tls(TlsProbe {
            host: host(&session.to, at),
            port: session.port,
            starttls: session.starttls,
            tls: options(scene, &session.tls, client, from).await?,
        }),
        at,
        timeout: ProbeRequest::TIMEOUT,
    })
}

pub(super) async fn flow(scene: &Scene, check: &FlowCheck) -> Result<Evidence, GatherError> {
    let probes = match &check.probe {
        Some(session) => {
            let with = tls_plan(scene, session, &session.from, &session.tls.client, true).await?;
            let without = tls_plan(scene, session, &session.from, &Client::None, true).await?;
            let (with, without) = tokio::join!(with.run(scene), without.run(scene));
            Some(Box::new((with?, without?)))
        }
        None => None,
    };
    Ok(Evidence::Flow {
        seen: scene.seen.clone(),
        probes,
    })
}

/// Whom a probe trusts, and what it shows.
async fn options(scene: &Scene, tls: &TlsUse, client: &Client, from: &Source) -> Result<TlsOptions, GatherError> {
    let trust = match &tls.trust {
        Some(place) => Some(store::text_of(scene, place).await?),
        None => None,
    };
    Ok(TlsOptions {
        name: tls.name.clone(),
        trust,
        identity: identity(scene, client, from).await?,
        version: tls.version,
        alpn: tls.alpn.clone(),
        whole: false,
    })
}

async fn identity(scene: &Scene, client: &Client, from: &Source) -> Result<Option<TlsIdentity>, GatherError> {
    let wrong = |why: String| GatherError::Missing(format!("make a certificate to show: {why}"));
    let caller = || match from {
        Source::Workload(workload) => workload.to_string(),
        Source::Pod(name) => name.clone(),
        Source::Labels(_) => "probe".to_owned(),
    };
    Ok(match client {
        Client::None => None,
        Client::SelfMade => Some(pki::self_signed(&Recipe::leaf(caller())).map_err(wrong)?),
        Client::Given { certificate, key } => Some(pair(scene, certificate, key).await?),
        Client::Signed {
            authority,
            key,
            name,
            expired,
        } => {
            let authority = pair(scene, authority, key).await?;
            let recipe = Recipe {
                expired: *expired,
                ..Recipe::leaf(name.clone().unwrap_or_else(caller))
            };
            Some(pki::signed_by(&recipe, &authority).map_err(wrong)?)
        }
    })
}

async fn pair(scene: &Scene, certificate: &Store, key: &Store) -> Result<TlsIdentity, GatherError> {
    Ok(TlsIdentity {
        chain: store::text_of(scene, certificate).await?,
        key: store::text_of(scene, key).await?,
    })
}

/// A text with what its `${…}` stand for.
async fn filled(scene: &Scene, text: &str) -> Result<String, GatherError> {
    let mut out = String::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Name(name) => {
                let place = Store::parse(name)
                    .ok_or_else(|| GatherError::Missing(format!("`${{{name}}}` stands for nothing")))?;
                out.push_str(store::text_of(scene, &place).await?.trim_end_matches('\n'));
            }
        }
    }
    Ok(out)
}
