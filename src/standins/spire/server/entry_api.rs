//! `spire.api.server.entry.v1.Entry`.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use ztlab_identity::SpiffeId;

use super::{
    Core,
    authorization::calling_agent,
    page::{MOST_ITEMS, page},
};
use crate::{
    api::{
        entry::{entry_server::Entry as EntryService, *},
        types,
    },
    convert,
    entries::{self, Filter},
    refusal::{Refusal, fine, refused},
    store::State,
};

/// An agent of ours names the revision it knows here, and is answered when there is a newer one, or after a while.
pub const KNOWN_REVISION: &str = "x-ztlab-known-revision";
/// The revision that an answer shows.
pub const REVISION: &str = "x-ztlab-revision";
/// How long an agent that knows everything waits for an answer.
const HELD: Duration = Duration::from_secs(5);
/// Up to so many entries are sent in full without being asked for one by one.
const SENT_IN_FULL: usize = 500;

/// The service.
pub struct EntryApi(pub Arc<Core>);

impl EntryApi {
    fn authorized(&self, agent: &SpiffeId, mask: Option<&types::EntryMask>) -> (u64, Vec<types::Entry>) {
        let now = self.0.clock.now();
        self.0.store.read(|state| {
            let found = entries::authorized(state, agent, now);
            (
                state.revision,
                found
                    .into_iter()
                    .map(|entry| convert::masked_entry(entry, mask))
                    .collect(),
            )
        })
    }

    fn create_one(
        &self,
        state: &mut State,
        message: &types::Entry,
        mask: Option<&types::EntryMask>,
    ) -> batch_create_entry_response::Result {
        match entries::create(state, &self.0.trust_domain, message, self.0.clock.now()) {
            Ok(entry) => {
                let shown = convert::masked_entry(&entry, mask);
                state.entries.insert(entry.id.clone(), entry);
                batch_create_entry_response::Result {
                    status: Some(fine()),
                    entry: Some(shown),
                }
            }
            Err((refusal, similar)) => batch_create_entry_response::Result {
                status: Some(refused(&refusal)),
                entry: similar.map(|entry| convert::masked_entry(&entry, mask)),
            },
        }
    }

    fn update_one(
        &self,
        state: &mut State,
        message: &types::Entry,
        input: Option<&types::EntryMask>,
        output: Option<&types::EntryMask>,
    ) -> Result<types::Entry, Refusal> {
        if message.id.is_empty() {
            return Err(Refusal::invalid("missing entry ID"));
        }
        let mut entry = state
            .entries
            .get(&message.id)
            .cloned()
            .ok_or_else(|| Refusal::not_found("failed to update entry"))?;
        entries::apply(&mut entry, &self.0.trust_domain, message, input)
            .map_err(|refusal| refusal.while_doing("failed to convert entry"))?;
        entries::bundles_are_known(state, &entry).map_err(|refusal| refusal.while_doing("failed to update entry"))?;
        entry.revision += 1;
        let shown = convert::masked_entry(&entry, output);
        state.entries.insert(entry.id.clone(), entry);
        Ok(shown)
    }
}

fn delete_one(state: &mut State, id: &str) -> Result<(), Refusal> {
    if id.is_empty() {
        return Err(Refusal::invalid("missing entry ID"));
    }
    state
        .entries
        .remove(id)
        .map(|_| ())
        .ok_or_else(|| Refusal::not_found("entry not found"))
}

fn within_batch(count: usize) -> Result<(), Refusal> {
    if count > MOST_ITEMS {
        return Err(Refusal::invalid(format!(
            "a batch of {count} is larger than {MOST_ITEMS}; send it in parts"
        )));
    }
    Ok(())
}

