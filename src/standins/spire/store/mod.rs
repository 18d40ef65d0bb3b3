//! The server's memory: state and keys in two files, each replaced whole, so that it is never found half written.

mod file;
mod model;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use file::FileError;
pub use model::*;

use crate::refusal::Refusal;

/// Private keys by authority id: PKCS#8, DER.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Keys(BTreeMap<String, Key>);

#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Key(#[serde(with = "model::base64_bytes")] Vec<u8>);

impl Keys {
    /// The key of the authority `id`.
    pub fn get(&self, id: &str) -> Option<&[u8]> {
        self.0.get(id).map(|key| key.0.as_slice())
    }

    /// Remembers the key of the authority `id`.
    pub fn insert(&mut self, id: String, pkcs8: Vec<u8>) {
        self.0.insert(id, Key(pkcs8));
    }

    /// Forgets all keys but those of `ids`.
    pub fn retain(&mut self, ids: &dyn Fn(&str) -> bool) {
        self.0.retain(|id, _| ids(id));
    }
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The state.
    pub state: PathBuf,
    /// The keys; none to keep them in memory, where they are lost with the process.
    pub keys: Option<PathBuf>,
}

impl Places {
    /// Both files in `data_dir`.
    pub fn in_directory(data_dir: &Path) -> Self {
        Self {
            state: data_dir.join("datastore.json"),
            keys: Some(data_dir.join("keys.json")),
        }
    }
}

struct Held {
    state: State,
    keys: Keys,
}

/// The state, its keys and their files.
pub struct Store {
    held: Mutex<Held>,
    places: Places,
    changes: watch::Sender<u64>,
}

impl Store {
    /// Reads what is there; an absent file is an empty state.
    pub fn open(places: Places) -> Result<Self, FileError> {
        let state: State = file::read(&places.state)?.unwrap_or_default();
        let keys: Keys = match &places.keys {
            Some(path) => file::read(path)?.unwrap_or_default(),
            None => Keys::default(),
        };
        let (changes, _) = watch::channel(state.revision);
        Ok(Self {
            held: Mutex::new(Held { state, keys }),
            places,
            changes,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere leaves the old state in place: `update` swaps it at the end only.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.held().state)
    }

    /// Looks at state and keys.
    pub fn read_keys<T>(&self, look: impl FnOnce(&State, &Keys) -> T) -> T {
        let held = self.held();
        look(&held.state, &held.keys)
    }

    /// Changes the state: all of it or, where `change` refuses or the disk does, nothing of it. What has been answered
    /// is on the disk.
    pub fn update<T>(&self, change: impl FnOnce(&mut State) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.update_keys(|state, _| change(state))
    }

    /// The same for state and keys. Keys are written first: a key without an authority does no harm.
    pub fn update_keys<T>(
        &self,
        change: impl FnOnce(&mut State, &mut Keys) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut held = self.held();
        let mut state = held.state.clone();
        let mut keys = held.keys.clone();
        let answer = change(&mut state, &mut keys)?;
        if let Some(path) = &self.places.keys
            && keys.0.keys().ne(held.keys.0.keys())
        {
            file::write(path, &keys).map_err(unwritten)?;
        }
        if state != held.state {
            state.revision += 1;
            file::write(&self.places.state, &state).map_err(unwritten)?;
        }
        self.changes.send_replace(state.revision);
        *held = Held { state, keys };
        Ok(answer)
    }

    /// The state's revision, and each that follows.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn unwritten(error: FileError) -> Refusal {
    Refusal::internal(format!("nothing was changed: {error}"))
}
