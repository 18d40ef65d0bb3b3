//! Whose address is it?

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{
    Api, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};

use crate::packet::{Flow, Message, Who, WhoKind};

/// Owners of one address that are remembered.
const HISTORY: usize = 8;
/// How long the first lists may take; names that come later are taken in as they come.
const FIRST_LISTS: Duration = Duration::from_secs(5);

/// Addresses to names, kept fresh by a watch of the cluster's API. Clones share the same knowledge.
#[derive(Clone, Default)]
pub struct Names {
    table: Arc<Mutex<Table>>,
    /// The watches; they end with the last clone.
    _watches: Option<Arc<JoinSet<()>>>,
}

/// Who had which address from when to when.
#[derive(Debug, Default)]
struct Table {
    addresses: HashMap<IpAddr, Vec<Tenure>>,
}

/// A stretch of time in which an address belonged to one object.
#[derive(Debug, Clone)]
struct Tenure {
    uid: String,
    who: Arc<Who>,
    from_ns: u64,
    until_ns: Option<u64>,
}

/// An object with the addresses it has.
#[derive(Debug, Clone)]
struct Holder {
    uid: String,
    who: Who,
    addresses: Vec<IpAddr>,
}

impl Names {
    /// Watches pods, Services and nodes of the whole cluster until the last clone is dropped; returns once the
    /// first lists are known.
    pub async fn watch(client: &kube::Client) -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let mut watches = JoinSet::new();
        let ready = [
            follow(&mut watches, Api::<Pod>::all(client.clone()), &table, pod),
            follow(&mut watches, Api::<Service>::all(client.clone()), &table, service),
            follow(&mut watches, Api::<Node>::all(client.clone()), &table, node),
        ];
        for mut ready in ready {
            let _ = tokio::time::timeout(FIRST_LISTS, ready.wait_for(|ready| *ready)).await;
        }
        Self {
            table,
            _watches: Some(Arc::new(watches)),
        }
    }

    /// Whose address this was at a time (nanoseconds since the Unix epoch).
    pub fn lookup(&self, addr: IpAddr, ts_ns: u64) -> Option<Arc<Who>> {
        lock(&self.table).lookup(addr, ts_ns)
    }

    /// The uid of whose address this was at a time, where that is certain.
    pub fn holder(&self, addr: IpAddr, ts_ns: u64) -> Option<String> {
        let table = lock(&self.table);
        let tenures = table.addresses.get(&addr)?;
        let had = |tenure: &&Tenure| tenure.from_ns <= ts_ns && tenure.until_ns.is_none_or(|until| ts_ns < until);
        let mut holders = tenures.iter().filter(had);
        let only = holders.next().filter(|_| holders.next().is_none())?;
        Some(only.uid.clone())
    }

    /// Puts names to both ends of a message and of its leaks.
    pub fn name(&self, message: &mut Message) {
        message.from.who = self.lookup(message.from.addr.ip(), message.ts_ns);
        message.to.who = self.lookup(message.to.addr.ip(), message.ts_ns);
        for leak in &mut message.leaks {
            leak.from.who.clone_from(&message.from.who);
            leak.to.who.clone_from(&message.to.who);
        }
    }

    /// Puts names to both ends of a conversation, as they were when it began.
    pub fn name_flow(&self, flow: &mut Flow) {
        flow.client.who = self.lookup(flow.client.addr.ip(), flow.first_ns);
        flow.server.who = self.lookup(flow.server.addr.ip(), flow.first_ns);
    }
}

