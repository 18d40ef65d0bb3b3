//! PersistentVolumes: claims are bound to volumes, volumes are made for claims, and both are kept as long as they are used.
//!
//! One queue for claims and volumes, so that no two of them are given the same volume. The half that makes volumes stands for a
//! provisioner beside the cluster, and says so in its name and events.
//!
//! Source: Kubernetes' "Persistent Volumes" and "Storage Classes"; its volume binder and protection controllers.

mod claim;
mod directories;
#[cfg(test)]
mod tests;
mod volume;

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PostParams},
};

use super::{Context, follow};
use crate::{
    control_plane::volume_binding::{BY_CONTROLLER, claim_of, class_of_claim},
    events::{Happening, Recorder, reference},
    informer::{Change, Key},
    queue::Queue,
    write::{delete_this, unless_gone, write_status},
};

use directories::{AGAIN, alone, forget, remove};

/// The provisioner of the class that every cluster has.
const PROVISIONER: &str = "ztlab.dev/local-path";
/// Who made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Who is to make a claim's volume.
const STORAGE_PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];
/// Keeps a claim until no pod uses it.
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The account that lets claims go which nobody uses any more: Kubernetes' PVC protection controller. All else here is the
/// volume binder's, as it is in Kubernetes where the provisioner is no program of its own.
pub const PROTECTION_ACCOUNT: &str = "pvc-protection-controller";

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    let cache = &context.informers;
    follow::objects(&cache.persistent_volume_claims, &queue);
    let (feed, claims) = (queue.clone(), cache.persistent_volume_claims.clone());
    follow::changes(&cache.persistent_volume_claims, move |change| {
        let spec = change.object().spec.as_ref();
        if let Some(volume) = spec
            .and_then(|spec| spec.volume_name.clone())
            .filter(|name| !name.is_empty())
        {
            feed.add(Key::new("", volume));
        }
    });
    let feed = queue.clone();
    let (dir, client) = (context.volumes.clone(), context.client.clone());
    follow::changes(&cache.persistent_volumes, move |change| {
        let volume = change.object();
        feed.add(Key::of(volume.as_ref()));
        if let Some(of) = claim_of(volume) {
            feed.add(Key::new(
                of.namespace.clone().unwrap_or_default(),
                of.name.clone().unwrap_or_default(),
            ));
        }
        claims
            .all()
            .iter()
            .filter(|claim| is_pending(claim))
            .for_each(|claim| feed.add(Key::of(claim.as_ref())));
        if let Change::Deleted(gone) = change {
            forget(gone, &dir, Api::all(client.clone()));
        }
    });
    let (feed, claims) = (queue.clone(), cache.persistent_volume_claims.clone());
    follow::changes(&cache.storage_classes, move |_| {
        claims
            .all()
            .iter()
            .filter(|claim| is_pending(claim))
            .for_each(|claim| feed.add(Key::of(claim.as_ref())));
    });
    let feed = queue.clone();
    follow::changes(&cache.pods, move |change| {
        if let Change::Deleted(pod) = change {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).for_each(|name| feed.add(Key::new(&*namespace, name)));
        }
    });
    let controller = Arc::new(Controller {
        binder: context.recorder.of("persistentvolume-controller", None),
        provisioner: context.recorder.of(PROVISIONER, None),
        protection: context.of(PROTECTION_ACCOUNT).client,
        context: context.clone(),
    });
    context
        .tasks
        .spawn(queue.run("persistentvolume", context.stop.clone(), move |key| {
            let controller = controller.clone();
            async move {
                if key.namespace.is_empty() {
                    controller.volume(&key).await
                } else {
                    controller.claim(&key).await
                }
            }
        }));
}

fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    status.and_then(|status| status.phase.as_deref()) != Some("Bound")
}

/// The claims that a pod uses.
fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    volumes.into_iter().flatten().filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref();
        let own = || {
            volume
                .ephemeral
                .as_ref()
                .map(|_| format!("{}-{}", pod.name_any(), volume.name))
        };
        claim.map(|claim| claim.claim_name.clone()).or_else(own)
    })
}

struct Controller {
    context: Context,
    protection: Client,
    binder: Recorder,
    provisioner: Recorder,
}

