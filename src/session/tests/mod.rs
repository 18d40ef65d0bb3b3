//! The state machine by properties; the driver and the host in a scripted world.

mod checking;
mod ground;
mod hosting;
mod resets;
mod scripted;
mod solving;
mod state;

use std::sync::{Arc, LazyLock};

use self::scripted::Scripted;
use super::{
    command::{Command, Reply},
    snapshot::SessionView,
    state::Event,
    *,
};
use crate::{
    check::Loot,
    lab::Lab,
    packet::{LeakKind, Protocol},
    verdict::{Finding, Judgement, Verdict},
};

/// Read once: hundreds of cases of a property do not read it again.
static WIRETAP: LazyLock<Arc<Lab>> = LazyLock::new(|| {
    let found = crate::catalog::find("wiretap", None).unwrap();
    Arc::new(found.load(&host::Topologies).unwrap())
});

fn wiretap() -> Arc<Lab> {
    WIRETAP.clone()
}

fn judgement(passed: bool, finding: Finding) -> Judgement {
    let verdict = if passed { Verdict::Passed } else { Verdict::Failed };
    Judgement::new(verdict, finding, "expected", "found")
}

fn loot(value: String) -> Loot {
    Loot {
        kind: LeakKind::CardNumber,
        value,
        account: None,
        from: "orders-api".to_owned(),
        to: "payments-api".to_owned(),
        protocol: Protocol::Http,
        frame: 1,
        captured_in: "payments-api".to_owned(),
        message: "POST /charge".to_owned(),
    }
}

fn judged(step: usize, check: usize, passed: bool, finding: Finding) -> Event {
    Event::Judged {
        epoch: 0,
        step,
        check,
        judgement: judgement(passed, finding),
    }
}

fn host_in(dir: &std::path::Path, world: &Arc<Scripted>) -> Arc<Host> {
    let world = world.clone();
    Host::in_worlds(dir.to_owned(), "t-", Box::new(move |_| world.clone()))
}

async fn done(host: &Arc<Host>, command: Command) -> SessionView {
    match host.run(None, command).await {
        Reply::Done { snapshot, .. } => snapshot.session.unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn refused(host: &Arc<Host>, command: Command) -> String {
    match host.run(None, command).await {
        Reply::Refused(refusal) => format!("{} ({})", refusal.message, refusal.hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}

fn start(fresh: bool) -> Command {
    Command::Start {
        lab: "wiretap".to_owned(),
        ground: "embedded".to_owned(),
        fresh,
        context: None,
    }
}

/// Waits until the session looks like this.
async fn until(host: &Arc<Host>, hoped: impl Fn(&SessionView) -> bool) {
    let mut snapshots = host.follow();
    snapshots
        .wait_for(|snapshot| snapshot.session.as_ref().is_some_and(&hoped))
        .await
        .unwrap();
}

async fn answer(host: &Arc<Host>, step: &str, check: &str, value: &str) -> SessionView {
    let (step, check, value) = (step.to_owned(), check.to_owned(), value.to_owned());
    done(host, Command::Answer { step, check, value }).await
}
