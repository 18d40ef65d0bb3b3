//! The built-in kinds, in discovery's order.

use super::registry::{Resource, Subresource, api_version};

const ALL_VERBS: &str = "create delete deletecollection get list patch update watch";

/// One row: `group version | Kind | plural | short names | categories | N(amespaced) or C(luster) | subresources`.
/// A subresource is `name`, or `name=group/version/Kind:verbs`.
const ROWS: &[&str] = &[
    " v1|Binding|bindings|||N!create|",
    " v1|ComponentStatus|componentstatuses|cs||C!get list|",
    " v1|ConfigMap|configmaps|cm||N|",
    " v1|Endpoints|endpoints|ep||N|",
    " v1|Event|events|ev||N|",
    " v1|LimitRange|limitranges|limits||N|",
    " v1|Namespace|namespaces|ns||C!create delete get list patch update watch|finalize:update status",
    " v1|Node|nodes|no||C|proxy=/v1/NodeProxyOptions:create,delete,get,patch,update status",
    " v1|PersistentVolumeClaim|persistentvolumeclaims|pvc||N|status",
    " v1|PersistentVolume|persistentvolumes|pv||C|status",
    concat!(
        " v1|Pod|pods|po|all|N|attach=/v1/PodAttachOptions:create,get binding=/v1/Binding:create ",
        "ephemeralcontainers:get,patch,update eviction=policy/v1/Eviction:create exec=/v1/PodExecOptions:create,get ",
        "log:get portforward=/v1/PodPortForwardOptions:create,get proxy=/v1/PodProxyOptions:create,delete,get,patch,update ",
        "resize:get,patch,update status"
    ),
    " v1|PodTemplate|podtemplates|||N|",
    " v1|ReplicationController|replicationcontrollers|rc|all|N|scale=autoscaling/v1/Scale:get,patch,update status",
    " v1|ResourceQuota|resourcequotas|quota||N|status",
    " v1|Secret|secrets|||N|",
    " v1|ServiceAccount|serviceaccounts|sa||N|token=authentication.k8s.io/v1/TokenRequest:create",
    " v1|Service|services|svc|all|N|proxy=/v1/ServiceProxyOptions:create,delete,get,patch,update status",
    "events.k8s.io v1|Event|events|ev||N|",
    "authentication.k8s.io v1|SelfSubjectReview|selfsubjectreviews|||C!create|",
    "authentication.k8s.io v1|TokenReview|tokenreviews|||C!create|",
    "authorization.k8s.io v1|LocalSubjectAccessReview|localsubjectaccessreviews|||N!create|",
    "authorization.k8s.io v1|SelfSubjectAccessReview|selfsubjectaccessreviews|||C!create|",
    "authorization.k8s.io v1|SelfSubjectRulesReview|selfsubjectrulesreviews|||C!create|",
    "authorization.k8s.io v1|SubjectAccessReview|subjectaccessreviews|||C!create|",
    "apiextensions.k8s.io v1|CustomResourceDefinition|customresourcedefinitions|crd crds|api-extensions|C|status",
    "apps v1|ControllerRevision|controllerrevisions|||N|",
    "apps v1|DaemonSet|daemonsets|ds|all|N|status",
    "apps v1|Deployment|deployments|deploy|all|N|scale=autoscaling/v1/Scale:get,patch,update status",
    "apps v1|ReplicaSet|replicasets|rs|all|N|scale=autoscaling/v1/Scale:get,patch,update status",
    "apps v1|StatefulSet|statefulsets|sts|all|N|scale=autoscaling/v1/Scale:get,patch,update status",
    "autoscaling v2|HorizontalPodAutoscaler|horizontalpodautoscalers|hpa|all|N|status",
    "autoscaling v1|HorizontalPodAutoscaler|horizontalpodautoscalers|hpa|all|N|status",
    "batch v1|CronJob|cronjobs|cj|all|N|status",
    "batch v1|Job|jobs||all|N|status",
    "certificates.k8s.io v1|CertificateSigningRequest|certificatesigningrequests|csr||C|approval status",
    "coordination.k8s.io v1|Lease|leases|||N|",
    "discovery.k8s.io v1|EndpointSlice|endpointslices|||N|",
    "networking.k8s.io v1|IngressClass|ingressclasses|||C|",
    "networking.k8s.io v1|Ingress|ingresses|ing||N|status",
    "networking.k8s.io v1|NetworkPolicy|networkpolicies|netpol||N|",
    "policy v1|PodDisruptionBudget|poddisruptionbudgets|pdb||N|status",
    "rbac.authorization.k8s.io v1|ClusterRoleBinding|clusterrolebindings|||C|",
    "rbac.authorization.k8s.io v1|ClusterRole|clusterroles|||C|",
    "rbac.authorization.k8s.io v1|RoleBinding|rolebindings|||N|",
    "rbac.authorization.k8s.io v1|Role|roles|||N|",
    "scheduling.k8s.io v1|PriorityClass|priorityclasses|pc||C|",
    "storage.k8s.io v1|CSIDriver|csidrivers|||C|",
    "storage.k8s.io v1|StorageClass|storageclasses|sc||C|",
];

/// Where a group's types live in the OpenAPI documents.
fn schema_package(group: &str) -> String {
    let package = match group {
        "" => "core",
        "apiextensions.k8s.io" => return "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        other => other.split('.').next().unwrap_or(other),
    };
    format!("io.k8s.api.{package}")
}

/// Builds the table.
pub(super) fn builtin() -> Vec<Resource> {
    ROWS.iter().filter_map(|row| resource(row)).collect()
}

fn resource(row: &str) -> Option<Resource> {
    let mut columns = row.split('|');
    let (group, version) = columns.next()?.split_once(' ')?;
    let (kind, plural) = (columns.next()?, columns.next()?);
    let (short, categories, scope, subresources) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let (scope, verbs) = scope.split_once('!').unwrap_or((scope, ALL_VERBS));
    Some(Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List"),
        plural: plural.into(),
        singular: kind.to_lowercase(),
        short_names: words(short),
        categories: words(categories),
        namespaced: scope == "N",
        verbs: words(verbs),
        subresources: subresources
            .split_whitespace()
            .map(|text| subresource(text, group, version, kind))
            .collect(),
        schema: format!("{}.{version}.{kind}", schema_package(group)),
        storage: match (group, plural) {
            ("events.k8s.io", "events") => (String::new(), "events".into()),
            _ => (group.into(), plural.into()),
        },
        builtin: true,
        custom: None,
    })
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn subresource(text: &str, group: &str, version: &str, kind: &str) -> Subresource {
    let (head, verbs) = text.split_once(':').unwrap_or((text, "get,patch,update"));
    let own = format!("{}/{kind}", api_version(group, version));
    let (name, gvk) = head.split_once('=').unwrap_or((head, &own));
    let mut parts = gvk.rsplitn(3, '/');
    let (kind, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    Subresource {
        name: name.into(),
        group: parts.next().unwrap_or_default().into(),
        version: version.into(),
        kind: kind.into(),
        verbs: verbs.split(',').map(str::to_owned).collect(),
    }
}
