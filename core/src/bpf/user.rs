//! Probes in one file: user functions and static probes. Their sites are found by `binary`, and
//! they are attached for every process that maps the file.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libbpf_rs::Link;
use libbpf_sys as sys;

use super::attach::{function_and_offset, split};
use super::attachment::Attachment;
use super::families::{attempt, linked};
use super::inode::{self, Identity};
use crate::binary::elf::Elf;
use crate::binary::lease::Lease;
use crate::binary::{gosym, root, symbols, usdt, FileBytes};
use crate::errors::{c_text, Error, Kind, Result};

/// The most sites that one program is attached to.
const MAX_SITES: usize = 1000;

/// An open file of a container.
pub struct Binary {
    path: String,
    bytes: FileBytes,
    pub identity: Identity,
}

/// Where a program is attached: offsets in the file.
enum Sites {
    At(Vec<usdt::Site>),
    /// Static probes, found by libbpf, which prepares their arguments for the program.
    Described {
        provider: String,
        name: String,
    },
}

/// Sites in a file, found for programs of one section.
pub struct ProbeSites {
    sites: Sites,
    target: String,
    returns: bool,
    multi: bool,
    session: bool,
}

/// libbpf gives the numbers of their arguments back to the object when they end.
struct DescribedLinks {
    _links: Vec<Link>,
}

impl Attachment for DescribedLinks {
    fn changes_object(&self) -> bool {
        true
    }
}

impl Binary {
    /// `path` below the directory `root`; no link leads out of it.
    pub fn open(directory: BorrowedFd<'_>, path: &str) -> Result<Binary> {
        let fail = |e: std::io::Error| {
            Error::new(Kind::Open, format!("cannot open {path} in the container: {e}"))
        };
        let bytes = FileBytes::new(root::open(directory, path).map_err(fail)?).map_err(fail)?;
        let identity = inode::identity(&bytes.file).map_err(fail)?;
        Ok(Binary { path: path.to_string(), bytes, identity })
    }

    fn sites(&self, kind: &str, target: &str, described: bool) -> Result<Sites> {
        let error = |why: String| {
            Error::new(Kind::Attach, format!("cannot attach to {target} in {}: {why}", self.path))
        };
        let elf = Elf::parse(&self.bytes).map_err(|e| error(e.0))?;
        let site = |offset| usdt::Site { offset, semaphore: 0 };
        let nowhere = || error("it lies outside of what is loaded".into());
        let sites = match kind {
            "usdt" => {
                let Some((provider, name)) = target.split_once(':') else {
                    return Err(error("the target must read PROVIDER:NAME".into()));
                };
                let sites = usdt::find(&elf, provider, name).map_err(|e| error(e.0))?;
                if described && !sites.is_empty() {
                    let (provider, name) = (provider.into(), name.into());
                    return Ok(Sites::Described { provider, name });
                }
                sites
            }
            "multi" => symbols::matching(&elf, target)
                .map_err(|e| error(e.0))?
                .iter()
                .map(|f| elf.offset_of(f.address).map(site).ok_or_else(nowhere))
                .collect::<Result<_>>()?,
            _ => {
                let (name, plus) = function_and_offset(target)
                    .map_err(|_| error("its offset is no number".into()))?;
                let mut address =
                    symbols::find(&elf, name).map_err(|e| error(e.0))?.map(|f| f.address);
                // No return probes: Go moves stacks, and with them the return addresses that the
                // probe replaces.
                if address.is_none() && kind == "uprobe" {
                    address = gosym::find(&elf, name).map_err(|e| error(e.0))?;
                }
                match address {
                    Some(address) => {
                        let offset = elf.offset_of(address).ok_or_else(nowhere)?;
                        vec![site(offset.checked_add(plus).ok_or_else(nowhere)?)]
                    }
                    None => Vec::new(),
                }
            }
        };
        if sites.is_empty() {
            return Err(Error::new(Kind::Absent, format!("{} has no {target}", self.path)));
        }
        if sites.len() > MAX_SITES && kind != "multi" {
            return Err(error(format!("{} places, at most {MAX_SITES}", sites.len())));
        }
        Ok(Sites::At(sites))
    }

    /// Finds `target`, which is a function, `PROVIDER:NAME` or a pattern, depending on `section`.
    /// `described`: the object has libbpf's maps of probe arguments. Reads the file, which may take
    /// a while.
    pub fn probe_sites(&self, section: &str, target: &str, described: bool) -> Result<ProbeSites> {
        let kind = split(section).0;
        let kind = kind.strip_suffix(".s").unwrap_or(kind);
        let (base, multi) = match kind.split_once('.') {
            Some((base, "multi" | "session")) => (base, true),
            _ => (kind, false),
        };
        Ok(ProbeSites {
            sites: self.sites(if multi { "multi" } else { base }, target, described)?,
            target: target.to_string(),
            returns: base == "uretprobe",
            multi,
            session: kind.ends_with(".session"),
        })
    }

