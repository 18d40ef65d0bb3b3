//! Schemas of the built-in types, from k8s-openapi.

use k8s_openapi::{
    api::{
        apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
        autoscaling::v1 as scale, autoscaling::v2 as autoscaling, batch::v1 as batch, certificates::v1 as certificates,
        coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, events::v1 as events,
        networking::v1 as networking, policy::v1 as policy, rbac::v1 as rbac, scheduling::v1 as scheduling,
        storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::apis::meta::v1 as meta,
};
use schemars::SchemaGenerator;
use serde_json::{Map, Value};

macro_rules! add {
    ($generator:ident, $($module:ident: $($kind:ident)*;)*) => { $($({
        let _ = $generator.subschema_for::<$module::$kind>();
    })*)* };
}

/// All definitions reachable from the served kinds, as schemars makes them.
///
/// This takes milliseconds: call it when a client asks for OpenAPI, never at start.
pub fn definitions() -> Map<String, Value> {
    let mut settings = schemars::generate::SchemaSettings::draft07();
    settings.definitions_path = "/components/schemas".into();
    let mut generator: SchemaGenerator = settings.into_generator();
    add!(generator,
        core: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolumeClaim PersistentVolume Pod
            PodTemplate ReplicationController ResourceQuota Secret ServiceAccount Service;
        events: Event;
        authentication: SelfSubjectReview TokenReview TokenRequest;
        authorization: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
        apiextensions: CustomResourceDefinition;
        apps: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        scale: HorizontalPodAutoscaler Scale;
        autoscaling: HorizontalPodAutoscaler;
        batch: CronJob Job;
        certificates: CertificateSigningRequest;
        coordination: Lease;
        discovery: EndpointSlice;
        networking: IngressClass Ingress NetworkPolicy;
        policy: PodDisruptionBudget Eviction;
        rbac: ClusterRoleBinding ClusterRole RoleBinding Role;
        scheduling: PriorityClass;
        storage: CSIDriver StorageClass;
        meta: DeleteOptions Status;
    );
    generator.take_definitions(true)
}
