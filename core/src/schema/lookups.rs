//! What steps look up: containers, user and group names, maps, symbols and the clock's offset.

use std::collections::HashMap;

use crate::bpf::map::Map;
use crate::errors::{Error, Result};
use crate::numbers::ByNumber;
use crate::schema::wall::{WallClock, Zone};
use crate::symbols::Symbols;

/// Containers of one node; the bound protects against a caller that adds without end.
const MAX_CONTAINERS: usize = 1 << 16;
const MAX_NAMES: usize = 1 << 20;
const MAX_MAPS: usize = 64;

/// A value given for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerValue {
    Text(Box<str>),
    Bool(bool),
    Int(i64),
    Uint(u64),
}

impl ContainerValue {
    fn is_text(&self) -> bool {
        matches!(self, ContainerValue::Text(s) if !s.is_empty())
    }
}

#[derive(Debug, Default)]
struct Row {
    mntns: u64,
    netns: u64,
    host_network: bool,
    pod: bool,
    /// The container has ended. It is found as long as no running container shares its network
    /// namespace.
    ended: bool,
    /// Elements that are to be shown with this row.
    held: usize,
    /// No namespace leads to it any more: it is free when it is no longer held.
    dropped: bool,
    /// By column.
    values: Vec<Option<ContainerValue>>,
}

/// Which fields of a row an event gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// All fields: found by mount namespace, or the only container of its network namespace.
    Full(u32),
    /// Only the fields of the pod: the first of several containers that share a network namespace.
    Pod(u32),
}

/// Containers by mount and network namespace. Rows are reused, columns fixed at compile time.
#[derive(Debug, Default)]
pub struct Containers {
    columns: Vec<String>,
    rows: Vec<Row>,
    free: Vec<u32>,
    by_mntns: ByNumber<u64, u32>,
    /// In the order in which the containers were added.
    by_netns: ByNumber<u64, Vec<u32>>,
    /// The number of changes so far.
    version: u64,
    held_rows: usize,
}

impl Containers {
    /// The column for a full field name; added when it is new.
    pub fn column(&mut self, name: &str) -> u32 {
        let index = self.columns.iter().position(|c| c == name).unwrap_or_else(|| {
            self.columns.push(name.to_string());
            self.columns.len() - 1
        });
        index as u32
    }

    pub fn value(&self, row: u32, column: u32) -> Option<&ContainerValue> {
        self.rows.get(row as usize)?.values.get(column as usize)?.as_ref()
    }

