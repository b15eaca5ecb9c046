//! Attaching the programs of an object, and detaching them.

use std::ptr::NonNull;

use libbpf_rs::Link;
use libbpf_sys as sys;

use super::{no_program, Object, State};
use crate::bpf::attach;
use crate::bpf::attachment::Attachment;
use crate::bpf::facts::program_facts;
use crate::bpf::families::program_fd;
use crate::errors::{Error, Kind, Result};

/// Threads that detach at the same time.
const MAX_THREADS: usize = 16;

impl Object {
    /// Attaches an attached program to one target more.
    pub fn attach_also(&mut self, program: &str, target: &str) -> Result<()> {
        let raw = self.raw_programs()?.into_iter().find(|p| program_facts(*p).name == program);
        let raw = raw.ok_or_else(|| no_program(&self.name, program))?;
        let link = attach::attach(raw, &program_facts(raw), Some(target))?;
        self.links.insert(format!("{program}@{target}"), link);
        Ok(())
    }

    pub fn attach(&mut self, program: &str) -> Result<()> {
        if let State::Open(_) = self.state {
            return Err(Error::new(
                Kind::Attach,
                format!("object {} is not loaded: cannot attach {program}", self.name),
            ));
        }
        let raw = self.raw_program(program)?;
        if self.links.contains_key(program) {
            return Err(Error::new(Kind::Attach, format!("program {program} is attached already")));
        }
        let target = self.targets.get(program).map(String::as_str);
        let link = attach::attach(raw, &program_facts(raw), target)?;
        self.links.insert(program.to_string(), link);
        Ok(())
    }

    /// Attaches a loaded program by `work`; the result is the number for [`Object::release`].
    pub fn attach_with(
        &mut self,
        program: &str,
        work: impl FnOnce(NonNull<sys::bpf_program>) -> Result<Box<dyn Attachment>>,
    ) -> Result<u64> {
        let raw = self.raw_program(program)?;
        // This fails when the program is not loaded.
        program_fd(raw)?;
        let attachment = work(raw)?;
        self.last_attachment += 1;
        self.attachments.insert(self.last_attachment, attachment);
        Ok(self.last_attachment)
    }

    /// Takes one attachment of [`Object::attach_with`] out; the outer None: there is none of that
    /// number. It ends when the value is dropped, for which the kernel may wait for an RCU grace
    /// period; the inner None: it has ended.
    pub fn release(&mut self, number: u64) -> Option<Option<Box<dyn Attachment>>> {
        let found = self.attachments.remove(&number)?;
        Some((!found.changes_object()).then_some(found))
    }

    /// Detaches every program. Maps can still be read.
    pub fn detach(&mut self) {
        end_together(self.links.drain().map(|(_, link)| link).collect());
        self.attachments.clear();
    }
}

/// Closing the perf event of a tracepoint waits for an RCU grace period, some 60 ms. Several
/// threads close links, so that the waits overlap.
fn end_together(mut links: Vec<Link>) {
    let each = links.len().div_ceil(MAX_THREADS).max(1);
    std::thread::scope(|scope| {
        while links.len() > each {
            let part = links.split_off(links.len() - each);
            // When no thread can be created, the closure is dropped, and its links with it.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(part));
        }
        drop(links);
    });
}
