//! Reads the elements of an array data source: from a map, which is emptied, or from iterator
//! programs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::bpf::drain::{Drain, Wanted};
use crate::bpf::iterate::{self, Scope};
use crate::bpf::object::Object;
use crate::errors::{Error, Result};
use crate::schema::plan;

const MAX_PROGRAMS: usize = 64;

struct Program {
    name: String,
    netns: bool,
    link: OwnedFd,
}

enum Origin {
    Map(Box<Drain>),
    Programs(Vec<Program>),
}

pub struct ArrayReader {
    from: Origin,
    element_size: usize,
}

/// Takes whole elements, one behind the other; false asks to stop.
pub type Sink<'a> = dyn FnMut(&[u8]) -> Result<bool> + 'a;

impl ArrayReader {
    pub fn open(ds: &plan::DataSource, object: Option<&Object>) -> Result<Option<ArrayReader>> {
        let Some(read_from) = &ds.read_from else { return Ok(None) };
        let bad = |why: &str| Error::plan(format!("data source {}: {why}", ds.name));
        if !ds.array || ds.map.is_some() || ds.sample_size == 0 {
            return Err(bad("only arrays of elements with a size are read"));
        }
        let from = match (&read_from.map, read_from.programs.len()) {
            (Some(map), 0) => match object {
                Some(object) => {
                    let fd = object.map_fd(map)?;
                    Origin::Map(Drain::open(fd, map, ds.sample_size, read_from.batch)?.into())
                }
                None => return Ok(None),
            },
            (None, 1..=MAX_PROGRAMS) => match object {
                Some(object) => Origin::Programs(programs(&read_from.programs, object)?),
                None => return Ok(None),
            },
            _ => return Err(bad("an array is read from one map, or from 1 to 64 programs")),
        };
        Ok(Some(ArrayReader { from, element_size: ds.sample_size }))
    }

    /// Bytes of one element.
    pub fn element_size(&self) -> usize {
        self.element_size
    }

    /// True when elements are taken out of where they are read: the next reading does not find
    /// them again.
    pub fn takes(&self) -> bool {
        matches!(self.from, Origin::Map(_))
    }

    /// Takes the elements that are `wanted` out of a map; nothing where programs are read.
    pub fn take_some(&mut self, wanted: &mut Wanted<'_>, sink: &mut Sink<'_>) -> Result<()> {
        match &mut self.from {
            Origin::Map(drain) => drain.take_some(wanted, &mut |entry| sink(entry).map(drop)),
            Origin::Programs(_) => Ok(()),
        }
    }

    /// Reads all elements. Programs that show one network namespace run once in each of `netns`.
    pub fn read(&mut self, netns: &[BorrowedFd<'_>], sink: &mut Sink<'_>) -> Result<()> {
        let programs = match &mut self.from {
            Origin::Map(drain) => return drain.drain(&mut |entry| sink(entry).map(drop)),
            Origin::Programs(programs) => programs,
        };
        let mut outcome = Ok(());
        for program in programs {
            let namespaces: Vec<_> = match program.netns {
                true => netns.iter().map(|n| Some(*n)).collect(),
                false => vec![None],
            };
            for namespace in namespaces {
                // When one program fails, the elements of the other programs are shown.
                outcome = outcome.and(read(
                    &program.link,
                    namespace,
                    &program.name,
                    self.element_size,
                    sink,
                ));
            }
        }
        outcome
    }
}

/// The iterator programs that are loaded; optional ones may not be.
fn programs(plans: &[plan::Iterator], object: &Object) -> Result<Vec<Program>> {
    let mut found = Vec::new();
    for plan in plans {
        let Some(program) = object.loaded_program(&plan.name)? else { continue };
        let map = plan.map.as_ref().map(|m| object.map_fd(m)).transpose()?;
        let scope = Scope { map: map.as_ref().map(AsFd::as_fd), ..Scope::default() };
        let link = iterate::link(&plan.name, program.as_fd(), &scope)?;
        found.push(Program { name: plan.name.clone(), netns: plan.netns, link });
    }
    Ok(found)
}

fn read(
    link: &OwnedFd,
    netns: Option<BorrowedFd<'_>>,
    program: &str,
    size: usize,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut cutter = Cutter { size, part: Vec::new() };
    iterate::walk(program, link.as_fd(), netns, &mut |chunk| cutter.take(chunk, sink))?;
    match cutter.part.len() {
        0 => Ok(()),
        left => Err(Error::map(format!(
            "iterator program {program} wrote {left} bytes after its last element of {size} bytes"
        ))),
    }
}

/// Cuts a stream of bytes into elements.
struct Cutter {
    size: usize,
    part: Vec<u8>,
}

impl Cutter {
    fn take(&mut self, mut chunk: &[u8], sink: &mut Sink<'_>) -> Result<bool> {
        if !self.part.is_empty() {
            let wanted = (self.size - self.part.len()).min(chunk.len());
            let (head, rest) = chunk.split_at(wanted);
            self.part.extend_from_slice(head);
            chunk = rest;
            if self.part.len() == self.size {
                let whole = std::mem::take(&mut self.part);
                if !sink(&whole)? {
                    return Ok(false);
                }
            }
        }
        let whole = chunk.len() / self.size * self.size;
        self.part.extend_from_slice(&chunk[whole..]);
        sink(&chunk[..whole])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_put_together_from_any_pieces() {
        let all: Vec<u8> = (0..100).collect();
        for step in 1..40 {
            let mut cutter = Cutter { size: 7, part: Vec::new() };
            let mut seen = Vec::new();
            for chunk in all.chunks(step) {
                let mut sink = |whole: &[u8]| {
                    assert_eq!(whole.len() % 7, 0);
                    seen.extend_from_slice(whole);
                    Ok(true)
                };
                cutter.take(chunk, &mut sink).unwrap();
            }
            assert_eq!(seen, all[..98]);
            assert_eq!(cutter.part, [98, 99]);
        }
    }
}
