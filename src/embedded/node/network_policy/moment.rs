//! A moment of the cluster: pods, namespaces and policies as they were at one revision.
//!
//! They come by watches of their own, and one may be behind another. Taken as they come, a pod's new label may meet the
//! policies of before, though a policy for the new label was written first: for a moment the pod would be judged as it never was by
//! what the API held. So what is applied is always what the API held at one revision.
//!
//! Namespaces and policies are few: they are listed at the revision. Pods are many and known already; that no change to them
//! is still on its way is told by their watch, or where nothing changes, by the revision of their newest change. Only where the
//! watch was never told of that one (a deletion before its list) are their revisions listed: a policy that cuts somebody off
//! waits for nothing that grows with the number of pods.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, VersionMatch},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::Instant};

use super::{facts::Labels, known::Known};
use crate::informer::Informers;

/// How long a change may be on its way. In one process that is a matter of microseconds; longer, and a watch has broken off and
/// lists again.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// What an API server answers when it does not know any more what was at a revision.
const EXPIRED: u16 = 410;

/// Namespaces and policies that belong to the pods that are known.
pub(super) struct Moment {
    /// Labels of the namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// All policies, in order of namespace and name.
    pub policies: Vec<Arc<NetworkPolicy>>,
    /// The revision.
    pub revision: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoMoment {
    #[error("{0}")]
    Refused(#[from] kube::Error),
    #[error("changes of pods up to revision {0} have not come: is their watch broken?")]
    Late(u64),
}

/// Says the revision of the newest change of any pod, which the API answers to nobody without a list of all.
pub type NewestPod = Box<dyn Fn() -> u64 + Send + Sync>;

/// Reads what belongs together.
pub(super) struct Reader {
    client: Client,
    newest_pod: NewestPod,
    pods: watch::Receiver<u64>,
    namespaces: watch::Receiver<u64>,
    policies: watch::Receiver<u64>,
    /// No moment is before this: what was then is not known any more.
    least: u64,
}

impl Reader {
    pub(super) fn new(client: Client, newest_pod: NewestPod, informers: &Informers) -> Self {
        let mut reader = Self {
            client,
            newest_pod,
            pods: informers.pods.told(),
            namespaces: informers.namespaces.told(),
            policies: informers.network_policies.told(),
            least: 0,
        };
        // What was told before is news here.
        reader.pods.mark_changed();
        reader
    }

    /// Waits until something was told; `false` when nothing ever will be again.
    pub(super) async fn news(&mut self) -> bool {
        let told = tokio::select! {
            told = self.pods.changed() => told,
            told = self.namespaces.changed() => told,
            told = self.policies.changed() => told,
        };
        told.is_ok()
    }

    /// The revision up to which all was told of pods.
    pub(super) fn told(&self) -> u64 {
        *self.pods.borrow()
    }

    /// Everything at one revision that is not before any change that was told. `take` gives `known` what was told of pods, up
    /// to a revision.
    pub(super) async fn moment(
        &mut self,
        known: &mut Known,
        mut take: impl FnMut(&mut Known, u64),
    ) -> Result<Moment, NoMoment> {
        let end = Instant::now() + ON_ITS_WAY;
        loop {
            let told = *self.pods.borrow_and_update();
            let others = (*self.namespaces.borrow_and_update()).max(*self.policies.borrow_and_update());
            take(known, told);
            let revision = told.max(others).max(self.least);
            match self.complete(known, told, revision).await? {
                Some(true) => {
                    if let Some(moment) = self.at(revision).await? {
                        return Ok(moment);
                    }
                }
                Some(false) => {
                    let more = tokio::time::timeout_at(end, self.pods.changed()).await;
                    more.map_err(|_| NoMoment::Late(revision))?
                        .map_err(|_| NoMoment::Late(revision))?;
                }
                None => {}
            }
        }
    }

    /// Whether the pods at `revision`, which is past, are those that are known, of which all was told up to `told`; `None` where
    /// the API server does not know any more.
    async fn complete(&mut self, known: &Known, told: u64, revision: u64) -> Result<Option<bool>, NoMoment> {
        if told >= revision || told >= (self.newest_pod)() {
            return Ok(Some(true));
        }
        let api: Api<Pod> = Api::all(self.client.clone());
        let listed = api.list_metadata(&at(revision)).await;
        let same = |pod: &kube::core::PartialObjectMeta<Pod>| {
            let revision = pod.resource_version().and_then(|text| text.parse().ok());
            revision.is_some() && known.revision(&pod.uid().unwrap_or_default()) == revision
        };
        let listed = self.unless_expired(listed).await?;
        Ok(listed.map(|pods| pods.items.len() == known.count() && pods.items.iter().all(same)))
    }

    /// Namespaces and policies at `revision`, if the API server still knows.
    async fn at(&mut self, revision: u64) -> Result<Option<Moment>, NoMoment> {
        let (namespaces, policies) = tokio::join!(
            list::<Namespace>(&self.client, revision),
            list::<NetworkPolicy>(&self.client, revision)
        );
        let Some(namespaces) = self.unless_expired(namespaces).await? else {
            return Ok(None);
        };
        let Some(policies) = self.unless_expired(policies).await? else {
            return Ok(None);
        };
        let labels = |namespace: Namespace| (namespace.name_any(), namespace.metadata.labels.unwrap_or_default());
        Ok(Some(Moment {
            namespaces: namespaces.into_iter().map(labels).collect(),
            policies: policies.into_iter().map(Arc::new).collect(),
            revision,
        }))
    }

    /// Where a revision has expired, only what is now can be known.
    async fn unless_expired<T>(&mut self, listed: Result<T, kube::Error>) -> Result<Option<T>, NoMoment> {
        match listed {
            Ok(listed) => Ok(Some(listed)),
            Err(kube::Error::Api(status)) if status.code == EXPIRED => {
                let api: Api<NetworkPolicy> = Api::all(self.client.clone());
                let now = api.list_metadata(&ListParams::default().limit(1)).await?;
                let now = now.metadata.resource_version.and_then(|text| text.parse().ok());
                self.least = now.unwrap_or_default();
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn at(revision: u64) -> ListParams {
    ListParams::default()
        .at(&revision.to_string())
        .matching(VersionMatch::Exact)
}

async fn list<K>(client: &Client, revision: u64) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    Ok(Api::<K>::all(client.clone()).list(&at(revision)).await?.items)
}
