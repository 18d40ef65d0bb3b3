//! Validation: of an object's fields against the schemas, and of its values as kube-apiserver does.

mod error;
mod fields;
pub mod names;
mod object;
pub mod quantity;

pub use error::{Cause, FieldError, invalid_status};
pub use fields::{Problem, fields, normalize, normalize_type, of_type, strict_error};
pub use object::object;
