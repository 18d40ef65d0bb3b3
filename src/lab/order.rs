//! Putting things that need each other in a row: the steps of a lab, and labs.

/// An order of `needs.len()` things in which each comes after those that it needs: always the one of the least rank among
/// those whose needs are met. Of things that need each other in a ring, the one of the least rank comes first.
pub fn in_order<R: Ord>(needs: &[Vec<usize>], rank: impl Fn(usize) -> R) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::new();
    while order.len() < needs.len() {
        let met = |one: usize| needs[one].iter().all(|need| order.contains(need));
        let left = (0..needs.len()).filter(|one| !order.contains(one));
        let Some(next) = left.min_by_key(|one| (!met(*one), rank(*one))) else {
            break;
        };
        order.push(next);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn what_is_needed_comes_first_and_then_rank_counts() {
        let by_number = |one: usize| one;
        assert_eq!(in_order(&[], by_number), [0_usize; 0]);
        assert_eq!(in_order(&[vec![2], vec![], vec![]], by_number), [1, 2, 0]);
        // A ring is broken where the rank is least, and what is outside of it does not wait.
        assert_eq!(in_order(&[vec![1], vec![0], vec![]], by_number), [2, 0, 1]);
        assert_eq!(in_order(&[vec![0]], by_number), [0]);
    }
}
