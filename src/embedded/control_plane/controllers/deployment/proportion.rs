//! How a Deployment that is scaled in the middle of a rollout spreads its pods: pure.
//!
//! Source: Kubernetes' "Proportional scaling" of the Deployment concept.

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;

use super::plan::{MAXIMUM, wanted};

/// What a ReplicaSet is to have so that it keeps its part of the whole: `most` is what all may have together now, `before` what
/// they had together where its annotation does not say it.
fn share(set: &ReplicaSet, most: i32, before: i32) -> i32 {
    let annotated = set.annotations().get(MAXIMUM).and_then(|text| text.parse().ok());
    let before = i128::from(annotated.filter(|most: &i32| *most > 0).unwrap_or(before).max(1));
    // Half a pod is a whole one.
    let exact = i128::from(wanted(set)) * i128::from(most);
    i32::try_from((2 * exact + before) / (2 * before)).unwrap_or(i32::MAX)
}

/// The sizes of the ReplicaSets, in their order, that share `most` pods as they did before.
pub fn sizes(sets: &[&ReplicaSet], most: i32, before: i32) -> Vec<i32> {
    let mut sizes: Vec<i32> = sets.iter().map(|set| wanted(set)).collect();
    let all = sizes.iter().fold(0_i32, |all, size| all.saturating_add(*size));
    let missing = most - all;
    // The largest first; among equals the newer grows and the older shrinks first.
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by_key(|index| {
        let age = i64::try_from(*index).unwrap_or(i64::MAX);
        (std::cmp::Reverse(sizes[*index]), if missing > 0 { -age } else { age })
    });
    let mut added = 0;
    for index in &order {
        let room = missing - added;
        let change = if most == 0 {
            -sizes[*index]
        } else {
            share(sets[*index], most, before) - sizes[*index]
        };
        // An annotation that makes no sense turns nothing round.
        let change = if missing > 0 {
            change.clamp(0, room)
        } else {
            change.clamp(room, 0)
        };
        sizes[*index] += change;
        added += change;
    }
    for index in order {
        let size = (sizes[index] + missing - added).max(0);
        added += size - sizes[index];
        sizes[index] = size;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: i32, most: Option<i32>) -> ReplicaSet {
        let mut set = json!({"metadata": {"name": "s"}, "spec": {"replicas": replicas, "selector": {}}});
        if let Some(most) = most {
            set["metadata"]["annotations"] = json!({MAXIMUM: most.to_string()});
        }
        serde_json::from_value(set).unwrap()
    }

    #[test]
    fn each_keeps_its_part() {
        // the document's example: 10 and surge 3 become 15 and surge 3 (18), from 8 old and 5 new
        for (held, annotated, most, expected) in [
            (vec![8, 5], Some(13), 18, vec![11, 7]),
            (vec![8, 5], None, 18, vec![11, 7]),
            (vec![5, 5], Some(10), 20, vec![10, 10]),
            (vec![5, 5], Some(10), 11, vec![5, 6]),
            (vec![5, 5], Some(10), 9, vec![4, 5]),
            (vec![10, 3], Some(13), 6, vec![5, 1]),
            (vec![8, 5], Some(13), 0, vec![0, 0]),
            (vec![1, 1, 1], Some(3), 3, vec![1, 1, 1]),
        ] {
            let sets: Vec<_> = held.iter().map(|replicas| set(*replicas, annotated)).collect();
            let sets: Vec<_> = sets.iter().collect();
            let before = held.iter().sum();
            assert_eq!(sizes(&sets, most, before), expected, "{held:?} to {most}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_shared_adds_up(held in proptest::collection::vec(1..50_i32, 1..6), most in 0..300_i32, annotated in 1..300_i32) {
            let sets: Vec<_> = held.iter().map(|replicas| set(*replicas, Some(annotated))).collect();
            let sets: Vec<_> = sets.iter().collect();
            let sizes = sizes(&sets, most, held.iter().sum());
            proptest::prop_assert!(sizes.iter().all(|size| *size >= 0));
            proptest::prop_assert_eq!(sizes.iter().sum::<i32>(), most);
        }
    }
}
