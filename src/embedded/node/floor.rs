//! What a pod costs at least on this machine: a network namespace, a veth pair, and one program run in it. `make bench` puts the
//! kubelet's figure beside it; nothing else uses this.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    process::Command,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::{cni::PodNetwork, netlink::Socket, sys};
use crate::rootless::enter_namespaces;

/// Measures `runs` times, in namespaces of its own. The calling process must have one thread, and ends up as PID 1 of them.
///
/// # Errors
/// The step that this machine refuses.
pub fn measure(runs: u32) -> Result<Vec<Duration>, Box<dyn std::error::Error>> {
    enter_namespaces(|child| {
        let ended = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
        let code = ended.ok().flatten().and_then(|(_, status)| status.exit_status());
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(2)
    })?;
    let mut network = PodNetwork::start(&[Ipv4Addr::new(10, 244, 0, 1)], (Ipv4Addr::new(10, 96, 0, 0), 16))?;
    let home = netns()?;
    // The first pair pays for what the kernel sets up once.
    one(&mut network, &home, 1)?;
    (0..runs)
        .map(|run| {
            let start = Instant::now();
            one(&mut network, &home, run + 2)?;
            Ok(start.elapsed())
        })
        .collect()
}

fn netns() -> io::Result<OwnedFd> {
    File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
}

fn one(network: &mut PodNetwork, home: &OwnedFd, number: u32) -> Result<(), Box<dyn std::error::Error>> {
    use std::os::fd::AsFd;
    sys::unshare(UnshareFlags::NEWNET)?;
    let (pod, socket) = (netns()?, Socket::route()?);
    let program = Command::new("true").status();
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
    program?;
    network.attach(&pod, &socket, Ipv4Addr::from(0x0af4_0100 + number))?;
    Ok(())
}
