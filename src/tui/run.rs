//! The loop: takes what happens, lets [`update`](super::update::update) decide, does the effects, draws.
//!
//! It drains everything that happened before it draws, and draws at a bounded rate; it never waits for the session.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind};
use futures::{FutureExt, StreamExt};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, Interval, sleep, sleep_until},
};

use super::{
    keys::Key,
    model::{Link, Model},
    terminal::{Raw, Screen, hung_up},
    theme::Theme,
    update::{Effect, Msg, update},
    views,
};
use crate::{
    cli::shell::{self, Place},
    session::{
        client::{self, Client, ClientError},
        command::{Command, Refusal, Reply},
        snapshot::Snapshot,
    },
    text,
};

/// Time between two drawings, at the least.
const FRAME: Duration = Duration::from_millis(33);

/// Time between two attempts to reach the session host.
const AGAIN: Duration = Duration::from_millis(1500);

/// How often it is looked whether the terminal is still there.
const LOOK: Duration = Duration::from_secs(1);

/// How the interface ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The student left; a lab goes on, or none runs.
    Quit {
        /// Whether a lab goes on.
        lab: bool,
    },
    /// A signal asked for it.
    Signal(u8),
}

/// Runs the interface until the student leaves.
///
/// # Errors
/// When the terminal cannot be taken, drawn on or read.
pub fn run() -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(interface());
    // Requests still on their way are the host's to finish.
    runtime.shutdown_background();
    match ended {
        // Whichever was noticed first: that it is gone, or that nothing can be drawn on it.
        Err(_) if hung_up(&io::stdin()) => Ok(Ended::Signal(HANGUP)),
        ended => ended,
    }
}

async fn interface() -> io::Result<Ended> {
    let mut signals = Signals::new()?;
    let (host, mut inbox) = Host::connect();
    let mut screen = Screen::take()?;
    let size = screen.terminal().size()?;
    let mut model = Model::new((size.width, size.height), Theme::from_environment());
    let mut keyboard = Keyboard::open();
    let lines = shell::Lines::open();
    let mut next_frame = Instant::now();
    let mut dirty = true;
    loop {
        let happened = tokio::select! {
            event = keyboard.next() => match event {
                Some(event) => message(event?),
                None => return Ok(Ended::Signal(HANGUP)),
            },
            msg = inbox.next() => Some(msg),
            number = signals.next() => return Ok(Ended::Signal(number)),
            () = sleep_until(next_frame), if dirty => None,
        };
        let mut queue: Vec<Msg> = happened.into_iter().collect();
        while let Some(event) = keyboard.waiting() {
            queue.extend(message(event?));
        }
        while let Some(msg) = inbox.next().now_or_never() {
            queue.push(msg);
        }
        let mut effects = Vec::new();
        for msg in queue {
            dirty = true;
            effects.extend(update(&mut model, msg));
        }
        for effect in effects {
            match effect {
                Effect::Quit => {
                    let lab = model.session().is_some();
                    return Ok(Ended::Quit { lab });
                }
                Effect::Redraw => screen.forget()?,
                Effect::Send { id, commands } => host.send(id, commands),
                Effect::Shell {
                    command,
                    kubeconfig,
                    label,
                    work,
                } => {
                    // Two readers of one keyboard would take keys from each other.
                    keyboard.close().await;
                    screen.suspend();
                    let place = Place {
                        kubeconfig: kubeconfig.into(),
                        label,
                        work: Some(work).filter(|work| !work.is_empty()).map(Into::into),
                    };
                    let ended = match command {
                        None => open_shell(&place, &mut signals).await?,
                        Some(line) => run_line(lines.command(&place, &line), &place, &line, &mut signals).await?,
                    };
                    screen.resume()?;
                    keyboard = Keyboard::open();
                    let size = screen.terminal().size()?;
                    update(&mut model, Msg::Resize(size.width, size.height));
                    update(&mut model, Msg::ShellEnded(ended));
                    host.did_something();
                    dirty = true;
                }
            }
        }
        if dirty && Instant::now() >= next_frame {
            screen.terminal().draw(|frame| views::draw(frame, &model))?;
            next_frame = Instant::now() + FRAME;
            dirty = false;
        }
    }
}

fn message(event: Event) -> Option<Msg> {
    match event {
        Event::Key(key) => Some(Msg::Key(key)),
        Event::Paste(text) => Some(Msg::Paste(text)),
        Event::Resize(columns, rows) => Some(Msg::Resize(columns, rows)),
        Event::FocusGained | Event::FocusLost | Event::Mouse(_) => None,
    }
}

