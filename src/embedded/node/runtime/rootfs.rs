//! A container's root file system, as the steps its first process takes.

use std::{
    ffi::CString,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::mount::{MountFlags, OpenTreeFlags};

use crate::node::{
    beneath,
    sys::{self, MountAttributes, Step},
};

use super::{
    ContainerConfig, Mount, MountSource, RuntimeError, SandboxConfig,
    template::{Template, c_path, detached},
};

/// Directories of every root, with their modes.
const DIRECTORIES: [(&str, u32); 12] = [
    ("etc", 0o755),
    ("dev", 0o755),
    ("proc", 0o555),
    ("sys", 0o555),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("opt", 0o755),
    ("mnt", 0o755),
    ("var", 0o755),
    (".ztlab", 0o755),
];
/// Files that a container's root may hold: each costs memory of the kernel, an empty one too.
const FILES: u32 = 32_768;
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n";

/// Collects steps whose paths are under one directory.
struct Plan {
    root: PathBuf,
    steps: Vec<Step>,
}

impl Plan {
    fn path(&self, name: impl AsRef<Path>) -> Result<CString, RuntimeError> {
        c_path(self.root.join(name))
    }

    fn directory(&mut self, name: impl AsRef<Path>, mode: u32) -> Result<(), RuntimeError> {
        let path = self.path(name)?;
        self.steps.push(Step::Mkdir(path, mode));
        Ok(())
    }

    fn link(&mut self, target: impl AsRef<Path>, name: impl AsRef<Path>) -> Result<(), RuntimeError> {
        let step = Step::Symlink(c_path(target)?, self.path(name)?);
        self.steps.push(step);
        Ok(())
    }

    fn bind(&mut self, source: &Path, name: impl AsRef<Path>) -> Result<(), RuntimeError> {
        let step = Step::Bind(c_path(source)?, self.path(name)?);
        self.steps.push(step);
        Ok(())
    }

    fn mount(
        &mut self,
        kind: &str,
        name: impl AsRef<Path>,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), RuntimeError> {
        let step = Step::Mount {
            source: c_path(kind)?,
            target: self.path(name)?,
            kind: c_path(kind)?,
            flags,
            options: c_path(options)?,
        };
        self.steps.push(step);
        Ok(())
    }

    fn file(&mut self, name: impl AsRef<Path>, content: &str) -> Result<(), RuntimeError> {
        let step = Step::Write(self.path(name)?, content.as_bytes().to_vec(), 0o644);
        self.steps.push(step);
        Ok(())
    }
}

/// The steps from the node's mount namespace (a copy of it, with the host's root) to the container's root.
pub(super) fn steps(
    template: &Template,
    sandbox: &SandboxConfig,
    container: &ContainerConfig,
    size: u64,
    processes: Option<u32>,
) -> Result<Vec<Step>, RuntimeError> {
    let volumes = container
        .mounts
        .iter()
        .map(|mount| Ok((open(mount)?, mount)))
        .collect::<Result<Vec<_>, RuntimeError>>()?;
    let mut plan = Plan {
        root: template.staging.clone(),
        steps: Vec::with_capacity(96),
    };
    let hardened = MountFlags::NOSUID | MountFlags::NODEV;
    plan.mount(
        "tmpfs",
        "",
        hardened,
        &format!("mode=0755,size={size},nr_inodes={FILES}"),
    )?;
    for (name, mode) in DIRECTORIES {
        plan.directory(name, mode)?;
    }
    for &name in &template.directories {
        plan.directory(name, 0o755)?;
        plan.bind(&template.dir.join(name), name)?;
    }
    for (target, name) in &template.links {
        plan.link(target, name)?;
    }
    plan.bind(&template.dir.join("ztlab"), ".ztlab")?;
    devices(&mut plan, template)?;
    programs(&mut plan, template, &container.programs)?;
    plan.mount("proc", "proc", hardened | MountFlags::NOEXEC, "")?;
    if let (Some(most), None) = (processes, &container.share_pid_with) {
        let path = plan.path("proc/sys/kernel/pid_max")?;
        plan.steps.push(Step::Setting(path, most.to_string().into_bytes()));
    }
    for &name in &template.proc_read_only {
        let place = template.staging.join("proc").join(name);
        plan.bind(&place, Path::new("proc").join(name))?;
        plan.steps.push(Step::ReadOnly(c_path(&place)?));
    }
    for (name, cover) in &template.proc_masked {
        plan.bind(&template.dir.join(cover), Path::new("proc").join(name))?;
    }
    etc(&mut plan, template, sandbox)?;
    plan.steps.push(Step::PivotRoot(c_path(&template.staging)?));
    plan.root = PathBuf::from("/");
    for (volume, mount) in volumes {
        attach(&mut plan, volume, mount)?;
    }
    let cwd = container.cwd.as_deref().unwrap_or(Path::new("/"));
    parents(&mut plan, &absolute(cwd)?, true)?;
    if container.read_only_root {
        plan.steps.push(Step::ReadOnly(c"/".to_owned()));
        plan.steps.push(Step::ReadOnly(c_path(template.links_dir)?));
    }
    plan.steps.push(Step::Chdir(c_path(cwd)?));
    Ok(plan.steps)
}

fn devices(plan: &mut Plan, template: &Template) -> Result<(), RuntimeError> {
    plan.bind(&template.dir.join("dev"), "dev")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    plan.mount("devpts", "dev/pts", flags, "newinstance,ptmxmode=0666,mode=0620")?;
    plan.mount(
        "tmpfs",
        "dev/shm",
        flags | MountFlags::NODEV,
        "mode=1777,size=64m,nr_inodes=4096",
    )
}

/// Links to this binary, one per program of the image.
fn programs(plan: &mut Plan, template: &Template, programs: &[String]) -> Result<(), RuntimeError> {
    let dir = template.links_dir.trim_start_matches('/');
    let dir = Path::new(dir);
    if !template.links_dir.starts_with("/usr/") {
        parents(plan, dir, true)?;
    }
    plan.mount(
        "tmpfs",
        dir,
        MountFlags::NOSUID | MountFlags::NODEV,
        "mode=0755,size=64k,nr_inodes=1024",
    )?;
    for program in programs {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        let refuse = || RuntimeError::Invalid(format!("{program:?} is no name of a program"));
        let Some(path) = program.strip_prefix('/') else {
            if !plain(program) || program.contains('/') {
                return Err(refuse());
            }
            plan.link("/.ztlab/ztlab", dir.join(program))?;
            continue;
        };
        if !path.split('/').all(plain) {
            return Err(refuse());
        }
        parents(plan, Path::new(path), false)?;
        plan.link("/.ztlab/ztlab", path)?;
    }
    Ok(())
}

fn etc(plan: &mut Plan, template: &Template, sandbox: &SandboxConfig) -> Result<(), RuntimeError> {
    for &name in &template.etc {
        plan.link(Path::new("/.ztlab/etc").join(name), Path::new("etc").join(name))?;
    }
    let hostname = format!("{}\n", sandbox.hostname);
    for (name, content) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("etc/nsswitch.conf", NSSWITCH),
        ("etc/hostname", &hostname),
        ("etc/hosts", &sandbox.hosts),
        ("etc/resolv.conf", &sandbox.resolv_conf),
    ] {
        plan.file(name, content)?;
    }
    plan.link("/proc/mounts", "etc/mtab")?;
    plan.link("/run", "var/run")?;
    plan.directory("var/tmp", 0o1777)?;
    plan.directory("var/log", 0o755)
}

