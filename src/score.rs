//! Points and weights: how passed checks become a score.

use std::{fmt, iter::Sum, ops::Add};

use serde::{Deserialize, Serialize};

/// Points of a step or a lab; a lab's points sum to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Points(pub u32);

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Add for Points {
    type Output = Points;
    fn add(self, other: Points) -> Points {
        Points(self.0.saturating_add(other.0))
    }
}

impl Sum for Points {
    fn sum<I: Iterator<Item = Points>>(iter: I) -> Points {
        iter.fold(Points(0), Add::add)
    }
}

impl Points {
    /// Them as a sentence counts them: `1 point`, `3 points`.
    pub fn counted(self) -> String {
        format!("{self} point{}", if self.0 == 1 { "" } else { "s" })
    }

    /// These points less `cost`, never below zero.
    #[must_use]
    pub fn less(self, cost: Points) -> Points {
        Points(self.0.saturating_sub(cost.0))
    }
}

/// A check's share of its step's points, relative to the other checks of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u32);

/// Earned out of possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Points earned.
    pub earned: Points,
    /// Points that could be earned.
    pub possible: Points,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.earned, self.possible)
    }
}

/// The points of a step whose checks are `(weight, passed)`, before hints are paid for.
///
/// Partial credit by weight, rounded down, so that only a complete step earns all its points.
pub fn earned(points: Points, checks: impl IntoIterator<Item = (Weight, bool)>) -> Points {
    // A weight and points have 32 bits each, so a product has 64, and a sum of weights needs a few more.
    let (mut passed, mut total) = (0_u128, 0_u128);
    for (weight, pass) in checks {
        total += u128::from(weight.0);
        passed += if pass { u128::from(weight.0) } else { 0 };
    }
    if total == 0 {
        return Points(0);
    }
    let part = u128::from(points.0) * passed / total;
    Points(u32::try_from(part).unwrap_or(points.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_goes_by_weight_and_rounds_down() {
        let earned = |points, checks: &[(u32, bool)]| {
            super::earned(
                Points(points),
                checks.iter().map(|(weight, pass)| (Weight(*weight), *pass)),
            )
            .0
        };
        assert_eq!(earned(30, &[(1, true), (2, false)]), 10);
        assert_eq!(earned(10, &[(1, true), (2, false)]), 3);
        assert_eq!(earned(10, &[(1, true), (2, true)]), 10);
        assert_eq!(earned(10, &[]), 0);
        assert_eq!(Points(3).less(Points(5)), Points(0));
    }

    proptest::proptest! {
        #[test]
        fn never_more_than_possible(points in 0_u32.., checks in proptest::collection::vec((0_u32.., proptest::bool::ANY), 0..20)) {
            let checks: Vec<_> = checks.into_iter().map(|(weight, pass)| (Weight(weight), pass)).collect();
            proptest::prop_assert!(earned(Points(points), checks) <= Points(points));
        }
    }
}
