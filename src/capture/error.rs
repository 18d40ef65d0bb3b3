//! What can go wrong with an observer or a capture.

/// Why an observer or a capture could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The cluster's API refused or failed.
    #[error("{doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// There is no such pod.
    #[error("pod {namespace}/{pod} does not exist")]
    NoSuchPod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
    },
    /// The pod is not one that can be observed.
    #[error("pod {namespace}/{pod} cannot be observed: {reason}")]
    NotObservable {
        /// Its namespace.
        namespace: String,
        /// Its name.
        pod: String,
        /// Why.
        reason: String,
    },
    /// The observer's own program failed.
    #[error("the observer in pod {namespace}/{pod} failed: {reason}")]
    Observer {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// What it said.
        reason: String,
    },
    /// The cluster's user may not do what an observer needs.
    #[error("this user may not {verb} {resource} in the namespace {namespace}, which a capture needs")]
    NotAllowed {
        /// The namespace.
        namespace: String,
        /// The verb that is missing.
        verb: &'static str,
        /// On which resource.
        resource: String,
    },
    /// The capture filter is not one libpcap understands.
    #[error("capture filter {filter:?} is not valid: {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// libpcap's words.
        reason: String,
    },
    /// What the observer sent is not a capture.
    #[error("the observer in pod {namespace}/{pod} sent something that is no capture: {reason}")]
    Stream {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CaptureError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Api { .. } => "see whether the cluster runs with `ztlab cluster list`",
            Self::NoSuchPod { .. } => "list the pods with `kubectl get pods -A`",
            Self::NotObservable { .. } => "look at the pod with `kubectl describe pod`",
            Self::Observer { .. } | Self::Stream { .. } => {
                "look at the container `ztlab-observer` with `kubectl describe pod`, and run `ztlab doctor`"
            }
            Self::NotAllowed { .. } => {
                "ask the cluster's administrator for that right, or take the lab on the embedded ground, where you have it"
            }
            Self::Filter { .. } => "write the filter as for tcpdump, for example `tcp port 80` (see pcap-filter(7))",
        }
    }

    pub(super) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }
}
