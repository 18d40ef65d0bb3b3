//! Approved CertificateSigningRequests get their certificate, and old ones go.
//!
//! Source: Kubernetes' "Certificate Signing Requests" (signers, lifetime), csrsigning and csrcleaner controllers.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{
        CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, ResourceExt, api::DeleteParams};

use super::{Context, follow};
use crate::{
    control_plane::pki::{CertificateRequest, Signer, Usage, usage},
    informer::Key,
    queue::Queue,
    write::{unless_gone, write_status},
};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// Seconds that a certificate holds where nobody asked for less; kube-controller-manager's `--cluster-signing-duration`.
const LONGEST: i64 = 365 * 24 * 3600;
/// Seconds; a shorter one may be over before it is used.
const SHORTEST: i64 = 600;
/// Seconds by which a certificate begins before now, for a client whose clock is behind.
const BACKDATE: i64 = 300;
/// How long a request is kept that was answered, and one that was not.
const ANSWERED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// What is to be done about a request.
#[derive(Debug, PartialEq)]
enum Fate {
    /// A certificate for these uses, valid for these seconds.
    Sign(Box<CertificateRequest>, Vec<Usage>, i64),
    /// Say that its signer does not sign such a thing.
    Fail(String),
    /// It is old.
    Delete,
    /// Nothing, for so long.
    Wait(Duration),
}

/// Starts the controller.
pub fn start(context: &Context) {
    let queue = Queue::default();
    follow::objects(&context.informers.certificate_signing_requests, &queue);
    let inner = context.clone();
    context
        .tasks
        .spawn(queue.run("certificate", context.stop.clone(), move |key| {
            let context = inner.clone();
            async move { reconcile(&context, &context.signer, &key.name).await }
        }));
}

async fn reconcile(context: &Context, signer: &Signer, name: &str) -> Result<Option<Duration>, kube::Error> {
    let cache = &context.informers.certificate_signing_requests;
    let Some(request) = cache.get(&Key::new("", name)) else {
        return Ok(None);
    };
    let api: Api<CertificateSigningRequest> = Api::all(context.client.clone());
    let now = Timestamp::now();
    let mut status = request.status.clone().unwrap_or_default();
    match fate(&request, now) {
        Fate::Wait(pause) => return Ok(Some(pause)),
        Fate::Delete => {
            unless_gone(api.delete(name, &DeleteParams::default()).await)?;
            return Ok(None);
        }
        Fate::Sign(asked, usages, seconds) => {
            let now = now.as_second();
            match signer.sign(&asked, &usages, now - BACKDATE, now + seconds) {
                Ok(pem) => status.certificate = Some(ByteString(pem.into_bytes())),
                Err(error) => fail(&mut status, error.to_string(), now),
            }
        }
        Fate::Fail(why) => fail(&mut status, why, now.as_second()),
    }
    if let Some(written) = unless_gone(write_status(&api, name, &status).await)? {
        cache.wrote(written);
    }
    Ok(Some(ANSWERED))
}

fn fail(status: &mut CertificateSigningRequestStatus, why: String, now: i64) {
    let now = Timestamp::from_second(now).ok().map(Time);
    status
        .conditions
        .get_or_insert_default()
        .push(CertificateSigningRequestCondition {
            type_: "Failed".to_owned(),
            status: "True".to_owned(),
            reason: Some("SignerValidationFailure".to_owned()),
            message: Some(why),
            last_update_time: now.clone(),
            last_transition_time: now,
        });
}

