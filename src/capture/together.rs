//! What several pods' captures see, as one stream.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, stream};

use super::{
    CaptureError, CaptureEvent, EndReason, Interface, Names, Packet, Scope, TrafficEvent, TrafficStream,
    several::{Joined, Several, into_stream},
    traffic,
};
use tokio_util::sync::CancellationToken;

use crate::packet::{CapturePoint, Flow, LinkType, Merge, Message};

/// How long a message or packet is held back for one that was seen before it elsewhere, and for the same seen elsewhere. Streams
/// from pods differ by less, unless one is behind.
const HOLD: Duration = Duration::from_millis(400);
/// How often what has waited long enough is given.
const TICK: Duration = Duration::from_millis(50);
/// Bytes of packets that may wait.
const WAITING_BYTES: usize = 32 << 20;

/// Starts captures in several pods and dissects them; returns once libpcap listens in those that run. Pods that come later and
/// belong to it join.
///
/// Messages come in the order of time, each once: one that was seen at more than one point says so in
/// [`Message::also`](crate::packet::Message::also). A message that comes more than 400 ms after others of its time is given late.
///
/// # Errors
/// A pod asked for by name does not exist, none can be observed, or the filter is not valid.
pub async fn traffic_of(client: &kube::Client, scope: Scope, names: Names) -> Result<TrafficStream, CaptureError> {
    let mut together = Together::new(&scope.namespace);
    let api = client.clone();
    let begin = Box::new(move |request| {
        let (client, names) = (api.clone(), names.clone());
        async move { traffic(&client, request, names).await.map(StreamExt::boxed) }.boxed()
    });
    let (several, first) = Several::begin(client, scope, begin).await?;
    let end = CancellationToken::new();
    let joined = into_stream(several, first, TICK).take_until(end.clone().cancelled_owned());
    let events = joined
        .map(Some)
        .chain(stream::once(async { None }))
        .flat_map(move |joined| {
            stream::iter(match joined {
                Some(joined) => together.take(joined),
                None => together.end(),
            })
        });
    Ok(TrafficStream::new(events.map(Ok).boxed(), end))
}

/// Puts the streams together.
struct Together {
    namespace: String,
    merge: Merge,
    points: HashMap<usize, CapturePoint>,
    began: Instant,
}

impl Together {
    fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            merge: Merge::new(HOLD.as_nanos() as u64),
            points: HashMap::new(),
            began: Instant::now(),
        }
    }

    fn take(&mut self, joined: Option<Joined<TrafficEvent>>) -> Vec<TrafficEvent> {
        let now = self.began.elapsed().as_nanos() as u64;
        let mut out = Vec::new();
        match joined {
            None => {}
            Some(Joined::Failed(pod, error)) => out.push(TrafficEvent::Left {
                point: CapturePoint::pod(&self.namespace, pod),
                detail: error.to_string(),
            }),
            Some(Joined::Item(at, event)) => match event {
                TrafficEvent::Message(message) => self.merge.message(at, *message, now),
                TrafficEvent::Flow(flow) => self.merge.flow(at, *flow, now),
                TrafficEvent::Ended(reason) => out.extend(self.points.remove(&at).map(|point| TrafficEvent::Left {
                    point,
                    detail: told(reason),
                })),
                TrafficEvent::Started { point } => {
                    self.points.insert(at, point.clone());
                    out.push(TrafficEvent::Started { point });
                }
                other @ (TrafficEvent::Counters { .. } | TrafficEvent::Left { .. }) => out.push(other),
            },
        }
        out.extend(events(self.merge.ready(now)));
        out
    }

    fn end(&mut self) -> Vec<TrafficEvent> {
        let rest = events(self.merge.finish());
        rest.chain([TrafficEvent::Ended(EndReason::Complete)]).collect()
    }
}

fn events((messages, flows): (Vec<Message>, Vec<Flow>)) -> impl Iterator<Item = TrafficEvent> {
    let messages = messages.into_iter().map(|one| TrafficEvent::Message(Box::new(one)));
    messages.chain(flows.into_iter().map(|one| TrafficEvent::Flow(Box::new(one))))
}

fn told(reason: EndReason) -> String {
    match reason {
        EndReason::Complete => "it is complete".to_owned(),
        EndReason::Lost { detail } => detail,
    }
}

/// What happens in captures of several pods whose packets are wanted as they are.
#[derive(Debug)]
pub enum PacketsEvent {
    /// A point listens from here on.
    Started {
        /// Its number.
        at: usize,
        /// Which one it is.
        point: CapturePoint,
        /// How its frames begin.
        link: LinkType,
        /// The pod's interfaces.
        interfaces: Vec<Interface>,
    },
    /// One packet, in the order of time as far as all came in time.
    Packet {
        /// The number of its point.
        at: usize,
        /// The packet.
        packet: Packet,
    },
    /// Packets that the kernel of a point dropped, altogether so far.
    Dropped {
        /// The number of the point.
        at: usize,
        /// How many.
        dropped: u64,
    },
    /// A point does not listen, or no longer.
    Left {
        /// Which one.
        point: CapturePoint,
        /// Why.
        detail: String,
    },
}

