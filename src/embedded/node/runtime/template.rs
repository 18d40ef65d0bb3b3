//! The parts of a root file system that all containers share, mounted once per node.
//!
//! It is an allow-list: the host's programs and libraries, read-only, and what those need of `/etc`. Nothing else of the
//! host is in it, so that no container sees a home directory, `/run` or `/var`.

use std::{
    ffi::CString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::CWD,
    mount::{MountFlags, MoveMountFlags, OpenTreeFlags},
};

use crate::node::sys::{self, MountAttributes};

use super::RuntimeError;

/// Directories of the host's root that hold programs and libraries.
const PROGRAMS: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu"];
/// What programs and libraries read of `/etc`: links to programs, the linker's cache, certificates (never private keys),
/// names of ports and terminals.
const ETC: [&str; 17] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "pki/ca-trust",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/ct_log_list.cnf",
    "ssl/openssl.cnf",
    "terminfo",
];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of a container's `/proc` that act on the whole machine.
const PROC_READ_ONLY: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];

/// Parts of a container's `/proc` that tell of the whole machine. Source: containerd's default OCI specification.
const PROC_MASKED: [&str; 11] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "kmsg",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// What [`build`](Template::build) made.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// Where it is mounted: `usr`, …, `dev`, `ztlab` are in it.
    pub(super) dir: PathBuf,
    /// An empty directory that every container mounts its root on, in its own mount namespace.
    pub(super) staging: PathBuf,
    /// Entries of the root that are directories of `dir`, by name.
    pub(super) directories: Vec<&'static str>,
    /// Entries of the root that are links on the host: target, name.
    pub(super) links: Vec<(PathBuf, &'static str)>,
    /// Entries of `/etc` that are links into `/.ztlab/etc`.
    pub(super) etc: Vec<&'static str>,
    /// Entries of `/proc` to make read-only.
    pub(super) proc_read_only: Vec<&'static str>,
    /// Entries of `/proc` to cover, and what of the template covers them: nothing in either.
    pub(super) proc_masked: Vec<(&'static str, &'static str)>,
    /// Where a container's links to this binary are.
    pub(super) links_dir: &'static str,
}

impl Template {
    /// Mounts the template under `dir`, with `program` as `/.ztlab/ztlab`.
    pub(super) fn build(dir: &Path, program: &Path) -> Result<Self, RuntimeError> {
        let template = dir.join("template");
        let staging = dir.join("root");
        for dir in [&template, &staging] {
            fs::create_dir_all(dir).map_err(RuntimeError::kernel(format!("make {}", dir.display())))?;
        }
        memory(&template, "mode=0755,size=1m")?;
        let (mut directories, mut links) = (Vec::new(), Vec::new());
        for name in PROGRAMS {
            let host = Path::new("/").join(name);
            let Ok(meta) = fs::symlink_metadata(&host) else {
                continue;
            };
            if meta.is_symlink() {
                let target = fs::read_link(&host).map_err(RuntimeError::kernel(format!("read /{name}")))?;
                links.push((target, name));
            } else if meta.is_dir() {
                bind(&host, &template.join(name), true)?;
                directories.push(name);
            }
        }
        devices(&template.join("dev"))?;
        let empty = template.join("empty");
        fs::create_dir_all(&empty).map_err(RuntimeError::kernel(format!("make {}", empty.display())))?;
        let own = template.join("ztlab");
        bind(program, &own.join("ztlab"), true)?;
        let mut etc = Vec::new();
        for name in ETC {
            let host = Path::new("/etc").join(name);
            if host.exists() && bind(&host, &own.join("etc").join(name), true).is_ok() {
                let first = name.split('/').next().unwrap_or(name);
                if !etc.contains(&first) {
                    etc.push(first);
                }
            }
        }
        read_only(&template)?;
        let local = Path::new("/usr/local/bin").is_dir();
        Ok(Self {
            dir: template,
            staging,
            directories,
            links,
            etc,
            proc_read_only: PROC_READ_ONLY
                .into_iter()
                .filter(|name| Path::new("/proc").join(name).exists())
                .collect(),
            proc_masked: PROC_MASKED
                .into_iter()
                .filter_map(|name| {
                    let meta = fs::metadata(Path::new("/proc").join(name)).ok()?;
                    Some((name, if meta.is_dir() { "empty" } else { "dev/null" }))
                })
                .collect(),
            links_dir: if local { "/usr/local/bin" } else { "/opt/ztlab/bin" },
        })
    }
}

fn memory(target: &Path, options: &str) -> Result<(), RuntimeError> {
    let options = CString::new(options).map_err(|error| RuntimeError::Invalid(error.to_string()))?;
    rustix::mount::mount("ztlab", target, "tmpfs", MountFlags::NOSUID, Some(&*options))
        .map_err(|error| RuntimeError::kernel(format!("mount memory on {}", target.display()))(error.into()))
}

/// Binds `source`, with what is mounted below it, to `target`, which is made as the same kind of file.
fn bind(source: &Path, target: &Path, no_dev: bool) -> Result<(), RuntimeError> {
    let step = || format!("bind {} into the containers' root", source.display());
    make_place(source, target).map_err(RuntimeError::kernel(step()))?;
    let tree = detached(source).map_err(RuntimeError::kernel(step()))?;
    let attributes = MountAttributes {
        read_only: true,
        no_suid: true,
        no_dev,
    };
    sys::mount_setattr(&tree, attributes).map_err(RuntimeError::kernel(step()))?;
    rustix::mount::move_mount(&tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| RuntimeError::kernel(step())(error.into()))
}

/// A detached copy of the mounts at and below `path`.
pub(super) fn detached(path: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

fn make_place(source: &Path, target: &Path) -> io::Result<()> {
    if fs::metadata(source)?.is_dir() {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(target, "")
}

fn devices(dir: &Path) -> Result<(), RuntimeError> {
    let made = |error| RuntimeError::kernel("make the containers' /dev")(error);
    for place in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dir.join(place)).map_err(made)?;
    }
    // What a container says of its end is mounted on it.
    fs::write(dir.join("termination-log"), "").map_err(made)?;
    for name in DEVICES {
        bind(&Path::new("/dev").join(name), &dir.join(name), false)?;
    }
    for (target, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        std::os::unix::fs::symlink(target, dir.join(name)).map_err(made)?;
    }
    Ok(())
}

fn read_only(template: &Path) -> Result<(), RuntimeError> {
    let step = || "make the containers' root read-only".to_owned();
    let place = rustix::mount::open_tree(CWD, template, OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .map_err(|error| RuntimeError::kernel(step())(error.into()))?;
    let attributes = MountAttributes {
        read_only: true,
        no_suid: true,
        no_dev: false,
    };
    sys::mount_setattr(&place, attributes).map_err(RuntimeError::kernel(step()))
}

/// A path as a C string.
pub(super) fn c_path(path: impl AsRef<Path>) -> Result<CString, RuntimeError> {
    CString::new(path.as_ref().as_os_str().as_bytes())
        .map_err(|_| RuntimeError::Invalid(format!("{:?} contains a zero byte", path.as_ref())))
}
