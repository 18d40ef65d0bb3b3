//! When the next authority is made, and when it takes over.

use crate::store::{Slot, Standing};

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing for now.
    Nothing,
    /// Make the next authority.
    Prepare,
    /// Let this one sign.
    Activate(String),
}

/// Longest time before an authority's end at which the next is made, in seconds.
const PREPARE_AT_MOST: i64 = 30 * 24 * 3600;
/// Longest time before an authority's end at which the next takes over, in seconds.
const ACTIVATE_AT_MOST: i64 = 7 * 24 * 3600;

/// What is due at `now`, in seconds of the Unix epoch: prepare at half the life of the active authority, activate with
/// a sixth of it left.
pub fn due(slots: &[Slot], now: i64) -> Due {
    let alive = |standing| {
        slots
            .iter()
            .rfind(|slot| slot.standing == standing && slot.not_after > now)
    };
    let prepared = alive(Standing::Prepared);
    match (alive(Standing::Active), prepared) {
        (None, Some(prepared)) => Due::Activate(prepared.id.clone()),
        (None, None) => Due::Prepare,
        (Some(active), None) if now > active.not_after - (life(active) / 2).min(PREPARE_AT_MOST) => Due::Prepare,
        (Some(active), Some(prepared)) if now > active.not_after - (life(active) / 6).min(ACTIVATE_AT_MOST) => {
            Due::Activate(prepared.id.clone())
        }
        (Some(_), _) => Due::Nothing,
    }
}

fn life(slot: &Slot) -> i64 {
    slot.not_after.saturating_sub(slot.issued_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: &str, standing: Standing, issued_at: i64, life: i64) -> Slot {
        Slot {
            id: id.into(),
            standing,
            issued_at,
            not_after: issued_at + life,
            certificate: Vec::new(),
        }
    }

    #[test]
    fn the_first_authority_is_made_and_signs_at_once() {
        assert_eq!(due(&[], 0), Due::Prepare);
        assert_eq!(
            due(&[slot("a", Standing::Prepared, 0, 600)], 0),
            Due::Activate("a".into())
        );
    }

    #[test]
    fn the_next_is_prepared_after_half_the_life_and_activated_with_a_sixth_left() {
        let active = slot("a", Standing::Active, 0, 600);
        assert_eq!(due(std::slice::from_ref(&active), 300), Due::Nothing);
        assert_eq!(due(std::slice::from_ref(&active), 301), Due::Prepare);
        let both = [active, slot("b", Standing::Prepared, 301, 600)];
        assert_eq!(due(&both, 500), Due::Nothing);
        assert_eq!(due(&both, 501), Due::Activate("b".into()));
    }

    #[test]
    fn after_a_long_sleep_an_expired_authority_does_not_count() {
        let both = [
            slot("a", Standing::Active, 0, 600),
            slot("b", Standing::Prepared, 301, 600),
        ];
        assert_eq!(due(&both, 700), Due::Activate("b".into()));
        assert_eq!(due(&both, 1000), Due::Prepare);
    }
}