/// A volume's content: a detached mount, and whether it is a directory.
enum Volume {
    Tree(Arc<OwnedFd>, bool),
    Memory(u64),
}

fn open(mount: &Mount) -> Result<Volume, RuntimeError> {
    let of = match &mount.source {
        MountSource::Tmpfs { size_bytes } => return Ok(Volume::Memory(*size_bytes)),
        MountSource::Dir(dir) => dir.clone(),
        MountSource::Part { root, inside } => root.join(inside),
    };
    let step = || format!("mount {} at {}", of.display(), mount.target.display());
    let tree = tree(mount).map_err(RuntimeError::kernel(step()))?;
    let attributes = MountAttributes {
        read_only: mount.read_only,
        no_suid: true,
        no_dev: true,
    };
    sys::mount_setattr(&tree, attributes).map_err(RuntimeError::kernel(step()))?;
    let kind = beneath::kind(&tree).map_err(RuntimeError::kernel(step()))?;
    Ok(Volume::Tree(Arc::new(tree), kind.is_dir()))
}

/// A detached copy of what a mount shows.
fn tree(mount: &Mount) -> std::io::Result<OwnedFd> {
    if let (MountSource::Dir(dir), None) = (&mount.source, &mount.sub_path) {
        return detached(dir);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(place(mount)?, "", flags)?)
}

