//! What a snapshot holds of volumes: their files. Blocking.
//!
//! In the directory of snapshots:
//!
//! | name | holds |
//! |---|---|
//! | `NAME.snapshot` | the objects, and the names of the trees that go with them |
//! | `trees/ID` | the files of one volume at one moment; never changed, shared by the snapshots between which they did not |
//! | `staged/ID` | copies that a restore is about to put in the place of volumes |
//! | `old/ID` | what was in their place |
//! | `restoring` | what a restore is about to do |
//!
//! A restore copies first, into `staged`. Once `restoring` is written it is done to its end, by the next start if need be: the
//! objects are written, and directories are renamed. Volumes that are as the snapshot has them are left alone.
//!
//! The node's own directories (`hostPath`) are memory and go with the node's process, so nothing of them can be half done
//! after it; they are filled in place.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    control_plane::volume_dirs,
    tree::{self, Copier, TreeError},
};

/// A snapshot holds no more than this of all volumes together, bytes of the disk.
const BYTES: u64 = 4 << 30;
/// And no more files.
const FILES: u64 = 200_000;
/// Trees of earlier snapshots that a volume is compared with.
const COMPARED: usize = 3;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The directory of snapshots.
    pub snapshots: PathBuf,
    /// The directory of PersistentVolumes.
    pub volumes: PathBuf,
    /// The node's own directories that pods may share.
    pub node: Vec<PathBuf>,
}

/// The trees of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Of PersistentVolumes, by the name of their directory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, String>,
    /// Of the node's own directories, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node: BTreeMap<String, String>,
}

impl Held {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.node.is_empty()
    }
}

/// What a restore is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The snapshot.
    pub snapshot: String,
    swaps: Vec<Swap>,
}

/// A volume that gets another directory, or goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Swap {
    volume: String,
    staged: Option<String>,
}

/// A restore that can begin: nobody else changes which volumes there are.
pub struct Prepared {
    /// What is to be done.
    pub intent: Intent,
    node: Vec<(PathBuf, Option<PathBuf>)>,
    _alone: File,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::Io { path, source }
}

fn new_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The names in a directory, which need not be there.
fn children(dir: &Path) -> Result<Vec<String>, TreeError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed(dir))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        let name = entry.map_err(failed(dir))?.file_name();
        let unnamed = || failed(&dir.join(&name))(io::Error::other("its name is no text"));
        name.to_str().map(str::to_owned).ok_or_else(unnamed)
    };
    let mut names = entries.map(name).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names)
}

impl Places {
    fn tree(&self, id: &str) -> PathBuf {
        self.snapshots.join("trees").join(id)
    }

    fn staged(&self, id: &str) -> PathBuf {
        self.snapshots.join("staged").join(id)
    }

    fn old(&self) -> PathBuf {
        self.snapshots.join("old")
    }

    fn intent(&self) -> PathBuf {
        self.snapshots.join("restoring")
    }

    /// The node's own directories that hold something, by name.
    fn node(&self) -> Result<BTreeMap<String, PathBuf>, TreeError> {
        let mut all = BTreeMap::new();
        for dir in &self.node {
            let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !children(dir)?.is_empty() {
                all.insert(name.to_owned(), dir.clone());
            }
        }
        Ok(all)
    }

