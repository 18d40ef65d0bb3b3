//! The addresses of pods. Pure.

use std::{collections::HashSet, net::Ipv4Addr};

/// Hands out addresses of a range in turn, so that one that was just given back is not given out at once.
#[derive(Debug)]
pub struct Ipam {
    first: u32,
    last: u32,
    next: u32,
    taken: HashSet<u32>,
}

impl Ipam {
    /// The addresses from `first` to `last`.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        let (first, last) = (u32::from(first), u32::from(last));
        Self {
            first,
            last,
            next: first,
            taken: HashSet::new(),
        }
    }

    /// An address that nobody has, or `None` where all are taken.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in self.first..=self.last {
            let candidate = self.next;
            self.next = if candidate == self.last {
                self.first
            } else {
                candidate + 1
            };
            if self.taken.insert(candidate) {
                return Some(candidate.into());
            }
        }
        None
    }

    /// Gives an address back.
    pub fn free(&mut self, ip: Ipv4Addr) {
        self.taken.remove(&u32::from(ip));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_in_turn_and_never_twice() {
        let mut ipam = Ipam::new(Ipv4Addr::new(10, 244, 0, 2), Ipv4Addr::new(10, 244, 0, 4));
        let a = ipam.take().unwrap();
        ipam.free(a);
        assert_eq!(
            ipam.take(),
            Some(Ipv4Addr::new(10, 244, 0, 3)),
            "not the one just given back"
        );
        assert!(ipam.take().is_some() && ipam.take() == Some(a));
        assert_eq!(ipam.take(), None);
    }
}
