//! The captures a student starts: what they see goes into the session as evidence.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    command::Refusal,
    driver::{Session, refuse},
    snapshot::NoticeLevel,
    state::Event,
    topics::Topic,
    world::Listening,
};
use crate::{
    capture::{EndReason, TrafficEvent},
    check::Loot,
    packet::FlowVerdict,
};

/// How often traffic alone makes the checks run again.
const TRAFFIC: Duration = Duration::from_secs(1);

impl Session {
    /// Starts a capture in a workload, as the student.
    pub async fn capture(
        self: &Arc<Self>,
        workload: &str,
        filter: Option<String>,
        limit: Option<Duration>,
    ) -> Result<String, Refusal> {
        self.ready()?;
        if let Some(running) = self.core().captures.called(workload) {
            return Ok(format!("a capture in {running} is running already"));
        }
        let epoch = self.core().state.epoch();
        let listening = self.world().capture(workload, filter.clone()).await?;
        let pod = listening.pod.clone();
        let cancel = {
            let mut core = self.core();
            // A reset or another face may have been faster.
            if core.state.epoch() != epoch {
                return Err(refuse("the lab was reset meanwhile", "start the capture again"));
            }
            if core.captures.runs(workload) {
                return Ok(format!("a capture in {workload} is running already"));
            }
            core.captures.begin(workload, &pod, filter, &self.lab().namespace)
        };
        self.changed(Topic::Traffic);
        let pump = Self::pump(self.clone(), workload.to_owned(), epoch, listening, cancel, limit);
        self.spawn(pump);
        Ok(format!("capturing in {pod}"))
    }

    async fn pump(
        self: Arc<Self>,
        workload: String,
        epoch: u64,
        mut listening: Listening,
        cancel: CancellationToken,
        limit: Option<Duration>,
    ) {
        let limit = async move {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let mut limit = std::pin::pin!(limit);
        let mut nudge = interval(TRAFFIC);
        nudge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news = false;
        let mut asked = None;
        let why = loop {
            tokio::select! {
                // What was seen by then is still to come.
                () = cancel.cancelled(), if asked.is_none() => {
                    asked = Some(None);
                    listening.end.cancel();
                }
                () = &mut limit, if asked.is_none() => {
                    asked = Some(Some((NoticeLevel::Info, "its time is over".to_owned())));
                    listening.end.cancel();
                }
                _ = nudge.tick(), if news => {
                    news = false;
                    self.changed(Topic::Traffic);
                }
                event = listening.events.next() => match event {
                    Some(Ok(TrafficEvent::Ended(EndReason::Lost { detail }))) => {
                        break Some((NoticeLevel::Warning, detail));
                    }
                    None | Some(Ok(TrafficEvent::Ended(EndReason::Complete))) => {
                        break asked.unwrap_or_else(|| Some((NoticeLevel::Info, "it is complete".to_owned())));
                    }
                    Some(Err(error)) => break Some((NoticeLevel::Warning, error.message)),
                    Some(Ok(event)) => news |= self.seen(&workload, epoch, event),
                },
            }
        };
        if news {
            self.changed(Topic::Traffic);
        }
        let mut core = self.core();
        if core.state.epoch() == epoch {
            core.captures.finish(&workload);
            if let Some((level, why)) = why {
                core.notice(level, format!("the capture in {workload} ended: {why}"));
            }
        }
        drop(core);
        self.touch();
    }

    /// Takes in what a capture tells; whether a check may look at it.
    fn seen(self: &Arc<Self>, workload: &str, epoch: u64, event: TrafficEvent) -> bool {
        let mut core = self.core();
        if core.state.epoch() != epoch {
            return false;
        }
        let mut news = false;
        match event {
            TrafficEvent::Message(message) => {
                // What a probe of ztlab says and hears is not the student's find.
                let loot: Vec<Loot> = if message.is_probe() {
                    Vec::new()
                } else {
                    Loot::of(&message).collect()
                };
                core.captures.saw(workload, *message);
                drop(core);
                for loot in loot {
                    self.feed(&Event::Looted { epoch, loot });
                }
                news = true;
            }
            // Nothing of it is in a snapshot.
            TrafficEvent::Flow(flow) => {
                // Its certificates are hidden, those of a handshake of one's own are not.
                let hidden = flow.encrypted && flow.verdict == FlowVerdict::Undetermined && !flow.is_probe();
                let pod = core.captures.pod(workload).filter(|_| hidden).map(str::to_owned);
                let news = core.captures.judged(workload, *flow.clone());
                drop(core);
                if let Some(pod) = pod {
                    let session = self.clone();
                    self.spawn(async move {
                        session.world().look_at(&pod, flow.server.addr).await;
                        session.touch();
                    });
                }
                return news;
            }
            TrafficEvent::Counters { packets, dropped, .. } => {
                core.captures.count(workload, packets, dropped);
                drop(core);
            }
            TrafficEvent::Started { .. } | TrafficEvent::Left { .. } | TrafficEvent::Ended(_) => drop(core),
        }
        self.touch();
        news
    }

    /// Ends the student's capture in a workload, or all.
    pub async fn capture_stop(&self, workload: Option<&str>) -> Result<String, Refusal> {
        let ending: Vec<String> = {
            let core = self.core();
            match workload {
                None => core.captures.workloads(),
                Some(name) => match core.captures.called(name) {
                    Some(workload) => vec![workload.to_owned()],
                    None => {
                        return Err(refuse(
                            format!("no capture runs in {}", crate::text::one_line(name)),
                            "`ztlab lab status` shows those that run",
                        ));
                    }
                },
            }
        };
        for workload in &ending {
            self.core().captures.cancel(workload);
        }
        self.until(|| ending.iter().all(|workload| !self.core().captures.runs(workload)))
            .await;
        Ok(match ending.as_slice() {
            [] => "no capture was running".to_owned(),
            ended => format!("stopped capturing in {}", ended.join(", ")),
        })
    }
}
