//! `agnhost`: stands in for `registry.k8s.io/e2e-test-images/agnhost`, the image that Kubernetes' own network tests and the
//! community's network-policy tests run in every pod.
//!
//! It knows the part of the command line that such tests use: servers that say who answered (`netexec`, `serve-hostname`,
//! `porter`), the client `connect`, and the small helpers. Written from the image's public description; every other
//! subcommand and option is refused by name.

mod connect;
mod dial;
mod duration;
mod netexec;
mod porter;
mod serve_hostname;
mod tcp;
mod udp;

use std::{ffi::OsString, fs, process::ExitCode};

use clap::{Parser, Subcommand};

use super::process;

const NAME: &str = "agnhost";

#[derive(Debug, Parser)]
#[command(
    name = "agnhost",
    about = "ztlab's stand-in for agnhost: the subcommands below, as the image's description has them",
    version = concat!("(a stand-in of ztlab, not agnhost) ", env!("CARGO_PKG_VERSION")),
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try a connection and say what came of it: nothing, or TIMEOUT, REFUSED, DNS, OTHER, UNKNOWN
    Connect(connect::Args),
    /// Serve HTTP and UDP that say who answered, who asked, and what another host answers
    Netexec(netexec::Args),
    /// Serve this pod's host name over HTTP, TCP or UDP
    ServeHostname(serve_hostname::Args),
    /// Serve the text of each SERVE_PORT_<number> variable on that port
    Porter,
    /// Do nothing until SIGTERM
    Pause,
    /// Print the arguments
    EntrypointTester {
        /// Anything
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Print the search domains of /etc/resolv.conf, separated by commas
    DnsSuffix,
    /// Print the servers of /etc/resolv.conf, separated by commas
    DnsServerList,
    /// Print /etc/hosts
    EtcHosts,
}

/// Runs a subcommand.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args = match Args::try_parse_from(std::iter::once(OsString::from(NAME)).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match args.command {
        Command::Connect(args) => process::run(NAME, connect::run(args)),
        Command::Netexec(args) => netexec::main(args),
        Command::ServeHostname(args) => serve_hostname::main(args),
        Command::Porter => porter::main(),
        Command::Pause => super::tools::idle::main(Vec::new()),
        Command::EntrypointTester { args } => show(Ok(format!("[/agnhost entrypoint-tester {}]\n", args.join(" ")))),
        Command::DnsSuffix => show(resolv_conf(suffixes)),
        Command::DnsServerList => show(resolv_conf(servers)),
        Command::EtcHosts => show(fs::read_to_string("/etc/hosts")),
    }
}

fn show(text: std::io::Result<String>) -> ExitCode {
    match text.and_then(|text| process::print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::complain(NAME, &error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn resolv_conf(read: fn(&str) -> Vec<&str>) -> std::io::Result<String> {
    let text = fs::read_to_string("/etc/resolv.conf")?;
    Ok(format!("{}\n", read(&text).join(",")))
}

fn suffixes(text: &str) -> Vec<&str> {
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix("search"));
    lines
        .next_back()
        .map(|line| line.split_whitespace().collect())
        .unwrap_or_default()
}

fn servers(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

/// This pod's host name.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, String> {
        Args::try_parse_from(line.split(' '))
            .map(|args| args.command)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_lines_of_network_tests_are_understood() {
        for line in [
            "agnhost connect 10.0.0.1:80 --timeout=1s --protocol=tcp",
            "agnhost connect s-x-a.x.svc.cluster.local:81 --timeout=1s --protocol=udp",
            "agnhost connect --timeout 500ms 10.0.0.1:80",
            "agnhost connect 10.0.0.1:80 --protocol=udp --udp-data hello",
            "agnhost serve-hostname --tcp --http=false --port 80",
            "agnhost serve-hostname --udp --http=false --port=81",
            "agnhost serve-hostname --port 9376",
            "agnhost netexec",
            "agnhost netexec --http-port=8083 --udp-port -1",
            "agnhost netexec --http-port 80 --udp-port=81 --delay-shutdown 5",
            "agnhost porter",
            "agnhost pause",
            "agnhost entrypoint-tester --foo lish args",
            "agnhost dns-suffix",
        ] {
            read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_it_does_not_know_it_names() {
        for (line, named) in [
            ("agnhost guestbook", "guestbook"),
            ("agnhost netexec --tls-cert-file /c", "--tls-cert-file"),
            ("agnhost connect a:1 --protocol=quic", "quic"),
            ("agnhost connect a:1 --timeout=soon", "soon"),
            ("agnhost serve-hostname --port 70000", "70000"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn resolv_conf_is_read() {
        let text =
            "search one.\nsearch x.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(suffixes(text), ["x.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!(servers(text), ["10.96.0.10"]);
        assert!(suffixes("").is_empty());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn no_arguments_panic(args: Vec<String>) {
            let _ = Args::try_parse_from(std::iter::once("agnhost".to_owned()).chain(args));
        }
    }
}
