//! The policy as tables.

/// A ClusterRole.
pub struct RoleRow {
    /// Its name.
    pub name: &'static str,
    /// The role that gathers it.
    pub given_to: Option<&'static str>,
    /// Whether it gathers others.
    pub gathers: bool,
    /// See [`super::rule`].
    pub rules: &'static [&'static str],
}

const fn role(name: &'static str, rules: &'static [&'static str]) -> RoleRow {
    RoleRow {
        name,
        given_to: None,
        gathers: false,
        rules,
    }
}

const fn given(name: &'static str, to: &'static str, rules: &'static [&'static str]) -> RoleRow {
    RoleRow {
        name,
        given_to: Some(to),
        gathers: false,
        rules,
    }
}

pub const CLUSTER_ROLES: &[RoleRow] = &[
    role("cluster-admin", &["* | * | *", "* | *"]),
    RoleRow {
        name: "admin",
        given_to: None,
        gathers: true,
        rules: &[],
    },
    RoleRow {
        name: "edit",
        given_to: Some("admin"),
        gathers: true,
        rules: &[],
    },
    RoleRow {
        name: "view",
        given_to: Some("edit"),
        gathers: true,
        rules: &[],
    },
    given(
        "system:aggregate-to-admin",
        "admin",
        &[
            "create | authorization.k8s.io | localsubjectaccessreviews",
            "read write | rbac.authorization.k8s.io | roles rolebindings",
        ],
    ),
    given(
        "system:aggregate-to-edit",
        "edit",
        &[
            "read | core | pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy",
            "impersonate | core | serviceaccounts",
            "write | core | pods pods/attach pods/proxy pods/exec pods/portforward",
            "create | core | pods/eviction",
            "write | core | replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
         persistentvolumeclaims configmaps secrets events",
            "create | core | serviceaccounts/token",
            "write | apps | statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback \
         replicasets replicasets/scale",
            "write | autoscaling | horizontalpodautoscalers",
            "write | batch | jobs cronjobs",
            "write | policy | poddisruptionbudgets",
            "write | networking.k8s.io | networkpolicies ingresses",
            "read write | coordination.k8s.io | leases",
        ],
    ),
    given(
        "system:aggregate-to-view",
        "view",
        &[
            "read | core | pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status \
         endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
            "read | core | limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status \
         replicationcontrollers/status pods/log",
            "read | core | namespaces",
            "read | discovery.k8s.io | endpointslices",
            "read | apps | controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status \
         deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
            "read | autoscaling | horizontalpodautoscalers horizontalpodautoscalers/status",
            "read | batch | jobs cronjobs cronjobs/status jobs/status",
            "read | policy | poddisruptionbudgets poddisruptionbudgets/status",
            "read | networking.k8s.io | networkpolicies ingresses ingresses/status",
        ],
    ),
    role(
        "system:discovery",
        &["get | /livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*"],
    ),
    role(
        "system:basic-user",
        &[
            "create | authorization.k8s.io | selfsubjectaccessreviews selfsubjectrulesreviews",
            "create | authentication.k8s.io | selfsubjectreviews",
        ],
    ),
    role(
        "system:public-info-viewer",
        &["get | /livez /readyz /healthz /version /version/"],
    ),
    role(
        "system:service-account-issuer-discovery",
        &[
            "get | /.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        ],
    ),
    role(
        "system:monitoring",
        &["get | /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"],
    ),
    role(
        "system:auth-delegator",
        &[
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
        ],
    ),
    role("system:kube-aggregator", &["read | core | services endpoints"]),
    role(
        "system:node",
        &[
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | localsubjectaccessreviews subjectaccessreviews",
            "read | core | services",
            "create get list watch | core | nodes",
            "patch update | core | nodes/status",
            "patch update | core | nodes",
            "create patch update | core events.k8s.io | events",
            "read | core | pods",
            "create delete | core | pods",
            "patch update | core | pods/status",
            "create | core | pods/eviction",
            "read | core | configmaps secrets",
            "get | core | persistentvolumeclaims persistentvolumes",
            "get | core | endpoints",
            "create get list watch | certificates.k8s.io | certificatesigningrequests",
            "create delete get patch update | coordination.k8s.io | leases",
            "get | storage.k8s.io | volumeattachments",
            "create | core | serviceaccounts/token",
            "get patch update | core | persistentvolumeclaims/status",
            "read | storage.k8s.io | csidrivers",
            "create delete get patch update | storage.k8s.io | csinodes",
            "read | node.k8s.io | runtimeclasses",
        ],
    ),
    role(
        "system:node-problem-detector",
        &[
            "get | core | nodes",
            "patch | core | nodes/status",
            "create patch update | core events.k8s.io | events",
        ],
    ),
    role(
        "system:node-proxier",
        &[
            "list watch | core | services endpoints",
            "read | core | nodes",
            "create patch update | core events.k8s.io | events",
            "list watch | discovery.k8s.io | endpointslices",
        ],
    ),
    role(
        "system:node-bootstrapper",
        &["create get list watch | certificates.k8s.io | certificatesigningrequests"],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            "read | core | nodes",
            "* | core | nodes/log nodes/metrics nodes/proxy nodes/spec nodes/stats",
        ],
    ),
    // This cluster's own: it keeps the NetworkPolicies. What changes, it hears from the shared informers; what holds at one
    // moment, it asks for.
    role(
        "system:network-policy",
        &[
            "list | core | namespaces pods",
            "list | networking.k8s.io | networkpolicies",
        ],
    ),
    // This cluster's own: one watch of each kind for all parts of the node.
    role(
        "system:shared-informers",
        &[
            "list watch | core | configmaps endpoints namespaces nodes persistentvolumeclaims persistentvolumes pods \
             resourcequotas secrets serviceaccounts services",
            "list watch | apps | controllerrevisions daemonsets deployments replicasets statefulsets",
            "list watch | batch | cronjobs jobs",
            "list watch | certificates.k8s.io | certificatesigningrequests",
            "list watch | discovery.k8s.io | endpointslices",
            "list watch | networking.k8s.io | networkpolicies",
            "list watch | policy | poddisruptionbudgets",
            "list watch | rbac.authorization.k8s.io | clusterroles",
            "list watch | storage.k8s.io | storageclasses",
        ],
    ),
    // kubeadm's, with the manifest of CoreDNS.
    role(
        "system:coredns",
        &[
            "list watch | core | endpoints services pods namespaces",
            "list watch | discovery.k8s.io | endpointslices",
        ],
    ),
    role("system:kube-dns", &["list watch | core | endpoints services"]),
    role(
        "system:kube-scheduler",
        &[
            "create patch update | core events.k8s.io | events",
            "create | coordination.k8s.io | leases",
            "get update | coordination.k8s.io | leases | kube-scheduler",
            "read | core | nodes",
            "delete get list watch | core | pods",
            "create | core | bindings pods/binding",
            "patch update | core | pods/status",
            "read | core | replicationcontrollers services",
            "read | apps | replicasets statefulsets",
            "read | policy | poddisruptionbudgets",
            "read | core | persistentvolumeclaims persistentvolumes",
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
            "read | storage.k8s.io | csinodes csidrivers csistoragecapacities",
            "read | core | namespaces",
        ],
    ),
    role(
        "system:volume-scheduler",
        &[
            "get list patch update watch | core | persistentvolumes",
            "read | storage.k8s.io | storageclasses",
            "get list patch update watch | core | persistentvolumeclaims",
        ],
    ),
    role(
        "system:kube-controller-manager",
        &[
            "create patch update | core events.k8s.io | events",
            "create | coordination.k8s.io | leases",
            "get update | coordination.k8s.io | leases | kube-controller-manager",
            "create | core | secrets serviceaccounts",
            "delete | core | secrets",
            "get | core | configmaps namespaces secrets serviceaccounts",
            "update | core | secrets serviceaccounts",
            "create | authentication.k8s.io | tokenreviews",
            "create | authorization.k8s.io | subjectaccessreviews",
            "list watch | * | *",
            "create | core | serviceaccounts/token",
        ],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            "create delete get list watch | core | persistentvolumes",
            "get list update watch | core | persistentvolumeclaims",
            "read | storage.k8s.io | storageclasses",
            "list watch | core | events",
            "create patch update | core events.k8s.io | events",
        ],
    ),
    role(
        "system:heapster",
        &[
            "read | core | events namespaces nodes pods",
            "read | extensions | deployments",
        ],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &["create | certificates.k8s.io | certificatesigningrequests/nodeclient"],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &["create | certificates.k8s.io | certificatesigningrequests/selfnodeclient"],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client"],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client-kubelet"],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/kubelet-serving"],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &["approve | certificates.k8s.io | signers | kubernetes.io/legacy-unknown"],
    ),
];

