//! Whether a network matches pods by their address.
//!
//! Kubernetes means `ipBlock` for addresses outside of the cluster and leaves it to each network whether it matches a pod's;
//! some never do. So it is measured, with three of the lab's own workloads, before the student does anything: a callee, one
//! that is let in by its label, which shows that the callee is alive, and a stranger. First the policy lets the stranger in by
//! nothing, then by its address. The first half shows that policies count here at all, without which the second shows nothing.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicySpec,
        },
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use crate::{
    lab::Edge,
    probe::{self, ProbeKind, ProbeRequest},
    session::world::WorldError,
};

/// How often it is looked whether a policy counts yet: for ten seconds, and longer where connections do not open.
const LOOKS: u32 = 20;
/// How long a connection may take to open.
const OPENS: Duration = Duration::from_secs(1);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(500);
/// The policies of the measurement: who comes into the callee, and that the stranger may go out.
const INTO: &str = "ztlab-measures-into";
const OUT: &str = "ztlab-measures-out";
/// What the labels of a pod have that those of its successor do not.
const FLEETING: &[&str] = &[
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
];

/// Whom the policy lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lets {
    /// Whoever wears the label.
    Label,
    /// The stranger's address too.
    AddressToo,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Known,
    Stranger,
}

/// A network on which this can be tried.
#[async_trait]
trait Network: Sync {
    async fn write(&self, lets: Lets) -> Result<(), WorldError>;
    async fn reaches(&self, caller: Caller) -> Result<bool, WorldError>;
    async fn remove(&self) -> Result<(), WorldError>;
    async fn pass_time(&self);
}

/// The three that are measured with.
pub(super) struct Three<'a> {
    /// The call that is let in by label.
    pub edge: &'a Edge,
    /// Who is called.
    pub callee: Pod,
    /// Who calls it.
    pub known: Pod,
    /// Who does not.
    pub stranger: Pod,
}

/// What shows that the network matches no pod by its address; `None` where it does.
///
/// # Errors
/// When it cannot be told.
pub(super) async fn lacking(client: &Client, namespace: &str, three: Three<'_>) -> Result<Option<String>, WorldError> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let callee = three.edge.to.as_str();
    let service = services
        .get(callee)
        .await
        .map_err(failed(format!("look for the service {callee}")))?;
    let network = Lived {
        client: client.clone(),
        namespace: namespace.to_owned(),
        host: callee.to_owned(),
        port: three.edge.port,
        at: service.spec.and_then(|spec| spec.cluster_ip?.parse().ok()),
        three,
    };
    // Of a measurement that broke off.
    network.remove().await?;
    let found = measured(&network).await;
    network.remove().await?;
    found
}

async fn measured(network: &impl Network) -> Result<Option<String>, WorldError> {
    let before = network.reaches(Caller::Stranger).await?;
    network.write(Lets::Label).await?;
    let closed = until(network, |known, stranger| known && !stranger).await?;
    let lacking = match closed {
        Seen { known: false, .. } => return Err(dead()),
        Seen { stranger: true, .. } => return Ok(Some("its network keeps no pod out by a NetworkPolicy".to_owned())),
        Seen { .. } => {
            network.write(Lets::AddressToo).await?;
            match until(network, |_, stranger| stranger).await? {
                Seen { stranger: true, .. } => None,
                Seen { known: false, .. } => return Err(dead()),
                Seen { .. } => Some("its network lets no pod in by an `ipBlock` with the pod's address".to_owned()),
            }
        }
    };
    // The student begins on a network as it was: that the stranger comes through again shows it, once it was kept out.
    network.write(Lets::Label).await?;
    until(network, |_, stranger| !stranger).await?;
    network.remove().await?;
    until(network, |known, stranger| known && stranger == before).await?;
    Ok(lacking)
}

fn dead() -> WorldError {
    WorldError::new("whether the network matches pods by their address cannot be measured: nobody reaches the callee")
        .hint("see that the lab's workloads run, and start the lab again")
}

/// Who came through.
#[derive(Clone, Copy)]
struct Seen {
    known: bool,
    stranger: bool,
}

/// Looks until it is as hoped, or should be; gives what was seen last.
async fn until(network: &impl Network, hoped: impl Fn(bool, bool) -> bool) -> Result<Seen, WorldError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let (known, stranger) = tokio::join!(network.reaches(Caller::Known), network.reaches(Caller::Stranger));
        let seen = Seen {
            known: known?,
            stranger: stranger?,
        };
        if hoped(seen.known, seen.stranger) || looks == LOOKS {
            return Ok(seen);
        }
        network.pass_time().await;
    }
}

/// The network of a cluster.
struct Lived<'a> {
    client: Client,
    namespace: String,
    host: String,
    port: u16,
    at: Option<IpAddr>,
    three: Three<'a>,
}

impl Lived<'_> {
    fn policies(&self) -> Api<NetworkPolicy> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn put(&self, name: &str, spec: NetworkPolicySpec) -> Result<(), WorldError> {
        let (api, what) = (self.policies(), format!("write the networkpolicy {name}"));
        let mut policy = NetworkPolicy {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        let there = api.get_opt(name).await.map_err(failed(what.clone()))?;
        let params = PostParams::default();
        match there {
            None => api.create(&params, &policy).await,
            Some(there) => {
                policy.metadata.resource_version = there.metadata.resource_version;
                api.replace(name, &params, &policy).await
            }
        }
        .map(drop)
        .map_err(failed(what))
    }
}

