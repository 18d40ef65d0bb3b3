//! Live capture from inside a pod's network namespace.
//!
//! A pod that is observed gets one long-lived ephemeral container, the [`observer`], that runs this same binary.
//! A capture is an exec into it: libpcap there, filtered there, streamed back as a pcap file that never ends.
//! [`start`] gives the packets, [`traffic`] gives what was said, with the names of the pods that said it.

mod able;
mod error;
mod file;
mod live;
mod names;
pub mod observer;
mod request;
mod stage;
mod traffic;

pub use able::able;
pub use error::CaptureError;
pub use file::CaptureFile;
pub use live::{CaptureStream, start};
pub use names::Names;
pub use request::{CaptureEvent, CaptureRequest, EndReason, Interface, Packet};
pub use stage::observe_stage;
pub use traffic::{TrafficEvent, TrafficStream, traffic};
