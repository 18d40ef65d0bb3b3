//! Why a peer is refused, in more words than an alert of TLS has: who it proved to be, and which rule it misses.

use std::{cell::RefCell, future::Future};

tokio::task_local! {
    static SAID: RefCell<Option<String>>;
}

/// Does `work`, a handshake; gives also what was noted within it.
pub async fn noting<F: Future>(work: F) -> (F::Output, Option<String>) {
    let work = async {
        let output = work.await;
        (output, SAID.with(RefCell::take))
    };
    SAID.scope(RefCell::new(None), work).await
}

/// Notes why the peer of the handshake that is under way is refused; gives it back where nobody waits for it.
pub fn note(reason: String) -> Result<(), String> {
    let mut reason = Some(reason);
    let _ = SAID.try_with(|said| said.replace(reason.take()));
    match reason {
        None => Ok(()),
        Some(reason) => Err(reason),
    }
}