#[async_trait]
impl Network for Lived<'_> {
    async fn write(&self, lets: Lets) -> Result<(), WorldError> {
        let mut from = vec![NetworkPolicyPeer {
            pod_selector: Some(wearing(&self.three.known)),
            ..NetworkPolicyPeer::default()
        }];
        if lets == Lets::AddressToo {
            from.push(NetworkPolicyPeer {
                ip_block: Some(IPBlock {
                    cidr: block(&self.three.stranger)?,
                    except: None,
                }),
                ..NetworkPolicyPeer::default()
            });
        }
        let into = NetworkPolicySpec {
            pod_selector: Some(wearing(&self.three.callee)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(from),
                ports: None,
            }]),
            egress: None,
        };
        // Whatever else stands, it is not the way out that stops the stranger.
        let out = NetworkPolicySpec {
            pod_selector: Some(wearing(&self.three.stranger)),
            policy_types: Some(vec!["Egress".to_owned()]),
            egress: Some(vec![NetworkPolicyEgressRule::default()]),
            ingress: None,
        };
        self.put(OUT, out).await?;
        self.put(INTO, into).await
    }

    async fn reaches(&self, caller: Caller) -> Result<bool, WorldError> {
        let pod = match caller {
            Caller::Known => &self.three.known,
            Caller::Stranger => &self.three.stranger,
        };
        let kind = ProbeKind::Tcp {
            host: self.host.clone(),
            port: self.port,
        };
        let request = ProbeRequest {
            timeout: OPENS,
            at: self.at,
            ..ProbeRequest::new(self.namespace.clone(), pod.name_any(), kind)
        };
        let result = probe::run(&self.client, request).await?;
        Ok(result.outcome == crate::evidence::ProbeOutcome::Connected)
    }

    async fn remove(&self) -> Result<(), WorldError> {
        for name in [INTO, OUT] {
            match self.policies().delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(failed(format!("delete the networkpolicy {name}"))(error)),
            }
        }
        Ok(())
    }

    async fn pass_time(&self) {
        tokio::time::sleep(AGAIN).await;
    }
}

/// A selector of the pods that wear what this one does.
fn wearing(pod: &Pod) -> LabelSelector {
    let labels = pod.labels().iter().filter(|(key, _)| !FLEETING.contains(&key.as_str()));
    let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

/// The address of a pod, as a block of one.
fn block(pod: &Pod) -> Result<String, WorldError> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let address: Option<IpAddr> = address.and_then(|address| address.parse().ok());
    match address {
        Some(IpAddr::V4(address)) => Ok(format!("{address}/32")),
        Some(IpAddr::V6(address)) => Ok(format!("{address}/128")),
        None => Err(WorldError::new(format!("the pod {} has no address", pod.name_any()))),
    }
}

fn failed(what: String) -> impl FnOnce(kube::Error) -> WorldError {
    move |error| WorldError::new(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// How many looks it takes until a policy counts.
    const SLOW: u32 = 6;

    /// A network that takes a while, and is as it is.
    struct Made {
        enforces: bool,
        matches: bool,
        alive: bool,
        /// What was written last, with how often it was looked since.
        written: Mutex<(Option<Lets>, u32)>,
        in_force: Mutex<Option<Lets>>,
    }

    impl Made {
        fn new(enforces: bool, matches: bool) -> Self {
            Self {
                enforces,
                matches,
                alive: true,
                written: Mutex::new((None, 0)),
                in_force: Mutex::new(None),
            }
        }
    }

    #[async_trait]
    impl Network for Made {
        async fn write(&self, lets: Lets) -> Result<(), WorldError> {
            *self.written.lock().unwrap() = (Some(lets), 0);
            Ok(())
        }

        async fn reaches(&self, caller: Caller) -> Result<bool, WorldError> {
            let stranger = match *self.in_force.lock().unwrap() {
                Some(Lets::Label) => !self.enforces,
                Some(Lets::AddressToo) => !self.enforces || self.matches,
                None => true,
            };
            Ok(self.alive && (caller == Caller::Known || stranger))
        }

        async fn remove(&self) -> Result<(), WorldError> {
            *self.written.lock().unwrap() = (None, 0);
            Ok(())
        }

        async fn pass_time(&self) {
            let mut written = self.written.lock().unwrap();
            written.1 += 1;
            if written.1 == SLOW {
                *self.in_force.lock().unwrap() = written.0;
            }
        }
    }

    #[tokio::test]
    async fn a_network_is_taken_for_what_it_is_however_long_it_takes() {
        let matching = Made::new(true, true);
        assert_eq!(measured(&matching).await, Ok(None));
        let never = measured(&Made::new(true, false)).await.unwrap().unwrap();
        assert!(never.contains("`ipBlock`"), "{never}");
        let open = measured(&Made::new(false, true)).await.unwrap().unwrap();
        assert!(open.contains("keeps no pod out"), "{open}");
    }

    #[tokio::test]
    async fn a_dead_callee_shows_nothing_about_the_network() {
        for matches in [true, false] {
            let dead = Made {
                alive: false,
                ..Made::new(true, matches)
            };
            let error = measured(&dead).await.unwrap_err();
            assert!(error.message.contains("cannot be measured"), "{error}");
        }
    }

    #[tokio::test]
    async fn nothing_of_the_measurement_stays() {
        for network in [Made::new(true, true), Made::new(true, false)] {
            measured(&network).await.unwrap();
            assert_eq!(
                *network.in_force.lock().unwrap(),
                None,
                "and it is waited until it does not count any more"
            );
        }
    }
}
