//! The verbs on objects.

mod apply;
mod create;
mod delete;
mod list;
mod options;
mod patch;
mod read;
mod update;

pub use create::create;
pub use delete::{DeleteOptions, delete, delete_collection};
pub use list::{Selection, list};
pub use options::{WriteOptions, decode, decode_as};
pub use patch::patch;
pub use read::get;
pub use update::{Part, replace};
