//! Why a request is refused, as gRPC says it.

use tonic::{Code, Status};

use crate::api::types;

/// A refusal: a gRPC code and a message for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// What was wrong, and with what.
    pub message: String,
}

impl Refusal {
    /// A refusal with `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What was asked for is malformed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// What was asked for is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The state does not allow it now.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// Something here broke.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// A limit was reached.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// The same, saying what was being done: `doing: message`.
    pub fn while_doing(self, doing: &str) -> Self {
        Self::new(self.code, format!("{doing}: {}", self.message))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Status::new(refusal.code, refusal.message)
    }
}

/// The status of one item of a batch that went well.
pub fn fine() -> types::Status {
    types::Status {
        code: Code::Ok as i32,
        message: "OK".into(),
    }
}

/// The status of one item of a batch that was refused.
pub fn refused(refusal: &Refusal) -> types::Status {
    types::Status {
        code: refusal.code as i32,
        message: refusal.message.clone(),
    }
}
