//! The command line's grammar: what clap parses, and nothing that runs.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use super::ground::{Place, Shape};

/// Where the commands of the whole program are described.
#[derive(Debug, Parser)]
#[command(
    name = "ztlab",
    version,
    about = "Zero-trust labs in a terminal",
    long_about = "Zero-trust labs in a terminal: from a flat Kubernetes network to identity-aware authorisation, \
                  measured at every step.\n\nWithout a command, ztlab opens its terminal interface.",
    after_help = "Examples:\n  ztlab                        open the terminal interface\n  \
                  ztlab lab start wiretap      the same lab, headless\n  \
                  ztlab lab check --json       every check, for a program to read\n  \
                  ztlab doctor                 can this machine run the embedded cluster?\n\n\
                  Exit status: 0 passed, 1 not passed, 2 error.\n\
                  NO_COLOR=1 turns colours off.",
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Print JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do; nothing opens the terminal interface.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a lab, headless
    #[command(subcommand)]
    Lab(Lab),
    /// Make, list and remove clusters
    #[command(subcommand)]
    Cluster(Cluster),
    /// Watch the packets of a pod
    Capture(Capture),
    /// Read a capture file: who says what to whom, what leaks, what is encrypted
    Packets(Packets),
    /// Measure who reaches whom, who can read it, who proves what, and the level that follows
    Posture(super::posture::Args),
    /// Tell who the workloads are: SVIDs, registration entries, bundles, and why a pod has no identity
    Identity(super::identity::Args),
    /// Write down what was done in a lab: steps, evidence, points, the posture before and after
    Report(super::report::Args),
    /// List the stand-in images built into this program
    #[command(after_help = "Examples:\n  ztlab images\n  ztlab images --json")]
    Images,
    /// Print the manifests of a topology, for `kubectl apply -f -`
    #[command(
        after_help = "Examples:\n  ztlab manifests\n  ztlab manifests microsegmented | kubectl apply -f -\n  \
                      ztlab manifests mtls --certificates | kubectl apply -f -\n\n\
                      A topology of the shop adds to those before it in the list: apply them in this order, and spire before spiffe."
    )]
    Manifests(Manifests),
    /// Try what the embedded cluster needs of this machine, and explain what is missing
    #[command(after_help = "Examples:\n  ztlab doctor\n  ztlab doctor --json\n\n\
                            Exit status: 0 when the embedded cluster can run here, 1 when it cannot.")]
    Doctor,
    /// Open a shell with KUBECONFIG set to the lab's cluster
    #[command(after_help = "Examples:\n  ztlab shell\n  ztlab shell --cluster demo\n  ztlab shell -- kubectl get pods")]
    Shell(Shell),
    /// Run kubectl on the lab's cluster: the machine's, or a small built-in one
    #[command(
        after_help = "Examples:\n  ztlab kubectl get pods\n  ztlab kubectl apply -f policy.yaml\n  \
                      ztlab kubectl exec -it deploy/mallory -- sh\n  ztlab kubectl --cluster demo get pods -A\n\n\
                      Everything behind `kubectl` goes to it as it is, and its exit status is kept. Where there is no kubectl in\n\
                      PATH, a built-in one takes its place and says so; it knows get, apply, delete, label, logs and exec."
    )]
    Kubectl(Kubectl),
    /// Print a completion script
    #[command(
        after_help = "Examples:\n  ztlab completions bash > ~/.local/share/bash-completion/completions/ztlab\n  \
                            ztlab completions zsh > ~/.zfunc/_ztlab"
    )]
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

