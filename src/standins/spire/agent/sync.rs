//! The agent's loop: attest, fetch what it may serve, have SVIDs signed before the old ones end.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::{Code, Status};

use super::{
    AgentError, bundle_of,
    cache::{Snapshot, Svid, renew_after},
    keys::new_key,
    server::{Own, Server},
};
use crate::{
    api::{
        svid::NewX509svidParams,
        types::{self, permission_denied_details::Reason},
    },
    clock::SharedClock,
    server::reason,
};

/// SPIRE's interval, for a server that answers at once.
const INTERVAL: Duration = Duration::from_secs(5);
/// The first pause after a failure, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Most SVIDs that are asked for at once.
const BATCH: usize = 200;
/// How long an entry that the server refused is left alone, in seconds.
const REFUSED_FOR: i64 = 5;

/// What to do after a failure.
enum Failure {
    /// The same again, later.
    Again(String),
    /// The agent has to attest anew.
    Attest(String),
    /// Nothing: the agent ends.
    End(AgentError),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let said = format!("{}: {}", status.code(), status.message());
        match (status.code(), reason(&status)) {
            (Code::PermissionDenied, Some(Reason::AgentBanned)) => Self::End(AgentError::Banned(said)),
            (Code::PermissionDenied, Some(_)) => Self::Attest(said),
            _ => Self::Again(said),
        }
    }
}

/// The loop's state.
pub struct Sync {
    server: Arc<Server>,
    clock: SharedClock,
    snapshot: Snapshot,
    published: watch::Sender<Arc<Snapshot>>,
    own: Option<(Own, i64)>,
    revision: Option<u64>,
    tainted: Vec<Vec<u8>>,
    reported: bool,
}

impl Sync {
    /// A loop that publishes to `published`.
    pub fn new(server: Arc<Server>, clock: SharedClock, published: watch::Sender<Arc<Snapshot>>) -> Self {
        Self {
            server,
            clock,
            snapshot: Snapshot::default(),
            published,
            own: None,
            revision: None,
            tainted: Vec::new(),
            reported: false,
        }
    }