    pub fn set(
        &mut self,
        mntns: u64,
        netns: u64,
        given: &[(String, ContainerValue)],
    ) -> Result<()> {
        self.drop(mntns);
        if self.by_mntns.len() >= MAX_CONTAINERS {
            return Err(Error::plan(format!("more than {MAX_CONTAINERS} containers")));
        }
        let find = |name: &str| given.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        let row = Row {
            mntns,
            netns,
            host_network: find("k8s.hostnetwork") == Some(&ContainerValue::Bool(true)),
            pod: find("k8s.podName").is_some_and(ContainerValue::is_text)
                && find("k8s.namespace").is_some_and(ContainerValue::is_text),
            ended: false,
            held: 0,
            dropped: false,
            values: self.columns.iter().map(|c| find(c).cloned()).collect(),
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.rows[index as usize] = row;
                index
            }
            None => {
                self.rows.push(row);
                (self.rows.len() - 1) as u32
            }
        };
        self.by_mntns.insert(mntns, index);
        self.version += 1;
        if netns != 0 {
            self.by_netns.entry(netns).or_default().push(index);
        }
        Ok(())
    }

    pub fn drop(&mut self, mntns: u64) {
        let Some(index) = self.by_mntns.remove(&mntns) else { return };
        let row = &mut self.rows[index as usize];
        debug_assert_eq!(row.mntns, mntns);
        let netns = row.netns;
        row.dropped = true;
        if let Some(sharing) = self.by_netns.get_mut(&netns) {
            sharing.retain(|i| *i != index);
            if sharing.is_empty() {
                self.by_netns.remove(&netns);
            }
        }
        self.free_if_unused(index);
        self.version += 1;
    }

    fn free_if_unused(&mut self, index: u32) {
        let row = &mut self.rows[index as usize];
        if row.dropped && row.held == 0 {
            *row = Row::default();
            self.free.push(index);
        }
    }

    /// Keeps the row of a mount namespace until [`Containers::let_go`], also when its number is
    /// given to another container; None when there is no such row, or too many are kept.
    pub fn hold(&mut self, mntns: u64) -> Option<u32> {
        let index = *self.by_mntns.get(&mntns)?;
        let row = &mut self.rows[index as usize];
        if row.held == 0 {
            if self.held_rows >= MAX_CONTAINERS {
                return None;
            }
            self.held_rows += 1;
        }
        row.held += 1;
        Some(index)
    }

    /// Undoes one [`Containers::hold`].
    pub fn let_go(&mut self, index: u32) {
        let Some(row) = self.rows.get_mut(index as usize) else { return };
        row.held = row.held.saturating_sub(1);
        if row.held == 0 {
            self.held_rows = self.held_rows.saturating_sub(1);
            self.free_if_unused(index);
        }
    }

    pub fn end(&mut self, mntns: u64) {
        if let Some(index) = self.by_mntns.get(&mntns) {
            self.rows[*index as usize].ended = true;
        }
    }

    pub fn knows(&self, mntns: u64) -> bool {
        self.by_mntns.contains_key(&mntns)
    }

    /// Looks for the mount namespace first, then for the network namespace if it is that of one
    /// container or pod.
    pub fn find(&self, mntns: Option<u64>, netns: Option<u64>) -> Option<Match> {
        if let Some(index) = mntns.and_then(|m| self.by_mntns.get(&m)) {
            return Some(Match::Full(*index));
        }
        let sharing = self.by_netns.get(&netns.filter(|n| *n != 0)?)?;
        let mut living = sharing.iter().filter(|i| !self.rows[**i as usize].ended);
        let (first, alone) = match living.next() {
            Some(first) => (*first, living.next().is_none()),
            None => (*sharing.first()?, sharing.len() == 1),
        };
        let row = &self.rows[first as usize];
        match (row.host_network, alone) {
            (true, _) => None,
            (false, true) => Some(Match::Full(first)),
            (false, false) => row.pod.then_some(Match::Pod(first)),
        }
    }
}

/// Maps of the object that steps read: names until the object is loaded, then open maps.
#[derive(Default)]
pub struct Maps {
    names: Vec<String>,
    open: Vec<Map>,
}

impl Maps {
    pub fn index(&mut self, name: &str) -> Result<usize> {
        if let Some(index) = self.names.iter().position(|n| n == name) {
            return Ok(index);
        }
        if self.names.len() >= MAX_MAPS {
            return Err(Error::plan(format!("steps look into more than {MAX_MAPS} maps")));
        }
        self.names.push(name.to_string());
        Ok(self.names.len() - 1)
    }

    /// `find` opens a map by its name.
    pub fn open(&mut self, find: impl Fn(&str) -> Result<Map>) -> Result<()> {
        self.open = self.names.iter().map(|n| find(n)).collect::<Result<_>>()?;
        Ok(())
    }

    pub fn lookup(&self, index: usize, key: &[u8]) -> Option<Vec<u8>> {
        self.open.get(index)?.lookup(key).ok()?
    }
}

/// Shared by all data sources of a stream.
#[derive(Default)]
pub struct Lookups {
    pub maps: Maps,
    pub symbols: Symbols,
    pub clock: WallClock,
    pub zone: Zone,
    pub containers: Containers,
    pub users: ByNumber<u32, Box<str>>,
    pub groups: ByNumber<u32, Box<str>>,
    /// The number of changes of user and group names.
    pub renamed: u64,
}

impl Lookups {
    /// Grows whenever a container or a name changes.
    #[inline]
    pub fn version(&self) -> u64 {
        self.containers.version + self.renamed
    }

    pub fn set_names(
        &mut self,
        users: HashMap<u32, Box<str>>,
        groups: HashMap<u32, Box<str>>,
    ) -> Result<()> {
        if users.len() > MAX_NAMES || groups.len() > MAX_NAMES {
            return Err(Error::plan(format!("more than {MAX_NAMES} user or group names")));
        }
        self.users = users.into_iter().collect();
        self.groups = groups.into_iter().collect();
        self.renamed += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, value: &str) -> (String, ContainerValue) {
        (name.into(), ContainerValue::Text(value.into()))
    }