#[tonic::async_trait]
impl EntryService for EntryApi {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        let filter = Filter::of_count(request.get_ref().filter.as_ref())?;
        let count = self
            .0
            .store
            .read(|state| state.entries.values().filter(|entry| filter.shows(entry)).count());
        Ok(Response::new(CountEntriesResponse {
            count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter::of_list(request.filter.as_ref())?;
        let (entries, next_page_token) = self.0.store.read(|state| {
            let shown = state.entries.iter().filter(|(_, entry)| filter.shows(entry));
            page(shown, request.page_size, &request.page_token, |entry| {
                convert::masked_entry(entry, request.output_mask.as_ref())
            })
        });
        Ok(Response::new(ListEntriesResponse {
            entries,
            next_page_token,
        }))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<types::Entry>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() {
            return Err(Status::invalid_argument("missing ID"));
        }
        let found = self.0.store.read(|state| {
            state
                .entries
                .get(&request.id)
                .map(|entry| convert::masked_entry(entry, request.output_mask.as_ref()))
        });
        found
            .map(Response::new)
            .ok_or_else(|| Status::not_found("entry not found"))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let request = request.into_inner();
        within_batch(request.entries.len())?;
        let results = self.0.store.update(|state| {
            Ok(request
                .entries
                .iter()
                .map(|message| self.create_one(state, message, request.output_mask.as_ref()))
                .collect())
        })?;
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let request = request.into_inner();
        within_batch(request.entries.len())?;
        let (input, output) = (request.input_mask.as_ref(), request.output_mask.as_ref());
        let results = self.0.store.update(|state| {
            Ok(request
                .entries
                .iter()
                .map(|message| match self.update_one(state, message, input, output) {
                    Ok(entry) => batch_update_entry_response::Result {
                        status: Some(fine()),
                        entry: Some(entry),
                    },
                    Err(refusal) => batch_update_entry_response::Result {
                        status: Some(refused(&refusal)),
                        entry: None,
                    },
                })
                .collect())
        })?;
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let ids = request.into_inner().ids;
        within_batch(ids.len())?;
        let results = self.0.store.update(|state| {
            Ok(ids
                .into_iter()
                .map(|id| {
                    let status = delete_one(state, &id).map_or_else(|refusal| refused(&refusal), |()| fine());
                    batch_delete_entry_response::Result {
                        status: Some(status),
                        id,
                    }
                })
                .collect())
        })?;
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }

    /// Answered at once, unless the agent says which revision it knows and there is no newer one yet.
    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let agent = calling_agent(&request)?;
        let known: Option<u64> = request
            .metadata()
            .get(KNOWN_REVISION)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(known) = known {
            let mut changes = self.0.store.changes();
            // Time out or news, both are answered with what there is then.
            let _ = tokio::time::timeout(HELD, changes.wait_for(|revision| *revision != known)).await;
        }
        let (revision, entries) = self.authorized(&agent, request.get_ref().output_mask.as_ref());
        let mut response = Response::new(GetAuthorizedEntriesResponse { entries });
        response.metadata_mut().insert(REVISION, revision.into());
        Ok(response)
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let agent = calling_agent(&request)?;
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("the stream ended before a request"))?;
        if !first.ids.is_empty() {
            return Err(Status::invalid_argument(
                "specifying IDs on initial request is not supported",
            ));
        }
        let mask = first.output_mask;
        if mask.as_ref().is_some_and(|mask| !mask.revision_number) {
            return Err(Status::invalid_argument("revision number cannot be masked"));
        }
        let (_, entries) = self.authorized(&agent, mask.as_ref());
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            if entries.len() <= SENT_IN_FULL {
                let all = SyncAuthorizedEntriesResponse {
                    entries,
                    ..Default::default()
                };
                let _ = sender.send(Ok(all)).await;
                return;
            }
            let revisions: Vec<EntryRevision> = entries
                .iter()
                .map(|entry| EntryRevision {
                    id: entry.id.clone(),
                    revision_number: entry.revision_number,
                    created_at: entry.created_at,
                })
                .collect();
            let first = SyncAuthorizedEntriesResponse {
                entry_revisions: revisions,
                ..Default::default()
            };
            if sender.send(Ok(first)).await.is_err() {
                return;
            }
            let by_id: BTreeMap<String, types::Entry> =
                entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
            while let Some(Ok(request)) = requests.next().await {
                let asked: Vec<types::Entry> = request.ids.iter().filter_map(|id| by_id.get(id).cloned()).collect();
                let answer = SyncAuthorizedEntriesResponse {
                    entries: asked,
                    ..Default::default()
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
