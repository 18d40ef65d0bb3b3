//! The server's entry API, as far as entries are kept in step by it.

use std::path::PathBuf;

use async_trait::async_trait;
use tonic::{Code, Status, transport::Channel};

use crate::{
    api::{
        entry::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, ListEntriesRequest,
            entry_client::EntryClient,
        },
        types,
    },
    transport,
};

/// Entries of a page, and of a batch that deletes.
const PAGE: usize = 200;
/// Entries of a batch that creates or updates.
const BATCH: usize = 50;
/// Most entries that are listed.
const MOST_ENTRIES: usize = 100_000;

/// Why one entry of a batch was refused; none for one that was not.
pub type Refused = Option<String>;

/// Where registration entries are kept.
#[async_trait]
pub trait Entries: Send + Sync {
    /// All entries.
    async fn list(&self) -> Result<Vec<types::Entry>, Status>;
    /// Makes entries; an answer for each.
    async fn create(&self, entries: Vec<types::Entry>) -> Result<Vec<Refused>, Status>;
    /// Changes entries; an answer for each.
    async fn update(&self, entries: Vec<types::Entry>) -> Result<Vec<Refused>, Status>;
    /// Deletes entries by their ids; an answer for each.
    async fn delete(&self, ids: Vec<String>) -> Result<Vec<Refused>, Status>;
}

/// The server at the other end of its admin socket.
#[derive(Debug, Clone)]
pub struct Server(EntryClient<Channel>);

impl Server {
    /// The server whose admin socket is at `path`; it is connected to when it is first asked.
    pub fn at(path: PathBuf) -> Self {
        Self(EntryClient::new(transport::over_unix(path)))
    }
}

#[async_trait]
impl Entries for Server {
    async fn list(&self) -> Result<Vec<types::Entry>, Status> {
        let mut client = self.0.clone();
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListEntriesRequest {
                page_size: i32::try_from(PAGE).unwrap_or(i32::MAX),
                page_token,
                ..ListEntriesRequest::default()
            };
            let page = client.list_entries(request).await?.into_inner();
            entries.extend(page.entries);
            if page.next_page_token.is_empty() {
                return Ok(entries);
            }
            if entries.len() > MOST_ENTRIES {
                return Err(Status::resource_exhausted(format!(
                    "the server has more than {MOST_ENTRIES} entries"
                )));
            }
            page_token = page.next_page_token;
        }
    }

    async fn create(&self, entries: Vec<types::Entry>) -> Result<Vec<Refused>, Status> {
        let mut answers = Vec::new();
        for entries in batches(entries, BATCH) {
            let request = BatchCreateEntryRequest {
                entries,
                output_mask: Some(types::EntryMask::default()),
            };
            let results = self.0.clone().batch_create_entry(request).await?.into_inner().results;
            answers.extend(results.into_iter().map(|result| refused(result.status)));
        }
        Ok(answers)
    }

    async fn update(&self, entries: Vec<types::Entry>) -> Result<Vec<Refused>, Status> {
        let mut answers = Vec::new();
        for entries in batches(entries, BATCH) {
            let request = BatchUpdateEntryRequest {
                entries,
                // What somebody else may have set, as when the entry ends, is not ours to change.
                input_mask: Some(types::EntryMask {
                    x509_svid_ttl: true,
                    jwt_svid_ttl: true,
                    federates_with: true,
                    admin: true,
                    downstream: true,
                    dns_names: true,
                    hint: true,
                    store_svid: true,
                    ..types::EntryMask::default()
                }),
                output_mask: Some(types::EntryMask::default()),
            };
            let results = self.0.clone().batch_update_entry(request).await?.into_inner().results;
            answers.extend(results.into_iter().map(|result| refused(result.status)));
        }
        Ok(answers)
    }

    async fn delete(&self, ids: Vec<String>) -> Result<Vec<Refused>, Status> {
        let mut answers = Vec::new();
        for ids in batches(ids, PAGE) {
            let request = BatchDeleteEntryRequest { ids };
            let results = self.0.clone().batch_delete_entry(request).await?.into_inner().results;
            answers.extend(results.into_iter().map(|result| refused(result.status)));
        }
        Ok(answers)
    }
}

fn batches<T>(mut items: Vec<T>, size: usize) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let rest = items.split_off(size.min(items.len()));
        let batch = std::mem::replace(&mut items, rest);
        (!batch.is_empty()).then_some(batch)
    })
}

fn refused(status: Option<types::Status>) -> Refused {
    let status = status.unwrap_or_default();
    match Code::from(status.code) {
        Code::Ok => None,
        code => Some(format!("{code:?}: {}", status.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_together_are_the_whole() {
        let sizes: Vec<usize> = batches((0..7).collect(), 3)
            .map(|batch: Vec<i32>| batch.len())
            .collect();
        assert_eq!(sizes, [3, 3, 1]);
        assert_eq!(batches(Vec::<i32>::new(), 3).count(), 0);
    }
}