/// `ztlab lab …`
#[derive(Debug, Subcommand)]
pub enum Lab {
    /// List the labs
    #[command(after_help = "Examples:\n  ztlab lab list\n  ztlab lab list --json\n  ztlab lab list --labs ../our-labs")]
    List {
        /// Look into this directory or Git checkout first
        #[arg(long, value_name = "DIR")]
        labs: Option<PathBuf>,
    },
    /// Start a lab and return when its pods are ready
    #[command(
        after_help = "Examples:\n  ztlab lab start wiretap\n  ztlab lab start wiretap --fresh\n  \
                      ztlab lab start tokens --labs ../our-labs\n  \
                      ztlab lab start wiretap --ground context --context kind-demo\n  \
                      ztlab lab start wiretap --ground context --context shared --namespace-prefix ann-\n\n\
                      On a context, nothing is touched but what the lab makes itself, which is labelled ztlab.dev/lab."
    )]
    Start {
        /// The lab's id, as `ztlab lab list` shows it
        id: String,
        /// Forget earlier progress in this lab
        #[arg(long)]
        fresh: bool,
        /// Look into this directory or Git checkout first
        #[arg(long, value_name = "DIR")]
        labs: Option<PathBuf>,
        /// Where it runs.
        #[command(flatten)]
        place: Place,
    },
    /// Stop the lab's cluster to free its memory; objects and progress stay, the time does not count
    #[command(after_help = "Examples:\n  ztlab lab pause")]
    Pause,
    /// Go on with a paused lab
    #[command(after_help = "Examples:\n  ztlab lab resume")]
    Resume,
    /// Write the progress in a lab as JSON, secrets masked: events with their times, checks, score
    #[command(
        after_help = "Examples:\n  ztlab lab export\n  ztlab lab export wiretap -o wiretap-ann.json\n\n\
                      The lab need not be running. What it holds is described in the book, \"The same lab without the TUI\"."
    )]
    Export {
        /// The lab's id; the running lab's without it
        id: Option<String>,
        /// The file; standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the manifests a lab starts from, as a ground needs them
    #[command(after_help = "Examples:\n  ztlab lab manifests wiretap\n  \
                      ztlab lab manifests wiretap --namespace-prefix ann- --images registry.example/ztlab")]
    Manifests {
        /// The lab's id
        id: String,
        /// How they are changed.
        #[command(flatten)]
        shape: Shape,
    },
    /// Show the steps, the checks and the score
    #[command(after_help = "Examples:\n  ztlab lab status\n  ztlab lab status --json\n\n\
                            Exit status: 0 when every step is passed, 1 when not.")]
    Status,
    /// Run the checks of a step, or of every open step
    #[command(after_help = "Examples:\n  ztlab lab check\n  ztlab lab check listen\n\n\
                            Exit status: 0 when every check of the step, or of the lab, passed; 1 when not.")]
    Check {
        /// The step's id; without it, every open step
        step: Option<String>,
    },
    /// Apply the solution of a step, or of every step
    #[command(after_help = "Examples:\n  ztlab lab solve listen\n  ztlab lab solve")]
    Solve {
        /// The step's id; without it, every step
        step: Option<String>,
    },
    /// Answer a step's question
    #[command(
        after_help = "Examples:\n  ztlab lab answer listen \"you found the card number\" \"4111 1111 1111 1111\"\n  \
                            ztlab lab answer gaps \"what is missing\" encryption identity"
    )]
    Answer {
        /// The step's id
        step: String,
        /// The check that asks, by its name
        check: String,
        /// The answer; several for a question with several right choices
        #[arg(required = true, allow_hyphen_values = true)]
        value: Vec<String>,
    },
    /// Open the next hint of a step; some cost points
    #[command(after_help = "Examples:\n  ztlab lab hint listen")]
    Hint {
        /// The step's id
        step: String,
    },
    /// Put the lab back as it was when it began, or when a step began
    #[command(after_help = "Examples:\n  ztlab lab reset\n  ztlab lab reset replay\n\n\
                      Back to the start of a step: cluster and work directory become what they were when the step was opened,\n\
                      and the points of the step, and of those that need it, are dropped. Files that this replaces are kept in\n\
                      .ztlab-before-reset in the work directory.")]
    Reset {
        /// The step's id; without it, the whole lab
        step: Option<String>,
    },
    /// Leave the lab; its cluster stays for the next time
    #[command(after_help = "Examples:\n  ztlab lab stop\n  ztlab lab stop --delete")]
    Stop {
        /// Delete the lab's cluster too; its progress is kept (`lab start --fresh` forgets it)
        #[arg(long)]
        delete: bool,
    },
    /// Prove labs: untouched 0, wrong attempts fail, solved full, in any order, reset 0
    #[command(
        after_help = "Examples:\n  ztlab lab verify wiretap\n  ztlab lab verify\n  ztlab lab verify --labs ../our-labs\n  \
                      ztlab lab verify wiretap --ground context --context kind-demo\n\n\
                      It makes clusters of its own for this and deletes them afterwards (on a context, the lab's namespaces), and\n\
                      says how long each check takes.\n\n\
                      Exit status: 0 when every lab is proved, 1 when not."
    )]
    Verify {
        /// The labs' ids; without one, every lab that ships, or every lab of the directory
        ids: Vec<String>,
        /// Take the labs of this directory or Git checkout
        #[arg(long, value_name = "DIR")]
        labs: Option<PathBuf>,
        /// Live this many sessions at the same time at most, each in a cluster of its own; without it, four a core
        #[arg(long, short, value_name = "N")]
        jobs: Option<NonZeroUsize>,
        /// Where they run.
        #[command(flatten)]
        place: Place,
    },
    /// Find everything that is wrong with lab files, without running them
    #[command(
        after_help = "Examples:\n  ztlab lab lint\n  ztlab lab lint labs/wiretap/lab.yaml\n  ztlab lab lint ../our-labs --json\n\n\
                      Each mistake comes with file, line, column, what was expected, and often what was meant.\n\n\
                      Exit status: 0 without errors (warnings are none), 1 with errors, 2 when a file cannot be read."
    )]
    Lint {
        /// Lab files, directories of a lab, or directories of labs; without one, every lab that `lab list` shows
        paths: Vec<PathBuf>,
    },
    /// Make a lab that runs, to change into your own
    #[command(after_help = "Examples:\n  ztlab lab new tokens\n  \
                            ztlab lab new tokens --title 'Tokens that expire' --level 2 --dir ../our-labs")]
    New {
        /// The lab's id: lower-case letters, digits and dashes
        id: String,
        /// Its title
        #[arg(long, value_name = "TEXT", default_value = "A lab of my own")]
        title: String,
        /// The zero trust level it starts at, 0 to 4
        #[arg(long, value_name = "LEVEL", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
        level: u8,
        /// The directory of labs in which the lab's own is made
        #[arg(long, value_name = "DIR", default_value = "labs")]
        dir: PathBuf,
    },
    /// Print the JSON Schema of lab files, for an editor's completion
    #[command(after_help = "Examples:\n  ztlab lab schema > lab.schema.json\n\n\
                            With this first line in lab.yaml, editors that know yaml-language-server complete and check it:\n  \
                            # yaml-language-server: $schema=./lab.schema.json")]
    Schema,
    /// Trust the labs of a directory or Git checkout, so that they can be taken
    #[command(
        after_help = "Examples:\n  ztlab lab trust ../our-labs\n  ztlab lab trust ../our-labs --yes\n  \
                            ztlab lab trust --list\n  ztlab lab trust --remove ../our-labs"
    )]
    Trust {
        /// The directory: it holds `<id>/lab.yaml` or `labs/<id>/lab.yaml`
        #[arg(required_unless_present_any = ["list", "remove"])]
        dir: Option<PathBuf>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// List the trusted directories
        #[arg(long, conflicts_with_all = ["dir", "yes", "remove"])]
        list: bool,
        /// Trust this directory no longer
        #[arg(long, value_name = "DIR", conflicts_with_all = ["dir", "yes"])]
        remove: Option<PathBuf>,
    },
}

