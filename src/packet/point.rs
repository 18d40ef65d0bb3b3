//! Where packets were seen, and who else could see them there.
//!
//! The classic false alarm: plaintext on `lo` of a pod whose proxy encrypts. Nobody on the network sees that. So a point
//! says which interface of which pod it is, on which side of a proxy, and to whom the same packets show.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a packet was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Told")]
pub struct CapturePoint {
    /// Namespace of the pod whose network namespace was listened to.
    pub namespace: String,
    /// That pod.
    pub pod: String,
    /// The interface (`eth0`, `lo`), where known.
    pub interface: Option<String>,
    /// Whether the pod uses its node's network (`hostNetwork`): everything of the node crosses there.
    pub node_network: bool,
    /// The container of the pod that is a proxy for the others (a service mesh's sidecar), where it has one.
    pub proxy: Option<String>,
}

/// What kind of place a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceKind {
    /// The loopback of a pod: no packet of it ever leaves the pod.
    InsidePod,
    /// An interface of a pod that leads out of it.
    OnTheWire,
    /// An interface of the node.
    OnTheNode,
    /// The interface was not recorded.
    Unknown,
}

/// Which side of a pod's proxy a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxySide {
    /// Between the pod's program and its proxy: before the proxy has encrypted, and after it has decrypted.
    Program,
    /// Between the proxy and the network: after it has encrypted, and before it has decrypted.
    Network,
}

impl PlaceKind {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::InsidePod => "inside the pod",
            Self::OnTheWire => "on the wire",
            Self::OnTheNode => "on the node's network",
            Self::Unknown => "in the pod, whichever interface",
        }
    }

    /// Who can see what crosses there.
    pub const fn seen_by(self) -> &'static str {
        match self {
            Self::InsidePod => "whoever may capture in this pod's network namespace, and root on its node",
            Self::OnTheWire => {
                "whoever may capture in the network namespace of the pod at either end, root on their nodes, and whoever stands \
                 on the way between those"
            }
            Self::OnTheNode => "root on the node, and every pod that uses the node's network and may capture",
            Self::Unknown => {
                "whoever may capture in this pod's network namespace, and root on its node; perhaps others"
            }
        }
    }

    /// Who cannot, and might be thought to.
    pub const fn hidden_from(self) -> &'static str {
        match self {
            Self::InsidePod => "every other pod, and the whole network: no packet of it leaves the pod",
            Self::OnTheWire => "a neighbouring pod, as long as it cannot have the packets sent to itself",
            Self::OnTheNode => "pods with a network of their own",
            Self::Unknown => "not known",
        }
    }
}

impl CapturePoint {
    /// Somewhere in a pod.
    pub fn pod(namespace: impl Into<String>, pod: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            pod: pod.into(),
            interface: None,
            node_network: false,
            proxy: None,
        }
    }

    /// The same pod, on this interface.
    #[must_use]
    pub fn on(mut self, interface: impl Into<String>) -> Self {
        self.interface = Some(interface.into());
        self
    }

    /// What kind of place it is. Linux calls the loopback of every network namespace `lo`.
    pub fn kind(&self) -> PlaceKind {
        match (self.interface.as_deref(), self.node_network) {
            (None, _) => PlaceKind::Unknown,
            (Some(_), true) => PlaceKind::OnTheNode,
            (Some("lo"), false) => PlaceKind::InsidePod,
            (Some(_), false) => PlaceKind::OnTheWire,
        }
    }

    /// Which side of the pod's proxy it is; `None` without one, or where the interface does not tell.
    pub fn side(&self) -> Option<ProxySide> {
        self.proxy.as_ref()?;
        match self.kind() {
            PlaceKind::InsidePod => Some(ProxySide::Program),
            PlaceKind::OnTheWire => Some(ProxySide::Network),
            PlaceKind::OnTheNode | PlaceKind::Unknown => None,
        }
    }

    /// Which interface, and what that means: `eth0, on the wire`.
    pub fn place(&self) -> String {
        let words = self.kind().words();
        let Some(interface) = self.interface.as_deref() else {
            return words.to_owned();
        };
        match (self.side(), self.proxy.as_deref()) {
            (Some(ProxySide::Program), Some(proxy)) => {
                format!("{interface}, {words}, between its program and its proxy {proxy}")
            }
            (Some(ProxySide::Network), Some(proxy)) => format!("{interface}, {words}, outside its proxy {proxy}"),
            _ => format!("{interface}, {words}"),
        }
    }
}

