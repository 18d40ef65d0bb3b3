//! Whether a cluster lets us capture at all, asked before a lab that needs it begins.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::CaptureError;

/// What the observer asks of the API: (verb, subresource of pods).
const NEEDED: [(&str, &str); 3] = [("get", ""), ("patch", "ephemeralcontainers"), ("create", "exec")];

/// Asks the API whether observers may be put into the pods of `namespace`.
///
/// Source: `SelfSubjectAccessReview` of authorization.k8s.io/v1.
///
/// # Errors
/// [`CaptureError::NotAllowed`] naming the first right that is missing, or what kept the API from answering.
pub async fn able(client: &Client, namespace: &str) -> Result<(), CaptureError> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    for (verb, subresource) in NEEDED {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.to_owned()),
                    verb: Some(verb.to_owned()),
                    resource: Some("pods".to_owned()),
                    subresource: Some(subresource.to_owned()).filter(|name| !name.is_empty()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews
            .create(&PostParams::default(), &review)
            .await
            .map_err(CaptureError::api("ask what this user may do".to_owned()))?;
        if !answer.status.is_some_and(|status| status.allowed) {
            let resource = match subresource {
                "" => "pods".to_owned(),
                name => format!("pods/{name}"),
            };
            return Err(CaptureError::NotAllowed {
                namespace: namespace.to_owned(),
                verb,
                resource,
            });
        }
    }
    Ok(())
}