/// `ztlab cluster …`
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// List the clusters
    #[command(after_help = "Examples:\n  ztlab cluster list\n  ztlab cluster list --json")]
    List,
    /// Create a cluster and return when it answers
    #[command(after_help = "Examples:\n  ztlab cluster create demo\n  \
                            KUBECONFIG=$(ztlab cluster kubeconfig demo) kubectl get pods -A")]
    Create {
        /// The cluster's name: lower-case letters, digits and dashes
        name: String,
    },
    /// Delete a cluster and everything in it
    #[command(after_help = "Examples:\n  ztlab cluster delete demo")]
    Delete {
        /// The cluster's name
        name: String,
    },
    /// Print the path of a cluster's kubeconfig
    #[command(after_help = "Examples:\n  export KUBECONFIG=$(ztlab cluster kubeconfig demo)")]
    Kubeconfig {
        /// The cluster's name
        name: String,
    },
    /// Stop a cluster's node; its objects come back when it starts again
    #[command(after_help = "Examples:\n  ztlab cluster stop demo")]
    Stop {
        /// The cluster's name
        name: String,
    },
    /// Start a stopped cluster, with the objects it had; its pods start anew
    #[command(after_help = "Examples:\n  ztlab cluster start demo")]
    Start {
        /// The cluster's name
        name: String,
    },
    /// Put a running cluster's whole state aside under a name
    #[command(
        after_help = "Examples:\n  ztlab cluster snapshot demo\n  ztlab cluster snapshot demo --as before-mtls --note 'all pods in plain HTTP'\n\n\
                      It holds the objects as they are to be: no status, no events, no pods that a controller makes.\n\
                      A snapshot of the same name is replaced."
    )]
    Snapshot {
        /// The cluster's name
        name: String,
        /// The snapshot's name
        #[arg(long = "as", value_name = "LABEL", default_value = "default")]
        label: String,
        /// What it is of, in a few words
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        note: String,
    },
    /// Make a running cluster what a snapshot says, with fresh pods
    #[command(
        after_help = "Examples:\n  ztlab cluster restore demo\n  ztlab cluster restore demo before-mtls\n\n\
                            Without a label the newest snapshot is taken. What is not in it is deleted."
    )]
    Restore {
        /// The cluster's name
        name: String,
        /// The snapshot's name
        label: Option<String>,
    },
    /// List a cluster's snapshots, or delete one
    #[command(
        after_help = "Examples:\n  ztlab cluster snapshots demo\n  ztlab cluster snapshots demo --delete before-mtls"
    )]
    Snapshots {
        /// The cluster's name
        name: String,
        /// Delete this one
        #[arg(long, value_name = "LABEL")]
        delete: Option<String>,
    },
}

