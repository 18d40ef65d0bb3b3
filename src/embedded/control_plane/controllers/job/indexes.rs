//! Sets of completion indexes, as an Indexed Job's status writes them: `0-2,5`. Pure.
//!
//! Source: Kubernetes' API reference (batch/v1 JobStatus, `completedIndexes`).

use std::{collections::BTreeSet, fmt};

/// More indexes than a Job may have.
const MOST: u32 = 100_000;

/// A set of indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(BTreeSet<u32>);

impl Indexes {
    /// Reads a list of numbers and ranges. What is no number, or is not below `completions`, is left out.
    pub fn parse(text: &str, completions: u32) -> Self {
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) else {
                continue;
            };
            let end = last.saturating_add(1).min(completions).min(MOST);
            all.extend(first..end.max(first));
        }
        Self(all)
    }

    /// Adds one; whether it was not there.
    pub fn insert(&mut self, index: u32) -> bool {
        self.0.insert(index)
    }

    /// Whether it is there.
    pub fn contains(&self, index: u32) -> bool {
        self.0.contains(&index)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of `others` are there.
    pub fn shared(&self, others: &Self) -> usize {
        self.0.intersection(&others.0).count()
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = all.next() {
            let mut last = first;
            while let Some(next) = all.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        for (text, shown, len) in [
            ("", "", 0),
            ("1,2", "1,2", 2),
            ("0-2,5", "0-2,5", 4),
            ("5,3,4,x,-,9-7", "3-5", 3),
            ("8-4000000000", "8,9", 2),
        ] {
            let indexes = Indexes::parse(text, 10);
            assert_eq!((indexes.to_string().as_str(), indexes.len()), (shown, len), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(all in proptest::collection::btree_set(0_u32..200, 0..60), any in ".{0,40}") {
            let indexes = Indexes(all);
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 200), indexes);
            prop_assert!(Indexes::parse(&any, 50).len() <= 50);
        }
    }
}
