//! `ztlab packets`: a capture file, read in one of several views. All of them are made of the model of
//! [`crate::packet`], which the terminal interface draws too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    net::IpAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use super::{
    args::{Packets, View},
    capture::{clock, own, show_message},
    error::CliError,
    output::{Output, Tint},
};
use crate::{
    packet::{
        CapturePoint, Detail, FieldValue, Flow, FlowVerdict, Frame, Layers, Limits, Message, Peer, Reading, Stats,
        Upper, Who, decode,
        filter::Filter,
        pcapfile::{PcapError, PcapReader},
    },
    text,
};

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Columns of a hexadecimal dump.
const COLUMNS: usize = 16;

/// Runs the command.
///
/// # Errors
/// When the file cannot be read or is no capture, or the filter is none.
pub fn run(args: &Packets, out: &Output) -> Result<ExitCode, CliError> {
    let filter = Filter::parse(&args.filter).map_err(|error| CliError::with_hint(&error, error.hint()))?;
    let mut view = Viewer {
        args,
        out,
        filter,
        names: BTreeMap::new(),
        shown: BTreeSet::new(),
    };
    let (stats, damage) = view.file()?;
    view.told(stats);
    match damage {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => {
            let hint = match error {
                PcapError::Magic(_) => "`ztlab capture --pod ledger -w ledger.pcapng` writes one",
                _ => "what stands before the damage is shown above",
            };
            Err(CliError::with_hint(format!("{}: {error}", args.file.display()), hint))
        }
    }
}

/// Why the reading of a file ended before the file did.
enum Unread<E> {
    Io(std::io::Error),
    Other(E),
}

enum Trouble {
    Damage(PcapError),
    Shown(CliError),
}

/// Reads a file piece by piece.
fn pieces<E>(path: &Path, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), Unread<E>> {
    let mut file = File::open(path).map_err(Unread::Io)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece).map_err(Unread::Io)?;
        if count == 0 {
            return Ok(());
        }
        take(&piece[..count]).map_err(Unread::Other)?;
    }
}

struct Viewer<'a> {
    args: &'a Packets,
    out: &'a Output,
    filter: Filter,
    names: BTreeMap<IpAddr, Arc<Who>>,
    /// Conversations whose heading was printed.
    shown: BTreeSet<u64>,
}