/// What the terminal tells, through a task of its own: an [`EventStream`] remembers only the first who waited for it,
/// so that asking it whether something is there, without waiting, would be the last that is heard of it.
struct Keyboard {
    events: mpsc::Receiver<io::Result<Event>>,
    reader: JoinHandle<()>,
}

impl Keyboard {
    fn open() -> Keyboard {
        let (sender, events) = mpsc::channel(256);
        let reader = tokio::spawn(async move {
            let mut stream = EventStream::new();
            while let Some(event) = stream.next().await {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        Keyboard { events, reader }
    }

    async fn next(&mut self) -> Option<io::Result<Event>> {
        self.events.recv().await
    }

    fn waiting(&mut self) -> Option<io::Result<Event>> {
        self.events.try_recv().ok()
    }

    /// Stops reading; once this returns, what is typed is somebody else's.
    async fn close(self) {
        self.reader.abort();
        // An aborted task is what was asked for.
        let _ = self.reader.await;
    }
}

async fn open_shell(place: &Place, signals: &mut Signals) -> io::Result<Result<(), String>> {
    use io::Write;
    writeln!(io::stdout(), "{}", shell::greeting(place))?;
    let command = shell::shell(place);
    let program = command.get_program().to_string_lossy().into_owned();
    let ended = to_its_end(command, signals).await?;
    Ok(ended.and_then(|status| known(&program, status)))
}

/// Runs a line in the student's shell, on the terminal as it was before the interface took it, and keeps what it prints
/// in sight until the student goes back. An interrupt is for the line: this program takes none while it runs.
async fn run_line(
    command: std::process::Command,
    place: &Place,
    line: &str,
    signals: &mut Signals,
) -> io::Result<Result<(), String>> {
    use io::Write;
    writeln!(
        io::stdout(),
        "\n(ztlab {}) $ {}",
        text::one_line(&place.label),
        text::clean(line)
    )?;
    let status = match to_its_end(command, signals).await? {
        Ok(status) => status,
        Err(error) => return Ok(Err(error)),
    };
    let how = match (status.code(), status.signal()) {
        (Some(0), _) => String::new(),
        (Some(code), _) => format!("it ended with {code}; "),
        (None, signal) => format!("it was ended by signal {}; ", signal.unwrap_or_default()),
    };
    let raw = Raw::enter()?;
    // What was typed while the line ran was for the line; what is typed once it is asked for counts.
    let _ = rustix::termios::tcflush(io::stdin(), rustix::termios::QueueSelector::IFlush);
    write!(io::stdout(), "\r\n-- {how}enter goes back to the lab\r\n")?;
    let mut keyboard = Keyboard::open();
    let read = read_on(&mut keyboard, signals).await;
    keyboard.close().await;
    drop(raw);
    read.map(Ok)
}

/// Waits until the student has read.
async fn read_on(keyboard: &mut Keyboard, signals: &mut Signals) -> io::Result<()> {
    loop {
        let event = tokio::select! {
            event = keyboard.next() => event,
            number = signals.next() => return Err(during(number)),
        };
        match event.transpose()? {
            Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                let back = matches!(key.code, KeyCode::Enter | KeyCode::Esc | KeyCode::Char('q' | ' '));
                if back || Key::of(key) == Key::Ctrl('c') {
                    return Ok(());
                }
            }
            Some(_) => {}
            None => return Err(during(HANGUP)),
        }
    }
}

fn during(number: u8) -> io::Error {
    io::Error::other(format!("signal {number} while a shell was open"))
}

/// Runs a program of the student's to its end.
async fn to_its_end(command: std::process::Command, signals: &mut Signals) -> io::Result<Result<ExitStatus, String>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = match tokio::process::Command::from(command).spawn() {
        Ok(child) => child,
        Err(error) => {
            return Ok(Err(format!(
                "cannot open the shell `{program}`: {error}; SHELL names it"
            )));
        }
    };
    tokio::select! {
        status = child.wait() => Ok(status.map_err(|error| error.to_string())),
        number = signals.next() => Err(during(number)),
    }
}

/// A shell ends with the status of its last command, which says nothing; 126 and 127 say that it did not run.
fn known(program: &str, status: ExitStatus) -> Result<(), String> {
    match status.code() {
        Some(126 | 127) => Err(format!("the shell `{program}` could not be run; SHELL names it")),
        _ => Ok(()),
    }
}

const HANGUP: u8 = 1;

/// The signals that end the interface. Interrupts are for the shell, when one is open.
struct Signals {
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
    look: Interval,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            look: tokio::time::interval(LOOK),
        })
    }

    async fn next(&mut self) -> u8 {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return 15,
                _ = self.hangup.recv() => return HANGUP,
                _ = self.interrupt.recv() => {}
                _ = self.look.tick() => if hung_up(&io::stdin()) {
                    return HANGUP;
                },
            }
        }
    }
}