    /// Runs until the agent has to end.
    pub async fn run(mut self) -> AgentError {
        let mut pause = PAUSE.0;
        loop {
            match self.turn().await {
                Ok(()) => pause = PAUSE.0,
                Err(Failure::End(error)) => return error,
                Err(Failure::Attest(why)) => {
                    tracing::warn!(%why, "the agent has to attest anew");
                    if self.own.as_ref().is_some_and(|(own, _)| !own.reattestable) {
                        return AgentError::Other(format!("the agent cannot attest again: {why}"));
                    }
                    self.own = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                Err(Failure::Again(why)) => {
                    tracing::warn!(%why, "the server was not reached; what is cached is served on");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Failure> {
        self.keep_own().await?;
        let until = Duration::from_secs(u64::try_from(self.next_due() - self.clock.now()).unwrap_or(0));
        let known = self.revision;
        let server = Arc::clone(&self.server);
        // What is due does not wait for news.
        let news = tokio::select! {
            news = server.entries(known) => Some(news?),
            () = tokio::time::sleep(until) => None,
        };
        let mut changed = false;
        if let Some((entries, revision)) = news {
            changed |= self.snapshot.set_entries(entries);
            changed |= self.fetch_bundles().await?;
            self.revision = revision;
        }
        changed |= self.sign().await?;
        if changed {
            self.published.send_replace(Arc::new(self.snapshot.clone()));
        }
        if !self.reported {
            let sequence = self
                .snapshot
                .bundle
                .as_ref()
                .and_then(ztlab_identity::Bundle::sequence)
                .unwrap_or(0);
            match self.server.post_status(sequence, VERSION).await {
                // SPIRE 1.13's server lets nobody call it. A refusal of this agent itself has a reason.
                Err(status) if matches!((status.code(), reason(&status)), (Code::PermissionDenied, None)) => {
                    tracing::info!(
                        why = status.message(),
                        "the server does not want to know the agent's version"
                    );
                }
                told => told?,
            }
            self.reported = true;
        }
        if self.revision.is_none() {
            tokio::time::sleep(INTERVAL.min(until.max(PAUSE.0))).await;
        }
        Ok(())
    }

    /// Attests in the beginning and after the SVID ended, and renews it at half its life.
    async fn keep_own(&mut self) -> Result<(), Failure> {
        let now = self.clock.now();
        let own = match &self.own {
            Some((_, renew)) if now < *renew => return Ok(()),
            Some((own, _)) if own.expires_at > now && !own.reattestable => self.server.renew().await,
            Some((own, _)) if !own.reattestable => {
                let why = "the agent's SVID ended before it was renewed, and what let it in is good only once";
                return Err(Failure::End(AgentError::Other(why.into())));
            }
            _ => self.server.attest().await,
        };
        match own {
            Ok(own) => {
                let renew = renew_after(now, own.valid_from, own.expires_at, rand::random());
                self.own = Some((own, renew));
                // Where nothing is known yet, the first answer is wanted at once.
                self.revision = None;
                Ok(())
            }
            Err(error) => match &mut self.own {
                // The old one still holds: no reason to stop serving, and a short while until the next attempt.
                Some((own, renew)) if own.expires_at > now + 1 => {
                    tracing::warn!(%error, "the agent's SVID was not renewed; it is tried again");
                    *renew = now + ((own.expires_at - now) / 4).clamp(1, 5);
                    Ok(())
                }
                known => Err(match error {
                    AgentError::Rpc(status) if status.message().contains("banned") => {
                        Failure::End(AgentError::Banned(status.message().to_owned()))
                    }
                    // What proved the node is not taken: the same again proves no more.
                    error @ AgentError::Rpc(_) if known.is_some() || !refused(&error) => {
                        Failure::Again(error.to_string())
                    }
                    error @ AgentError::File { .. } => Failure::Again(error.to_string()),
                    error => Failure::End(error),
                }),
            },
        }
    }

    fn next_due(&self) -> i64 {
        let own = self.own.as_ref().map(|(_, renew)| *renew);
        let soon = self.clock.now() + i64::try_from(INTERVAL.as_secs() * 2).unwrap_or(10);
        own.into_iter().chain(self.snapshot.next_due()).min().unwrap_or(soon)
    }

    async fn fetch_bundles(&mut self) -> Result<bool, Failure> {
        let message = self.server.bundle().await?;
        let bundle = bundle_of(&message).map_err(|error| Failure::Again(error.to_string()))?;
        self.server.trust(bundle.x509().clone());
        self.tainted = message
            .x509_authorities
            .iter()
            .filter(|one| one.tainted)
            .map(|one| one.asn1.clone())
            .collect();
        let mut foreign = std::collections::BTreeMap::new();
        for name in self.snapshot.federates_with() {
            match self.server.foreign_bundle(name.clone()).await {
                Ok(message) => match bundle_of(&message) {
                    Ok(bundle) => {
                        foreign.insert(bundle.trust_domain().clone(), bundle);
                    }
                    Err(error) => tracing::warn!(trust_domain = name, %error, "a foreign bundle cannot be used"),
                },
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status.into()),
            }
        }
        let changed = self.snapshot.bundle.as_ref() != Some(&bundle) || self.snapshot.foreign != foreign;
        self.snapshot.bundle = Some(bundle);
        self.snapshot.foreign = foreign;
        Ok(changed)
    }

    /// Has SVIDs signed for the entries that need one. Whether any was.
    async fn sign(&mut self) -> Result<bool, Failure> {
        self.drop_tainted();
        let now = self.clock.now();
        let due: Vec<String> = self
            .snapshot
            .due(now)
            .into_iter()
            .map(|cached| cached.entry.id.clone())
            .collect();
        let mut any = false;
        for ids in due.chunks(BATCH) {
            let mut keys = Vec::with_capacity(ids.len());
            let mut params = Vec::with_capacity(ids.len());
            for id in ids {
                let key = new_key(None).map_err(|error| Failure::Again(format!("no key could be made: {error}")))?;
                params.push(NewX509svidParams {
                    entry_id: id.clone(),
                    csr: key.csr,
                });
                keys.push(key.pkcs8);
            }
            let results = self.server.new_x509(params).await?;
            for ((id, key), (status, svid)) in ids.iter().zip(keys).zip(results) {
                any |= self.take(id, key, &status, svid, now);
            }
        }
        Ok(any)
    }

    fn take(
        &mut self,
        id: &str,
        key: Vec<u8>,
        status: &types::Status,
        svid: Option<types::X509svid>,
        now: i64,
    ) -> bool {
        let Some(cached) = self.snapshot.entries.get_mut(id) else {
            return false;
        };
        let svid = svid.filter(|_| status.code == 0);
        match svid.and_then(|svid| Some((valid_from(svid.cert_chain.first()?)?, svid))) {
            Some((valid_from, svid)) => {
                cached.svid = Some(Arc::new(Svid {
                    chain: svid.cert_chain.concat(),
                    key,
                    expires_at: svid.expires_at,
                    renew_at: renew_after(now, valid_from, svid.expires_at, rand::random()),
                }));
                cached.retry_at = now + 1;
                true
            }
            _ => {
                tracing::warn!(entry = id, reason = status.message, "the server signed no SVID");
                cached.retry_at = now + REFUSED_FOR;
                false
            }
        }
    }

    /// SVIDs that a suspect authority signed are replaced at once.
    fn drop_tainted(&mut self) {
        if self.tainted.is_empty() {
            return;
        }
        let now = self.clock.now();
        for cached in self.snapshot.entries.values_mut() {
            let Some(svid) = &cached.svid else { continue };
            if svid.renew_at > now && self.tainted.iter().any(|authority| signed_by(&svid.chain, authority)) {
                cached.svid = Some(Arc::new(Svid {
                    renew_at: now,
                    ..Svid::clone(svid)
                }));
            }
        }
    }
}

/// Whether the server judged, and not in the agent's favour.
fn refused(error: &AgentError) -> bool {
    let judged = [Code::InvalidArgument, Code::PermissionDenied, Code::FailedPrecondition];
    matches!(error, AgentError::Rpc(status) if judged.contains(&status.code()))
}

/// The first second of a certificate's validity, of the Unix epoch; `None` for what is no certificate.
pub(super) fn valid_from(leaf: &[u8]) -> Option<i64> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
    Some(leaf.validity().not_before.timestamp())
}

fn signed_by(chain: &[u8], authority: &[u8]) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (Ok((_, leaf)), Ok((_, authority))) = (X509Certificate::from_der(chain), X509Certificate::from_der(authority))
    else {
        return false;
    };
    leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// What the agent calls itself at the server.
pub const VERSION: &str = concat!("1.15.3-ztlab-stand-in-", env!("CARGO_PKG_VERSION"));