impl Viewer<'_> {
    /// Reads the whole file; gives what was seen and, where the file is damaged, how.
    fn file(&mut self) -> Result<(Stats, Option<PcapError>), CliError> {
        let path = &self.args.file;
        let unreadable = |error: std::io::Error| {
            CliError::with_hint(
                format!("cannot read {}: {error}", path.display()),
                "`ztlab capture --pod ledger -w ledger.pcapng` writes such a file",
            )
        };
        // Names stand at the end of a file as a rule, so they are read before anything is shown.
        let mut reader = PcapReader::default();
        let sound = pieces(path, |piece| {
            reader.push(piece);
            while reader.next_record()?.is_some() {}
            Ok::<_, PcapError>(())
        });
        if let Err(Unread::Io(error)) = sound {
            return Err(unreadable(error));
        }
        let known = |(addr, names): (&IpAddr, &Vec<String>)| Some((*addr, Arc::new(Who::from_file_names(names)?)));
        self.names = reader.names().iter().filter_map(known).collect();
        let mut reading = Reading::new(Limits::default(), reader.pods().len() > 1);
        let damage = match pieces(path, |piece| self.piece(&mut reading, piece)) {
            Ok(()) => reading.finish().err(),
            Err(Unread::Io(error)) => return Err(unreadable(error)),
            Err(Unread::Other(Trouble::Damage(error))) => Some(error),
            Err(Unread::Other(Trouble::Shown(error))) => return Err(error),
        };
        self.end(&mut reading)?;
        Ok((reading.stats(), damage))
    }

    fn piece(&mut self, reading: &mut Reading, piece: &[u8]) -> Result<(), Trouble> {
        reading.push(piece);
        let packets = self.args.view == View::Packets && self.args.follow.is_none();
        while let Some(step) = reading.step().map_err(Trouble::Damage)? {
            if packets {
                self.packet(&step.frame, step.comment).map_err(Trouble::Shown)?;
            } else {
                self.messages(step.messages).map_err(Trouble::Shown)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, reading: &mut Reading) -> Result<(), CliError> {
        let (messages, flows) = reading.end();
        if self.args.view == View::Packets && self.args.follow.is_none() {
            return Ok(());
        }
        self.messages(messages)?;
        if self.args.view == View::Conversations && self.args.follow.is_none() {
            for mut flow in flows {
                self.name(&mut flow.client);
                self.name(&mut flow.server);
                if self.filter.flow(&flow) {
                    self.flow(&flow)?;
                }
            }
        }
        Ok(())
    }

    fn name(&self, peer: &mut Peer) {
        peer.who = self.names.get(&peer.addr.ip()).cloned();
        if let Some(became) = &mut peer.became {
            self.name(Arc::make_mut(became));
        }
    }

    fn messages(&mut self, messages: Vec<Message>) -> Result<(), CliError> {
        for mut message in messages {
            self.name(&mut message.from);
            self.name(&mut message.to);
            if self.args.follow.is_some_and(|flow| flow != message.flow) || !self.filter.message(&message) {
                continue;
            }
            match (self.args.follow, self.args.view) {
                (Some(_), _) => self.followed(&message)?,
                (None, View::Dialogue) => show_message(&message, self.out)?,
                (None, View::Handshakes) => self.handshake(&message)?,
                (None, View::Leaks) => self.leaks(&message)?,
                (None, View::Conversations | View::Packets) => {}
            }
        }
        Ok(())
    }

    /// A message of the conversation that is followed, in full.
    fn followed(&self, message: &Message) -> Result<(), CliError> {
        show_message(message, self.out)?;
        if self.out.json() {
            return Ok(());
        }
        for line in message.text.lines() {
            self.out.line(format!("    {}", text::one_line(line)))?;
        }
        Ok(())
    }

    /// A step of a handshake: arrows between client and server.
    fn handshake(&mut self, message: &Message) -> Result<(), CliError> {
        let Detail::Tls { record, .. } = &message.detail else {
            return Ok(());
        };
        if self.out.json() {
            return self.out.value_line(message);
        }
        if self.shown.insert(message.flow) {
            let (client, server) = match record.as_str() {
                "server-hello" | "hello-retry-request" => (&message.to, &message.from),
                _ => (&message.from, &message.to),
            };
            let heading = format!("conversation {}: {client} and {server}", message.flow);
            self.out.line(self.out.bold(&text::one_line(&heading)))?;
        }
        self.out.line(format!(
            "  {}  {}  {}",
            self.out.tinted(&clock(message.ts_ns / 1_000_000), Tint::Quiet),
            text::one_line(&format!("{} → {}", message.from, message.to)),
            text::one_line(&message.summary)
        ))
    }

    fn leaks(&self, message: &Message) -> Result<(), CliError> {
        for leak in &message.leaks {
            if self.out.json() {
                self.out.value_line(leak)?;
                continue;
            }
            let places: Vec<String> = leak
                .places
                .iter()
                .map(|place| {
                    format!(
                        "packet {}, bytes {} to {}",
                        place.frame,
                        place.start,
                        place.end.saturating_sub(1)
                    )
                })
                .collect();
            self.out.line(format!(
                "{} {} {}: {}",
                self.out.tinted("!", Tint::Bad),
                leak.kind,
                self.out
                    .tinted(&format!("»{}«", text::one_line(&leak.value)), Tint::Leak),
                text::one_line(&format!("{}; {}", message.route(), places.join("; ")))
            ))?;
            if let Some(token) = &leak.token {
                self.out.line(format!("    {}", text::one_line(token)))?;
            }
        }
        Ok(())
    }

    fn flow(&self, flow: &Flow) -> Result<(), CliError> {
        if self.out.json() {
            let mut told = serde_json::to_value(flow).map_err(|error| CliError::new(error.to_string()))?;
            told["by_ztlab"] = flow.is_probe().into();
            return self.out.value_line(&told);
        }
        let tint = match flow.verdict {
            FlowVerdict::Readable => Tint::Bad,
            FlowVerdict::EncryptedMutual | FlowVerdict::EncryptedOneSided => Tint::Good,
            FlowVerdict::Refused | FlowVerdict::Undetermined => Tint::Unsure,
        };
        let hidden = if flow.encrypted && flow.verdict == FlowVerdict::Undetermined {
            ", encrypted"
        } else {
            ""
        };
        self.out.line(format!(
            "{:>4} {} {}{} {}{hidden}",
            flow.id,
            self.out
                .bold(&text::one_line(&format!("{} → {}", flow.client, flow.server))),
            self.out.tinted(own(flow.is_probe()), Tint::Quiet),
            flow.protocol,
            self.out.tinted(flow.verdict.as_str(), tint)
        ))?;
        if let Some(point) = &flow.point {
            let points: Vec<String> = std::iter::once(point)
                .chain(&flow.also)
                .map(CapturePoint::to_string)
                .collect();
            let seen = format!("at {}; seen by {}", points.join(" and "), point.kind().seen_by());
            self.out.line(format!("       {}", text::one_line(&seen)))?;
        }
        for fact in &flow.evidence {
            let frame = fact.frame.map(|frame| format!("packet {frame}: ")).unwrap_or_default();
            self.out
                .line(format!("       {}", text::one_line(&format!("{frame}{}", fact.says))))?;
        }
        if !flow.still_shows.is_empty() {
            self.out.line("       still shows:")?;
        }
        for shown in &flow.still_shows {
            self.out.line(format!("         {}", text::one_line(shown)))?;
        }
        Ok(())
    }

    fn packet(&self, frame: &Frame<'_>, comment: Option<&str>) -> Result<(), CliError> {
        let layers = decode(frame);
        if !self.filter.packet(frame, &layers) {
            return Ok(());
        }
        if self.out.json() {
            return self.out.value_line(&json(frame, &layers, comment));
        }
        self.out.line(format!(
            "{:>6} {} {}",
            frame.number,
            self.out.tinted(&clock(frame.ts_ns / 1_000_000), Tint::Quiet),
            text::one_line(&self.describe(frame, &layers))
        ))?;
        for trouble in layers.troubles.iter() {
            self.out.line(format!(
                "       {} {}",
                self.out.tinted("!", Tint::Bad),
                trouble.as_str()
            ))?;
        }
        if let Some(comment) = comment {
            self.out.line(format!("       {}", text::one_line(comment)))?;
        }
        if self.args.hex {
            for (row, bytes) in frame.data.chunks(COLUMNS).enumerate() {
                self.out.line(format!("       {}", hex(row * COLUMNS, bytes)))?;
            }
        }
        Ok(())
    }

    fn label(&self, addr: IpAddr) -> String {
        self.names
            .get(&addr)
            .map_or_else(|| addr.to_string(), |who| who.label().to_owned())
    }

    /// A packet on one line.
    fn describe(&self, frame: &Frame<'_>, layers: &Layers<'_>) -> String {
        let length = frame.orig_len;
        let Some(ip) = layers.ip() else {
            return match layers.net {
                crate::packet::Net::Arp(arp) if arp.operation == 1 => format!("ARP request, {length} bytes"),
                crate::packet::Net::Arp(_) => format!("ARP reply, {length} bytes"),
                _ => format!("not IP, {length} bytes"),
            };
        };
        let (src, dst) = (self.label(ip.src), self.label(ip.dst));
        match &layers.upper {
            Upper::Tcp(tcp) => {
                let flags: Vec<&str> = [(2, "SYN"), (16, "ACK"), (8, "PSH"), (1, "FIN"), (4, "RST"), (32, "URG")]
                    .into_iter()
                    .filter(|(flag, _)| tcp.has(*flag))
                    .map(|(_, name)| name)
                    .collect();
                format!(
                    "{src}:{} → {dst}:{} TCP {} {} bytes",
                    tcp.src_port,
                    tcp.dst_port,
                    flags.join(" "),
                    tcp.len
                )
            }
            Upper::Udp(udp) => format!("{src}:{} → {dst}:{} UDP {} bytes", udp.src_port, udp.dst_port, udp.len),
            Upper::Icmp(icmp) => format!("{src} → {dst} ICMP {}", icmp.name()),
            Upper::None => match ip.fragment {
                Some(piece) => format!("{src} → {dst} fragment of packet {} at {}", piece.id, piece.offset),
                None => format!("{src} → {dst} protocol {}, {length} bytes", ip.protocol),
            },
        }
    }

    /// What could not be read, on standard error.
    fn told(&self, stats: Stats) {
        for (count, what) in [
            (stats.malformed, "packets whose headers do not hold together"),
            (stats.cut, "packets that the capture cut short"),
            (stats.missing_bytes, "bytes that the capture never saw"),
            (stats.conflicts, "TCP segments that contradict others"),
            (stats.fragments_dropped, "fragments that never became a packet"),
            (stats.evicted, "conversations given up to keep within limits"),
        ] {
            if count > 0 {
                self.out.note(format!("{count} {what}"));
            }
        }
    }
}

/// The fields of a packet; a name that occurs more than once has a list.
fn json(frame: &Frame<'_>, layers: &Layers<'_>, comment: Option<&str>) -> serde_json::Value {
    let mut fields: BTreeMap<&str, Vec<serde_json::Value>> = BTreeMap::new();
    layers.fields(frame, &mut |name, value, _| {
        let value = match value {
            FieldValue::Number(number) | FieldValue::Hex(number) => number.into(),
            FieldValue::Flag(flag) => flag.into(),
            value => value.to_string().into(),
        };
        fields.entry(name).or_default().push(value);
    });
    let troubles: Vec<&str> = layers.troubles.iter().map(|trouble| trouble.as_str()).collect();
    serde_json::json!({
        "frame": frame.number,
        "ts_ns": frame.ts_ns,
        "fields": fields,
        "troubles": troubles,
        "comment": comment,
    })
}

/// A row of a hexadecimal dump: offset, bytes, text.
fn hex(at: usize, bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = |byte: &u8| {
        if matches!(byte, b' '..=b'~') {
            char::from(*byte)
        } else {
            '·'
        }
    };
    let words: String = bytes.iter().map(shown).collect();
    format!(
        "{at:04x}  {:<width$}  {words}",
        numbers.join(" "),
        width = COLUMNS * 3 - 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_hex_has_its_text_beside_it() {
        assert_eq!(
            hex(16, b"GET /\r\n"),
            "0010  47 45 54 20 2f 0d 0a                             GET /··"
        );
        assert_eq!(hex(0, &[0x41; 16]).len(), 4 + 2 + 47 + 2 + 16);
    }
}
