//! Events as `kubectl describe` shows them: written in the background, in the order of their names.
//!
//! Source: client-go's event recorder and correlator (`name.hex-time`, count of equal events).

use std::{collections::HashMap, time::Duration};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

/// How many distinct events are remembered for counting repeats.
const REMEMBERED: usize = 2048;
/// How many events may wait to be written; more are lost, as client-go's broadcaster has it.
const WAITING: usize = 4096;
/// How many events are written at once, when none were lately, and how far apart those beyond. A hundred pods have five hundred
/// events, which would take the processors from what people wait for (the kubelet has such a limit, and a tighter one).
const BURST: u32 = 64;
const PACE: Duration = Duration::from_millis(10);

/// Whether an event is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Information.
    Normal,
    /// Something that needs a look.
    Warning,
}

impl Severity {
    /// As the API says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened: what a pure plan gives out and a [`Recorder`] writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Happening {
    /// Good news or not.
    pub severity: Severity,
    /// One CamelCase word (`Scheduled`).
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

impl Happening {
    /// Information.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Normal,
            reason,
            message: message.into(),
        }
    }

    /// Something that needs a look.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            reason,
            message: message.into(),
        }
    }
}

struct Record {
    at: jiff::Timestamp,
    component: &'static str,
    host: Option<String>,
    about: ObjectReference,
    what: Happening,
    client: Client,
}

/// Writes events for one component.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Record>,
    client: Client,
    component: &'static str,
    host: Option<String>,
}

impl Recorder {
    /// Starts the writer. One for all components keeps their events in the order in which they happened.
    pub fn start(client: Client) -> Self {
        let (queue, records) = mpsc::channel(WAITING);
        tokio::spawn(write(records));
        Self {
            queue,
            client,
            component: "ztlab",
            host: None,
        }
    }

    /// The recorder of a component, on a node where it has one.
    pub fn of(&self, component: &'static str, host: Option<&str>) -> Self {
        Self {
            component,
            host: host.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The recorder of whoever `client` is.
    pub fn by(&self, client: &Client) -> Self {
        Self {
            client: client.clone(),
            ..self.clone()
        }
    }

    /// Tells what happened to an object.
    pub fn tell(&self, about: ObjectReference, what: Happening) {
        let record = Record {
            at: jiff::Timestamp::now(),
            component: self.component,
            host: self.host.clone(),
            about,
            what,
            client: self.client.clone(),
        };
        // The writer ends with the node; events of its last moments have no reader.
        let _ = self.queue.try_send(record);
    }
}

/// A reference to an object, as events hold it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Sameness {
    uid: Option<String>,
    name: Option<String>,
    field_path: Option<String>,
    component: &'static str,
    what: Happening,
}

struct Written {
    name: String,
    count: i32,
}

async fn write(mut records: mpsc::Receiver<Record>) {
    let mut seen: HashMap<Sameness, Written> = HashMap::new();
    let mut last = 0;
    let mut due = Instant::now();
    while let Some(record) = records.recv().await {
        due = turn(due, Instant::now());
        tokio::time::sleep_until(due).await;
        let namespace = record.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(record.client.clone(), &namespace);
        let sameness = Sameness {
            uid: record.about.uid.clone(),
            name: record.about.name.clone(),
            field_path: record.about.field_path.clone(),
            component: record.component,
            what: record.what.clone(),
        };
        if let Some(written) = seen.get_mut(&sameness) {
            written.count += 1;
            let again = json!({"count": written.count, "lastTimestamp": Time(record.at)});
            match api
                .patch(&written.name, &PatchParams::default(), &Patch::Merge(&again))
                .await
            {
                Ok(_) => continue,
                Err(_) => {
                    seen.remove(&sameness);
                }
            }
        }
        last = (record.at.as_nanosecond()).max(last + 1);
        let event = event(&record, &namespace, last);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if seen.len() >= REMEMBERED {
                    seen.clear();
                }
                seen.insert(sameness, Written { name, count: 1 });
            }
            // A namespace that is being deleted takes no events: nothing to mend.
            Err(error) => tracing::debug!(%error, name, "event not written"),
        }
    }
}

/// When the next event may be written, after one that was due at `before`: a moment that is past for as many as go at once.
fn turn(before: Instant, now: Instant) -> Instant {
    (before + PACE).max(now.checked_sub(PACE * BURST).unwrap_or(now))
}

fn event(record: &Record, namespace: &str, order: i128) -> Event {
    let mut event = Event {
        involved_object: record.about.clone(),
        type_: Some(record.what.severity.as_str().to_owned()),
        reason: Some(record.what.reason.to_owned()),
        message: Some(record.what.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(record.at)),
        last_timestamp: Some(Time(record.at)),
        reporting_component: Some(record.component.to_owned()),
        reporting_instance: Some(record.host.clone().unwrap_or_default()),
        source: Some(EventSource {
            component: Some(record.component.to_owned()),
            host: record.host.clone(),
        }),
        ..Event::default()
    };
    event.metadata.namespace = Some(namespace.to_owned());
    event.metadata.name = Some(name(record.about.name.as_deref(), order));
    event
}

/// The name of an event about an object: later events have later names.
fn name(about: Option<&str>, order: i128) -> String {
    format!("{}.{order:016x}", about.unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_events_are_written_one_after_the_other() {
        let now = Instant::now() + Duration::from_secs(3600);
        let turns = |from| std::iter::successors(Some(turn(from, now)), |due| Some(turn(*due, now)));
        let at_once = |from| turns(from).take_while(|due| *due <= now).count();
        assert_eq!(
            at_once(now - Duration::from_secs(60)),
            BURST as usize + 1,
            "after a rest"
        );
        assert_eq!(at_once(now), 0, "straight after others");
        assert_eq!(turns(now).nth(2), Some(now + 3 * PACE));
    }

    #[test]
    fn names_are_in_the_order_of_time() {
        let names: Vec<_> = [1, 15, 16, 1 << 60].map(|order| name(Some("web"), order)).into();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
        assert_eq!(names[0], "web.0000000000000001");
    }
}