/// `ztlab capture …`
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("where").required(true).args(["pod", "between", "all"])),
    after_help = "Examples:\n  ztlab capture --pod payments-api --follow\n  \
                  ztlab capture --pod payments-api --for 5s --filter 'tcp port 8080'\n  \
                  ztlab capture --pod ledger --for 10s -w ledger.pcapng\n  \
                  ztlab capture --pod orders-api --pod ledger --for 10s\n  \
                  ztlab capture --between orders-api payments-api --follow\n  \
                  ztlab capture --all --namespace shop --for 30s -w shop.pcapng\n\n\
                  Several pods make one stream in the order of time; what two of them see is shown once, with both places, and with\n\
                  the Service that was asked and the pod that answered. Pods that come while it runs join. How many packets each\n\
                  point dropped is told at the end.\n\
                  In a running lab the capture goes through the session and counts as evidence.\n\
                  The filter is pcap-filter(7), applied in the pod; a file written with -w opens in Wireshark."
)]
pub struct Capture {
    /// The pod, or the workload it belongs to; more than once for several
    #[arg(long)]
    pub pod: Vec<String>,
    /// Two pods or workloads: capture in both, and show what they say to each other
    #[arg(long, num_args = 2, value_names = ["ONE", "OTHER"])]
    pub between: Option<Vec<String>>,
    /// Every pod of the namespace
    #[arg(long)]
    pub all: bool,
    /// The pod's namespace; the lab's when a lab runs
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Keep on until interrupted
    #[arg(long, conflicts_with = "duration")]
    pub follow: bool,
    /// How long to capture: 5s, 500ms, 2m [default: 10s]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// A pcap filter expression
    #[arg(long, value_name = "BPF")]
    pub filter: Option<String>,
    /// Write the packets to a pcapng file, with names and comments that Wireshark shows
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// The cluster; the lab's when a lab runs
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

/// `ztlab packets …`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ztlab packets ledger.pcapng\n  \
                  ztlab packets ledger.pcapng --view conversations\n  \
                  ztlab packets ledger.pcapng --view packets --hex --filter 'tcp.port == 5432'\n  \
                  ztlab packets ledger.pcapng --follow 3\n\n\
                  Reads pcap and pcapng, whoever wrote it. The filter is a language of its own, described in the page\n\
                  \"Reading traffic\" of the book: http and from == orders-api, leak == card-number, verdict == readable.")]
pub struct Packets {
    /// The capture file
    pub file: PathBuf,
    /// What to show
    #[arg(long, value_enum, default_value_t = View::Dialogue)]
    pub view: View,
    /// Show only what this holds of
    #[arg(long, value_name = "EXPRESSION", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Show one conversation in full, by its number
    #[arg(long, value_name = "NUMBER", conflicts_with = "view")]
    pub follow: Option<u64>,
    /// Show the bytes of each packet too, in hexadecimal beside their text
    #[arg(long)]
    pub hex: bool,
}

/// What `ztlab packets` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// Who says what to whom
    Dialogue,
    /// Every packet, by its headers
    Packets,
    /// Every conversation, and who can read it
    Conversations,
    /// The handshakes of TLS
    Handshakes,
    /// The secrets that could be read, and where they stand
    Leaks,
}

/// `ztlab manifests …`
#[derive(Debug, Args)]
pub struct Manifests {
    /// The topology; without it, they are listed
    pub topology: Option<String>,
    /// Put the Secrets before them that the services wait for: a certificate for each, of an authority made at this moment
    #[arg(long, requires = "topology")]
    pub certificates: bool,
}

/// `ztlab shell …`
#[derive(Debug, Args)]
pub struct Shell {
    /// The cluster; the lab's when a lab runs
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// A command to run in place of the shell
    #[arg(last = true)]
    pub command: Vec<std::ffi::OsString>,
}

