//! `ztlab identity`: who the workloads are, by what they show, what SPIRE has registered, and why.

mod certificate;
mod place;
mod watch;

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde::Serialize;

use self::place::Place;
use super::{
    error::{CliError, NOT_PASSED},
    output::{Output, columns},
    session,
};
use crate::spire::{self, GatherError, Sight, Verdict, World, absence, text};

/// `ztlab identity …`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ztlab identity                          every workload, entry and bundle\n  \
                  ztlab identity explain mallory          why this pod has the identity it has, or none\n  \
                  ztlab identity show orders-api          the certificate that it shows, field by field\n  \
                  ztlab identity show orders-api --watch  … and the next one, when it comes\n  \
                  ztlab identity entries --pod orders-api\n  ztlab identity bundles --json\n  \
                  ztlab identity -n shop --context staging\n\n\
                  What a workload HAS is what it showed in a handshake just now; what it MAY HAVE is\n\
                  what a registration entry of the SPIRE server says. Works on any cluster with SPIRE; it\n\
                  runs `spire-server … -output json` in the server's pod, adds an observer to the pods that\n\
                  serve something, and opens TLS sessions with them.\n\n\
                  Without --namespace: the lab's, or every one but the system's and SPIRE's own. Who may\n\
                  look at some namespaces only names them; what is not seen then is said to be unknown.\n\n\
                  Exit status: 0 when it was told, 1 when the pod gets no identity or the certificate\n\
                  breaks a rule, 2 for an error."
)]
pub struct Args {
    /// What to tell; without it, everything in short
    #[command(subcommand)]
    pub what: Option<What>,
    /// A namespace to look at; several times for several
    #[arg(short, long, value_name = "NAMESPACE", global = true)]
    pub namespace: Vec<String>,
    /// The cluster; the lab's when a lab runs
    #[arg(long, value_name = "NAME", global = true)]
    pub cluster: Option<String>,
    /// A context of the kubeconfig, for clusters that ztlab did not make
    #[arg(long, value_name = "NAME", global = true, conflicts_with = "cluster")]
    pub context: Option<String>,
}

/// What to tell.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Say why a pod has the identity it has, or none, and what to do next
    #[command(
        after_help = "Examples:\n  ztlab identity explain mallory\n  ztlab identity explain shop/orders-api --json\n\n\
                      Exit status: 0 when the pod gets an identity, 1 when it gets none, will not get the\n\
                      next, or it cannot be told, 2 for an error."
    )]
    Explain {
        /// The pod, or the workload it belongs to; with its namespace as shop/orders-api
        pod: String,
    },
    /// Show a certificate field by field, with what SPIFFE demands of each and whether it holds
    #[command(
        group(clap::ArgGroup::new("which").required(true).args(["pod", "cert"])),
        after_help = "Examples:\n  ztlab identity show orders-api\n  ztlab identity show orders-api --watch --for 2m\n  \
                      ztlab identity show orders-api --pem | openssl x509 -noout -text\n  \
                      ztlab identity show --cert svid.0.pem --bundle bundle.0.pem\n  \
                      kubectl get secret tls -o jsonpath='{.data.tls\\.crt}' | base64 -d | ztlab identity show --cert -\n\n\
                      A pod's certificate is what it shows in a handshake just now. A file is read and nothing\n\
                      is asked of a cluster; with a bundle (PEM, or SPIFFE's JSON) it is said too whether the\n\
                      trust domain signed it.\n\n\
                      Exit status: 0 when every demand holds (with --watch: when the next SVID came), 1 when\n\
                      not, 2 for an error."
    )]
    Show {
        /// The pod, or the workload it belongs to
        pod: Option<String>,
        /// A file with a certificate, PEM or DER; - for standard input
        #[arg(long, value_name = "FILE")]
        cert: Option<String>,
        /// A file with the bundle of its trust domain
        #[arg(long, value_name = "FILE", requires = "cert")]
        bundle: Option<String>,
        /// The port to ask, where it serves on several
        #[arg(long, value_name = "PORT", conflicts_with = "cert")]
        port: Option<u16>,
        /// Print the certificates alone, as PEM, for a file or for openssl
        #[arg(long, conflicts_with = "watch")]
        pem: bool,
        /// Go on until another certificate is seen
        #[arg(long, conflicts_with = "cert")]
        watch: bool,
        /// How long to watch at most [default: until the first one expires]
        #[arg(long = "for", value_name = "TIME", value_parser = super::args::duration, requires = "watch")]
        longest: Option<Duration>,
    },
    /// List the registration entries of the SPIRE server
    #[command(after_help = "Examples:\n  ztlab identity entries\n  ztlab identity entries --pod orders-api")]
    Entries {
        /// Those that match this pod or workload only
        #[arg(long, value_name = "POD")]
        pod: Option<String>,
    },
    /// List the bundles: who signs SVIDs, until when
    #[command(after_help = "Examples:\n  ztlab identity bundles\n  ztlab identity bundles --json")]
    Bundles,
}

