//! The patch types: strategic merge, RFC 7386 merge, RFC 6902 JSON patch.

mod json;
mod merge;
mod order;
mod strategic;
#[cfg(test)]
mod tests;

pub use json::json;
pub use merge::merge;
pub use strategic::strategic;

/// A patch that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// 400: the patch itself is wrong.
    #[error("{0}")]
    BadRequest(String),
    /// 422: the patch does not fit the object (a JSON patch's test or path).
    #[error("the server rejected our request due to an error in our request")]
    Unprocessable(String),
    /// 415: the kind has no schema to merge by.
    #[error(
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )]
    UnsupportedMediaType,
}
