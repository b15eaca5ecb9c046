//! The scout's notices as the kernel writes them: `struct process_notice` of
//! core/scout/scout.bpf.c.

/// Ring buffers of gadgets whose positions notices tell: MAX_RINGS of the object.
pub const MAX_RINGS: usize = 16;
/// Bytes of `struct process_notice`. In a longer record, positions of ring buffers and names of
/// cgroups follow.
const HEAD: usize = 72;
const PATH: usize = HEAD + 8 * MAX_RINGS;
const COMM: std::ops::Range<usize> = 48..64;

const KIND_NEW: u32 = 1;
const FLAG_SHUT: u32 = 1;
const FLAG_OF_USER: u32 = 4;

/// Up to which position each gadget's ring buffer had been written, by slot.
pub type Written = [u64; MAX_RINGS];

/// What the kernel reports about a mount namespace, or about a process in a pending one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoutNotice {
    pub mntns: u64,
    pub generation: u64,
    pub kind: u32,
    pub flags: u32,
    pub pid: u32,
    pub nspid: u32,
    pub ppid: u32,
    pub cgroup_id: u64,
    /// Of a new namespace that was not created in the initial user namespace: the user id of the
    /// owner of the outermost user namespace below that.
    pub owner: Option<u32>,
    /// Position among all notices, set when it is read: generations do not tell which of two
    /// namespaces with one inode number is the later one.
    pub order: u64,
    pub comm: Vec<u8>,
    /// Absolute; empty where the notice has none.
    pub cgroup: Vec<u8>,
}

impl ScoutNotice {
    pub fn parse(record: &[u8]) -> Option<ScoutNotice> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
        let comm = record.get(COMM)?;
        let size = u32_at(36)? as usize;
        // The innermost cgroup's name comes first.
        let names = record.get(PATH..PATH + size).unwrap_or_default();
        let mut cgroup = Vec::with_capacity(size + 1);
        for name in names.split(|b| *b == 0).rev().filter(|n| !n.is_empty()) {
            cgroup.push(b'/');
            cgroup.extend_from_slice(name);
        }
        let (flags, owner) = (u32_at(20)?, u32_at(64)?);
        Some(ScoutNotice {
            mntns: u64_at(0)?,
            generation: u64_at(8)?,
            kind: u32_at(16)?,
            flags,
            pid: u32_at(24)?,
            nspid: u32_at(28)?,
            ppid: u32_at(32)?,
            cgroup_id: u64_at(40)?,
            owner: (flags & FLAG_OF_USER != 0).then_some(owner),
            order: 0,
            comm: comm.split(|b| *b == 0).next().unwrap_or_default().to_vec(),
            cgroup,
        })
    }

    pub fn is_new_namespace(&self) -> bool {
        self.kind == KIND_NEW
    }

    /// True for a new namespace whose events pass the filters and wait for a decision.
    pub fn was_let_in(&self) -> bool {
        self.kind == KIND_NEW && self.flags & FLAG_SHUT == 0
    }
}

/// The positions behind the head of a record; 0 where the record has none.
pub fn written(record: &[u8]) -> Written {
    std::array::from_fn(|i| {
        let at = HEAD + 8 * i;
        let word = record.get(at..at + 8).and_then(|w| w.try_into().ok());
        word.map_or(0, u64::from_ne_bytes)
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn record(path: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        raw.extend_from_slice(&4026532177u64.to_ne_bytes());
        raw.extend_from_slice(&9u64.to_ne_bytes());
        for word in [1u32, 0, 100, 1, 99, path.len() as u32] {
            raw.extend_from_slice(&word.to_ne_bytes());
        }
        raw.extend_from_slice(&77u64.to_ne_bytes());
        raw.extend_from_slice(b"runc:[1:CHILD]\0\0");
        raw.extend_from_slice(&1000u64.to_ne_bytes());
        for position in 0..MAX_RINGS as u64 {
            raw.extend_from_slice(&(8 * position).to_ne_bytes());
        }
        raw.extend_from_slice(path);
        raw
    }

    #[test]
    fn notices_are_read_whole() {
        let notice = ScoutNotice::parse(&record(b"abc\0docker\0")).unwrap();
        assert_eq!(
            (notice.mntns, notice.generation, notice.pid, notice.ppid),
            (4026532177, 9, 100, 99)
        );
        assert_eq!((notice.nspid, notice.cgroup_id), (1, 77));
        assert_eq!(notice.comm, b"runc:[1:CHILD]");
        assert_eq!(notice.owner, None);
        assert_eq!(notice.cgroup, b"/docker/abc");
        assert_eq!(ScoutNotice::parse(&record(b"")).unwrap().cgroup, b"");
        assert_eq!(written(&record(b""))[3], 24);
    }

    #[test]
    fn namespaces_of_users_have_an_owner() {
        let mut raw = record(b"");
        raw[20..24].copy_from_slice(&FLAG_OF_USER.to_ne_bytes());
        assert_eq!(ScoutNotice::parse(&raw).unwrap().owner, Some(1000));
    }

    #[test]
    fn short_records_are_none() {
        let whole = record(b"");
        for size in 0..HEAD - 4 {
            assert_eq!(ScoutNotice::parse(&whole[..size]), None);
        }
        assert_eq!(written(&whole[..HEAD]), [0; MAX_RINGS]);
    }
}