/// Runs the command.
///
/// # Errors
/// When there is no cluster, no such pod, or the API does not let it look.
pub fn run(args: &Args, out: &Output) -> Result<ExitCode, CliError> {
    if let Some(What::Show {
        cert: Some(file),
        bundle,
        pem,
        ..
    }) = &args.what
    {
        return certificate::file(file, bundle.as_deref(), *pem, out);
    }
    session::block_on(async {
        let place = place::place(args).await?;
        match &args.what {
            None => overview(&place, out).await,
            Some(What::Explain { pod }) => explain(&place, pod, out).await,
            Some(What::Entries { pod }) => entries(&place, pod.as_deref(), out).await,
            Some(What::Bundles) => bundles(&place, out).await,
            Some(What::Show {
                pod,
                port,
                pem,
                watch,
                longest,
                ..
            }) => {
                let pod = pod.as_deref().unwrap_or_default();
                let seen = seen(&place, pod, *port, out).await?;
                if *watch {
                    return watch::watch(&place, seen, *longest, out).await;
                }
                if *pem {
                    return certificate::as_pem(&seen.svid.chain, out);
                }
                certificate::of_pod(&seen, out)
            }
        }
    })
}

impl From<GatherError> for CliError {
    fn from(error: GatherError) -> CliError {
        CliError::with_hint(&error, error.hint())
    }
}

/// What some pods show.
async fn look(
    place: &Place,
    world: &World,
    pods: &[&Pod],
    out: &Output,
) -> Result<std::collections::BTreeMap<(String, String), Sight>, CliError> {
    let mut namespaces: Vec<String> = pods.iter().filter_map(|pod| pod.namespace()).collect();
    namespaces.dedup();
    let services = spire::services(&place.client, &namespaces).await?;
    let workloads = spire::workloads(&world.pods, &services);
    let bundles = world
        .answers
        .bundles
        .as_ref()
        .ok()
        .map(|bundles| spire::bundle_set(bundles));
    let whom = match pods {
        [one] => one.name_any(),
        several => format!("{} pods", several.len()),
    };
    out.progress(&format!("handshakes with {whom}"));
    let seen = spire::look(&place.client, pods, &workloads, bundles.as_ref()).await;
    out.clear_progress();
    Ok(seen)
}