    /// Attaches `program` to sites of this file.
    pub fn attach(
        &self,
        program: NonNull<sys::bpf_program>,
        probe: &ProbeSites,
    ) -> Result<Box<dyn Attachment>> {
        let path = CString::new(format!("/proc/self/fd/{}", self.bytes.file.as_raw_fd()))
            .unwrap_or_default();
        let at = format!("{} in {}", probe.target, self.path);
        let returns = probe.returns;
        let mut links: Vec<Link> = Vec::new();
        match &probe.sites {
            Sites::Described { provider, name } => {
                // libbpf maps the file and reads it: it is what was read here, within limits.
                let changes =
                    |why: String| Error::new(Kind::Attach, format!("cannot attach to {at}: {why}"));
                let _lease = Lease::take(&self.bytes.file)
                    .map_err(|_| changes("it is open for writing".into()))?;
                Elf::parse(&self.bytes)
                    .and_then(|elf| usdt::find(&elf, provider, name))
                    .map_err(|e| changes(e.0))?;
                let (provider, name) =
                    (c_text(Kind::Attach, provider)?, c_text(Kind::Attach, name)?);
                links.push(attempt(program, &at, || {
                    // SAFETY: a live program; the strings outlive the call; -1: any process.
                    linked(unsafe {
                        sys::bpf_program__attach_usdt(
                            program.as_ptr(),
                            -1,
                            path.as_ptr(),
                            provider.as_ptr(),
                            name.as_ptr(),
                            std::ptr::null(),
                        )
                    })
                })?);
            }
            Sites::At(sites) if probe.multi => {
                let offsets: Vec<_> = sites.iter().map(|s| s.offset as libc::c_ulong).collect();
                let options = sys::bpf_uprobe_multi_opts {
                    sz: size_of::<sys::bpf_uprobe_multi_opts>() as sys::size_t,
                    offsets: offsets.as_ptr(),
                    cnt: offsets.len() as sys::size_t,
                    retprobe: returns,
                    session: probe.session,
                    ..Default::default()
                };
                links.push(attempt(program, &at, || {
                    // SAFETY: as above; options and offsets outlive the call.
                    linked(unsafe {
                        sys::bpf_program__attach_uprobe_multi(
                            program.as_ptr(),
                            -1,
                            path.as_ptr(),
                            std::ptr::null(),
                            &options,
                        )
                    })
                })?);
            }
            Sites::At(sites) => {
                for site in sites {
                    let options = sys::bpf_uprobe_opts {
                        sz: size_of::<sys::bpf_uprobe_opts>() as sys::size_t,
                        ref_ctr_offset: site.semaphore as sys::size_t,
                        retprobe: returns,
                        ..Default::default()
                    };
                    links.push(attempt(program, &at, || {
                        // SAFETY: as above. No name: libbpf does not read the file.
                        linked(unsafe {
                            sys::bpf_program__attach_uprobe_opts(
                                program.as_ptr(),
                                -1,
                                path.as_ptr(),
                                site.offset as sys::size_t,
                                &options,
                            )
                        })
                    })?);
                }
            }
        }
        match &probe.sites {
            Sites::Described { .. } => Ok(Box::new(DescribedLinks { _links: links })),
            Sites::At(_) => Ok(Box::new(links)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::binary::gosym::sample::{program, table, CODE_AT};

    #[test]
    fn functions_of_go_are_found_where_they_begin_but_not_where_they_return() {
        let directory = std::env::temp_dir().join(format!("ig-py-go-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("program"), program(&table(true, 0))).unwrap();
        let root = std::fs::File::open(&directory).unwrap();
        let binary = Binary::open(root.as_fd(), "/program").unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let sites = binary.probe_sites("uprobe/x", "main.main+4", false).unwrap();
        let Sites::At(sites) = &sites.sites else { panic!("no offsets") };
        let offsets: Vec<u64> = sites.iter().map(|s| s.offset).collect();
        assert_eq!(offsets, [CODE_AT as u64 + 0x104]);
        for (section, target) in [("uretprobe/x", "main.main"), ("uprobe/x", "main.other")] {
            let error = binary.probe_sites(section, target, false).err().unwrap();
            assert_eq!(error.kind, Kind::Absent, "{section} {target}: {error}");
        }
    }
}
