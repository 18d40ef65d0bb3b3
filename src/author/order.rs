//! Other orders in which a student may take the steps.

use std::collections::BTreeSet;

use crate::lab::{Lab, in_order};

/// The most orders that are tried.
const MOST: usize = 6;

/// The file's order, with what a step needs before it.
pub fn listed(lab: &Lab) -> Vec<usize> {
    let needs: Vec<Vec<usize>> = lab.steps.iter().map(|step| step.needs.clone()).collect();
    in_order(&needs, |step| step)
}

/// Orders that `needs` allow and that differ from the file's: enough of them that of any two steps of which neither needs
/// the other, each comes first once; but at most a few.
pub fn others(lab: &Lab) -> Vec<Vec<usize>> {
    let needs: Vec<Vec<usize>> = lab.steps.iter().map(|step| step.needs.clone()).collect();
    orders(&needs)
}

fn orders(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let before = ancestors(needs);
    let count = needs.len();
    let listed = in_order(needs, |step| step);
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (at, first) in listed.iter().enumerate() {
        for second in &listed[at + 1..] {
            if !before[*second].contains(first) {
                open.insert((*first, *second));
            }
        }
    }
    let mut found = Vec::new();
    while let Some((_, early)) = open.last().copied() {
        if found.len() == MOST {
            break;
        }
        // What `early` needs, then it, then the rest from behind.
        let rank = |step: usize| match step == early || before[early].contains(&step) {
            true => step,
            false => count + (count - step),
        };
        let order = in_order(needs, rank);
        let place = |step: usize| order.iter().position(|one| *one == step);
        open.retain(|(first, second)| place(*first) < place(*second));
        found.push(order);
    }
    found
}

/// Everything that each step needs, in the end.
fn ancestors(needs: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let all = |step: usize| {
        let mut found = BTreeSet::new();
        let mut waiting = needs[step].clone();
        while let Some(need) = waiting.pop() {
            if found.insert(need) {
                waiting.extend(&needs[need]);
            }
        }
        found
    };
    (0..needs.len()).map(all).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_chain_has_one_order_and_independent_steps_have_more() {
        assert!(orders(&[]).is_empty());
        assert!(orders(&[vec![], vec![0], vec![1]]).is_empty());
        assert_eq!(orders(&[vec![], vec![]]), [[1, 0]]);
        // wiretap: 1 and 2 need 0, 3 needs both, 4 needs 3.
        assert_eq!(
            orders(&[vec![], vec![0], vec![0], vec![1, 2], vec![3]]),
            [[0, 2, 1, 3, 4]]
        );
        // All free: two orders show every pair both ways.
        assert_eq!(orders(&[vec![], vec![], vec![]]), [[2, 1, 0]]);
    }

    proptest! {
        #[test]
        fn orders_keep_to_needs_and_swap_what_may_be_swapped(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..12)) {
            let mut needs = vec![Vec::new(); 8];
            for (from, to) in edges {
                if from < to && !needs[to].contains(&from) {
                    needs[to].push(from);
                }
            }
            let before = ancestors(&needs);
            let found = orders(&needs);
            prop_assert!(found.len() <= MOST);
            for order in &found {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                prop_assert_eq!(sorted, (0..8).collect::<Vec<_>>());
                for (at, step) in order.iter().enumerate() {
                    prop_assert!(needs[*step].iter().all(|need| order[..at].contains(need)));
                }
            }
            if found.len() < MOST {
                for first in 0..8 {
                    for (second, needed) in before.iter().enumerate().skip(first + 1) {
                        let swapped = found.iter().any(|order| {
                            let place = |step| order.iter().position(|one| *one == step);
                            place(second) < place(first)
                        });
                        prop_assert_eq!(swapped, !needed.contains(&first), "{} {}", first, second);
                    }
                }
            }
        }
    }
}