    /// Whether there is any content that a snapshot would hold.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn any(&self) -> Result<bool, TreeError> {
        Ok(!children(&self.volumes)?.is_empty() || !self.node()?.is_empty())
    }

    /// Takes what volumes hold now. What did not change since one of the `earlier` snapshots, the newest first, is not copied.
    ///
    /// # Errors
    /// It is too much, or a file cannot be read or written.
    pub fn take(&self, earlier: &[Held]) -> Result<Held, TreeError> {
        let trees = self.snapshots.join("trees");
        fs::create_dir_all(&trees).map_err(failed(&trees))?;
        let mut copier = Copier::new(BYTES, FILES);
        let mut keep = |dir: &Path, earlier: Vec<&String>| {
            let mut tried = Vec::new();
            for id in earlier {
                if tried.len() == COMPARED || tried.contains(&id) {
                    continue;
                }
                if tree::same(dir, &self.tree(id))? {
                    return Ok(id.clone());
                }
                tried.push(id);
            }
            let id = new_id();
            copier.copy(dir, &self.tree(&id))?;
            Ok(id)
        };
        let mut held = Held::default();
        for name in children(&self.volumes)? {
            let of = earlier.iter().filter_map(|held| held.volumes.get(&name)).collect();
            held.volumes.insert(name.clone(), keep(&self.volumes.join(&name), of)?);
        }
        for (name, dir) in self.node()? {
            let of = earlier.iter().filter_map(|held| held.node.get(&name)).collect();
            held.node.insert(name.clone(), keep(&dir, of)?);
        }
        Ok(held)
    }

    /// Waits until what was taken is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self, held: &Held, earlier: &[Held]) -> Result<(), TreeError> {
        let known: BTreeSet<&String> = earlier.iter().flat_map(ids).collect();
        for id in ids(held).filter(|id| !known.contains(id)) {
            let dir = self.tree(id);
            tree::sync(&dir).map_err(failed(&dir))?;
        }
        Ok(())
    }

    /// Copies what is to be put in the place of volumes that are not as `held` says.
    ///
    /// # Errors
    /// A file cannot be read or written: there may be no room.
    pub fn prepare(&self, snapshot: &str, held: &Held) -> Result<Prepared, TreeError> {
        let alone = volume_dirs::lock(&self.volumes).map_err(failed(&self.volumes))?;
        let staged = self.snapshots.join("staged");
        fs::create_dir_all(&staged).map_err(failed(&staged))?;
        let mut copier = Copier::new(u64::MAX, u64::MAX);
        let mut swaps = Vec::new();
        let mut all: BTreeSet<String> = children(&self.volumes)?.into_iter().collect();
        all.extend(held.volumes.keys().cloned());
        for volume in all {
            let Some(id) = held.volumes.get(&volume) else {
                swaps.push(Swap { volume, staged: None });
                continue;
            };
            if tree::same(&self.volumes.join(&volume), &self.tree(id))? {
                continue;
            }
            let copy = new_id();
            copier.copy(&self.tree(id), &self.staged(&copy))?;
            let staged = Some(copy);
            swaps.push(Swap { volume, staged });
        }
        let mut node = Vec::new();
        for dir in &self.node {
            let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let wanted = held.node.get(name).map(|id| self.tree(id));
            let is_so = match &wanted {
                Some(tree) => tree::same(dir, tree)?,
                None => children(dir)?.is_empty(),
            };
            if !is_so {
                node.push((dir.clone(), wanted));
            }
        }
        let snapshot = snapshot.to_owned();
        Ok(Prepared {
            intent: Intent { snapshot, swaps },
            node,
            _alone: alone,
        })
    }

    /// From here on the restore is done to its end, whatever becomes of this process.
    ///
    /// # Errors
    /// It cannot be written down; or the node's own directories cannot be filled, and then it is not done.
    pub fn begin(&self, prepared: &Prepared) -> Result<(), TreeError> {
        for (dir, wanted) in &prepared.node {
            refill(dir, wanted.as_deref())?;
        }
        let path = self.intent();
        let bytes = serde_json::to_vec(&prepared.intent).map_err(|error| failed(&path)(error.into()))?;
        let fresh = path.with_extension("new");
        fs::write(&fresh, bytes).map_err(failed(&fresh))?;
        fs::rename(&fresh, &path).map_err(failed(&path))
    }

    /// The restore that was not done to its end.
    pub fn interrupted(&self) -> Option<Intent> {
        let path = self.intent();
        let bytes = fs::read(&path).ok()?;
        let intent = serde_json::from_slice(&bytes);
        // It is renamed into place: only a machine that lost power may have lost its content.
        if let Err(error) = &intent {
            tracing::warn!(%error, "a restore that had just begun when the machine went down is not done");
        }
        intent.ok()
    }

    /// Puts what was prepared in the place of volumes: all of it, or, where the kernel refuses, nothing. What is done already
    /// is left.
    ///
    /// # Errors
    /// The kernel's.
    pub fn swap(&self, intent: &Intent) -> Result<(), TreeError> {
        let old = self.old();
        fs::create_dir_all(&old).map_err(failed(&old))?;
        let mut done = Vec::new();
        for swap in &intent.swaps {
            if let Err(error) = self.swap_one(swap, &old, &mut done) {
                for (from, to) in done.iter().rev() {
                    // What cannot be put back is in `old`, and named in the error.
                    let _ = fs::rename(to, from);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn swap_one(&self, swap: &Swap, old: &Path, done: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), TreeError> {
        let live = self.volumes.join(&swap.volume);
        let staged = swap.staged.as_ref().map(|id| self.staged(id));
        if staged.as_ref().is_some_and(|staged| !staged.exists()) {
            return Ok(());
        }
        let mut rename = |from: PathBuf, to: PathBuf| match fs::rename(&from, &to) {
            Ok(()) => {
                done.push((from, to));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(&from)(error)),
        };
        rename(live.clone(), old.join(new_id()))?;
        match staged {
            Some(staged) => rename(staged, live),
            None => Ok(()),
        }
    }

    /// The restore is done, or will not be.
    pub fn end(&self) {
        let path = self.intent();
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::error!(%error, path = %path.display(), "a restore that is over will be done again by the next start");
        }
    }

    /// Removes what restores left, and trees that no snapshot of these names any more. What cannot be removed is tried again
    /// the next time.
    pub fn sweep(&self, all: &[Held]) {
        for left in [self.snapshots.join("staged"), self.old()] {
            let _ = fs::remove_dir_all(left);
        }
        let used: BTreeSet<&String> = all.iter().flat_map(ids).collect();
        for id in children(&self.snapshots.join("trees")).unwrap_or_default() {
            if !used.contains(&id) {
                let tree = self.tree(&id);
                let _ = if tree.is_dir() {
                    fs::remove_dir_all(tree)
                } else {
                    fs::remove_file(tree)
                };
            }
        }
    }
}

fn ids(held: &Held) -> impl Iterator<Item = &String> {
    held.volumes.values().chain(held.node.values())
}

/// Makes a directory that nobody writes to hold what another holds, or nothing. It stays the same directory.
fn refill(dir: &Path, with: Option<&Path>) -> Result<(), TreeError> {
    for name in children(dir)? {
        let path = dir.join(name);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        let removed = if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(failed(&path))?;
    }
    let Some(with) = with else { return Ok(()) };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    Copier::new(u64::MAX, u64::MAX).fill(with, dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Cluster {
        _temp: tempfile::TempDir,
        places: Places,
    }

    impl Cluster {
        fn new() -> Self {
            let temp = tempfile::tempdir().unwrap();
            let at = |name: &str| temp.path().join(name);
            let places = Places {
                snapshots: at("snapshots"),
                volumes: at("volumes"),
                node: vec![at("node/run"), at("node/tmp")],
            };
            fs::create_dir(&places.volumes).unwrap();
            Self { _temp: temp, places }
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.places.volumes.parent().unwrap().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.places.volumes.parent().unwrap().join(path)).ok()
        }

        fn restore(&self, held: &Held) -> Intent {
            let prepared = self.places.prepare("s", held).unwrap();
            self.places.begin(&prepared).unwrap();
            self.places.swap(&prepared.intent).unwrap();
            self.places.end();
            prepared.intent
        }
    }

    #[test]
    fn what_was_there_is_there_again_and_nothing_else() {
        let cluster = Cluster::new();
        cluster.write("volumes/one/file", "before");
        cluster.write("volumes/same/file", "same");
        cluster.write("node/run/app/state", "before");
        let held = cluster.places.take(&[]).unwrap();
        assert_eq!((held.volumes.len(), held.node.len()), (2, 1));
        let inode = |path: &str| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(cluster.places.volumes.join(path)).unwrap().ino()
        };
        let same = inode("same");
        cluster.write("volumes/one/file", "after");
        cluster.write("volumes/one/more", "after");
        cluster.write("volumes/new/file", "after");
        cluster.write("node/run/app/state", "after");
        cluster.write("node/tmp/x", "after");
        // Who has the old directory open keeps it, and no one else sees what it writes.
        let open = fs::File::options()
            .append(true)
            .open(cluster.places.volumes.join("one/file"))
            .unwrap();
        assert_eq!(cluster.restore(&held).swaps.len(), 2);
        std::io::Write::write_all(&mut &open, b"stale").unwrap();
        assert_eq!(cluster.read("volumes/one/file").as_deref(), Some("before"));
        assert_eq!(cluster.read("volumes/one/more"), None);
        assert!(!cluster.places.volumes.join("new").exists());
        assert_eq!(cluster.read("node/run/app/state").as_deref(), Some("before"));
        assert_eq!(cluster.read("node/tmp/x"), None);
        assert_eq!(inode("same"), same, "what did not change is left alone");
        // A second time there is nothing to do, and a volume that went comes back.
        assert_eq!(cluster.restore(&held).swaps, []);
        fs::remove_dir_all(cluster.places.volumes.join("one")).unwrap();
        cluster.restore(&held);
        assert_eq!(cluster.read("volumes/one/file").as_deref(), Some("before"));
    }

    #[test]
    fn snapshots_share_what_did_not_change_until_no_one_needs_it() {
        let cluster = Cluster::new();
        cluster.write("volumes/one/file", "1");
        cluster.write("volumes/two/file", "2");
        let first = cluster.places.take(&[]).unwrap();
        cluster.write("volumes/two/file", "3");
        let second = cluster.places.take(std::slice::from_ref(&first)).unwrap();
        assert_eq!(first.volumes["one"], second.volumes["one"]);
        assert_ne!(first.volumes["two"], second.volumes["two"]);
        cluster.places.sync(&second, std::slice::from_ref(&first)).unwrap();
        cluster.places.sweep(std::slice::from_ref(&first));
        let trees = |held: &Held| ids(held).filter(|id| cluster.places.tree(id).exists()).count();
        assert_eq!((trees(&first), trees(&second)), (2, 1));
        cluster.restore(&first);
        assert_eq!(cluster.read("volumes/two/file").as_deref(), Some("2"));
    }

    #[test]
    fn a_restore_that_was_killed_is_done_to_its_end_or_not_begun() {
        let cluster = Cluster::new();
        for name in ["a", "b", "c"] {
            cluster.write(&format!("volumes/{name}/file"), "before");
        }
        let held = cluster.places.take(&[]).unwrap();
        for killed_after in 0..=5 {
            for name in ["a", "b", "c", "d"] {
                cluster.write(&format!("volumes/{name}/file"), "after");
            }
            let prepared = cluster.places.prepare("s", &held).unwrap();
            if killed_after == 0 {
                // Before it was written down.
                drop(prepared);
                assert_eq!(cluster.places.interrupted(), None);
                cluster.places.sweep(std::slice::from_ref(&held));
                assert_eq!(cluster.read("volumes/a/file").as_deref(), Some("after"));
                continue;
            }
            cluster.places.begin(&prepared).unwrap();
            let part = Intent {
                swaps: prepared.intent.swaps[..killed_after - 1].to_vec(),
                ..prepared.intent.clone()
            };
            cluster.places.swap(&part).unwrap();
            drop(prepared);
            let again = cluster.places.interrupted().unwrap();
            cluster.places.swap(&again).unwrap();
            cluster.places.end();
            cluster.places.sweep(std::slice::from_ref(&held));
            for name in ["a", "b", "c"] {
                assert_eq!(cluster.read(&format!("volumes/{name}/file")).as_deref(), Some("before"));
            }
            assert!(!cluster.places.volumes.join("d").exists());
            assert!(cluster.places.interrupted().is_none());
        }
    }

    #[test]
    fn a_swap_that_is_refused_changes_nothing() {
        let cluster = Cluster::new();
        cluster.write("volumes/a/file", "before");
        cluster.write("volumes/b/file", "before");
        let held = cluster.places.take(&[]).unwrap();
        cluster.write("volumes/a/file", "after");
        cluster.write("volumes/b/file", "after");
        let prepared = cluster.places.prepare("s", &held).unwrap();
        // A directory that cannot be replaced: its copy became a file's name too long for the kernel.
        let mut intent = prepared.intent.clone();
        intent.swaps[1].volume = "x".repeat(300);
        assert!(cluster.places.swap(&intent).is_err());
        assert_eq!(cluster.read("volumes/a/file").as_deref(), Some("after"));
        assert_eq!(cluster.read("volumes/b/file").as_deref(), Some("after"));
    }
}
