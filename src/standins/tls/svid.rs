//! TLS with SVIDs of the Workload API: no key and no certificate comes from a file, a Secret or the environment.
//!
//! | variable | meaning |
//! |---|---|
//! | `SPIFFE_ENDPOINT_SOCKET` | where the Workload API is: `unix:///spiffe-workload-api/spire-agent.sock` |
//! | `TLS_AUTHORIZED_IDS` | who may call: SPIFFE IDs, or paths that end with `/*`; `none` for nobody |
//! | `TLS_UPSTREAM_AUTHORIZED_IDS` | whom the service calls: the same |

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use ztlab_spire::workload::{Address, State, VARIABLE, WorkloadSource};

use super::{TlsError, Versions, reason::note};
use crate::{
    identity::{Authorizer, Source, X509Context, tls::MutualTls},
    standins::log::{Log, bounded},
};

/// Settings that say the same in another way: a service has one identity.
const FILES: [&str; 7] = [
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "TLS_CLIENT_CA_FILE",
    "TLS_CLIENT_AUTH",
    "TLS_UPSTREAM_CA_FILE",
    "TLS_UPSTREAM_CERT_FILE",
    "TLS_UPSTREAM_KEY_FILE",
];
const CALLERS: &str = "TLS_AUTHORIZED_IDS";
const CALLED: &str = "TLS_UPSTREAM_AUTHORIZED_IDS";

/// How a service uses its SVID.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the Workload API is.
    pub address: Address,
    /// Who may call.
    pub callers: Authorizer,
    /// Whom it calls, where it calls anyone.
    pub called: Option<Authorizer>,
    /// Which versions of TLS are spoken.
    pub versions: Versions,
}

/// Reads the settings; nothing where there is no Workload API.
///
/// # Errors
/// Settings that do not go together, or cannot be read.
pub fn settings(variables: &dyn Fn(&str) -> Option<String>, versions: Versions) -> Result<Option<Settings>, String> {
    let Some(address) = variables(VARIABLE) else {
        return match [CALLERS, CALLED].into_iter().find(|name| variables(name).is_some()) {
            Some(name) => Err(format!(
                "{name} needs {VARIABLE}: SPIFFE IDs are proved by SVIDs of the Workload API"
            )),
            None => Ok(None),
        };
    };
    if let Some(name) = FILES.into_iter().find(|name| variables(name).is_some()) {
        return Err(format!(
            "{name} is set beside {VARIABLE}: a service has one identity, so take one of them away"
        ));
    }
    let Some(callers) = rules(variables, CALLERS)? else {
        return Err(format!(
            "{VARIABLE} needs {CALLERS}: the SPIFFE IDs that may call, or `none`, since nobody may by default"
        ));
    };
    Ok(Some(Settings {
        address: address.parse().map_err(|error| format!("{VARIABLE}: {error}"))?,
        callers,
        called: rules(variables, CALLED)?,
        versions,
    }))
}

