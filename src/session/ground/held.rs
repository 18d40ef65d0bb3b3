//! What the session's own handshakes showed of who is who: beside the captures, never from them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    capture::{Held, Identities, Names},
    check::Evidence,
    posture::{Memory, judge::PATIENCE},
    probe::{self, ProbeKind, ProbeRequest, StartTls, TlsOptions, TlsProbe},
};

/// How long a server is not asked again.
const AGAIN: Duration = Duration::from_secs(60);
/// Servers that are asked in that time.
const SERVERS: usize = 64;

/// What is known of a lab's cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    identities: Identities,
    asked: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Known {
    pub fn held(&self, end: SocketAddr, ts_ns: u64, names: &Names) -> Option<Held> {
        self.identities.held(end, ts_ns, names)
    }

    /// Takes in what the probes of a check were shown.
    pub fn learn(&self, evidence: &Evidence, memory: &Memory, names: &Names) {
        match evidence {
            Evidence::Probes(probes) => {
                for probe in std::iter::once(&probes.probe).chain(&probes.control) {
                    self.identities.learn(probe, names);
                }
            }
            Evidence::Flow {
                probes: Some(probes), ..
            } => {
                self.identities.learn(&probes.0, names);
                self.identities.learn(&probes.1, names);
            }
            Evidence::Posture(_) => memory
                .shown()
                .iter()
                .for_each(|probe| self.identities.learn(probe, names)),
            _ => {}
        }
    }

    /// Whether a server may be asked now; it counts as asked then.
    fn may_ask(&self, server: SocketAddr) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, at| at.elapsed() < AGAIN);
        if asked.len() >= SERVERS || asked.contains_key(&server) {
            return false;
        }
        asked.insert(server, Instant::now());
        true
    }

    /// Asks a server for its certificate, from a pod that speaks with it. What does not work out is not known.
    pub async fn look_at(
        &self,
        client: &kube::Client,
        (namespace, pod): (&str, &str),
        server: SocketAddr,
        names: &Names,
    ) {
        if !self.may_ask(server) {
            return;
        }
        for starttls in [None, Some(StartTls::Postgres)] {
            let kind = ProbeKind::Tls(TlsProbe {
                host: server.ip().to_string(),
                port: server.port(),
                starttls,
                tls: TlsOptions::default(),
            });
            let request = ProbeRequest {
                timeout: PATIENCE,
                ..ProbeRequest::new(namespace.to_owned(), pod.to_owned(), kind)
            };
            match probe::run(client, request).await {
                Ok(shown) if shown.tls.as_ref().is_some_and(|tls| !tls.certificates.is_empty()) => {
                    self.identities.learn(&shown, names);
                    return;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_not_asked_over_and_over() {
        let known = Known::default();
        let server = |port| SocketAddr::from(([10, 0, 0, 1], port));
        assert!(known.may_ask(server(443)));
        assert!(!known.may_ask(server(443)));
        let more = (1000..2000).filter(|port| known.may_ask(server(*port))).count();
        assert_eq!(more, SERVERS - 1);
    }
}
