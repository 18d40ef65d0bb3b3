//! What the student's captures show.

use super::{LINES, evidence_of, words};
use crate::{
    check::Loot,
    evidence::{CaptureEvidence, Judged, ProbeResult, shown_by_probes},
    lab::{CaptureCheck, FlowCheck, FlowWanted, Pattern},
    packet::{FlowVerdict, Message, Probed},
    verdict::{Finding, Judgement, Verdict},
};

pub(super) fn expected(check: &CaptureCheck) -> String {
    let (one, other) = &check.between;
    let what = match (check.pattern.protocol, check.pattern.leak) {
        (Some(protocol), Some(leak)) => format!("a {} in {protocol}", words(leak.as_str())),
        (None, Some(leak)) => format!("a {}", words(leak.as_str())),
        (Some(protocol), None) => format!("{protocol} in clear"),
        (None, None) if check.pattern.text.is_some() => "a message".to_owned(),
        (None, None) => "traffic".to_owned(),
    };
    let what = match &check.pattern.text {
        Some(text) => format!("{what} that matches `{text}`"),
        None => what,
    };
    if check.wanted {
        format!("a capture of yours shows {what} between {one} and {other}")
    } else {
        format!("your newest capture sees {one} and {other} talk, and shows no {what}")
    }
}

pub(super) fn judge(check: &CaptureCheck, seen: &CaptureEvidence, loot: &[Loot]) -> Judgement {
    if check.wanted {
        judge_held(check, seen, loot)
    } else {
        judge_lacks(check, seen)
    }
}

fn judge_held(check: &CaptureCheck, seen: &CaptureEvidence, loot: &[Loot]) -> Judgement {
    let (one, other) = &check.between;
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected(check), found);
    let looted = loot
        .iter()
        .filter(|loot| loot.between(&check.between) && loot.matches(&check.pattern));
    // What leaks is in the loot, which is kept longer; a message stands for itself.
    let by_message = check.pattern.leak.is_none() || check.pattern.text.is_some();
    let held: Vec<String> = looted
        .map(Loot::describe)
        .chain(
            seen.between(one.as_str(), other.as_str())
                .filter(|message| by_message && holds(message, &check.pattern))
                .map(describe),
        )
        .take(LINES)
        .collect();
    if !held.is_empty() {
        let found = format!("seen, between {one} and {other}");
        return say(Verdict::Passed, Finding::Expected, found).with_evidence(held);
    }
    if seen.points.is_empty() {
        return not_listened(expected(check));
    }
    match seen.between(one.as_str(), other.as_str()).count() {
        0 => say(
            Verdict::Failed,
            Finding::NoTraffic,
            format!("nothing between {one} and {other}; you listened in {}", places(seen)),
        ),
        crossed => say(
            Verdict::Failed,
            Finding::NotHeld,
            format!("{crossed} messages between {one} and {other}, none of them that"),
        ),
    }
}

/// An absence is looked for in the newest capture that saw the two talk: what was true before the student changed
/// something stays in older ones.
fn judge_lacks(check: &CaptureCheck, seen: &CaptureEvidence) -> Judgement {
    let (one, other) = &check.between;
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected(check), found);
    if seen.points.is_empty() {
        return not_listened(expected(check));
    }
    let newest = seen.newest_between(one.as_str(), other.as_str());
    let held: Vec<String> = newest
        .iter()
        .filter(|message| holds(message, &check.pattern))
        .map(|message| describe(message))
        .take(LINES)
        .collect();
    if !held.is_empty() {
        let found = format!("seen, between {one} and {other}");
        return say(Verdict::Failed, Finding::Held, found).with_evidence(held);
    }
    if newest.is_empty() {
        return say(
            Verdict::Undetermined,
            Finding::NoTraffic,
            format!("nothing at all between {one} and {other}, so its absence shows nothing"),
        );
    }
    if seen.dropped > 0 {
        return say(
            Verdict::Undetermined,
            Finding::NotMeasured,
            format!(
                "the capture dropped {} packets: it may have been in one of them",
                seen.dropped
            ),
        );
    }
    say(
        Verdict::Passed,
        Finding::Expected,
        format!("{} messages between {one} and {other}, none of them that", newest.len()),
    )
    .with_evidence(newest.iter().map(|message| describe(message)).take(LINES))
}

fn not_listened(expected: String) -> Judgement {
    let found = "you have not captured anything yet";
    Judgement::new(Verdict::Undetermined, Finding::NoCapture, expected, found)
}

fn places(seen: &CaptureEvidence) -> String {
    let places: Vec<&str> = seen.points.iter().map(|point| point.pod.as_str()).collect();
    places.join(", ")
}

