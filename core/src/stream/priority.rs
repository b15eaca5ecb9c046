//! The priority of the thread that reads the kernel's buffers.
//!
//! Programs that write events do not wait for their reader. Where all processors are busy, it would
//! be one thread among many, and what it does not read in time is lost.

/// As setpriority(2) takes it. Of ten other threads on its processor it gets as much time as all
/// together, and it hardly waits for them.
const NICE: libc::c_int = -10;

/// The calling thread has a higher priority as long as this lives: threads that it starts later are
/// ordinary ones again.
pub struct Priority {
    before: Option<libc::c_int>,
}

impl Priority {
    /// Without CAP_SYS_NICE, and where it is as high already, nothing changes.
    pub fn raised() -> Priority {
        // SAFETY: plain numbers. Of the calling thread only: who is 0 (setpriority(2), Linux).
        let before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        if before <= NICE {
            return Priority { before: None };
        }
        // SAFETY: as above.
        let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        Priority { before: (done == 0).then_some(before) }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: as above.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, before) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> libc::c_int {
        // SAFETY: plain numbers.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn it_is_raised_for_a_time_if_at_all() {
        let before = nice();
        let raised = Priority::raised();
        assert!(nice() == NICE.min(before) || nice() == before);
        drop(raised);
        assert_eq!(nice(), before);
    }
}