/// ClusterRoleBindings: the role (and the binding's name), and who has it.
pub const BINDINGS: &[(&str, &str)] = &[
    ("cluster-admin", "Group:system:masters"),
    ("system:monitoring", "Group:system:monitoring"),
    ("system:discovery", "Group:system:authenticated"),
    ("system:basic-user", "Group:system:authenticated"),
    (
        "system:public-info-viewer",
        "Group:system:authenticated Group:system:unauthenticated",
    ),
    (
        "system:service-account-issuer-discovery",
        "Group:system:serviceaccounts",
    ),
    ("system:node", ""),
    ("system:node-proxier", "User:system:kube-proxy"),
    ("system:kube-controller-manager", "User:system:kube-controller-manager"),
    ("system:kube-dns", "ServiceAccount:kube-system/kube-dns"),
    ("system:coredns", "ServiceAccount:kube-system/coredns"),
    ("system:network-policy", "User:system:network-policy"),
    ("system:shared-informers", "User:system:shared-informers"),
    ("system:kube-scheduler", "User:system:kube-scheduler"),
    ("system:volume-scheduler", "User:system:kube-scheduler"),
];

/// Roles: namespace, name, rules.
pub const LOCAL_ROLES: &[(&str, &str, &[&str])] = &[
    // This cluster's own: the Services of the API and of DNS, whose names `create` cannot be held to.
    (
        "default",
        "system:cluster-services",
        &[
            "create | core | services endpoints",
            "get update | core | services endpoints | kubernetes",
            "create | discovery.k8s.io | endpointslices",
            "get update | discovery.k8s.io | endpointslices | kubernetes",
        ],
    ),
    (
        "kube-system",
        "system:cluster-services",
        &[
            "create | core | services endpoints",
            "get update | core | services endpoints | kube-dns",
            "create | discovery.k8s.io | endpointslices",
            "get update | discovery.k8s.io | endpointslices | kube-dns",
        ],
    ),
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &["read | core | configmaps | extension-apiserver-authentication"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[
            "watch | core | configmaps",
            "get update | core | configmaps | kube-controller-manager",
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[
            "watch | core | configmaps",
            "get update | core | configmaps | kube-scheduler",
        ],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        &["read | core | secrets"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        &[
            "delete get list watch | core | secrets",
            "create patch update | core events.k8s.io | events",
        ],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        &[
            "read | core | configmaps",
            "update | core | configmaps | cluster-info",
            "create patch update | core events.k8s.io | events",
        ],
    ),
];

/// RoleBindings: namespace, name, role, who has it.
pub const LOCAL_BINDINGS: &[(&str, &str, &str, &str)] = &[
    (
        "default",
        "system:cluster-services",
        "system:cluster-services",
        "User:system:cluster-services",
    ),
    (
        "kube-system",
        "system:cluster-services",
        "system:cluster-services",
        "User:system:cluster-services",
    ),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        "User:system:kube-controller-manager User:system:kube-scheduler",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        "User:system:kube-controller-manager ServiceAccount:kube-system/kube-controller-manager",
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        "User:system:kube-scheduler ServiceAccount:kube-system/kube-scheduler",
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "ServiceAccount:kube-system/bootstrap-signer",
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        "ServiceAccount:kube-system/token-cleaner",
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        "ServiceAccount:kube-system/bootstrap-signer",
    ),
];
