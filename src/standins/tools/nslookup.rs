//! `nslookup`: looks a name up as a program in the pod would, with the search list.

use std::{ffi::OsString, net::IpAddr, process::ExitCode, time::Duration};

use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RData, Record, RecordType},
};

use super::{
    dig,
    dns::{self, Manner, Resolver},
};
use crate::standins::process;

const MANNER: Manner = Manner {
    tcp: false,
    timeout: Duration::from_secs(5),
    tries: 2,
};

/// Looks up the first argument, at the server that the second names if there is one.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (name, server) = match args.as_slice() {
        [only] if only == "--version" || only == "-version" => {
            let version = env!("CARGO_PKG_VERSION");
            let _ = process::print(&format!("nslookup (a stand-in of ztlab, not BIND's) {version}\n"));
            return ExitCode::SUCCESS;
        }
        [name] if !name.starts_with('-') => (name.clone(), None),
        [name, server] if !name.starts_with('-') => (name.clone(), Some(server.clone())),
        _ => {
            process::complain("nslookup", "usage: nslookup name [server]; this is a stand-in of ztlab");
            return ExitCode::from(1);
        }
    };
    process::run("nslookup", async move {
        match run(&name, server.as_deref(), &Resolver::system()).await {
            Ok((text, found)) => {
                let printed = process::print(&text);
                u8::from(!found || printed.is_err())
            }
            Err(why) => {
                process::complain("nslookup", &why);
                1
            }
        }
    })
}

/// What to print, and whether the name was found.
async fn run(name: &str, server: Option<&str>, resolver: &Resolver) -> Result<(String, bool), String> {
    let server = dig::server(server, 53, resolver).await?;
    let mut text = format!(
        "Server:\t\t{}\nAddress:\t{}#{}\n\n",
        server.ip(),
        server.ip(),
        server.port()
    );
    let (names, kinds): (Vec<String>, &[RecordType]) = match name.parse::<IpAddr>() {
        Ok(address) => (vec![Name::from(address).to_ascii()], &[RecordType::PTR]),
        Err(_) => (resolver.candidates(name), &[RecordType::A, RecordType::AAAA]),
    };
    let mut last = ResponseCode::NXDomain;
    for candidate in names {
        let mut found = String::new();
        for kind in kinds {
            let answer = dns::ask(server, &candidate, *kind, MANNER)
                .await
                .map_err(|error| error.to_string())?;
            last = answer.message.metadata.response_code;
            found.extend(answer.message.answers.iter().filter_map(line));
        }
        if !found.is_empty() {
            text.push_str(&found);
            return Ok((text, true));
        }
    }
    let status = format!("{last:?}").to_uppercase();
    let reason = if last == ResponseCode::NoError {
        "No answer".to_owned()
    } else {
        status
    };
    text.push_str(&format!("** server can't find {name}: {reason}\n"));
    Ok((text, false))
}

fn line(record: &Record) -> Option<String> {
    let name = &record.name;
    match &record.data {
        RData::A(address) => Some(format!("Name:\t{name}\nAddress: {address}\n")),
        RData::AAAA(address) => Some(format!("Name:\t{name}\nAddress: {address}\n")),
        RData::CNAME(to) => Some(format!("{name}\tcanonical name = {to}\n")),
        RData::PTR(to) => Some(format!("{name}\tname = {to}\n")),
        _ => None,
    }
}
