//! A pod's volumes on the node: made before its containers, kept up to date, taken down after them.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use k8s_openapi::{
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest as ApiTokenRequest, TokenRequestSpec},
        core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount, Volume},
    },
    jiff::Timestamp,
};
use kube::{Api, ResourceExt, api::PostParams};
use rustix::mount::{MountFlags, UnmountFlags};

use super::{
    Inner, NamespaceSources, csi, fs_group, host_path,
    starting::hash,
    volumes::{self, Content, Mounted, TokenRequest},
    worker::{TRY_AGAIN, Worker},
};
use crate::control_plane::api::validate::quantity;

/// A token that a pod has.
pub(super) struct Token {
    value: String,
    /// When another is to be asked for.
    renew: Timestamp,
}

/// The node's own file system in memory, bytes.
const NODE_MEMORY: u64 = 64 << 20;

/// Mounts memory of `bytes` on `dir`, which is made if missing.
pub(super) fn memory(dir: &Path, bytes: u64, mode: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // Empty files cost memory too.
    let files = (bytes / 4096).clamp(1024, 65_536);
    let options = std::ffi::CString::new(format!("mode={mode},size={bytes},nr_inodes={files}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("ztlab", dir, "tmpfs", flags, Some(&*options))?)
}

/// Makes the two directories that stand for the node's file system.
pub(super) fn node_dirs(dirs: &host_path::NodeDirs) -> io::Result<()> {
    fs::create_dir_all(&dirs.volumes)?;
    memory(&dirs.memory, NODE_MEMORY, "0755")
}

/// Takes down what a pod's volumes are on the node.
pub(super) fn take_down(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        // Most are no mounts, which is the only thing it can be refused for.
        let _ = rustix::mount::unmount(entry.path(), UnmountFlags::DETACH);
    }
    // What is not there needs no removing.
    let _ = fs::remove_dir_all(dir);
}

/// What a claim is bound to, or why it cannot be mounted yet, in the kubelet's words.
async fn claimed(inner: &Inner, pod: &Pod, name: &str, read_only: bool) -> Result<Mounted, String> {
    let namespace = pod.namespace().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(inner.client.clone(), &namespace);
    let claim = claims
        .get(name)
        .await
        .map_err(|error| format!("failed to fetch PVC from API server: {}", words(&error)))?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    let status = claim.status.unwrap_or_default();
    let phase = status.phase.unwrap_or_default();
    let volume = claim.spec.and_then(|spec| spec.volume_name).unwrap_or_default();
    if phase != "Bound" || volume.is_empty() {
        return Err(format!(
            "PVC {namespace}/{name} has non-bound phase ({phase:?}) or empty pvc.Spec.VolumeName ({volume:?})"
        ));
    }
    let bound: Api<PersistentVolume> = Api::all(inner.client.clone());
    let spec = bound
        .get(&volume)
        .await
        .map_err(|error| format!("failed to fetch PV {volume} from API server: {}", words(&error)))?
        .spec
        .unwrap_or_default();
    let of_claim = spec.claim_ref.as_ref();
    if of_claim.is_none_or(|of| of.name.as_deref() != Some(name) || of.namespace.as_deref() != Some(&*namespace)) {
        return Err(format!("PV {volume} is not bound to PVC {namespace}/{name}"));
    }
    let source = spec
        .host_path
        .ok_or_else(|| format!("PV {volume} is of a type that this node does not have: only hostPath is"))?;
    let place = host_path::resolve(&source.path, &inner.dirs)?;
    host_path::prepare(&place, source.type_.as_deref().unwrap_or_default(), &source.path)?;
    let modes = spec.access_modes.unwrap_or_default();
    let size = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
    let size = size
        .and_then(|size| quantity::parse(&size.0))
        .map(quantity::Quantity::value);
    Ok(Mounted {
        capacity: (place.root == inner.dirs.volumes).then_some(size.unwrap_or(volumes::MOST)),
        dir: place.root,
        inside: Some(place.inside),
        read_only: read_only || (modes.len() == 1 && modes.iter().any(|mode| mode == "ReadOnlyMany")),
    })
}

/// The API's own words, without what the client puts around them.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The event's text for volumes that wait for something outside the pod.
fn unattached(pod: &Pod, volume: &str, claim: &str, reason: &str) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    format!(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process \
         volumes=[{volume}]: error processing PVC {namespace}/{claim}: {reason}"
    )
}