#[cfg(test)]
impl Names {
    /// Pods, each with its address from when to when.
    pub(super) fn of_pods(all: &[(&str, &str, u64, Option<u64>)]) -> Self {
        let names = Self::default();
        for (uid, addr, from_ns, until_ns) in all {
            let tenure = Tenure {
                uid: (*uid).to_owned(),
                who: Arc::new(Who {
                    kind: WhoKind::Pod,
                    namespace: None,
                    name: (*uid).to_owned(),
                    workload: None,
                }),
                from_ns: *from_ns,
                until_ns: *until_ns,
            };
            let addr = addr.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
            lock(&names.table).addresses.entry(addr).or_default().push(tenure);
        }
        names
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

impl Table {
    fn lookup(&self, addr: IpAddr, ts_ns: u64) -> Option<Arc<Who>> {
        let Some(tenures) = self.addresses.get(&addr) else {
            return self.across_the_link(addr);
        };
        let current = tenures
            .iter()
            .rev()
            .find(|tenure| tenure.from_ns <= ts_ns)
            .or_else(|| tenures.first())?;
        Some(Arc::clone(&current.who))
    }

    /// A link-local address (RFC 3927) in a pod is that of the other end of its link, which is its node. With more
    /// than one node, it is not known which.
    fn across_the_link(&self, addr: IpAddr) -> Option<Arc<Who>> {
        let IpAddr::V4(v4) = addr else { return None };
        if !v4.is_link_local() {
            return None;
        }
        let mut nodes = self
            .addresses
            .values()
            .filter_map(|tenures| tenures.last())
            .filter(|tenure| tenure.who.kind == WhoKind::Node && tenure.until_ns.is_none());
        let node = nodes.next()?;
        nodes.all(|other| other.uid == node.uid).then(|| Arc::clone(&node.who))
    }

    /// An object has these addresses now, and no others.
    fn hold(&mut self, holder: Holder, now_ns: u64) {
        self.leave(&holder.uid, &holder.addresses, now_ns);
        let who = Arc::new(holder.who);
        for addr in holder.addresses {
            let tenures = self.addresses.entry(addr).or_default();
            let from_ns = match tenures.last_mut() {
                // Nobody had it before, so whatever was seen before was its own.
                None => 0,
                Some(last) if last.uid == holder.uid => {
                    last.who = Arc::clone(&who);
                    last.until_ns = None;
                    continue;
                }
                // A pod talks before the API tells its address: from when the one before it left.
                Some(last) => *last.until_ns.get_or_insert(now_ns),
            };
            tenures.push(Tenure {
                uid: holder.uid.clone(),
                who: Arc::clone(&who),
                from_ns,
                until_ns: None,
            });
            if tenures.len() > HISTORY {
                tenures.remove(0);
            }
        }
    }

    /// An object has no longer any address but these.
    fn leave(&mut self, uid: &str, except: &[IpAddr], now_ns: u64) {
        for (addr, tenures) in &mut self.addresses {
            for tenure in tenures
                .iter_mut()
                .filter(|tenure| tenure.uid == uid && !except.contains(addr))
            {
                tenure.until_ns.get_or_insert(now_ns);
            }
        }
    }
}

/// Follows one kind of object into the table; the receiver tells when the first list is in it.
fn follow<K>(
    watches: &mut JoinSet<()>,
    api: Api<K>,
    table: &Arc<Mutex<Table>>,
    holder: fn(&K) -> Option<Holder>,
) -> watch::Receiver<bool>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let (sender, receiver) = watch::channel(false);
    let table: Weak<Mutex<Table>> = Arc::downgrade(table);
    watches.spawn(async move {
        let mut events = watcher(api, watcher::Config::default())
            .default_backoff()
            .into_stream()
            .boxed();
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "names: watch interrupted");
                    continue;
                }
            };
            let Some(table) = table.upgrade() else { return };
            let mut table = lock(&table);
            match event {
                watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                    let uid = object.uid().unwrap_or_default();
                    match holder(&object) {
                        Some(holder) => table.hold(holder, now_ns()),
                        None => table.leave(&uid, &[], now_ns()),
                    }
                }
                watcher::Event::Delete(object) => table.leave(&object.uid().unwrap_or_default(), &[], now_ns()),
                watcher::Event::InitDone => {
                    sender.send_replace(true);
                }
                watcher::Event::Init => {}
            }
        }
    });
    receiver
}

fn parse(addresses: impl IntoIterator<Item = String>) -> Vec<IpAddr> {
    addresses.into_iter().filter_map(|addr| addr.parse().ok()).collect()
}

fn pod(pod: &Pod) -> Option<Holder> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    // Its address is the node's.
    if spec.host_network == Some(true) {
        return None;
    }
    // The address of a pod that has ended is free for another.
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let many = status.pod_ips.iter().flatten().map(|one| one.ip.clone());
    let addresses = parse(many.chain(status.pod_ip.clone()));
    let who = Who {
        kind: WhoKind::Pod,
        namespace: pod.namespace(),
        name: pod.name_any(),
        workload: Some(workload(pod)),
    };
    Some(Holder {
        uid: pod.uid().unwrap_or_default(),
        who,
        addresses,
    })
}

/// The workload a pod belongs to: its controller, seen through the ReplicaSet of a Deployment; else the pod itself.
pub(super) fn workload(pod: &Pod) -> String {
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(owner) = owners.clone().find(|owner| owner.controller == Some(true)) else {
        return pod.name_any();
    };
    let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
    match hash {
        Some(hash) if owner.kind == "ReplicaSet" => owner.name.strip_suffix(&hash).unwrap_or(&owner.name).to_owned(),
        _ => owner.name.clone(),
    }
}