fn holds(message: &Message, pattern: &Pattern) -> bool {
    pattern.protocol.is_none_or(|protocol| message.protocol == protocol)
        && pattern
            .leak
            .is_none_or(|kind| message.leaks.iter().any(|leak| leak.kind == kind))
        && pattern.text.as_ref().is_none_or(|text| text.is_match(&message.text))
}

fn describe(message: &Message) -> String {
    let frame = message.frames.first().copied().unwrap_or_default();
    crate::text::one_line(&format!("packet {frame}, {}: {}", message.route(), message.summary))
}

pub(super) fn expected_flow(check: &FlowCheck) -> String {
    let (one, other) = &check.between;
    let what = match check.wanted {
        FlowWanted::Encrypted => "encrypted".to_owned(),
        FlowWanted::Is(verdict) => words(verdict.as_str()),
    };
    format!("your newest capture sees {one} and {other} talk, and all of it is {what}")
}

pub(super) fn judge_flow(
    check: &FlowCheck,
    seen: &CaptureEvidence,
    probes: Option<&(ProbeResult, ProbeResult)>,
) -> Judgement {
    let say = |verdict, finding, found: String| Judgement::new(verdict, finding, expected_flow(check), found);
    if seen.points.is_empty() {
        return not_listened(expected_flow(check));
    }
    let (one, other) = (check.between.0.as_str(), check.between.1.as_str());
    let probed = probes.map_or_else(Probed::default, |(with, without)| {
        shown_by_probes(Some(&with.outcome), Some(&without.outcome))
    });
    let newest = seen.newest_flows(one, other);
    let judged: Vec<Judged> = [(one, other), (other, one)]
        .into_iter()
        .filter_map(|(client, server)| newest.judged(client, server, probed))
        .collect();
    // Both directions count: one conversation that is not as wanted is enough.
    let worst = judged.iter().find(|judged| !is_wanted(check.wanted, judged));
    let Some(judged) = worst.or(judged.first()) else {
        if seen.between(one, other).next().is_some() {
            let found =
                format!("{one} and {other} talked, but your capture ended before a conversation did: listen longer");
            return say(Verdict::Undetermined, Finding::NotMeasured, found);
        }
        let found = format!(
            "nothing at all between {one} and {other}; you listened in {}",
            places(seen)
        );
        return say(Verdict::Undetermined, Finding::NoTraffic, found);
    };
    let probes = probes.into_iter().flat_map(|(with, without)| [with, without]);
    let proof = judged.evidence.iter().cloned().chain(probes.map(evidence_of));
    let found = format!("{} conversations, {}", judged.flows, told(judged));
    let judgement = match (is_wanted(check.wanted, judged), judged.verdict) {
        (true, _) if seen.dropped > 0 && check.wanted != FlowWanted::Is(FlowVerdict::Readable) => say(
            Verdict::Undetermined,
            Finding::NotMeasured,
            format!("{found}; but the capture dropped {} packets", seen.dropped),
        ),
        (true, _) => say(Verdict::Passed, Finding::Expected, found),
        (false, FlowVerdict::Readable) => say(Verdict::Failed, Finding::Readable, found),
        (false, FlowVerdict::EncryptedOneSided) => say(Verdict::Failed, Finding::Encrypted, found),
        (false, FlowVerdict::EncryptedMutual) => say(Verdict::Failed, Finding::Mutual, found),
        (false, FlowVerdict::Refused) => say(Verdict::Failed, Finding::Refused, found),
        (false, FlowVerdict::Undetermined) if judged.encrypted => {
            let found = format!("{found}; who proved who they are, a capture does not show");
            say(Verdict::Undetermined, Finding::Encrypted, found)
        }
        (false, FlowVerdict::Undetermined) => say(Verdict::Undetermined, Finding::NotMeasured, found),
    };
    judgement.with_evidence(proof)
}

fn is_wanted(wanted: FlowWanted, judged: &Judged) -> bool {
    match wanted {
        FlowWanted::Encrypted => {
            judged.encrypted
                && matches!(
                    judged.verdict,
                    FlowVerdict::EncryptedOneSided | FlowVerdict::EncryptedMutual | FlowVerdict::Undetermined
                )
        }
        FlowWanted::Is(verdict) => judged.verdict == verdict,
    }
}

fn told(judged: &Judged) -> String {
    match judged.verdict {
        FlowVerdict::Undetermined if judged.encrypted => "all encrypted".to_owned(),
        FlowVerdict::Undetermined => "not all of which is known".to_owned(),
        verdict => words(verdict.as_str()),
    }
}
