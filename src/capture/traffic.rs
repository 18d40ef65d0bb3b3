//! Packets of a live capture made into messages with names.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt, Stream, StreamExt, stream, stream::BoxStream};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{CaptureError, CaptureEvent, CaptureRequest, CaptureStream, EndReason, Interface, Names, Packet};
use crate::packet::{CapturePoint, Dissector, Flow, Frame, LinkType, Message};

/// What happens in a capture, as a reader wants it.
#[derive(Debug, Clone, PartialEq)]
pub enum TrafficEvent {
    /// Listening has begun: whatever crosses the network from here on is seen.
    Started {
        /// Where.
        point: CapturePoint,
    },
    /// Something was said; names and the capture point are filled in.
    Message(Box<Message>),
    /// How a conversation in which something was said, or that ended, is judged by now (sent at most a few times a
    /// second); names and the capture point are filled in.
    Flow(Box<Flow>),
    /// Where the counters of a point stand (sent when they changed, at most a few times a second).
    Counters {
        /// Where.
        point: CapturePoint,
        /// Packets seen.
        packets: u64,
        /// Packets that the kernel dropped before they could be read.
        dropped: u64,
    },
    /// Of captures in several pods: one of them does not listen, or no longer. The others go on.
    Left {
        /// Which one.
        point: CapturePoint,
        /// Why.
        detail: String,
    },
    /// It is over; nothing follows.
    Ended(EndReason),
}

/// The events of one capture. Dropping it ends the capture, and what was begun in it stays untold.
pub struct TrafficStream {
    events: BoxStream<'static, Result<TrafficEvent, CaptureError>>,
    end: CancellationToken,
}

impl TrafficStream {
    pub(super) fn new(events: BoxStream<'static, Result<TrafficEvent, CaptureError>>, end: CancellationToken) -> Self {
        Self { events, end }
    }

    /// Cancelled, it ends the capture: what was seen by then is still told and judged, and `Ended` follows.
    pub fn ender(&self) -> CancellationToken {
        self.end.clone()
    }
}

impl Stream for TrafficStream {
    type Item = Result<TrafficEvent, CaptureError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(cx)
    }
}

/// How often the clock moves on for the dissector, and counters are told.
const TICK: Duration = Duration::from_millis(250);

/// Starts a capture in a pod and dissects it; returns once libpcap listens.
///
/// # Errors
/// The pod cannot be observed, or the filter is not valid.
pub async fn traffic(
    client: &kube::Client,
    request: CaptureRequest,
    names: Names,
) -> Result<TrafficStream, CaptureError> {
    let capture = super::start(client, request).await?;
    let point = capture.point().clone();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = CancellationToken::new();
    let pipeline = Pipeline {
        capture,
        tick,
        work: Work::new(point, names),
        end: end.clone(),
        over: false,
    };
    Ok(TrafficStream::new(
        stream::unfold(pipeline, Pipeline::next).boxed(),
        end,
    ))
}

struct Pipeline {
    capture: CaptureStream,
    tick: Interval,
    work: Work,
    end: CancellationToken,
    over: bool,
}

impl Pipeline {
    async fn next(mut self) -> Option<(Result<TrafficEvent, CaptureError>, Self)> {
        loop {
            if let Some(event) = self.work.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            tokio::select! {
                event = self.capture.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => {
                        self.over = true;
                        return Some((Err(error), self));
                    }
                    None => self.over = true,
                },
                _ = self.tick.tick() => self.work.tick(),
                () = self.end.cancelled() => self.end(),
            }
        }
    }
}

impl Pipeline {
    /// Takes an event and all that came with it.
    fn take(&mut self, event: CaptureEvent) {
        let mut next = Some(event);
        while let Some(event) = next {
            self.over = matches!(event, CaptureEvent::Ended(_));
            self.work.take(event);
            next = self.capture.here();
        }
    }

    /// What has arrived is read, nothing more is waited for.
    fn end(&mut self) {
        self.over = true;
        while let Some(Some(Ok(event))) = self.capture.next().now_or_never() {
            let ended = matches!(event, CaptureEvent::Ended(_));
            self.work.take(event);
            if ended {
                return;
            }
        }
        self.work.take(CaptureEvent::Ended(EndReason::Complete));
    }
}

/// The part of the pipeline that does not wait.
struct Work {
    dissector: Dissector,
    names: Names,
    point: CapturePoint,
    link: LinkType,
    interfaces: Vec<Interface>,
    ready: VecDeque<TrafficEvent>,
    packets: u64,
    dropped: u64,
    told: (u64, u64),
    /// The pod's clock at its last packet, and when that was here: the two machines' clocks may differ.
    clock: Option<(u64, Instant)>,
}

impl Work {
    fn new(point: CapturePoint, names: Names) -> Self {
        Self {
            dissector: Dissector::default(),
            names,
            point,
            link: LinkType::LINUX_SLL2,
            interfaces: Vec::new(),
            ready: VecDeque::new(),
            packets: 0,
            dropped: 0,
            told: (0, 0),
            clock: None,
        }
    }

    fn take(&mut self, event: CaptureEvent) {
        match event {
            CaptureEvent::Started { link, interfaces } => {
                self.link = link;
                self.interfaces = interfaces;
                self.ready.push_back(TrafficEvent::Started {
                    point: self.point.clone(),
                });
            }
            CaptureEvent::Packet(packet) => self.packet(&packet),
            CaptureEvent::Dropped(dropped) => self.dropped = dropped,
            CaptureEvent::Ended(reason) => {
                let rest = self.dissector.finish();
                self.give(rest);
                self.flows();
                self.count();
                self.ready.push_back(TrafficEvent::Ended(reason));
            }
        }
    }

    fn packet(&mut self, packet: &Packet) {
        self.packets += 1;
        self.clock = Some((packet.ts_ns, Instant::now()));
        let messages = self.dissector.feed(Frame {
            number: self.packets,
            ts_ns: packet.ts_ns,
            link: self.link,
            orig_len: packet.orig_len,
            data: &packet.data,
        });
        self.give(messages);
    }

    fn tick(&mut self) {
        if let Some((ts_ns, seen)) = self.clock {
            let messages = self.dissector.tick(ts_ns + seen.elapsed().as_nanos() as u64);
            self.give(messages);
        }
        self.flows();
        self.count();
    }

    fn flows(&mut self) {
        for mut flow in self.dissector.changed() {
            self.names.name_flow(&mut flow);
            flow.point = Some(self.at(flow.ifindex));
            self.ready.push_back(TrafficEvent::Flow(Box::new(flow)));
        }
    }

    /// This point on the interface of this index.
    fn at(&self, ifindex: Option<u32>) -> CapturePoint {
        let interface = ifindex.and_then(|index| self.interfaces.iter().find(|one| one.index == index));
        CapturePoint {
            interface: interface.map(|one| one.name.clone()),
            ..self.point.clone()
        }
    }

    fn count(&mut self) {
        let counters = (self.packets, self.dropped);
        if counters != self.told {
            self.told = counters;
            self.ready.push_back(TrafficEvent::Counters {
                point: self.point.clone(),
                packets: counters.0,
                dropped: counters.1,
            });
        }
    }

    fn give(&mut self, messages: Vec<Message>) {
        // Whoever listens until a secret is seen ends there: the judgement of its conversation must not come after it.
        if messages.iter().any(|message| !message.leaks.is_empty()) {
            self.flows();
        }
        for mut message in messages {
            self.names.name(&mut message);
            message.point = Some(self.at(message.ifindex));
            self.ready.push_back(TrafficEvent::Message(Box::new(message)));
        }
    }
}
