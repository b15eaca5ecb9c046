//! The elements of one reading of an array: sorted, limited and rendered together.

use std::cmp::Ordering;

use super::steps::context::Owner;
use crate::errors::{Error, Result};
use crate::schema::event::{Event, Value};
use crate::schema::field::Fields;
use crate::schema::plan;

const MAX_SORT_FIELDS: usize = 64;
/// Bytes of elements and sort keys that wait to be sorted.
pub const MAX_UNSORTED: usize = 128 << 20;
/// Rendered bytes of one array.
pub const MAX_RENDERED: usize = 128 << 20;

/// A value by which elements are sorted.
#[derive(Debug, PartialEq)]
enum Key {
    Number(i128),
    Float(f64),
    Text(Box<[u8]>),
}

impl Key {
    fn of(value: Value<'_>) -> Key {
        match value {
            Value::Bool(b) => Key::Number(b.into()),
            Value::Int(i) => Key::Number(i.into()),
            Value::Uint(u) => Key::Number(u.into()),
            Value::F32(f) => Key::Float(f.into()),
            Value::F64(f) => Key::Float(f),
            Value::Text(text) => Key::Text(text.into()),
            Value::Bytes(_) | Value::Array(_) | Value::Container(_) => Key::Number(0),
        }
    }

    fn cmp(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Number(a), Key::Number(b)) => a.cmp(b),
            (Key::Float(a), Key::Float(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            // The value of an empty slot may have another kind than that of a filled one.
            (Key::Number(_), _) | (_, Key::Text(_)) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Key>() + if let Key::Text(text) = self { text.len() } else { 0 }
    }
}

pub struct Array {
    by: Vec<(usize, bool)>,
    pub limit: u64,
    /// Text before the rows of an array.
    pub header: Vec<u8>,
    /// Elements that are rendered in the current array.
    pub shown: u64,
    pub open: bool,
    /// Whole samples that wait to be sorted, one behind the other.
    unsorted: Vec<u8>,
    /// The container of each of them.
    owners: Vec<Owner>,
    keys: Vec<Key>,
    key_bytes: usize,
}

impl Array {
    pub fn compile(plan: &plan::DataSource, fields: &Fields) -> Result<Array> {
        if plan.sort.len() > MAX_SORT_FIELDS {
            return Err(Error::plan(format!(
                "data source {}: sorted by {} fields, at most {MAX_SORT_FIELDS}",
                plan.name,
                plan.sort.len()
            )));
        }
        let by = plan.sort.iter().map(|s| Ok((fields.ordered(s.field, "sort")?, s.descending)));
        Ok(Array {
            by: by.collect::<Result<_>>()?,
            limit: plan.limit.unwrap_or(u64::MAX),
            header: plan.output.header.clone().into_bytes(),
            shown: 0,
            open: false,
            unsorted: Vec::new(),
            owners: Vec::new(),
            keys: Vec::new(),
            key_bytes: 0,
        })
    }

    pub fn sorts(&self) -> bool {
        !self.by.is_empty()
    }

    /// Keeps the values by which an element is sorted; false when there is no room.
    pub fn collect_keys(&mut self, event: &Event<'_>, fields: &Fields) -> bool {
        let start = self.keys.len();
        for (index, _) in &self.by {
            let key = Key::of(event.value(*index, &fields.list[*index]));
            self.key_bytes += key.bytes();
            self.keys.push(key);
        }
        if self.unsorted.len() + event.sample.len() + self.key_bytes > MAX_UNSORTED {
            self.key_bytes -= self.keys.drain(start..).map(|k| k.bytes()).sum::<usize>();
            return false;
        }
        true
    }

    /// Keeps an element to be sorted; false when there is no room.
    pub fn collect(&mut self, event: &Event<'_>, fields: &Fields, owner: Owner) -> bool {
        if !self.collect_keys(event, fields) {
            return false;
        }
        self.unsorted.extend_from_slice(event.sample);
        self.owners.push(owner);
        true
    }

    /// Takes the samples, one behind the other, the container of each, and their order.
    pub fn take_sorted(&mut self) -> (Vec<u8>, Vec<Owner>, Vec<usize>) {
        let order = self.take_order();
        (std::mem::take(&mut self.unsorted), std::mem::take(&mut self.owners), order)
    }

    /// The order of the elements whose keys were collected.
    pub fn take_order(&mut self) -> Vec<usize> {
        let (keys, width) = (std::mem::take(&mut self.keys), self.by.len());
        self.key_bytes = 0;
        let mut order: Vec<usize> = (0..keys.len() / width.max(1)).collect();
        for (column, (_, descending)) in self.by.iter().enumerate().rev() {
            let key = |element: usize| &keys[element * width + column];
            if *descending {
                // As in `ig`, equal elements are in reverse order.
                order.reverse();
                order.sort_by(|a, b| key(*b).cmp(key(*a)));
            } else {
                order.sort_by(|a, b| key(*a).cmp(key(*b)));
            }
        }
        order
    }
}
