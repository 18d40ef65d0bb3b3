//! Messages and places on lines of a terminal.

use super::super::{
    error::CliError,
    output::{Output, Tint},
};
use crate::{
    packet::{CapturePoint, Message, PlaceKind},
    session::snapshot::MessageView,
    text,
};

pub(super) fn show_view(message: &MessageView, out: &Output) -> Result<(), CliError> {
    if out.json() {
        return out.value_line(message);
    }
    out.line(format!(
        "{} {} {}{} {}{}",
        out.tinted(&clock(message.at_ms), Tint::Quiet),
        out.bold(&format!(
            "{} → {}",
            text::one_line(&message.from),
            text::one_line(&message.to)
        )),
        out.tinted(own(message.probe), Tint::Quiet),
        message.protocol,
        text::one_line(&message.summary),
        out.tinted(&place_of_view(message), Tint::Quiet)
    ))?;
    for leak in &message.leaks {
        show_leak(&leak.kind, &leak.value, out)?;
    }
    for held in &message.identities {
        let who = if held.end == "from" { &message.from } else { &message.to };
        let told = format!(
            "    ≈ {} holds {} ({})",
            text::one_line(who),
            text::one_line(&held.spiffe_id),
            held.words(message.at_ms)
        );
        out.line(out.tinted(&told, Tint::Quiet))?;
    }
    Ok(())
}

/// The mark of what ztlab itself asked, or was answered.
pub(in crate::cli) fn own(probe: bool) -> &'static str {
    if probe { "[ztlab's probe] " } else { "" }
}

pub(in crate::cli) fn show_message(message: &Message, out: &Output) -> Result<(), CliError> {
    if out.json() {
        let mut told = serde_json::to_value(message).map_err(|error| CliError::new(error.to_string()))?;
        told["by_ztlab"] = message.is_probe().into();
        return out.value_line(&told);
    }
    out.line(format!(
        "{} {} {}{} {}{}",
        out.tinted(&clock(message.ts_ns / 1_000_000), Tint::Quiet),
        out.bold(&text::one_line(&message.route())),
        out.tinted(own(message.is_probe()), Tint::Quiet),
        message.protocol,
        text::one_line(&message.summary),
        out.tinted(&places(message), Tint::Quiet)
    ))?;
    for leak in &message.leaks {
        let kind = match &leak.account {
            Some(account) => format!("{} of {account}", leak.kind),
            None => leak.kind.to_string(),
        };
        show_leak(&kind, &leak.value, out)?;
    }
    Ok(())
}

/// A leak on a line of its own, its bytes between marks that need no colour.
fn show_leak(kind: &str, value: &str, out: &Output) -> Result<(), CliError> {
    let value = out.tinted(&format!("»{}«", text::one_line(value)), Tint::Leak);
    out.line(format!(
        "    {} {} {value}",
        out.tinted("!", Tint::Bad),
        text::one_line(kind)
    ))
}

/// Milliseconds since the Unix epoch as the time of day, UTC.
pub(in crate::cli) fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000;
    format!(
        "{:02}:{:02}:{:02}.{:03}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        at_ms % 1000
    )
}

/// Where a message was seen, in brackets: every point where several tell, else only what is not simply the wire.
fn places(message: &Message) -> String {
    let Some(point) = &message.point else {
        return String::new();
    };
    let all: Vec<&CapturePoint> = std::iter::once(point)
        .chain(message.also.iter().filter_map(|one| one.point.as_ref()))
        .collect();
    if let [point] = all.as_slice() {
        return match point.kind() {
            PlaceKind::OnTheWire if point.proxy.is_none() => String::new(),
            _ => format!("  [{}]", text::one_line(&point.place())),
        };
    }
    let named: Vec<String> = all.iter().map(|point| text::one_line(&point.to_string())).collect();
    format!("  [seen at {}]", named.join(" and "))
}

fn place_of_view(message: &MessageView) -> String {
    match &message.place {
        Some(place) if place.kind != PlaceKind::OnTheWire || place.proxied => {
            format!("  [{}]", text::one_line(&place.words))
        }
        _ => String::new(),
    }
}

/// Who else sees what is captured in a pod: told once, when it begins.
pub(super) fn vantage(point: &CapturePoint, out: &Output) {
    out.note(format!("capturing in pod {}", text::one_line(&point.pod)));
    let kinds = if point.node_network {
        &[PlaceKind::OnTheNode][..]
    } else {
        &[PlaceKind::OnTheWire, PlaceKind::InsidePod]
    };
    for kind in kinds {
        out.note(format!(
            "  {}: seen by {}; hidden from {}",
            kind.words(),
            kind.seen_by(),
            kind.hidden_from()
        ));
    }
    if let Some(proxy) = &point.proxy {
        out.note(format!(
            "  the pod has a proxy, {}: what is on lo has not been encrypted by it yet, or not any more",
            text::one_line(proxy)
        ));
    }
}