async fn overview(place: &Place, out: &Output) -> Result<ExitCode, CliError> {
    out.progress("asking the cluster and its SPIRE server");
    let world = place.world(None).await?;
    let pods = place.pods(&world)?;
    let sights = look(place, &world, &pods, out).await?;
    let all = spire::overview(&world, &pods, sights);
    if out.json() {
        out.value(&all)?;
    } else {
        out.line(text::overview(&all, columns()).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(place: &Place, pod: &str, out: &Output) -> Result<ExitCode, CliError> {
    out.progress("asking the cluster and its SPIRE server");
    let world = place.world(Some(pod)).await?;
    let pod = place.pod(&world, pod, out)?;
    let warning = spire::warning(&place.client, pod).await;
    let key = (pod.namespace().unwrap_or_default(), pod.name_any());
    let seen = look(place, &world, &[pod], out).await?.remove(&key);
    let seen = seen.unwrap_or_else(|| Sight::nothing("not looked at"));
    let explanation = spire::explain(&world, pod, warning.as_deref(), seen);
    if out.json() {
        out.value(&explanation)?;
    } else {
        out.line(text::explanation(&explanation, world.now_s, columns()).trim_end())?;
    }
    Ok(match explanation.verdict {
        Verdict::Identified => ExitCode::SUCCESS,
        Verdict::Fading | Verdict::Nothing | Verdict::Undetermined => ExitCode::from(NOT_PASSED),
    })
}

/// What the server said, or the error that it is to have said nothing.
fn known<'a, T>(world: &World, answer: &'a Result<T, String>) -> Result<&'a T, CliError> {
    answer.as_ref().map_err(|why| {
        let hint = match (absence::server(&world.found, &world.scope), world.found.server()) {
            (Some(absence), _) => absence.next,
            (None, Some(part)) => format!(
                "`kubectl -n {} get pod {}` shows how it is; asking it takes the right to exec in that pod",
                part.namespace, part.pod
            ),
            (None, None) => "`ztlab identity` shows what there is".to_owned(),
        };
        CliError::with_hint(why, hint)
    })
}

async fn entries(place: &Place, pod: Option<&str>, out: &Output) -> Result<ExitCode, CliError> {
    let world = place.world(pod).await?;
    let all = known(&world, &world.answers.entries)?;
    let mut shown = match pod {
        None => all.clone(),
        Some(pod) => {
            let pod = place.pod(&world, pod, out)?;
            let explained = spire::explain(&world, pod, None, Sight::nothing("not looked at"));
            explained.matching.into_iter().map(|one| one.compared.entry).collect()
        }
    };
    shown.sort_by(|one, other| (&one.spiffe_id, &one.id).cmp(&(&other.spiffe_id, &other.id)));
    if out.json() {
        out.value(&shown)?;
    } else {
        out.line(text::entries(&shown, world.now_s, columns()).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn bundles(place: &Place, out: &Output) -> Result<ExitCode, CliError> {
    let world = place.world(None).await?;
    let all = known(&world, &world.answers.bundles)?;
    if out.json() {
        out.value(all)?;
    } else {
        out.line(text::bundles(all, world.now_s, columns()).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A pod whose certificate is looked at.
struct Watched {
    namespace: String,
    pod: String,
    world: World,
    svid: spire::SvidView,
}

/// The certificate that a pod shows.
async fn seen(place: &Place, pod: &str, port: Option<u16>, out: &Output) -> Result<Watched, CliError> {
    out.progress("asking the cluster and its SPIRE server");
    let world = place.world(Some(pod)).await?;
    let pod = place.pod(&world, pod, out)?;
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let sight = look(place, &world, &[pod], out)
        .await?
        .remove(&(namespace.clone(), name.clone()))
        .unwrap_or_else(|| Sight::nothing("not looked at"));
    let mut all = sight.svids.iter();
    let svid = match port {
        Some(port) => all.find(|svid| svid.port == port),
        None => sight.svid().or(sight.svids.first()),
    };
    let Some(svid) = svid.cloned() else {
        let why = match port {
            Some(port) if !sight.svids.is_empty() => {
                let ports: Vec<String> = sight.svids.iter().map(|svid| svid.port.to_string()).collect();
                format!("it shows none on port {port}, but on {}", ports.join(", "))
            }
            _ => sight.because,
        };
        return Err(CliError::with_hint(
            format!("no certificate of {namespace}/{name} was seen: {why}"),
            format!("`ztlab identity explain {name}` says what it may have; a file is shown with --cert"),
        ));
    };
    Ok(Watched {
        namespace,
        pod: name,
        world,
        svid,
    })
}

/// A certificate as JSON.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    svid: Option<&'a spire::SvidView>,
    holds: bool,
    certificates: Vec<crate::identity::x509::Inspection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    belief: Option<spire::Belief>,
}
