//! libbpf logs through one callback per process. Here its log is kept per thread and operation:
//! errors contain it, and it is not written to stderr.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void, CStr};

use libbpf_sys as sys;

/// The verifier's log of one program can reach 16 MiB; more is cut at the front.
const MAX_LOG: usize = 32 << 20;

thread_local! {
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

extern "C" {
    // On x86-64 and arm64 a `va_list` argument is passed as a pointer.
    fn vasprintf(out: *mut *mut c_char, format: *const c_char, args: *mut c_void) -> c_int;
}

/// Formats a C format string with its `va_list`.
///
/// # Safety
/// `format` and `args` must be what a C caller passed to a printf-like callback,
/// and `args` is consumed.
pub unsafe fn format_va(format: *const c_char, args: *mut c_void, sink: &mut Vec<u8>) {
    let mut text: *mut c_char = std::ptr::null_mut();
    // SAFETY: the caller vouches for format and args; `text` is a valid out pointer.
    if unsafe { vasprintf(&mut text, format, args) } < 0 || text.is_null() {
        return;
    }
    // SAFETY: vasprintf succeeded, so `text` is a NUL-terminated allocation of its own.
    sink.extend_from_slice(unsafe { CStr::from_ptr(text) }.to_bytes());
    // SAFETY: allocated by vasprintf with malloc and not used afterwards.
    unsafe { libc::free(text.cast()) };
}

unsafe extern "C" fn on_print(
    level: sys::libbpf_print_level,
    format: *const c_char,
    args: *mut sys::__va_list_tag,
) -> c_int {
    if level == sys::LIBBPF_DEBUG {
        return 0;
    }
    LOG.with_borrow_mut(|log| {
        if let Some(log) = log {
            // SAFETY: libbpf passes a printf format and its matching va_list.
            unsafe { format_va(format, args.cast(), log) };
            if log.len() > MAX_LOG {
                log.drain(..log.len() - MAX_LOG);
            }
        }
    });
    0
}

/// Installs the callback, for the whole process.
pub fn install() {
    // SAFETY: a plain function pointer that lives as long as the program.
    unsafe { sys::libbpf_set_print(Some(on_print)) };
}

/// Runs `work`; returns its result and what libbpf logged meanwhile.
pub fn capture<T>(work: impl FnOnce() -> T) -> (T, String) {
    LOG.set(Some(Vec::new()));
    let result = work();
    let log = LOG.take().unwrap_or_default();
    (result, String::from_utf8_lossy(&log).into_owned())
}