    #[test]
    fn mount_namespace_wins_and_rows_are_reused() {
        let mut c = Containers::default();
        let name = c.column("runtime.containerName");
        c.set(1, 10, &[text("runtime.containerName", "a")]).unwrap();
        c.set(2, 20, &[text("runtime.containerName", "b")]).unwrap();
        let Some(Match::Full(row)) = c.find(Some(2), Some(10)) else { panic!() };
        assert_eq!(c.value(row, name), Some(&ContainerValue::Text("b".into())));
        c.drop(2);
        assert_eq!(c.find(Some(2), Some(20)), None);
        c.set(3, 0, &[]).unwrap();
        assert_eq!(c.rows.len(), 2);
        assert_eq!(c.value(row, name), None);
    }

    #[test]
    fn a_held_row_outlives_its_number() {
        let mut c = Containers::default();
        let name = c.column("runtime.containerName");
        c.set(1, 10, &[text("runtime.containerName", "a")]).unwrap();
        let row = c.hold(1).unwrap();
        assert_eq!((c.hold(1), c.hold(2)), (Some(row), None));
        c.set(1, 10, &[text("runtime.containerName", "b")]).unwrap();
        let Some(Match::Full(later)) = c.find(Some(1), None) else { panic!() };
        assert_ne!(row, later);
        assert_eq!(c.value(row, name), Some(&ContainerValue::Text("a".into())));
        assert_eq!(c.find(None, Some(10)), Some(Match::Full(later)));
        c.let_go(row);
        assert!(c.value(row, name).is_some() && c.free.is_empty());
        c.let_go(row);
        assert_eq!((c.value(row, name), c.free.len(), c.held_rows), (None, 1, 0));
        let kept = c.hold(1).unwrap();
        c.let_go(kept);
        assert_eq!(c.find(Some(1), None), Some(Match::Full(later)));
    }

    #[test]
    fn network_namespace_speaks_only_when_unambiguous() {
        let mut c = Containers::default();
        c.set(1, 10, &[]).unwrap();
        assert!(matches!(c.find(Some(9), Some(10)), Some(Match::Full(_))));
        c.set(2, 10, &[]).unwrap();
        assert_eq!(c.find(None, Some(10)), None);
        let pod = [text("k8s.podName", "p"), text("k8s.namespace", "n")];
        c.set(3, 11, &pod).unwrap();
        c.set(4, 11, &pod).unwrap();
        assert!(matches!(c.find(None, Some(11)), Some(Match::Pod(_))));
        c.set(5, 12, &[("k8s.hostnetwork".into(), ContainerValue::Bool(true))]).unwrap();
        assert_eq!(c.find(None, Some(12)), None);
        assert_eq!(c.find(None, Some(0)), None);
    }

    #[test]
    fn the_living_come_before_the_ended() {
        let mut c = Containers::default();
        let name = c.column("runtime.containerName");
        c.set(1, 10, &[text("runtime.containerName", "a")]).unwrap();
        c.set(2, 10, &[text("runtime.containerName", "b")]).unwrap();
        c.end(1);
        c.end(7);
        let Some(Match::Full(row)) = c.find(None, Some(10)) else { panic!() };
        assert_eq!(c.value(row, name), Some(&ContainerValue::Text("b".into())));
        assert!(matches!(c.find(Some(1), None), Some(Match::Full(_))));
        c.end(2);
        assert_eq!(c.find(None, Some(10)), None);
        c.drop(2);
        let Some(Match::Full(row)) = c.find(None, Some(10)) else { panic!() };
        assert_eq!(c.value(row, name), Some(&ContainerValue::Text("a".into())));
    }

    #[test]
    fn replacing_keeps_one_entry() {
        let mut c = Containers::default();
        c.set(1, 10, &[]).unwrap();
        c.set(1, 10, &[]).unwrap();
        assert!(matches!(c.find(None, Some(10)), Some(Match::Full(_))));
    }
}
