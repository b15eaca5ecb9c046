//! Arrays: reading them, and what is taken out of their maps between two readings.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use crate::errors::{Error, Result};
use crate::pipeline::steps::context::Owner;

use super::rows::let_go;
use super::sink::Batch;
use super::state::{shown, taken, State, Taken};
use super::Stream;

impl Stream {
    /// Reads all that an array data source shows now; the second value is what failed. The stream
    /// can be used meanwhile; a second reading of the same data source is refused until this
    /// one has ended.
    pub fn read_array(
        &self,
        datasource: &str,
        netns: &[BorrowedFd<'_>],
    ) -> Result<(Batch, Option<Error>)> {
        let (index, mut array, held) = self.with(|state| {
            let index = state.find(datasource)?;
            state.lookups.clock.refresh();
            let array = state.take_array(index)?;
            if let Some(rows) = state.rows(index)? {
                rows.begin_reading();
            }
            let State { lookups, datasources, .. } = state;
            Ok((index, array, datasources[index].begin(lookups)))
        })?;
        let (size, takes) = (array.element_size(), array.takes());
        let outcome = array.read(netns, &mut |elements| {
            self.with(|state| {
                let State { lookups, datasources, admission, .. } = state;
                let source = &mut datasources[index].source;
                for sample in elements.chunks_exact(size) {
                    let owner = match takes {
                        true => taken(admission, index, source, sample)?,
                        false if shown(admission, source, sample)? => Taken::Shown(Owner::Now),
                        false => Taken::LeftOut,
                    };
                    if let Taken::Shown(owner) = owner {
                        source.process_of(lookups, sample, owner);
                    }
                }
                Ok(true)
            })
        });
        self.with(|state| {
            if let Some(rows) = state.rows(index)? {
                rows.end_reading(outcome.is_ok());
            }
            let State { lookups, datasources, .. } = state;
            let found = &mut datasources[index];
            found.array = Some(array);
            let rendered = found.source.finish(lookups);
            let_go(lookups, &held);
            Ok((Batch { datasource: datasource.to_string(), rendered }, outcome.err()))
        })
    }

    /// Takes the elements of mount namespaces that have ended out of the map of a data source, with
    /// the names of their containers: the next array shows them. To be called while nothing else
    /// can have these numbers. Returns what failed.
    pub fn take_ended(&self, datasource: &str, mntns: &[u64]) -> Result<Option<Error>> {
        let found = self.with(|state| {
            let index = state.find(datasource)?;
            let at = state.datasources[index].rows_at();
            at.map(|at| Ok((index, at, state.take_array(index)?))).transpose()
        })?;
        let Some((index, at, mut array)) = found else { return Ok(None) };
        let ended: HashSet<u64> = mntns.iter().copied().collect();
        let mut of_ended = |element: &[u8]| {
            let number = element.get(at..at + 8).and_then(|raw| raw.try_into().ok());
            number.is_some_and(|raw| ended.contains(&u64::from_ne_bytes(raw)))
        };
        let outcome = array.take_some(&mut of_ended, &mut |element| {
            self.with(|state| state.keep_for_next(index, element).map(|()| true))
        });
        self.with(|state| {
            state.datasources[index].array = Some(array);
            if let (Ok(()), Some(rows)) = (&outcome, state.rows(index)?) {
                rows.taken(mntns);
            }
            Ok(outcome.err())
        })
    }

    /// An array of the elements that were read before their container was identified, and that no
    /// reading has shown since; None when there are none.
    pub fn released_array(&self, datasource: &str) -> Result<Option<Batch>> {
        self.with(|state| {
            let index = state.find(datasource)?;
            state.lookups.clock.refresh();
            let State { lookups, datasources, .. } = state;
            let found = &mut datasources[index];
            if found.released.is_empty() || found.source.is_open() {
                return Ok(None);
            }
            let held = found.begin(lookups);
            let rendered = found.source.finish(lookups);
            let_go(lookups, &held);
            Ok(Some(Batch { datasource: datasource.to_string(), rendered }))
        })
    }
}
