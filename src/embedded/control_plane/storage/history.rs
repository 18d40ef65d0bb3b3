//! The past changes of a collection, as far back as they are kept.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, Read, Write},
    sync::Arc,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde_json::Value;

use super::{Change, ChangeKind, Limits, collection::in_namespace, weight::weight};

/// Changes, the oldest first.
#[derive(Debug, Default)]
pub(super) struct History {
    changes: VecDeque<Past>,
    /// Bytes that their objects take as trees.
    weight: usize,
    /// Revision of the newest change that is no longer here.
    forgotten: u64,
}

#[derive(Debug)]
struct Past {
    revision: u64,
    kind: ChangeKind,
    object: Held,
    previous: Option<Held>,
    namespace: Arc<str>,
    weight: usize,
}

/// An object as it was. A tree takes many times the memory of its text: most of a managed field is the node of a map. And the
/// text says most things twice.
#[derive(Debug)]
enum Held {
    Tree(Arc<Value>),
    /// JSON, compressed.
    Text(Arc<[u8]>),
}

/// Texts by the addresses of the trees that they stand for.
pub(super) type Texts = HashMap<usize, Arc<[u8]>>;

impl Held {
    fn tree(&self) -> Arc<Value> {
        match self {
            Self::Tree(tree) => tree.clone(),
            // `text` made it of a tree, and saw that it gives that tree again
            Self::Text(text) => Arc::new(read(text).unwrap_or_default()),
        }
    }

    fn pack(&mut self, texts: &Texts) {
        if let Self::Tree(tree) = self
            && let Some(text) = texts.get(&address(tree))
        {
            *self = Self::Text(text.clone());
        }
    }
}

fn address(tree: &Arc<Value>) -> usize {
    Arc::as_ptr(tree).addr()
}

/// The texts of trees, of those that are read as the same again: not every number is, and nothing that is nested too deeply.
pub(super) fn texts(trees: &[Arc<Value>]) -> Texts {
    let text = |tree: &Arc<Value>| {
        let text = write(tree).ok()?;
        (read(&text).ok()? == **tree).then(|| (address(tree), text.into()))
    };
    trees.iter().filter_map(text).collect()
}

fn write(tree: &Value) -> io::Result<Vec<u8>> {
    let mut text = DeflateEncoder::new(Vec::new(), Compression::fast());
    text.write_all(&serde_json::to_vec(tree)?)?;
    text.finish()
}

fn read(text: &[u8]) -> io::Result<Value> {
    let mut json = Vec::new();
    DeflateDecoder::new(text).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

impl History {
    /// One that begins after `forgotten`.
    pub(super) fn after(forgotten: u64) -> Self {
        Self {
            forgotten,
            ..Self::default()
        }
    }

    /// Revision of the newest change that is no longer known: a watch begins there or later.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Makes sure that nothing up to `revision` counts as known.
    pub(super) fn forget_to(&mut self, revision: u64) {
        self.forgotten = self.forgotten.max(revision);
    }

    /// Revision of the newest change.
    pub(super) fn newest(&self) -> u64 {
        self.changes.back().map_or(self.forgotten, |last| last.revision)
    }

    /// Adds the newest change, and forgets the oldest beyond what is kept.
    pub(super) fn push(&mut self, change: Change, limits: &Limits) {
        let weight = weight(&change.object);
        self.changes.push_back(Past {
            revision: change.revision,
            kind: change.kind,
            object: Held::Tree(change.object),
            previous: change.previous.map(Held::Tree),
            namespace: change.namespace,
            weight,
        });
        self.weight += weight;
        while self.changes.len() > limits.history || self.weight > limits.history_bytes && self.changes.len() > 1 {
            if let Some(oldest) = self.changes.pop_front() {
                self.weight -= oldest.weight;
                self.forgotten = oldest.revision;
            }
        }
    }

    /// The changes after a revision, in a namespace or in all, the oldest first.
    pub(super) fn since(&self, revision: u64, namespace: Option<&str>) -> impl Iterator<Item = Change> {
        let first = self.changes.partition_point(|change| change.revision <= revision);
        let wanted = move |past: &&Past| in_namespace(namespace, &past.namespace);
        self.changes.range(first..).filter(wanted).map(|past| Change {
            revision: past.revision,
            kind: past.kind,
            object: past.object.tree(),
            previous: past.previous.as_ref().map(Held::tree),
            namespace: past.namespace.clone(),
        })
    }

    /// The trees that are kept for the past alone, each once; `live` has the addresses of the others.
    pub(super) fn trees<'a>(&'a self, live: impl Iterator<Item = &'a Arc<Value>>) -> Vec<Arc<Value>> {
        let mut seen: HashSet<usize> = live.map(address).collect();
        let held = self
            .changes
            .iter()
            .flat_map(|past| [Some(&past.object), past.previous.as_ref()]);
        held.flatten()
            .filter_map(|held| match held {
                Held::Tree(tree) => seen.insert(address(tree)).then(|| tree.clone()),
                Held::Text(_) => None,
            })
            .collect()
    }

    /// Keeps texts in place of the trees that they were made of.
    pub(super) fn pack(&mut self, texts: &Texts) {
        for past in &mut self.changes {
            past.object.pack(texts);
            if let Some(previous) = &mut past.previous {
                previous.pack(texts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(revision: u64, object: &Arc<Value>, previous: Option<&Arc<Value>>) -> Change {
        Change {
            revision,
            kind: ChangeKind::Modified,
            object: object.clone(),
            previous: previous.cloned(),
            namespace: "a".into(),
        }
    }

    #[test]
    fn what_is_packed_reads_as_before() {
        let (old, new) = (
            Arc::new(json!({"n": 1, "t": "é\n"})),
            Arc::new(json!({"n": 2.5, "x": [null]})),
        );
        let mut history = History::default();
        history.push(change(2, &old, None), &Limits::default());
        history.push(change(3, &new, Some(&old)), &Limits::default());
        let trees = history.trees([&new].into_iter());
        assert_eq!(
            trees,
            std::slice::from_ref(&old),
            "what lives stays a tree, and nothing is packed twice"
        );
        history.pack(&texts(&trees));
        drop(trees);
        assert_eq!(Arc::strong_count(&old), 1, "a tree is still held");
        let seen: Vec<Change> = history.since(1, None).collect();
        assert_eq!((&*seen[0].object, &*seen[1].object), (&*old, &*new));
        assert_eq!(seen[1].previous.as_deref(), Some(&*old));
        assert_eq!(
            history
                .since(2, Some("a"))
                .map(|change| change.revision)
                .collect::<Vec<_>>(),
            [3]
        );
    }

    #[test]
    fn what_text_cannot_keep_stays_a_tree() {
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        assert!(texts(&[Arc::new(deep)]).is_empty());
    }

    #[test]
    fn packing_changes_nothing_of_what_is_kept() {
        let object = Arc::new(json!({"text": "x".repeat(1000)}));
        let limits = Limits {
            history_bytes: 2500,
            ..Limits::default()
        };
        let mut history = History::default();
        for revision in 2..10 {
            history.push(change(revision, &object, None), &limits);
            history.pack(&texts(&history.trees([].into_iter())));
        }
        assert_eq!((history.forgotten(), history.newest()), (7, 9));
    }
}
