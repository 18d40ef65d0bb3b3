//! libpcap, loaded when a capture first asks for it.
//!
//! What runs in pods is this binary, and Debian's libpcap brings D-Bus and systemd with it: a dozen libraries that every program of
//! every pod would load and only an observer uses. The functions that captures call are therefore defined here, under libpcap's
//! names, and look for their namesakes in the library the first time; the linker then finds nothing left for the library to do, and
//! leaves it out (`--as-needed`). One that is missing here has it linked as before.
//!
//! Source: pcap(3PCAP).

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::OnceLock,
};

/// The library's names: Debian's, everybody's, and that of its development files.
const NAMES: [&CStr; 3] = [c"libpcap.so.0.8", c"libpcap.so.1", c"libpcap.so"];
/// `PCAP_ERRBUF_SIZE` of pcap.h.
const ERROR: usize = 256;
/// What is said where there is none.
const MISSING: &CStr = c"libpcap is not installed";

/// The library's handle; 0 where there is none.
fn library() -> usize {
    static LIBRARY: OnceLock<usize> = OnceLock::new();
    *LIBRARY.get_or_init(|| {
        // SAFETY: the names are C strings; libpcap's constructors ask nothing of its callers.
        let mut found = NAMES
            .iter()
            .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) });
        found
            .find(|handle| !handle.is_null())
            .map_or(0, <*mut c_void>::expose_provenance)
    })
}

/// Where a function of the library is; 0 where there is none.
fn find(name: &CStr) -> usize {
    match library() {
        0 => 0,
        // SAFETY: the handle is one that dlopen gave and nobody closes.
        handle => unsafe { libc::dlsym(ptr::with_exposed_provenance_mut(handle), name.as_ptr()).expose_provenance() },
    }
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty, else $otherwise:expr;)*) => {$(
        #[unsafe(no_mangle)]
        #[allow(clippy::unused_unit, reason = "some of them answer nothing")]
        unsafe extern "C" fn $name($($argument: $kind),*) -> $answer {
            static FOUND: OnceLock<usize> = OnceLock::new();
            let name = concat!(stringify!($name), "\0");
            let found = *FOUND.get_or_init(|| CStr::from_bytes_with_nul(name.as_bytes()).map_or(0, find));
            if found == 0 {
                return $otherwise;
            }
            // SAFETY: the library's function of this name has this type, and the caller keeps its contract.
            unsafe {
                // Through a pointer, not from the number itself: what `dlsym` gave was a pointer, and stays one.
                let found = ptr::with_exposed_provenance::<c_void>(found);
                let function = std::mem::transmute::<*const c_void, unsafe extern "C" fn($($kind),*) -> $answer>(found);
                function($($argument),*)
            }
        }
    )*};
}

// Without the library nothing but `pcap_create` is ever called, for want of a handle.
forward! {
    pcap_create(source: *const c_char, error: *mut c_char) -> *mut c_void, else missing(error);
    pcap_activate(handle: *mut c_void) -> c_int, else -1;
    pcap_close(handle: *mut c_void) -> (), else ();
    pcap_compile(handle: *mut c_void, program: *mut c_void, text: *const c_char, optimize: c_int, mask: u32) -> c_int, else -1;
    pcap_datalink(handle: *mut c_void) -> c_int, else -1;
    pcap_freecode(program: *mut c_void) -> (), else ();
    pcap_get_selectable_fd(handle: *mut c_void) -> c_int, else -1;
    pcap_geterr(handle: *mut c_void) -> *mut c_char, else MISSING.as_ptr().cast_mut();
    pcap_next_ex(handle: *mut c_void, header: *mut c_void, data: *mut c_void) -> c_int, else -1;
    pcap_set_buffer_size(handle: *mut c_void, bytes: c_int) -> c_int, else -1;
    pcap_set_datalink(handle: *mut c_void, kind: c_int) -> c_int, else -1;
    pcap_set_snaplen(handle: *mut c_void, bytes: c_int) -> c_int, else -1;
    pcap_set_timeout(handle: *mut c_void, milliseconds: c_int) -> c_int, else -1;
    pcap_set_tstamp_precision(handle: *mut c_void, precision: c_int) -> c_int, else -1;
    pcap_setfilter(handle: *mut c_void, program: *mut c_void) -> c_int, else -1;
    pcap_setnonblock(handle: *mut c_void, nonblocking: c_int, error: *mut c_char) -> c_int, else -1;
    pcap_stats(handle: *mut c_void, counts: *mut c_void) -> c_int, else -1;
}

/// Says that there is no library, where the caller looks for the reason.
fn missing(error: *mut c_char) -> *mut c_void {
    let text = MISSING.to_bytes_with_nul();
    if !error.is_null() {
        // SAFETY: pcap_create's callers give a buffer of PCAP_ERRBUF_SIZE bytes.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr().cast(), error, text.len().min(ERROR)) };
    }
    ptr::null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_it_says_so() {
        let mut error = [0 as c_char; ERROR];
        assert!(missing(error.as_mut_ptr()).is_null());
        // SAFETY: the text in it ends with a zero.
        let said = unsafe { CStr::from_ptr(error.as_ptr()) };
        assert_eq!(said, MISSING);
        assert!(missing(ptr::null_mut()).is_null());
    }
}
