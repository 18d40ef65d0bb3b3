//! Live capture from inside a pod's network namespace.
//!
//! A pod that is observed gets one long-lived ephemeral container, the [`observer`], that runs this same binary.
//! A capture is an exec into it: libpcap there, filtered there, streamed back as a pcap file that never ends.
//! [`start`] gives the packets, [`traffic`] gives what was said, with the names of the pods that said it; [`packets_of`] and
//! [`traffic_of`] do so of several pods in one stream.

mod able;
mod error;
mod file;
mod identities;
mod live;
mod names;
pub mod observer;
mod place;
mod recorder;
mod request;
mod several;
mod stage;
mod together;
mod traffic;

pub use able::able;
pub use error::CaptureError;
pub use file::CaptureFile;
pub use identities::{Held, Identities};
pub use live::{CaptureStream, start};
pub use names::Names;
pub use recorder::{Flows, Recorder};
pub use request::{CaptureEvent, CaptureRequest, EndReason, Interface, Packet};
pub use several::{PODS, Pods, Scope};
pub use stage::observe_stage;
pub use together::{PacketStream, PacketsEvent, packets_of, traffic_of};
pub use traffic::{TrafficEvent, TrafficStream, traffic};
