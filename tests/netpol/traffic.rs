//! Traffic that goes on while things change: attempts without a pause, and connections that live.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use kube::api::AttachParams;
use tokio::io::AsyncReadExt;

use crate::lab::{LIMIT, Lab};

/// A pod: namespace and name.
pub type Place = (String, String);

/// Target to (what came of an attempt to how often).
pub type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// Milliseconds of one run of the program that tries.
const RUN: &str = "600";

/// Reads what `reach --for` says, and adds it up.
pub fn add(counts: &mut Counts, said: &str) {
    for line in said.lines() {
        let mut words = line.split(' ');
        let target = counts.entry(words.next().unwrap().to_owned()).or_default();
        for pair in words {
            let (word, number) = pair.split_once('=').unwrap_or_else(|| panic!("{said}"));
            *target.entry(word.to_owned()).or_default() += number.parse::<u64>().unwrap();
        }
    }
}

/// Says when attempts may end, and how many have begun.
#[derive(Debug, Default)]
pub struct Signal {
    begun: AtomicUsize,
    over: AtomicBool,
}

impl Signal {
    /// Waits until `number` programs try.
    pub async fn begun(&self, number: usize) {
        let end = Instant::now() + LIMIT;
        while self.begun.load(Ordering::Relaxed) < number {
            assert!(Instant::now() < end, "nobody tries");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// How attempts are made.
#[derive(Debug, Clone, Copy)]
pub enum Manner {
    /// One attempt upon the other, each soon given up: what is let through for a moment is met.
    Knock,
    /// Each attempt waits for its answer for as long as it takes: one packet that is lost is an attempt that fails.
    Call,
}

impl Manner {
    pub fn flags(self) -> [&'static str; 4] {
        match self {
            Self::Knock => ["--timeout", "40", "--pause", "2"],
            Self::Call => ["--timeout", "45000", "--pause", "15"],
        }
    }
}

/// Tries all targets from a pod until the signal; gives what came of it.
pub async fn attempts(lab: &Lab, from: &Place, manner: Manner, targets: &[String], signal: &Signal) -> Counts {
    let mut argv: Vec<String> = ["reach", "--for", RUN].map(str::to_owned).to_vec();
    argv.extend(manner.flags().map(str::to_owned));
    argv.extend_from_slice(targets);
    let mut counts = Counts::new();
    let mut first = true;
    while !signal.over.load(Ordering::Relaxed) {
        let params = AttachParams::default().container("c").stdout(true).stderr(true);
        let mut process = lab.pods(&from.0).exec(&from.1, argv.clone(), &params).await.unwrap();
        if std::mem::take(&mut first) {
            signal.begun.fetch_add(1, Ordering::Relaxed);
        }
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (process.stdout().unwrap(), process.stderr().unwrap());
        let (a, b) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
        a.unwrap();
        b.unwrap();
        assert_eq!(err, "", "reach in {from:?}");
        add(&mut counts, &out);
    }
    counts
}

/// A connection over which a pod asks again and again.
pub struct Live {
    said: Arc<Mutex<String>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Live {
    /// Connects a pod to a web server and waits for the first answer.
    pub async fn open(lab: &Lab, from: &Place, server: &str) -> Self {
        // each answer is noted with the time, in microseconds
        let script = format!(
            r#"exec 3<>/dev/tcp/{server}/8080 || exit
            while printf 'GET /hostname HTTP/1.1\r\nHost: w\r\n\r\n' >&3 && read -r -t 120 line <&3; do
                case "$line" in HTTP/1.1*) echo "answered ${{EPOCHREALTIME/[.,]/}}";; esac
                while read -r -t 0.02 line <&3; do :; done
            done
            echo ended"#
        );
        let argv = ["bash", "-c", &script].map(str::to_owned);
        let params = AttachParams::default().container("c").stdout(true).stderr(false);
        let mut process = lab.pods(&from.0).exec(&from.1, argv, &params).await.unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let heard = said.clone();
        let reader = tokio::spawn(async move {
            let mut stdout = process.stdout().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer).await {
                heard
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        let live = Self { said, reader };
        live.more(0).await;
        live
    }

    /// How many answers there were.
    pub fn answers(&self) -> usize {
        self.said.lock().unwrap().matches("answered").count()
    }

    pub fn ended(&self) -> bool {
        self.reader.is_finished() || self.said.lock().unwrap().contains("ended")
    }

    /// Waits until there were more answers than `so_far`.
    pub async fn more(&self, so_far: usize) {
        let end = Instant::now() + LIMIT;
        while self.answers() <= so_far {
            assert!(
                Instant::now() < end && !self.ended(),
                "the connection is dead: {}",
                self.said.lock().unwrap()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Answers that came after `moment`. One may be to a question of before.
    pub fn answers_after(&self, moment: SystemTime) -> usize {
        let moment = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        let said = self.said.lock().unwrap();
        // the last line may not be whole yet
        let (whole, _) = said.rsplit_once('\n').unwrap_or_default();
        whole
            .lines()
            .filter_map(|line| line.strip_prefix("answered "))
            .filter(|stamp| stamp.parse::<u128>().unwrap() > moment)
            .count()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