fn fate(request: &CertificateSigningRequest, now: Timestamp) -> Fate {
    if request.metadata.deletion_timestamp.is_some() {
        return Fate::Wait(ANSWERED);
    }
    let status = request.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let has = |kind: &str| conditions.iter().any(|condition| condition.type_ == kind);
    let signed = status.certificate.is_some_and(|certificate| !certificate.0.is_empty());
    let answered = has("Denied") || has("Failed") || signed;
    let signer = request.spec.signer_name.as_str();
    let ours = matches!(signer, CLIENT | KUBELET_CLIENT | KUBELET_SERVING | LEGACY);
    if has("Approved") && !answered && ours {
        return match accepted(request) {
            Ok((asked, usages)) => {
                let seconds = request.spec.expiration_seconds.map_or(LONGEST, i64::from);
                Fate::Sign(Box::new(asked), usages, seconds.clamp(SHORTEST, LONGEST))
            }
            Err(why) => Fate::Fail(why),
        };
    }
    // From the last word on it, or from the beginning.
    let last = conditions
        .iter()
        .filter_map(|condition| condition.last_update_time.as_ref());
    let since = last
        .map(|time| time.0)
        .chain(request.creation_timestamp().map(|time| time.0))
        .max();
    let age = since.map_or(Duration::ZERO, |since| {
        Duration::try_from(now.duration_since(since)).unwrap_or_default()
    });
    let kept = if answered { ANSWERED } else { PENDING };
    match kept.checked_sub(age).filter(|left| !left.is_zero()) {
        Some(left) => Fate::Wait(left),
        None => Fate::Delete,
    }
}

