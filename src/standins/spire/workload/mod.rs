//! The client of the SPIFFE Workload API: a [`WorkloadSource`] keeps a workload's X.509-SVIDs and bundles current.
//!
//! It follows the answers of `FetchX509SVID` for as long as it lives. Each answer is complete and takes the place of the one
//! before: what is absent is redacted (SPIFFE Workload API sections 4.3 and 4.4). While the agent cannot be reached, the last
//! answer stays, and ends by expiring; when the agent says that the workload has no identity, it is dropped at once.
//!
//! ```text
//!   connect ──> stream ──answer──> Current ──> connect, at once
//!     ^           ├── PermissionDenied ──────> NoIdentity ──┐
//!     │           ├── InvalidArgument,                      │ longer and longer
//!     │           │   Unimplemented ─────────> Failed, end  │
//!     └───────────┴── anything else ─────────> Unreachable ─┤
//!     ^                                                     │
//!     └─────────────────────────────────────────────────────┘
//! ```
//!
//! Why not the crate `spiffe`, which does this too: its types would stand beside those of `ztlab-identity`, which the tests of
//! the standards hold to account, and every SVID would be read twice; its rustls half lets in anyone by default; and its minor
//! versions break. It is what proves the agent from outside (see the tests of the agent).

mod address;
mod backoff;
mod client;
mod message;

use std::sync::Arc;

use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Code, Status};
use tracing::{info, warn};
use ztlab_identity::{Live, Source, SpiffeId, X509Context};

pub use address::{Address, AddressError, VARIABLE};
pub use client::{Client, Updates};
pub use message::MessageError;

use backoff::Backoff;

/// Why the Workload API gives no answer that can be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// Nobody listens there.
    #[error(
        "the Workload API at {address} cannot be reached: {reason}; look whether the agent runs and its socket is mounted"
    )]
    Unreachable {
        /// Where.
        address: Address,
        /// What the system says.
        reason: String,
    },
    /// The agent refused.
    #[error("the Workload API answered {}: {}", code(.0), .0.message())]
    Refused(#[from] Box<Status>),
    /// The agent's answer breaks the standard's rules.
    #[error(transparent)]
    Message(#[from] MessageError),
}

fn code(status: &Status) -> String {
    format!("{:?}", status.code())
}

/// What a [`WorkloadSource`] has at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No answer yet.
    Connecting,
    /// The answer of this number is current, counted from 1; each has another.
    Current(u64),
    /// The workload has no identity: no registration entry matches it (yet).
    NoIdentity(String),
    /// The agent cannot be reached, or its answer cannot be used; what was current before stays so until it expires.
    Unreachable(String),
    /// The agent does not speak this API, or takes the request for wrong. It is not asked again.
    Failed(String),
}

/// Why there will be no identity to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no X.509-SVID comes from the Workload API: {0}")]
pub struct Ended(pub String);

/// Keeps a workload's SVIDs and bundles current while it lives. Asks again when the agent is restarted, or gives an identity
/// only later.
#[derive(Debug)]
pub struct WorkloadSource {
    live: Arc<Live>,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl WorkloadSource {
    /// Begins to ask the Workload API at `address`. Must be called within a runtime.
    pub fn start(address: Address) -> WorkloadSource {
        let live = Arc::new(Live::default());
        let (said, state) = watch::channel(State::Connecting);
        let follower = Follower {
            client: Client::new(address),
            live: Arc::clone(&live),
            said,
            answers: 0,
            ids: Vec::new(),
        };
        let task = tokio::spawn(follower.follow());
        WorkloadSource { live, state, task }
    }

    /// Waits until there is an identity. How long is the caller's to say.
    ///
    /// # Errors
    /// [`Ended`], when the agent will not be asked again.
    pub async fn ready(&self) -> Result<Arc<X509Context>, Ended> {
        let mut state = self.state.clone();
        loop {
            if let Some(context) = self.current() {
                return Ok(context);
            }
            if let State::Failed(reason) = &*state.borrow_and_update() {
                return Err(Ended(reason.clone()));
            }
            if state.changed().await.is_err() {
                return Err(Ended("it is no longer asked".to_owned()));
            }
        }
    }

    /// What there is at the moment, and each change of it.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl Source for WorkloadSource {
    fn current(&self) -> Option<Arc<X509Context>> {
        self.live.current()
    }
}

impl Drop for WorkloadSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task that follows the answers.
struct Follower {
    client: Client,
    live: Arc<Live>,
    said: watch::Sender<State>,
    answers: u64,
    /// What the log was told of last.
    ids: Vec<SpiffeId>,
}

impl Follower {
    async fn follow(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let before = self.answers;
            let error = match self.client.x509_contexts().await {
                Ok(updates) => self.take(updates).await,
                Err(error) => error,
            };
            if !self.goes_on(&error) {
                return;
            }
            if self.answers > before {
                backoff = Backoff::default();
            }
            backoff.wait().await;
        }
    }

    /// Takes answers until there are no more.
    async fn take(&mut self, mut updates: Updates) -> WorkloadError {
        loop {
            match updates.next().await {
                Ok(context) => self.current(context),
                // Section 4.5: the message is reported and discarded; the stream goes on.
                Err(WorkloadError::Message(error)) => {
                    warn!("{error}");
                    self.say(State::Unreachable(error.to_string()));
                }
                Err(error) => return error,
            }
        }
    }

    fn current(&mut self, context: X509Context) {
        let ids: Vec<SpiffeId> = context.svids().iter().map(|svid| svid.id().clone()).collect();
        if ids != self.ids {
            info!("identity {ids:?} from the Workload API");
            self.ids = ids;
        }
        self.live.set(Some(context));
        self.answers += 1;
        self.say(State::Current(self.answers));
    }

    /// Whether the agent is to be asked again after this (SPIFFE Workload Endpoint section 6).
    fn goes_on(&mut self, error: &WorkloadError) -> bool {
        let told = error.to_string();
        match error {
            WorkloadError::Refused(status) => match status.code() {
                Code::PermissionDenied => {
                    // Section 5.2.1: all SVIDs are redacted.
                    self.live.set(None);
                    self.ids.clear();
                    self.say(State::NoIdentity(status.message().to_owned()));
                }
                Code::InvalidArgument | Code::Unimplemented => {
                    warn!("{told}");
                    self.say(State::Failed(told));
                    return false;
                }
                _ => self.say(State::Unreachable(told)),
            },
            _ => self.say(State::Unreachable(told)),
        }
        true
    }

    fn say(&self, state: State) {
        self.said.send_if_modified(|before| {
            let other = *before != state;
            *before = state;
            other
        });
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