type Raw = (Arc<CapturePoint>, CaptureEvent);

/// Starts captures in several pods, for their packets; else as [`traffic_of`]. What still waits when the stream is dropped is not
/// given: [`PacketStream::rest`] gives it.
///
/// # Errors
/// As [`traffic_of`].
pub async fn packets_of(client: &kube::Client, scope: Scope) -> Result<PacketStream, CaptureError> {
    let namespace = scope.namespace.clone();
    let api = client.clone();
    let begin = Box::new(move |request| {
        let client = api.clone();
        async move {
            let capture = super::start(&client, request).await?;
            let point = Arc::new(capture.point().clone());
            Ok(capture
                .map(move |event| event.map(|event| (point.clone(), event)))
                .boxed())
        }
        .boxed()
    });
    let (several, first) = Several::begin(client, scope, begin).await?;
    Ok(PacketStream {
        events: Box::pin(into_stream(several, first, TICK)),
        order: Order::new(namespace),
        ready: Vec::new().into_iter(),
    })
}

/// The packets of several points.
pub struct PacketStream {
    events: std::pin::Pin<Box<dyn Stream<Item = Option<Joined<Raw>>> + Send>>,
    order: Order,
    ready: std::vec::IntoIter<PacketsEvent>,
}

impl PacketStream {
    /// What happens next; `None` is never given.
    pub async fn next(&mut self) -> Option<PacketsEvent> {
        loop {
            if let Some(event) = self.ready.next() {
                return Some(event);
            }
            let joined = self.events.next().await?;
            self.ready = self.order.take(joined).into_iter();
        }
    }

    /// Ends the captures; gives what still waited.
    pub fn rest(self) -> impl Iterator<Item = PacketsEvent> {
        self.ready.chain(self.order.rest())
    }
}

/// Packets in the order of time.
struct Order {
    namespace: String,
    waiting: BTreeMap<(u64, u64), (usize, Instant, Packet)>,
    bytes: usize,
    arrivals: u64,
}

impl Order {
    fn new(namespace: String) -> Self {
        Self {
            namespace,
            waiting: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
        }
    }

    fn take(&mut self, joined: Option<Joined<Raw>>) -> Vec<PacketsEvent> {
        let mut out = Vec::new();
        match joined {
            None => {}
            Some(Joined::Failed(pod, error)) => out.push(PacketsEvent::Left {
                point: CapturePoint::pod(&self.namespace, pod),
                detail: error.to_string(),
            }),
            Some(Joined::Item(at, (point, event))) => match event {
                CaptureEvent::Started { link, interfaces } => out.push(PacketsEvent::Started {
                    at,
                    point: CapturePoint::clone(&point),
                    link,
                    interfaces,
                }),
                CaptureEvent::Packet(packet) => {
                    self.arrivals += 1;
                    self.bytes += packet.data.len();
                    let place = (packet.ts_ns, self.arrivals);
                    self.waiting.insert(place, (at, Instant::now(), packet));
                }
                CaptureEvent::Dropped(dropped) => out.push(PacketsEvent::Dropped { at, dropped }),
                CaptureEvent::Ended(reason) => out.push(PacketsEvent::Left {
                    point: CapturePoint::clone(&point),
                    detail: told(reason),
                }),
            },
        }
        while let Some((_, (_, came, _))) = self.waiting.first_key_value() {
            if came.elapsed() < HOLD && self.bytes <= WAITING_BYTES {
                break;
            }
            let Some((_, (at, _, packet))) = self.waiting.pop_first() else {
                break;
            };
            self.bytes -= packet.data.len();
            out.push(PacketsEvent::Packet { at, packet });
        }
        out
    }

    fn rest(self) -> impl Iterator<Item = PacketsEvent> {
        self.waiting
            .into_values()
            .map(|(at, _, packet)| PacketsEvent::Packet { at, packet })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn packets_of_two_points_come_in_the_order_of_time() {
        let mut order = Order::new("shop".to_owned());
        let point = Arc::new(CapturePoint::pod("shop", "a"));
        let mut given: Vec<u64> = Vec::new();
        let mut note = |events: Vec<PacketsEvent>| {
            for event in events {
                if let PacketsEvent::Packet { packet, .. } = event {
                    given.push(packet.ts_ns);
                }
            }
        };
        let packet = |ts_ns, size: usize| {
            CaptureEvent::Packet(Packet {
                ts_ns,
                orig_len: size as u32,
                data: Bytes::from(vec![0; size]),
            })
        };
        for (at, ts_ns) in [(0, 5), (1, 3), (0, 9), (1, 7)] {
            note(order.take(Some(Joined::Item(at, (point.clone(), packet(ts_ns, 100))))));
        }
        // More than may wait: the oldest go first.
        note(order.take(Some(Joined::Item(0, (point.clone(), packet(20, WAITING_BYTES))))));
        assert_eq!(given, [3, 5, 7, 9]);
        let rest: Vec<PacketsEvent> = order.rest().collect();
        assert!(matches!(rest.as_slice(), [PacketsEvent::Packet { at: 0, packet }] if packet.ts_ns == 20));
    }
}