impl CapturePoint {
    /// The name for it in a capture file: `eth0@ledger-1.shop`, and what else there is to know of the pod.
    pub fn file_name(&self) -> String {
        let interface = self.interface.as_deref().unwrap_or("any");
        let mut name = format!("{interface}@{}.{}", self.pod, self.namespace);
        if self.node_network {
            name.push_str(" node");
        }
        if let Some(proxy) = &self.proxy {
            name.push_str(" proxy=");
            name.push_str(proxy);
        }
        name
    }

    /// The point of a capture file's name; `None` for one that somebody else wrote.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let mut words = name.split(' ');
        let (interface, pod) = words.next()?.split_once('@')?;
        let (pod, namespace) = pod.rsplit_once('.')?;
        let mut point = Self::pod(namespace, pod);
        point.interface = Some(interface.to_owned()).filter(|name| name != "any");
        for word in words {
            match word.strip_prefix("proxy=") {
                Some(proxy) => point.proxy = Some(proxy.to_owned()),
                None if word == "node" => point.node_network = true,
                None => return None,
            }
        }
        let safe = [&point.namespace, &point.pod].into_iter().all(|name| is_name(name))
            && [&point.interface, &point.proxy]
                .into_iter()
                .flatten()
                .all(|name| is_name(name));
        safe.then_some(point)
    }
}

/// Whether it can be a Kubernetes object's or an interface's name: short, and nothing in it that a terminal would act upon.
fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for CapturePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pod, self.place())
    }
}

/// A point as it is read: what follows from the rest is worked out again.
#[derive(Deserialize)]
struct Stored {
    namespace: String,
    pod: String,
    #[serde(default)]
    interface: Option<String>,
    #[serde(default)]
    node_network: bool,
    #[serde(default)]
    proxy: Option<String>,
}

impl From<Stored> for CapturePoint {
    fn from(stored: Stored) -> Self {
        Self {
            namespace: stored.namespace,
            pod: stored.pod,
            interface: stored.interface,
            node_network: stored.node_network,
            proxy: stored.proxy,
        }
    }
}

/// A point as it is told, with what it means.
#[derive(Serialize)]
struct Told {
    namespace: String,
    pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    kind: PlaceKind,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_network: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    side: Option<ProxySide>,
    seen_by: &'static str,
    hidden_from: &'static str,
}

impl From<CapturePoint> for Told {
    fn from(point: CapturePoint) -> Self {
        let (kind, side) = (point.kind(), point.side());
        Self {
            namespace: point.namespace,
            pod: point.pod,
            interface: point.interface,
            kind,
            node_network: point.node_network,
            proxy: point.proxy,
            side,
            seen_by: kind.seen_by(),
            hidden_from: kind.hidden_from(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_others_wrote_are_no_points() {
        for name in [
            "eth0",
            "any",
            "eth0@pod",
            "@.",
            "eth0@a.b c",
            "e\u{1b}@a.b",
            "",
            "eth0@.b",
        ] {
            assert_eq!(CapturePoint::from_file_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_point_says_where_it_is_and_who_else_sees_it() {
        let pod = CapturePoint::pod("shop", "ledger-1");
        let proxied = CapturePoint {
            proxy: Some("envoy".to_owned()),
            ..pod.clone()
        };
        let node = CapturePoint {
            node_network: true,
            ..pod.clone()
        };
        for (point, kind, side, place) in [
            (pod.clone(), PlaceKind::Unknown, None, "in the pod, whichever interface"),
            (pod.clone().on("eth0"), PlaceKind::OnTheWire, None, "eth0, on the wire"),
            (pod.on("lo"), PlaceKind::InsidePod, None, "lo, inside the pod"),
            (
                proxied.clone().on("lo"),
                PlaceKind::InsidePod,
                Some(ProxySide::Program),
                "lo, inside the pod, between its program and its proxy envoy",
            ),
            (
                proxied.on("eth0"),
                PlaceKind::OnTheWire,
                Some(ProxySide::Network),
                "eth0, on the wire, outside its proxy envoy",
            ),
            (
                node.on("eth0"),
                PlaceKind::OnTheNode,
                None,
                "eth0, on the node's network",
            ),
        ] {
            assert_eq!(
                (point.kind(), point.side(), point.place().as_str()),
                (kind, side, place)
            );
            let told = serde_json::to_value(&point).unwrap();
            assert_eq!(told["kind"], serde_json::to_value(kind).unwrap());
            assert_eq!(told["seen_by"], kind.seen_by());
            assert_eq!(serde_json::from_value::<CapturePoint>(told).unwrap(), point);
            assert_eq!(CapturePoint::from_file_name(&point.file_name()), Some(point));
        }
    }
}
