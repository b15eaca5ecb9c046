//! Where maps are pinned that ask for it.

const ROOT: &std::ffi::CStr = c"/sys/fs/bpf";
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// Is the BPF file system mounted where libbpf pins?
pub fn possible() -> bool {
    let mut facts = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a static string and a place for the answer.
    if unsafe { libc::statfs(ROOT.as_ptr(), facts.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: filled, since the call succeeded.
    let facts = unsafe { facts.assume_init() };
    // The field's type depends on the machine.
    #[allow(clippy::unnecessary_cast)]
    let kind = facts.f_type as i64;
    kind == BPF_FS_MAGIC
}