fn service(service: &Service) -> Option<Holder> {
    let spec = service.spec.as_ref()?;
    let many = spec.cluster_ips.iter().flatten().cloned();
    let addresses = parse(many.chain(spec.cluster_ip.clone()));
    let who = Who {
        kind: WhoKind::Service,
        namespace: service.namespace(),
        name: service.name_any(),
        workload: None,
    };
    Some(Holder {
        uid: service.uid().unwrap_or_default(),
        who,
        addresses,
    })
}

fn node(node: &Node) -> Option<Holder> {
    let addresses = node.status.as_ref()?.addresses.iter().flatten();
    let addresses = parse(
        addresses
            .filter(|one| one.type_ != "Hostname")
            .map(|one| one.address.clone()),
    );
    let who = Who {
        kind: WhoKind::Node,
        namespace: None,
        name: node.name_any(),
        workload: None,
    };
    Some(Holder {
        uid: node.uid().unwrap_or_default(),
        who,
        addresses,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holder(uid: &str, addr: &str) -> Holder {
        let who = Who {
            kind: WhoKind::Pod,
            namespace: None,
            name: uid.to_owned(),
            workload: None,
        };
        Holder {
            uid: uid.to_owned(),
            who,
            addresses: parse([addr.to_owned()]),
        }
    }

    #[test]
    fn an_address_that_changed_hands_is_told_apart_by_time() {
        let addr: IpAddr = "10.244.0.7".parse().unwrap();
        let mut table = Table::default();
        let at = |table: &Table, ts| table.lookup(addr, ts).map(|who| who.name.clone());
        assert_eq!(at(&table, 5), None);
        table.hold(holder("one", "10.244.0.7"), 100);
        assert_eq!(at(&table, 5).as_deref(), Some("one"));
        table.leave("one", &[], 200);
        assert_eq!(at(&table, 250).as_deref(), Some("one"));
        table.hold(holder("two", "10.244.0.7"), 300);
        assert_eq!(at(&table, 150).as_deref(), Some("one"));
        assert_eq!(at(&table, 250).as_deref(), Some("two"));
        // Told twice, and told in the wrong order: the new one first.
        table.hold(holder("two", "10.244.0.7"), 310);
        table.hold(holder("three", "10.244.0.7"), 400);
        table.leave("two", &[], 410);
        assert_eq!(at(&table, 399).as_deref(), Some("two"));
        assert_eq!(at(&table, 405).as_deref(), Some("three"));
        for index in 0..100 {
            table.hold(holder(&format!("n{index}"), "10.244.0.7"), 500 + index);
        }
        assert_eq!(table.addresses[&addr].len(), HISTORY);
    }

    #[test]
    fn the_other_end_of_a_pods_link_is_its_node() {
        let gateway: IpAddr = "169.254.1.1".parse().unwrap();
        let mut table = Table::default();
        table.hold(holder("pod", "10.244.0.7"), 1);
        assert!(table.lookup(gateway, 5).is_none());
        for (uid, addr) in [("n1", "10.0.0.1"), ("n2", "10.0.0.2")] {
            let mut node = holder(uid, addr);
            node.who.kind = WhoKind::Node;
            table.hold(node, 1);
            let named = table.lookup(gateway, 5).map(|who| who.name.clone());
            assert_eq!(named.as_deref(), (uid == "n1").then_some("n1"));
        }
        assert!(table.lookup("10.9.9.9".parse().unwrap(), 5).is_none());
    }

    #[test]
    fn objects_name_their_addresses() {
        let one: Pod = serde_json::from_value(json!({
            "metadata": { "name": "payments-api-7c9-x", "namespace": "shop", "uid": "u",
                "labels": { "pod-template-hash": "7c9" },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "payments-api-7c9",
                    "uid": "r", "controller": true }] },
            "spec": { "containers": [] },
            "status": { "podIP": "10.244.0.7", "podIPs": [{ "ip": "10.244.0.7" }] },
        }))
        .unwrap();
        let held = pod(&one).unwrap();
        assert_eq!(held.who.label(), "payments-api");
        assert!(held.addresses.contains(&"10.244.0.7".parse().unwrap()));
        let headless: Service = serde_json::from_value(json!({
            "metadata": { "name": "a" }, "spec": { "clusterIP": "None", "clusterIPs": ["None"] } }))
        .unwrap();
        assert_eq!(service(&headless).unwrap().addresses, Vec::<IpAddr>::new());
        let hosted: Pod = serde_json::from_value(json!({
            "metadata": { "name": "a" }, "spec": { "hostNetwork": true, "containers": [] },
            "status": { "podIP": "10.0.0.1" } }))
        .unwrap();
        assert!(pod(&hosted).is_none());
    }
}