impl Worker {
    /// Asks for the tokens that are missing or old. One that cannot be had again is kept until it can.
    async fn fetch_tokens(&mut self) -> Result<(), String> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let account = spec
            .service_account_name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let accounts: Api<ServiceAccount> =
            Api::namespaced(self.inner.client.clone(), &self.pod.namespace().unwrap_or_default());
        for request in volumes::tokens(&self.pod) {
            let now = Timestamp::now();
            if self.tokens.get(&request).is_some_and(|token| token.renew > now) {
                continue;
            }
            let body = ApiTokenRequest {
                spec: TokenRequestSpec {
                    audiences: request.audience.iter().cloned().collect(),
                    expiration_seconds: Some(request.seconds),
                    bound_object_ref: Some(BoundObjectReference {
                        api_version: Some("v1".to_owned()),
                        kind: Some("Pod".to_owned()),
                        name: self.pod.metadata.name.clone(),
                        uid: self.pod.uid(),
                    }),
                },
                ..ApiTokenRequest::default()
            };
            let answer = accounts
                .create_token_request(&account, &PostParams::default(), &body)
                .await
                .map_err(|error| format!("failed to fetch token: {}", words(&error)))?;
            let value = answer.status.map(|status| status.token).unwrap_or_default();
            // At four fifths of its life, as the kubelet does.
            let life = Duration::from_secs(u64::try_from(request.seconds).unwrap_or(600) * 4 / 5);
            let renew = now.checked_add(life).unwrap_or(Timestamp::MAX);
            self.tokens.insert(request, Token { value, renew });
        }
        Ok(())
    }

    /// Renews tokens in time, and sees to it that the pod's task wakes up for the next.
    pub(super) async fn renew_tokens(&mut self) {
        let first = |tokens: &BTreeMap<TokenRequest, Token>| tokens.values().map(|token| token.renew).min();
        let Some(renew) = first(&self.tokens) else { return };
        if renew <= Timestamp::now() {
            self.refresh_volumes().await;
        }
        match first(&self.tokens) {
            Some(renew) if renew > Timestamp::now() => self.wake_at(renew),
            _ => self.wake_in(TRY_AGAIN),
        }
    }

    /// Brings the volumes on the node to what they should hold.
    ///
    /// # Errors
    /// The text of the event that says what is missing.
    pub(super) async fn set_up_volumes(&mut self) -> Result<(), String> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let volumes = spec.volumes.unwrap_or_default();
        if volumes.is_empty() {
            return Ok(());
        }
        let failed =
            |volume: &str, reason: &str| format!("MountVolume.SetUp failed for volume \"{volume}\" : {reason}");
        if let Err(reason) = self.fetch_tokens().await {
            let asks = |volume: &&Volume| volume.projected.is_some();
            let name = volumes.iter().find(asks).map_or("", |volume| volume.name.as_str());
            return Err(failed(name, &reason));
        }
        let values = self.tokens.iter();
        let tokens = values.map(|(request, token)| (request.clone(), token.value.clone()));
        let tokens: BTreeMap<_, _> = tokens.collect();
        for volume in volumes {
            let content = {
                let sources = NamespaceSources {
                    informers: &self.inner.informers,
                    namespace: self.pod.namespace().unwrap_or_default(),
                };
                volumes::content(&self.pod, &volume, &self.facts(), &sources, &tokens)
            };
            let content = content.map_err(|reason| failed(&volume.name, &reason))?;
            let mounted = match content {
                Content::Claim { name, read_only } if !self.mounts.contains_key(&volume.name) => {
                    let mounted = claimed(&self.inner, &self.pod, &name, read_only)
                        .await
                        .map_err(|reason| unattached(&self.pod, &volume.name, &name, &reason))?;
                    if !mounted.read_only {
                        self.give_to_group(&mounted)
                            .map_err(|reason| failed(&volume.name, &reason))?;
                    }
                    mounted
                }
                Content::Claim { .. } => continue,
                content => self
                    .set_up(&volume.name, content)
                    .map_err(|reason| failed(&volume.name, &reason))?,
            };
            self.mounts.insert(volume.name, mounted);
        }
        Ok(())
    }

    /// The group that volumes are given to, where the node has it.
    fn group(&self) -> Option<u32> {
        fs_group::of(&self.pod).filter(|group| *group <= self.inner.runtime.groups())
    }

    fn give_to_group(&self, volume: &Mounted) -> Result<(), String> {
        let Some(group) = self.group() else { return Ok(()) };
        fs_group::give_volume(&self.pod, &volume.dir, volume.inside.as_deref(), group)
            .map_err(|error| format!("give it to the group {group}: {error}"))
    }

    fn set_up(&mut self, name: &str, content: Content) -> Result<Mounted, String> {
        let text = |error: io::Error| error.to_string();
        let dir = self.inner.config.volumes.join(&self.uid).join(hash(name));
        let whole = |read_only| Mounted {
            dir: dir.clone(),
            inside: None,
            read_only,
            capacity: None,
        };
        match content {
            Content::Empty { bytes } => {
                // Once, and for all its containers: what one wrote is there for the next.
                if !self.mounts.contains_key(name) {
                    memory(&dir, bytes, "0777").map_err(text)?;
                    self.give_to_group(&whole(false))?;
                }
                Ok(whole(false))
            }
            Content::Files(files) => {
                if self.written.get(name) != Some(&files) {
                    volumes::write(&dir, &files, self.group()).map_err(text)?;
                    self.written.insert(name.to_owned(), files);
                }
                Ok(whole(true))
            }
            Content::Host { path, kind } => {
                if let Some(mounted) = self.mounts.get(name) {
                    return Ok(mounted.clone());
                }
                let place = host_path::resolve(&path, &self.inner.dirs)?;
                host_path::prepare(&place, &kind, &path)?;
                Ok(Mounted {
                    dir: place.root,
                    inside: Some(place.inside),
                    read_only: false,
                    capacity: None,
                })
            }
            Content::Csi(source) => csi::mount(&source, &self.inner.dirs),
            Content::Claim { .. } => Err("a claim is mounted elsewhere".to_owned()),
        }
    }

    pub(super) async fn refresh_volumes(&mut self) {
        if self.state.ip.is_some()
            && let Err(reason) = self.set_up_volumes().await
        {
            tracing::debug!(pod = self.pod.name_any(), reason, "a volume keeps its old content");
        }
    }
}