/// What is to be signed, if the signer signs such a thing.
fn accepted(request: &CertificateSigningRequest) -> Result<(CertificateRequest, Vec<Usage>), String> {
    let asked = CertificateRequest::from_pem(&request.spec.request.0)
        .map_err(|why| format!("unable to parse csr {:?}: {why}", request.name_any()))?;
    let names: Vec<&str> = request.spec.usages.iter().flatten().map(String::as_str).collect();
    let only = |allowed: &[&str]| names.iter().all(|name| allowed.contains(name));
    let wants = |required: &[&str]| required.iter().all(|name| names.contains(name));
    let of_kubelet = || {
        if asked.organizations != ["system:nodes"] {
            return Err("subject organization is not system:nodes");
        }
        if asked.common_name.strip_prefix("system:node:").is_none_or(str::is_empty) {
            return Err("subject common name does not begin with system:node:");
        }
        Ok(())
    };
    match request.spec.signer_name.as_str() {
        CLIENT if !only(&["digital signature", "key encipherment", "client auth"]) || !wants(&["client auth"]) => {
            let why = "usages did not match \"client auth\" with \"digital signature\" and \"key encipherment\"";
            return Err(why.to_owned());
        }
        KUBELET_CLIENT => {
            of_kubelet()?;
            if asked.hosts + asked.other_names > 0 {
                return Err("DNS, IP, email and URI subjectAltNames are not allowed".to_owned());
            }
            if !only(&["digital signature", "key encipherment", "client auth"])
                || !wants(&["digital signature", "client auth"])
            {
                return Err("usages did not match \"client auth\" and \"digital signature\"".to_owned());
            }
        }
        KUBELET_SERVING => {
            of_kubelet()?;
            if asked.hosts == 0 {
                return Err("at least one DNS or IP subjectAltName is required".to_owned());
            }
            if asked.other_names > 0 {
                return Err("email and URI subjectAltNames are not allowed".to_owned());
            }
            if !only(&["digital signature", "key encipherment", "server auth"])
                || !wants(&["digital signature", "server auth"])
            {
                return Err("usages did not match \"server auth\" and \"digital signature\"".to_owned());
            }
        }
        _ => {}
    }
    let usages = names
        .iter()
        .map(|name| usage(name).ok_or_else(|| format!("unrecognized usage {name:?}")));
    Ok((asked, usages.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn pem(common_name: &str, organizations: &[&str], hosts: &[&str]) -> Vec<u8> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        let key = KeyPair::generate().unwrap();
        params.serialize_request(&key).unwrap().pem().unwrap().into_bytes()
    }

    fn request(signer: &str, pem: Vec<u8>, usages: &[&str], conditions: &[&str]) -> CertificateSigningRequest {
        let at = |seconds| Some(Time(Timestamp::from_second(seconds).unwrap()));
        let mut request = CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem),
                signer_name: signer.to_owned(),
                usages: Some(usages.iter().map(|usage| (*usage).to_owned()).collect()),
                ..Default::default()
            },
            ..Default::default()
        };
        request.metadata.creation_timestamp = at(1000);
        let condition = |kind: &&str| CertificateSigningRequestCondition {
            type_: (*kind).to_owned(),
            status: "True".to_owned(),
            last_update_time: at(2000),
            ..Default::default()
        };
        request.status = Some(CertificateSigningRequestStatus {
            conditions: Some(conditions.iter().map(condition).collect()),
            certificate: None,
        });
        request
    }

    fn fate_at(request: &CertificateSigningRequest, seconds: i64) -> Fate {
        fate(request, Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn what_each_signer_signs() {
        let user = || pem("jane", &["devs"], &[]);
        let node = |hosts: &[&str]| pem("system:node:a", &["system:nodes"], hosts);
        let client = ["client auth", "digital signature"];
        let server = ["server auth", "digital signature", "key encipherment"];
        for (signer, pem, usages, expected) in [
            (CLIENT, user(), &["client auth"][..], true),
            (CLIENT, user(), &client, true),
            (CLIENT, user(), &server, false),
            (CLIENT, user(), &["digital signature"], false),
            (CLIENT, b"nonsense".to_vec(), &["client auth"], false),
            (KUBELET_CLIENT, node(&[]), &client, true),
            (KUBELET_CLIENT, node(&[]), &["client auth"], false),
            (KUBELET_CLIENT, node(&["a.local"]), &client, false),
            (KUBELET_CLIENT, user(), &client, false),
            (
                KUBELET_CLIENT,
                pem("system:node:", &["system:nodes"], &[]),
                &client,
                false,
            ),
            (
                KUBELET_CLIENT,
                pem("system:node:a", &["system:masters"], &[]),
                &client,
                false,
            ),
            (KUBELET_SERVING, node(&["a.local"]), &server, true),
            (KUBELET_SERVING, node(&[]), &server, false),
            (KUBELET_SERVING, node(&["a.local"]), &client, false),
            (LEGACY, user(), &["code signing"], true),
            (LEGACY, user(), &["nonsense"], false),
        ] {
            let fate = fate_at(&request(signer, pem, usages, &["Approved"]), 2000);
            assert_eq!(matches!(fate, Fate::Sign(..)), expected, "{signer} {usages:?} {fate:?}");
            assert_eq!(matches!(fate, Fate::Fail(_)), !expected, "{signer} {usages:?} {fate:?}");
        }
    }

    #[test]
    fn only_what_is_approved_is_signed_and_old_ones_go() {
        let of = |conditions: &[&str]| request(CLIENT, pem("jane", &[], &[]), &["client auth"], conditions);
        for (conditions, at, expected) in [
            (&[][..], 1000, Fate::Wait(PENDING)),
            (&[], 1000 + 24 * 3600, Fate::Delete),
            (&["Denied"], 2000, Fate::Wait(ANSWERED)),
            (&["Denied"], 2000 + 3599, Fate::Wait(Duration::from_secs(1))),
            (&["Denied"], 2000 + 3600, Fate::Delete),
            (&["Approved", "Denied"], 2000, Fate::Wait(ANSWERED)),
            (&["Approved", "Failed"], 2000, Fate::Wait(ANSWERED)),
        ] {
            assert_eq!(fate_at(&of(conditions), at), expected, "{conditions:?} {at}");
        }
        let mut signed = of(&["Approved"]);
        signed.status.as_mut().unwrap().certificate = Some(ByteString(b"x".to_vec()));
        assert_eq!(fate_at(&signed, 2000), Fate::Wait(ANSWERED));
        // Others' signers sign for themselves.
        let mut other = of(&["Approved"]);
        other.spec.signer_name = "example.com/mine".to_owned();
        assert_eq!(fate_at(&other, 2000), Fate::Wait(PENDING));
        // As long as was asked for, and no longer than a year.
        for (asked, expected) in [
            (None, LONGEST),
            (Some(3600), 3600),
            (Some(1), SHORTEST),
            (Some(i32::MAX), LONGEST),
        ] {
            let mut request = of(&["Approved"]);
            request.spec.expiration_seconds = asked;
            assert!(matches!(fate_at(&request, 2000), Fate::Sign(_, _, seconds) if seconds == expected));
        }
    }
}
