//! Nobody takes the server for themselves: how many requests one user, and how many connections one address, may have at once.
//!
//! The numbers are far above what kubectl, controllers and operators do. Members of `system:masters` are held to none, as
//! in Kubernetes; components in the process come by another door.
//!
//! Source: Kubernetes' "API Priority and Fairness" (flows by user, `exempt`), `--max-requests-inflight`.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{UserInfo, status::ApiError};
use crate::control_plane::rbac::{Attributes, MASTERS};

/// Requests of one user that are being answered.
const SHORT: usize = 100;
/// Requests of all users that are being answered; as kube-apiserver's readonly ones.
const SHORT_OF_ALL: usize = 400;
/// Watches and logs of one user that are open.
const LONG: usize = 250;
/// Exec, attach and port-forward connections of one user that are open.
const STREAMS: usize = 100;

/// Places that are shared out by key.
#[derive(Debug, Clone)]
pub struct Shares<K> {
    most: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    key: K,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// `most` places for each key.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    /// A place for `key`, if it has one left.
    pub fn take(&self, key: K) -> Option<Share<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share {
            key,
            taken: self.taken.clone(),
        })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get_mut(&self.key).map(|count| {
            *count -= 1;
            *count
        });
        // Who has left is forgotten: the table is no longer than what is under way.
        if left == Some(0) {
            taken.remove(&self.key);
        }
    }
}

/// What is under way.
#[derive(Debug)]
pub struct Flow {
    short: Shares<String>,
    all_short: Arc<Semaphore>,
    long: Shares<String>,
    streams: Shares<String>,
}

/// A request's place, until it is answered to the end.
#[derive(Debug)]
pub struct Seat {
    _share: Share<String>,
    _one_of_all: Option<OwnedSemaphorePermit>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            short: Shares::new(SHORT),
            all_short: Arc::new(Semaphore::new(SHORT_OF_ALL)),
            long: Shares::new(LONG),
            streams: Shares::new(STREAMS),
        }
    }
}

impl Flow {
    /// A place for a request; `None` for who needs none.
    ///
    /// # Errors
    /// 429 when there is none left.
    pub fn admit(&self, user: &UserInfo, asked: &Attributes) -> Result<Option<Seat>, ApiError> {
        if user.is_in(MASTERS) {
            return Ok(None);
        }
        let long = is_long(asked);
        let shares = if long { &self.long } else { &self.short };
        let share = shares.take(user.name.clone()).ok_or_else(ApiError::too_many_requests)?;
        let one_of_all = match long {
            true => None,
            false => {
                let permit = self.all_short.clone().try_acquire_owned();
                Some(permit.map_err(|_| ApiError::too_many_requests())?)
            }
        };
        Ok(Some(Seat {
            _share: share,
            _one_of_all: one_of_all,
        }))
    }

    /// A place for an exec, attach or port-forward connection; `None` for who needs none.
    ///
    /// # Errors
    /// 429 when there is none left.
    pub fn stream(&self, user: &UserInfo) -> Result<Option<Share<String>>, ApiError> {
        if user.is_in(MASTERS) {
            return Ok(None);
        }
        let share = self.streams.take(user.name.clone());
        share.map(Some).ok_or_else(ApiError::too_many_requests)
    }
}

/// Kubernetes' "long-running" requests.
fn is_long(asked: &Attributes) -> bool {
    asked.verb == "watch" || matches!(&*asked.subresource, "attach" | "exec" | "log" | "portforward" | "proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            ..Attributes::default()
        }
    }

    #[test]
    fn one_user_leaves_places_for_others_and_takes_them_back() {
        let flow = Flow::default();
        let (jane, joe) = (UserInfo::new("jane", &[]), UserInfo::new("joe", &[]));
        let mut seats: Vec<_> = (0..SHORT).map(|_| flow.admit(&jane, &asked("get")).unwrap()).collect();
        let refused = flow.admit(&jane, &asked("get")).unwrap_err();
        assert_eq!(refused.code(), 429);
        assert_eq!(refused.0.details.unwrap().retry_after_seconds, Some(1));
        assert!(flow.admit(&joe, &asked("get")).is_ok());
        // Watches have places of their own.
        let watches: Vec<_> = (0..LONG).map(|_| flow.admit(&jane, &asked("watch")).unwrap()).collect();
        assert_eq!(flow.admit(&jane, &asked("watch")).unwrap_err().code(), 429);
        seats.pop();
        seats.push(flow.admit(&jane, &asked("get")).unwrap());
        assert_eq!(flow.admit(&jane, &asked("get")).unwrap_err().code(), 429);
        drop((seats, watches));
        assert!(flow.short.taken.lock().unwrap().is_empty() && flow.long.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn all_users_together_are_bounded_and_masters_are_exempt() {
        let flow = Flow::default();
        let users: Vec<_> = (0..SHORT_OF_ALL)
            .map(|n| flow.admit(&UserInfo::new(&n.to_string(), &[]), &asked("list")).unwrap())
            .collect();
        let late = UserInfo::new("late", &[]);
        assert_eq!(flow.admit(&late, &asked("list")).unwrap_err().code(), 429);
        assert!(
            flow.admit(&UserInfo::master("admin"), &asked("list"))
                .unwrap()
                .is_none()
        );
        assert!(flow.admit(&late, &asked("watch")).is_ok());
        drop(users);
        assert!(flow.admit(&late, &asked("list")).is_ok());
    }
}