/// The part of its volume that a mount shows, made as a directory if missing. No link leads out of the volume, and none that is
/// a volume leads out of where it is.
fn place(mount: &Mount) -> std::io::Result<OwnedFd> {
    let volume = match &mount.source {
        MountSource::Dir(dir) => beneath::open(dir, Path::new(""))?,
        MountSource::Part { root, inside } => beneath::open_or_make(root, inside)?,
        MountSource::Tmpfs { .. } => return Err(std::io::ErrorKind::InvalidInput.into()),
    };
    match &mount.sub_path {
        Some(sub_path) => beneath::open_or_make_at(volume, sub_path),
        None => Ok(volume),
    }
}

/// Whether a mount's part of its volume can be had, and makes it if it is missing.
///
/// # Errors
/// A link in the volume leads out of it, or the kernel refuses.
pub fn check_sub_path(mount: &Mount) -> std::io::Result<()> {
    place(mount).map(|_| ())
}

fn attach(plan: &mut Plan, volume: Volume, mount: &Mount) -> Result<(), RuntimeError> {
    let target = absolute(&mount.target)?;
    if target.as_os_str().is_empty() {
        return Err(RuntimeError::Invalid("a volume cannot be mounted at /".to_owned()));
    }
    let is_dir = matches!(volume, Volume::Memory(_) | Volume::Tree(_, true));
    parents(plan, &target, is_dir)?;
    match volume {
        Volume::Memory(size) => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV;
            plan.mount("tmpfs", &target, flags, &format!("mode=1777,size={size}"))?;
            if mount.read_only {
                let path = plan.path(&target)?;
                plan.steps.push(Step::ReadOnly(path));
            }
        }
        Volume::Tree(tree, _) => {
            let path = plan.path(&target)?;
            if !is_dir {
                plan.steps.push(Step::Touch(path.clone()));
            }
            plan.steps.push(Step::Attach(tree, path));
        }
    }
    Ok(())
}

/// `path` relative to the container's root.
fn absolute(path: &Path) -> Result<PathBuf, RuntimeError> {
    let invalid = || RuntimeError::Invalid(format!("{} is not an absolute path without ..", path.display()));
    let path = path.strip_prefix("/").map_err(|_| invalid())?;
    if path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(invalid());
    }
    Ok(path.to_owned())
}

/// Makes the directories above `path`, and `path` itself if `whole`.
fn parents(plan: &mut Plan, path: &Path, whole: bool) -> Result<(), RuntimeError> {
    let mut at = PathBuf::new();
    let parts: Vec<_> = path.components().collect();
    let count = if whole {
        parts.len()
    } else {
        parts.len().saturating_sub(1)
    };
    for part in parts.into_iter().take(count) {
        at.push(part);
        plan.directory(&at, 0o755)?;
    }
    Ok(())
}
