//! What each controller may do: a ClusterRole `system:controller:NAME`, bound to the service account NAME of `kube-system`.
//!
//! All of Kubernetes' controllers are here, whether this cluster has them or not: a controller that comes finds its rights.
//! Kubernetes' own write with `update` where those here patch, which allows the same: `change` stands for both.
//!
//! Source: Kubernetes' "Roles for built-in controllers".

/// The common beginning of the roles' names.
pub const PREFIX: &str = "system:controller:";
/// The namespace of the controllers' service accounts.
pub const NAMESPACE: &str = "kube-system";

const EVENTS: &str = "create change | core events.k8s.io | events";

/// Name of the service account, and its rules; see [`super::rule`].
pub const CONTROLLERS: &[(&str, &[&str])] = &[
    (
        "attachdetach-controller",
        &[
            "list watch | core | persistentvolumes persistentvolumeclaims pods",
            "read | core | nodes",
            "change | core | nodes/status",
            EVENTS,
            "create delete read | storage.k8s.io | volumeattachments",
            "read | storage.k8s.io | csidrivers csinodes",
        ],
    ),
    (
        "certificate-controller",
        &[
            "read delete | certificates.k8s.io | certificatesigningrequests",
            "change | certificates.k8s.io | certificatesigningrequests/status certificatesigningrequests/approval",
            "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet",
            "sign | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client \
             kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            "create | authorization.k8s.io | subjectaccessreviews",
            EVENTS,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &["escalate read change | rbac.authorization.k8s.io | clusterroles"],
    ),
    (
        "cronjob-controller",
        &[
            "read change | batch | cronjobs",
            "read create change delete | batch | jobs",
            "change | batch | cronjobs/status cronjobs/finalizers",
            "list watch delete | core | pods",
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            "read | apps extensions | daemonsets",
            "change | apps extensions | daemonsets/status daemonsets/finalizers",
            "list watch | core | nodes",
            "list watch create delete patch | core | pods",
            "create | core | pods/binding",
            "read create delete change | apps | controllerrevisions",
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            "read change | apps extensions | deployments",
            "change | apps extensions | deployments/status deployments/finalizers",
            "read create change delete | apps extensions | replicasets",
            "read change | core | pods",
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            "read | apps extensions | deployments replicasets",
            "read | core | replicationcontrollers",
            "read | policy | poddisruptionbudgets",
            "read | apps | statefulsets",
            "change | policy | poddisruptionbudgets/status",
            "change | core | pods/status",
            "get | * | */scale",
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            "read | core | services pods",
            "read create change delete | core | endpoints",
            "create | core | endpoints/restricted",
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            "read | core | services pods nodes",
            "change | core | services/finalizers",
            "read create change delete | discovery.k8s.io | endpointslices",
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            "read | core | services endpoints",
            "change | core | services/finalizers endpoints/finalizers",
            "read create change delete | discovery.k8s.io | endpointslices",
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            "read | core | pods",
            "change | core | pods/finalizers",
            "read create | core | persistentvolumeclaims",
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            "read change | core | persistentvolumes",
            "change | core | persistentvolumeclaims/status",
            "read | core | persistentvolumeclaims",
            EVENTS,
        ],
    ),
    ("generic-garbage-collector", &["read change delete | * | *", EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            "read | autoscaling | horizontalpodautoscalers",
            "change | autoscaling | horizontalpodautoscalers/status",
            "get change | * | */scale",
            "list watch | core | pods",
            "list watch | metrics.k8s.io | pods",
            "read | custom.metrics.k8s.io external.metrics.k8s.io | *",
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            "read change | batch | jobs",
            "change | batch | jobs/status jobs/finalizers",
            "list watch create delete patch | core | pods",
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            "get | core | configmaps | kube-apiserver-legacy-service-account-token-tracking",
            "patch delete | core | secrets",
        ],
    ),
    (
        "namespace-controller",
        &[
            "read delete | core | namespaces",
            "change | core | namespaces/finalize namespaces/status",
            "read delete deletecollection | * | *",
        ],
    ),
    (
        "node-controller",
        &[
            "read change delete | core | nodes",
            "change | core | nodes/status pods/status",
            "read delete | core | pods",
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            "read create change delete | core | persistentvolumes",
            "change | core | persistentvolumes/status",
            "read change | core | persistentvolumeclaims",
            "change | core | persistentvolumeclaims/status",
            "read create delete | core | pods",
            "read | storage.k8s.io | storageclasses",
            "list watch | core | nodes",
            EVENTS,
            "watch | core | events",
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            "list watch delete | core | pods",
            "read | core | nodes",
            "patch | core | pods/status",
        ],
    ),
    (
        "pv-protection-controller",
        &["read change | core | persistentvolumes", EVENTS],
    ),
    (
        "pvc-protection-controller",
        &[
            "read change | core | persistentvolumeclaims",
            "read | core | pods",
            EVENTS,
        ],
    ),
    (
        "replicaset-controller",
        &[
            "read change | apps extensions | replicasets",
            "change | apps extensions | replicasets/status replicasets/finalizers",
            "list watch create delete patch | core | pods",
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            "read change | core | replicationcontrollers",
            "change | core | replicationcontrollers/status replicationcontrollers/finalizers",
            "list watch create delete patch | core | pods",
            EVENTS,
        ],
    ),
    (
        "resourcequota-controller",
        &["list watch | * | *", "change | core | resourcequotas/status", EVENTS],
    ),
    ("root-ca-cert-publisher", &["create change | core | configmaps", EVENTS]),
    (
        "route-controller",
        &["list watch | core | nodes", "patch | core | nodes/status", EVENTS],
    ),
    (
        "service-account-controller",
        &["create | core | serviceaccounts", EVENTS],
    ),
    (
        "service-controller",
        &[
            "read | core | services",
            "change | core | services/status",
            "list watch | core | nodes",
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            "list watch | core | pods",
            "read | apps | statefulsets",
            "change | apps | statefulsets/status statefulsets/finalizers",
            "get create delete change | core | pods",
            "read create delete change | apps | controllerrevisions",
            "read create change delete | core | persistentvolumeclaims",
            "change | core | pods/finalizers",
            EVENTS,
        ],
    ),
    ("ttl-after-finished-controller", &["read delete | batch | jobs", EVENTS]),
    ("ttl-controller", &["change list watch | core | nodes", EVENTS]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            "read | admissionregistration.k8s.io | validatingadmissionpolicies",
            "get change | admissionregistration.k8s.io | validatingadmissionpolicies/status",
            EVENTS,
        ],
    ),
];
