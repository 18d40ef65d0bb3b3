//! A process at rest keeps only the memory that it uses.
//!
//! The C library keeps what was freed for the next use, and the kernel the code that ran. After a start or a reset that is a
//! fifth of a node and half of a session host, for as long as they live.

use std::{io, time::Duration};

use super::sys;

/// How often it is looked whether this process is at rest.
const LOOK: Duration = Duration::from_secs(2);
/// The processor time of that in which it is.
const AT_REST: Duration = Duration::from_millis(50);
/// The processor time after which it is worth the while again.
const WORTH: Duration = Duration::from_millis(20);

/// Has this process give memory back when it has been busy and is at rest again; `before` lets go of what can be done
/// without. It runs on a thread of its own, as long as the process.
///
/// # Errors
/// When no thread can be started.
pub fn give_back_at_rest(before: impl Fn() + Send + 'static) -> io::Result<()> {
    let body = move || {
        let mut watched = Watched::default();
        loop {
            std::thread::sleep(LOOK);
            if watched.look(sys::processor_time()) {
                before();
                sys::give_back_heaps();
                if let Err(error) = sys::let_go_of_code() {
                    tracing::debug!(%error, "the program's code stays in memory");
                }
                watched.given_back(sys::processor_time());
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("memory".to_owned())
        .stack_size(256 << 10);
    thread.spawn(body).map(drop)
}

/// Processor times of the process.
#[derive(Debug, Default)]
struct Watched {
    looked: Duration,
    /// When it was given back last; a start is always worth it.
    given_back: Option<Duration>,
}

impl Watched {
    /// Whether the process has been busy and is at rest, by the processor time that it has taken until now.
    fn look(&mut self, now: Duration) -> bool {
        let lately = now.saturating_sub(self.looked);
        self.looked = now;
        let since = self.given_back.map(|last| now.saturating_sub(last));
        lately < AT_REST && since.is_none_or(|since| since >= WORTH)
    }

    /// What giving back took is no work to give back after.
    fn given_back(&mut self, now: Duration) {
        self.given_back = Some(now);
        self.looked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_back_after_work_and_at_rest() {
        let ms = Duration::from_millis;
        let mut watched = Watched::default();
        assert!(!watched.look(ms(700)), "it is busy");
        assert!(watched.look(ms(720)), "it has started");
        watched.given_back(ms(750));
        assert!(!watched.look(ms(760)), "again, for nothing");
        assert!(watched.look(ms(770)), "little by little it was busy too");
    }
}