/// `ztlab kubectl …`
#[derive(Debug, Args)]
pub struct Kubectl {
    /// The cluster; the lab's when a lab runs
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// What kubectl is to do
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENT"
    )]
    pub line: Vec<std::ffi::OsString>,
}

/// The longest time a capture may be asked for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `5s`, `500ms`, `2m`, `1h`; a bare number means seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is not a time: expected a number and ms, s, m or h, such as 5s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let milliseconds = match unit {
        "ms" => number,
        "" | "s" => number.saturating_mul(1000),
        "m" => number.saturating_mul(60 * 1000),
        "h" => number.saturating_mul(60 * 60 * 1000),
        _ => return Err(expected()),
    };
    let duration = Duration::from_millis(milliseconds);
    if duration.is_zero() {
        return Err("nothing is seen in no time: give more than 0".to_owned());
    }
    if duration > LONGEST {
        return Err("a capture may last a day at most: use --follow and stop it with ctrl-c".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_leaf_command_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_some() {
                command.get_subcommands().for_each(|sub| walk(sub, &path));
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{path} has no examples");
        }
        walk(&Cli::command(), "");
    }

    #[test]
    fn examples_in_the_help_parse() {
        fn walk(command: &clap::Command, failures: &mut Vec<String>) {
            command.get_subcommands().for_each(|sub| walk(sub, failures));
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().map(str::trim).filter(|line| line.starts_with("ztlab ")) {
                let line = line.split("  ").next().unwrap_or(line);
                let line = line.split(" > ").next().unwrap_or(line);
                let line = line.split(" | ").next().unwrap_or(line);
                if let Err(error) = Cli::try_parse_from(words(line)) {
                    failures.push(format!("{line}: {error}"));
                }
            }
        }
        let mut failures = Vec::new();
        walk(&Cli::command(), &mut failures);
        assert!(failures.is_empty(), "{failures:#?}");
    }

    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for c in line.chars() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                (None, ' ') => words.push(String::new()),
                (_, c) => words.last_mut().unwrap().push(c),
            }
        }
        words
    }

    #[test]
    fn no_command_is_the_terminal_interface() {
        assert!(parse("ztlab").unwrap().command.is_none());
    }

    #[test]
    fn kubectl_gets_what_stands_behind_it_as_it_is() {
        for (line, cluster, expected) in [
            (
                "ztlab kubectl get pods -n shop --json -o yaml",
                None,
                "get pods -n shop --json -o yaml",
            ),
            (
                "ztlab kubectl --cluster demo get pods --cluster x",
                Some("demo"),
                "get pods --cluster x",
            ),
            ("ztlab kubectl exec web -- sh -c id", None, "exec web -- sh -c id"),
            ("ztlab kubectl get --help", None, "get --help"),
            ("ztlab kubectl -n shop get pods", None, "-n shop get pods"),
        ] {
            let Some(Command::Kubectl(kubectl)) = parse(line).unwrap().command else {
                panic!("{line}")
            };
            let passed: Vec<String> = kubectl
                .line
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            assert_eq!(
                (kubectl.cluster.as_deref(), passed.join(" ").as_str()),
                (cluster, expected),
                "{line}"
            );
        }
        assert!(parse("ztlab kubectl").is_err());
    }

    #[test]
    fn json_is_understood_before_and_after_the_command() {
        for line in [
            "ztlab --json lab list",
            "ztlab lab --json list",
            "ztlab lab list --json",
        ] {
            assert!(parse(line).unwrap().json, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "ztlab lab",
            "ztlab lab start",
            "ztlab lab start wiretap --context demo",
            "ztlab lab start wiretap --ground context",
            "ztlab lab start wiretap --ground kind",
            "ztlab lab answer listen",
            "ztlab lab answer listen check",
            "ztlab capture",
            "ztlab capture --pod a --follow --for 5s",
            "ztlab capture --pod a --for soon",
            "ztlab capture --pod a --for 0s",
            "ztlab capture --pod a --for 99999999999999999999s",
            "ztlab capture --pod a --for 25h",
            "ztlab labs",
            "ztlab posture --at-least 5",
            "ztlab posture --cluster a --context b",
            "ztlab posture --format pdf",
            "ztlab completions cmd",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("500ms", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("3", 3000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "s", "-1s", "5 s", "5d", "1.5s", "５s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_may_begin_with_a_dash_and_have_several_values() {
        let cli = parse("ztlab lab answer gaps missing -1 two").unwrap();
        let Some(Command::Lab(Lab::Answer { value, .. })) = cli.command else {
            panic!("not an answer")
        };
        assert_eq!(value, ["-1", "two"]);
    }
}