/// The far end: the session host, reached again whenever it is lost.
struct Host {
    client: watch::Receiver<Option<Client>>,
    replies: mpsc::Sender<Msg>,
}

/// What comes from the host: replies one by one, of the snapshots only the last.
struct Inbox {
    messages: mpsc::Receiver<Msg>,
    snapshots: watch::Receiver<Option<Box<Snapshot>>>,
}

impl Inbox {
    async fn next(&mut self) -> Msg {
        loop {
            tokio::select! {
                Some(msg) = self.messages.recv() => return msg,
                Ok(()) = self.snapshots.changed() => {
                    if let Some(snapshot) = self.snapshots.borrow_and_update().clone() {
                        return Msg::Snapshot(snapshot);
                    }
                }
                else => std::future::pending::<()>().await,
            }
        }
    }
}

impl Host {
    fn connect() -> (Host, Inbox) {
        let (replies, messages) = mpsc::channel(64);
        let (client_sender, client) = watch::channel(None);
        let (snapshot_sender, snapshots) = watch::channel(None);
        tokio::spawn(stay_connected(client_sender, snapshot_sender, replies.clone()));
        (Host { client, replies }, Inbox { messages, snapshots })
    }

    /// Has the session look soon at what the student may have done in the shell; the answer is in the snapshots.
    fn did_something(&self) {
        if let Some(client) = self.client.borrow().clone() {
            tokio::spawn(async move {
                // Without a session host there is nobody to look.
                let _ = client.send(Command::Status).await;
            });
        }
    }

    fn send(&self, id: u64, commands: Vec<Command>) {
        let client = self.client.borrow().clone();
        let replies = self.replies.clone();
        tokio::spawn(async move {
            let reply = match client {
                Some(client) => in_order(&client, commands).await,
                None => Err(ClientError::Gone),
            };
            let reply = reply.map_err(|error| Refusal {
                message: error.to_string(),
                hint: error.hint(),
            });
            // Without a reader the interface has ended.
            let _ = replies.send(Msg::Replied { id, reply }).await;
        });
    }
}

/// Sends the commands one after another; the first that is refused ends it.
async fn in_order(client: &Client, commands: Vec<Command>) -> Result<Reply, ClientError> {
    let mut last = Reply::Refused(Refusal {
        message: "nothing was asked".to_owned(),
        hint: None,
    });
    for command in commands {
        last = client.send(command).await?;
        if matches!(last, Reply::Refused(_)) {
            break;
        }
    }
    Ok(last)
}

async fn stay_connected(
    clients: watch::Sender<Option<Client>>,
    snapshots: watch::Sender<Option<Box<Snapshot>>>,
    messages: mpsc::Sender<Msg>,
) {
    loop {
        let why = match follow(&clients, &snapshots, &messages).await {
            Ok(()) => "it went away".to_owned(),
            Err(error) => match error.hint() {
                Some(hint) => format!("{error} ({hint})"),
                None => error.to_string(),
            },
        };
        clients.send_replace(None);
        if messages.send(Msg::Link(Link::Down(why))).await.is_err() {
            return;
        }
        sleep(AGAIN).await;
    }
}

async fn follow(
    clients: &watch::Sender<Option<Client>>,
    snapshots: &watch::Sender<Option<Box<Snapshot>>>,
    messages: &mpsc::Sender<Msg>,
) -> Result<(), ClientError> {
    let client = client::connect_or_start().await?;
    let mut stream = client.follow().await?;
    clients.send_replace(Some(client));
    // The channel's end is noticed where it matters, after this returns.
    let _ = messages.send(Msg::Link(Link::Up)).await;
    while let Some(snapshot) = stream.next().await {
        snapshots.send_replace(Some(Box::new(snapshot)));
    }
    Ok(())
}