impl Controller {
    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), namespace)
    }

    async fn replace_claim(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, kube::Error> {
        self.replace(self.claims(&claim.namespace().unwrap_or_default()), claim)
            .await
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.context.client.clone())
    }

    async fn claim(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let cache = &self.context.informers;
        let Some(claim) = cache.persistent_volume_claims.get(key) else {
            return Ok(None);
        };
        if claim.metadata.deletion_timestamp.is_some() {
            self.release(&claim).await?;
            return Ok(None);
        }
        let class = cache.storage_classes.get(&Key::new("", class_of_claim(&claim)));
        let node = claim::selected_node(&claim).and_then(|name| cache.nodes.get(&Key::new("", name)));
        let (volumes, classes) = (cache.persistent_volumes.all(), cache.storage_classes.all());
        let fate = claim::fate(&claim::Facts {
            claim: &claim,
            volumes: &volumes,
            class: class.as_deref(),
            default_class: claim::default_class(&classes),
            node: node.as_deref(),
        });
        match fate {
            claim::Fate::Class(name) => {
                let mut with = claim.as_ref().clone();
                with.spec.get_or_insert_default().storage_class_name = Some(name);
                self.replace_claim(&with).await?;
            }
            claim::Fate::Bind(volume) => self.bind(&claim, &volume).await?,
            claim::Fate::Provision => {
                if let Some(class) = &class {
                    self.provision(&claim, class, node.as_deref()).await?;
                }
            }
            claim::Fate::Wait(happening) => {
                self.tell(&claim, happening);
                self.claim_phase(&claim, "Pending").await?;
            }
            claim::Fate::Lost(happening) => {
                // A restore brings both back, and the claim may be known first.
                let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
                let named = named.filter(|name| !volumes.iter().any(|volume| volume.name_any() == *name));
                if let Some(name) = named
                    && self.volumes().get_opt(name).await?.is_some()
                {
                    return Ok(None);
                }
                if self.claim_phase(&claim, "Lost").await? {
                    self.tell(&claim, Some(happening));
                }
            }
        }
        Ok(None)
    }

    fn tell(&self, claim: &PersistentVolumeClaim, happening: Option<Happening>) {
        if let Some(happening) = happening {
            self.binder.tell(reference(claim), happening);
        }
    }

    /// Lets a claim go that is being deleted and that no pod uses.
    async fn release(&self, claim: &PersistentVolumeClaim) -> Result<(), kube::Error> {
        if !claim.finalizers().iter().any(|finalizer| finalizer == CLAIM_PROTECTION) {
            return Ok(());
        }
        let namespace = claim.namespace().unwrap_or_default();
        // Asked anew: the cache may not know of a pod yet that came before the deletion.
        let pods: Api<Pod> = Api::namespaced(self.protection.clone(), &namespace);
        let pods = pods.list(&ListParams::default()).await?;
        let name = claim.name_any();
        let uses = |pod: &Pod| {
            let placed = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            placed.is_some_and(|node| !node.is_empty()) && claims_of(pod).any(|claim| claim == name)
        };
        if pods.iter().any(uses) {
            return Ok(());
        }
        let mut free = claim.clone();
        free.finalizers_mut().retain(|finalizer| finalizer != CLAIM_PROTECTION);
        self.replace(Api::namespaced(self.protection.clone(), &namespace), &free)
            .await?;
        Ok(())
    }

    async fn replace(
        &self,
        api: Api<PersistentVolumeClaim>,
        claim: &PersistentVolumeClaim,
    ) -> Result<PersistentVolumeClaim, kube::Error> {
        let written = api.replace(&claim.name_any(), &PostParams::default(), claim).await?;
        // The last finalizer's going is a deletion: that is the watch's to tell.
        if !(written.metadata.deletion_timestamp.is_some() && written.finalizers().is_empty()) {
            self.context.informers.persistent_volume_claims.wrote(written.clone());
        }
        Ok(written)
    }

    async fn replace_volume(&self, volume: &PersistentVolume) -> Result<PersistentVolume, kube::Error> {
        let written = self
            .volumes()
            .replace(&volume.name_any(), &PostParams::default(), volume)
            .await?;
        if !(written.metadata.deletion_timestamp.is_some() && written.finalizers().is_empty()) {
            self.context.informers.persistent_volumes.wrote(written.clone());
        }
        Ok(written)
    }

    /// Writes a claim's phase; whether it was another.
    async fn claim_phase(&self, claim: &PersistentVolumeClaim, phase: &str) -> Result<bool, kube::Error> {
        let Some(status) = claim::status(claim, phase) else {
            return Ok(false);
        };
        let api = self.claims(&claim.namespace().unwrap_or_default());
        if let Some(written) = unless_gone(write_status(&api, &claim.name_any(), &status).await)? {
            self.context.informers.persistent_volume_claims.wrote(written);
        }
        Ok(true)
    }

    /// Writes a volume's phase; whether it was another.
    async fn volume_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: Option<String>,
    ) -> Result<bool, kube::Error> {
        let Some(status) = claim::volume_status(volume, phase, message, Timestamp::now()) else {
            return Ok(false);
        };
        if let Some(written) = unless_gone(write_status(&self.volumes(), &volume.name_any(), &status).await)? {
            self.context.informers.persistent_volumes.wrote(written);
        }
        Ok(true)
    }

    /// Whether a claim that the cache has is still that one. A restore puts another of its name in its place, and the volume may
    /// be known first: kept for a claim that is gone, it would be nobody's from then on.
    async fn is_there(&self, claim: &PersistentVolumeClaim) -> Result<bool, kube::Error> {
        let claims = self.claims(&claim.namespace().unwrap_or_default());
        let now = claims.get_opt(&claim.name_any()).await?;
        Ok(now.is_some_and(|now| now.metadata.uid == claim.metadata.uid))
    }

    /// First the volume, then the claim: whoever sees a bound claim sees a volume that is bound to it.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), kube::Error> {
        let mut volume = volume.clone();
        if let Some(bound) = claim::bound_volume(&volume, claim) {
            if !self.is_there(claim).await? {
                return Ok(());
            }
            volume = self.replace_volume(&bound).await?;
        }
        self.volume_phase(&volume, "Bound", None).await?;
        let mut claim = claim.clone();
        if let Some(bound) = claim::bound_claim(&claim, &volume) {
            claim = self.replace_claim(&bound).await?;
        }
        if let Some(status) = claim::bound_status(&claim, &volume) {
            let api = self.claims(&claim.namespace().unwrap_or_default());
            if let Some(written) = unless_gone(write_status(&api, &claim.name_any(), &status).await)? {
                self.context.informers.persistent_volume_claims.wrote(written);
            }
        }
        Ok(())
    }

    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        class: &k8s_openapi::api::storage::v1::StorageClass,
        node: Option<&k8s_openapi::api::core::v1::Node>,
    ) -> Result<(), kube::Error> {
        let mut claim = claim.clone();
        if !claim.annotations().contains_key(STORAGE_PROVISIONER[1]) {
            for key in STORAGE_PROVISIONER {
                claim.annotations_mut().insert(key.to_owned(), PROVISIONER.to_owned());
            }
            claim = self.replace_claim(&claim).await?;
            self.tell(&claim, Some(claim::external(PROVISIONER)));
        }
        let volume = match volume::provisioned(&claim, class, node, &self.context.volumes) {
            Ok(volume) => volume,
            Err(why) => {
                self.provisioner
                    .tell(reference(&claim), Happening::warning("ProvisioningFailed", why));
                return Ok(());
            }
        };
        let whole = format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
        let begins = format!("External provisioner is provisioning volume for claim \"{whole}\"");
        self.provisioner
            .tell(reference(&claim), Happening::normal("Provisioning", begins));
        let made = match self.volumes().create(&PostParams::default(), &volume).await {
            // Made before, and not in the cache yet: its coming is told.
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
            made => made?,
        };
        let done = format!("Successfully provisioned volume {}", made.name_any());
        self.provisioner
            .tell(reference(&claim), Happening::normal("ProvisioningSucceeded", done));
        self.context.informers.persistent_volumes.wrote(made);
        Ok(())
    }

    async fn volume(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let Some(volume) = self.context.informers.persistent_volumes.get(key) else {
            return Ok(None);
        };
        let claim = self.claim_now(&volume).await?;
        let deleting = volume.metadata.deletion_timestamp.is_some();
        match volume::fate(&volume, claim.as_ref()) {
            volume::Fate::Phase(phase) => {
                self.volume_phase(&volume, phase, None).await?;
                if deleting && phase != "Bound" {
                    self.let_go(&volume).await?;
                }
            }
            volume::Fate::Unbind => {
                let mut free = volume.as_ref().clone();
                free.annotations_mut().remove(BY_CONTROLLER);
                free.spec.get_or_insert_default().claim_ref = None;
                let free = self.replace_volume(&free).await?;
                self.volume_phase(&free, "Available", None).await?;
            }
            volume::Fate::Failed(happening) => self.failed(&volume, happening).await?,
            volume::Fate::Delete => return self.delete(&volume).await,
        }
        Ok(None)
    }

    /// The claim of the name that a volume is kept for. Asked anew: what is deleted for a claim that a cache does not know yet does
    /// not come back.
    async fn claim_now(&self, volume: &PersistentVolume) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
        let Some(of) = claim_of(volume) else { return Ok(None) };
        let claims = self.claims(of.namespace.as_deref().unwrap_or_default());
        claims.get_opt(of.name.as_deref().unwrap_or_default()).await
    }

    /// Removes what a volume holds, if that is still its fate: `false` where it is not. A restore may just have brought the volume
    /// and its claim back.
    async fn remove_content(
        &self,
        volume: &PersistentVolume,
        dir: &Path,
    ) -> Result<std::io::Result<bool>, kube::Error> {
        let _alone = match alone(&self.context.volumes).await {
            Ok(alone) => alone,
            Err(error) => return Ok(Err(error)),
        };
        let Some(now) = self.volumes().get_opt(&volume.name_any()).await? else {
            return Ok(Ok(false));
        };
        let claim = self.claim_now(&now).await?;
        if now.metadata.uid != volume.metadata.uid || volume::fate(&now, claim.as_ref()) != volume::Fate::Delete {
            return Ok(Ok(false));
        }
        Ok(remove(dir).await.map(|()| true))
    }

    async fn failed(&self, volume: &PersistentVolume, happening: Happening) -> Result<(), kube::Error> {
        if self
            .volume_phase(volume, "Failed", Some(happening.message.clone()))
            .await?
        {
            self.binder.tell(reference(volume), happening);
        }
        if volume.metadata.deletion_timestamp.is_some() {
            self.let_go(volume).await?;
        }
        Ok(())
    }

    /// Takes away what keeps a volume, which is being deleted.
    async fn let_go(&self, volume: &PersistentVolume) -> Result<(), kube::Error> {
        let ours = [volume::PROTECTION, volume::RECLAIM];
        let mut free = match self.context.informers.persistent_volumes.get(&Key::of(volume)) {
            Some(now) => now.as_ref().clone(),
            None => return Ok(()),
        };
        if free.finalizers().iter().any(|held| ours.contains(&held.as_str())) {
            free.finalizers_mut().retain(|held| !ours.contains(&held.as_str()));
            unless_gone(self.replace_volume(&free).await)?;
        }
        Ok(())
    }

    /// Deletes what a volume holds, then the volume.
    async fn delete(&self, volume: &PersistentVolume) -> Result<Option<Duration>, kube::Error> {
        if volume::phase(volume) != "Failed" {
            self.volume_phase(volume, "Released", None).await?;
        }
        let dir = match volume::directory(volume, &self.context.volumes) {
            Ok(dir) => dir,
            Err(why) => {
                self.failed(volume, Happening::warning("VolumeFailedDelete", why))
                    .await?;
                return Ok(None);
            }
        };
        match self.remove_content(volume, &dir).await? {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                self.failed(volume, Happening::warning("VolumeFailedDelete", error.to_string()))
                    .await?;
                return Ok(Some(AGAIN));
            }
        }
        let (name, uid) = (volume.name_any(), volume.uid().unwrap_or_default());
        if volume.metadata.deletion_timestamp.is_none()
            && let Some(marked) = delete_this(&self.volumes(), &name, &uid).await?
        {
            self.context.informers.persistent_volumes.wrote(marked);
        }
        self.let_go(volume).await?;
        Ok(None)
    }
}