fn rules(variables: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<Authorizer>, String> {
    match variables(name) {
        None => Ok(None),
        Some(text) if text.trim() == "none" => Ok(Some(Authorizer::deny_all())),
        Some(text) => text.parse().map(Some).map_err(|error| format!("{name}: {error}")),
    }
}

/// A service's SVIDs, kept current while it lives.
pub struct Identity {
    source: Arc<dyn Source>,
    settings: Settings,
    log: Log,
}

impl Identity {
    /// Waits for the first SVID; the log tells what it waits for. A service without an identity is not ready to serve.
    ///
    /// # Errors
    /// When the Workload API will give none.
    pub async fn awaited(settings: Settings, log: &Log) -> Result<Identity, String> {
        let source = Arc::new(WorkloadSource::start(settings.address.clone()));
        tokio::spawn(told(source.state(), Arc::downgrade(&source), log.clone()));
        source.ready().await.map_err(|error| error.to_string())?;
        Ok(Identity::of(source, settings, log))
    }

    /// With the SVIDs of `source`.
    pub fn of(source: Arc<dyn Source>, settings: Settings, log: &Log) -> Identity {
        Identity {
            source,
            settings,
            log: log.clone(),
        }
    }

    /// How callers are let in; `protocols` are spoken inside.
    ///
    /// # Errors
    /// What the library finds wrong.
    pub fn server(&self, protocols: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let mut config = self.mutual(&self.settings.callers, "caller").server()?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }

    /// How other services are called, where any may be.
    ///
    /// # Errors
    /// What the library finds wrong.
    pub fn client(&self) -> Result<Option<ClientConfig>, TlsError> {
        match &self.settings.called {
            None => Ok(None),
            Some(called) => Ok(Some(self.mutual(called, "service that was called").client()?)),
        }
    }

    fn mutual(&self, rules: &Authorizer, whom: &'static str) -> MutualTls {
        let log = self.log.clone();
        MutualTls::new(self.source.clone(), rules.clone())
            .with_versions(self.settings.versions.list())
            .telling(move |refusal| {
                if let Err(reason) = note(bounded(&refusal.to_string())) {
                    log.warn(&format!("{whom} refused: {reason}"));
                }
            })
    }
}

/// Tells the log what the Workload API gives, until the source is let go.
async fn told(mut state: tokio::sync::watch::Receiver<State>, source: std::sync::Weak<WorkloadSource>, log: Log) {
    while state.changed().await.is_ok() {
        let now = state.borrow_and_update().clone();
        match now {
            State::Connecting => {}
            State::Current(_) => {
                if let Some(context) = source.upgrade().and_then(|source| source.current()) {
                    log.info(&line(&context));
                }
            }
            State::NoIdentity(reason) => log.warn(&bounded(&format!("no X.509-SVID: {reason}; asking again"))),
            State::Unreachable(reason) | State::Failed(reason) => log.warn(&bounded(&reason)),
        }
    }
}

/// One line about the SVID that is shown from now on.
fn line(context: &X509Context) -> String {
    let leaf = context.default_svid().leaf();
    let until = leaf.validity().not_after;
    let until = jiff::Timestamp::from_second(until).map_or_else(|_| format!("second {until}"), |time| time.to_string());
    let domains: Vec<_> = context
        .bundles()
        .iter()
        .map(|it| it.trust_domain().to_string())
        .collect();
    bounded(&format!(
        "X.509-SVID {} (serial {}), issued by {}, until {until}; bundles of {}",
        leaf.id(),
        leaf.serial(),
        leaf.issuer(),
        domains.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: (&str, &str) = (VARIABLE, "unix:///spiffe/agent.sock");

    fn read(set: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let variables = |name: &str| {
            let found = set.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        settings(&variables, Versions::Both)
    }

    #[test]
    fn nothing_without_a_workload_api() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("TLS_CERT_FILE", "/c")]).unwrap(), None);
    }

    #[test]
    fn who_may_call_and_whom_it_calls() {
        let rule = "spiffe://shop.test/ns/shop/sa/orders-api";
        let settings = read(&[SOCKET, (CALLERS, rule)]).unwrap().unwrap();
        assert_eq!(settings.callers, rule.parse().unwrap());
        assert_eq!(settings.called, None);
        let settings = read(&[SOCKET, (CALLERS, " none "), (CALLED, rule)]).unwrap().unwrap();
        assert_eq!(settings.callers, Authorizer::deny_all());
        assert_eq!(settings.called, Some(rule.parse().unwrap()));
    }

    #[test]
    fn half_of_a_setting_and_two_identities_are_refused() {
        for (set, part) in [
            (&[SOCKET][..], "needs TLS_AUTHORIZED_IDS"),
            (&[(CALLERS, "none")], "needs SPIFFE_ENDPOINT_SOCKET"),
            (&[(CALLED, "none")], "needs SPIFFE_ENDPOINT_SOCKET"),
            (
                &[SOCKET, (CALLERS, "none"), ("TLS_CERT_FILE", "/c")],
                "TLS_CERT_FILE is set beside",
            ),
            (
                &[SOCKET, (CALLERS, "none"), ("TLS_UPSTREAM_CA_FILE", "/c")],
                "one identity",
            ),
            (&[SOCKET, (CALLERS, "*")], "TLS_AUTHORIZED_IDS: \"*\" is no rule"),
            (&[SOCKET, (CALLERS, "spiffe://shop.test")], "is a trust domain"),
            (
                &[(VARIABLE, "/agent.sock"), (CALLERS, "none")],
                "unix:///path/to/socket",
            ),
        ] {
            let error = read(set).unwrap_err();
            assert!(error.contains(part), "{set:?}: {error}");
        }
    }
}
