//! The fields of a data source. They are checked once, when the plan is compiled.

use std::collections::HashMap;
use std::ops::Range;

use super::plan::{self, Kind};
use crate::errors::{Error, Result};

pub const MAX_FIELDS: usize = 4096;
/// Larger than any ring buffer sample of a gadget.
pub const MAX_SAMPLE: usize = 1 << 24;
const MAX_DEPTH: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    pub shift: u32,
    pub width: u32,
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub full_name: String,
    /// Index (not id) of the parent.
    pub parent: Option<usize>,
    pub kind: Kind,
    pub array: bool,
    /// Elements, 1 unless an array.
    pub count: usize,
    /// Bytes of one element.
    pub element: usize,
    pub offset: usize,
    pub size: usize,
    pub bits: Option<Bits>,
    /// The value comes from a step, not from the sample.
    pub slot: bool,
    /// A step replaces the sample's value (timestamps).
    pub patched: bool,
    /// A step reads its bytes, whatever kind it has.
    raw: bool,
    pub json: bool,
}

impl Field {
    /// A field of the top level that is in no sample.
    pub fn added(name: &str, kind: Kind) -> Field {
        Field {
            name: name.to_string(),
            full_name: name.to_string(),
            parent: None,
            kind,
            array: false,
            count: 1,
            element: 0,
            offset: 0,
            size: 0,
            bits: None,
            slot: true,
            patched: false,
            raw: false,
            json: true,
        }
    }
}

/// Bytes of one value of a fixed-size kind.
pub fn width(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Bool | Kind::U8 | Kind::I8 => Some(1),
        Kind::U16 | Kind::I16 => Some(2),
        Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
        Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
        Kind::Char | Kind::Bytes | Kind::Str | Kind::Container => None,
    }
}

pub fn is_integer(kind: Kind) -> bool {
    is_signed(kind) || matches!(kind, Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64)
}

pub fn is_signed(kind: Kind) -> bool {
    matches!(kind, Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64)
}

/// The fields in the order of the plan, and their indexes by id.
#[derive(Debug)]
pub struct Fields {
    pub list: Vec<Field>,
    ids: HashMap<u32, usize>,
    datasource: String,
}

impl Fields {
    pub fn compile(ds: &plan::DataSource) -> Result<Fields> {
        let bad = |why: String| Error::plan(format!("data source {}: {why}", ds.name));
        if ds.sample_size > MAX_SAMPLE || ds.min_size > ds.sample_size {
            return Err(bad(format!(
                "sample_size {} (at most {MAX_SAMPLE}), min_size {}",
                ds.sample_size, ds.min_size
            )));
        }
        if ds.fields.len() > MAX_FIELDS {
            return Err(bad(format!("{} fields, at most {MAX_FIELDS}", ds.fields.len())));
        }
        let mut ids = HashMap::new();
        for (index, field) in ds.fields.iter().enumerate() {
            if ids.insert(field.id, index).is_some() {
                return Err(bad(format!("two fields have id {}", field.id)));
            }
        }
        let mut list = Vec::with_capacity(ds.fields.len());
        for field in &ds.fields {
            let parent = match field.parent {
                None => None,
                Some(id) => Some(*ids.get(&id).ok_or_else(|| {
                    bad(format!("field {} has unknown parent {id}", field.full_name))
                })?),
            };
            list.push(
                compile(field, parent, ds.sample_size)
                    .map_err(|why| bad(format!("field {}: {why}", field.full_name)))?,
            );
        }
        let fields = Fields { list, ids, datasource: ds.name.clone() };
        fields.check_depth().map_err(bad)?;
        Ok(fields)
    }

    fn check_depth(&self) -> std::result::Result<(), String> {
        for field in &self.list {
            let mut at = field.parent;
            for _ in 0..MAX_DEPTH {
                at = at.and_then(|i| self.list[i].parent);
            }
            if at.is_some() {
                return Err(format!(
                    "field {} is nested deeper than {MAX_DEPTH} or in itself",
                    field.full_name
                ));
            }
        }
        Ok(())
    }

    /// A step may replace the value of the field of this full name.
    pub fn patch(&mut self, full_name: &str) {
        for field in self.list.iter_mut().filter(|f| f.full_name == full_name) {
            field.patched = true;
        }
    }

    /// The name of the data source.
    pub fn datasource(&self) -> &str {
        &self.datasource
    }

    pub fn index(&self, id: u32, role: &str) -> Result<usize> {
        self.ids.get(&id).copied().ok_or_else(|| {
            Error::plan(format!("data source {}: {role} names unknown field {id}", self.datasource))
        })
    }

    fn wrong(&self, index: usize, role: &str, wanted: &str) -> Error {
        Error::plan(format!(
            "data source {}: {role}: field {} must be {wanted}",
            self.datasource, self.list[index].full_name
        ))
    }

    /// A single integer (or bool) to read.
    pub fn integer(&self, id: u32, role: &str) -> Result<usize> {
        let index = self.index(id, role)?;
        let field = &self.list[index];
        if field.array || !(is_integer(field.kind) || field.kind == Kind::Bool) {
            return Err(self.wrong(index, role, "a single integer"));
        }
        Ok(index)
    }

    /// A slot for text.
    pub fn text_slot(&self, id: u32, role: &str) -> Result<usize> {
        let index = self.index(id, role)?;
        let field = &self.list[index];
        if !field.slot || field.array || !matches!(field.kind, Kind::Str | Kind::Char) {
            return Err(self.wrong(index, role, "a text slot"));
        }
        Ok(index)
    }

    /// Any slot with a single value.
    pub fn any_slot(&self, id: u32, role: &str) -> Result<usize> {
        let index = self.index(id, role)?;
        let field = &self.list[index];
        if !field.slot || field.array {
            return Err(self.wrong(index, role, "a slot"));
        }
        Ok(index)
    }

    /// A slot for bytes or text.
    pub fn bytes_slot(&self, id: u32, role: &str) -> Result<usize> {
        let index = self.any_slot(id, role)?;
        if !matches!(self.list[index].kind, Kind::Bytes | Kind::Str | Kind::Char) {
            return Err(self.wrong(index, role, "a slot for bytes or text"));
        }
        Ok(index)
    }

    /// A single value that has an order.
    pub fn ordered(&self, id: u32, role: &str) -> Result<usize> {
        let index = self.index(id, role)?;
        let field = &self.list[index];
        if field.array || matches!(field.kind, Kind::Bytes | Kind::Container) {
            return Err(self.wrong(index, role, "a single number, bool or text"));
        }
        Ok(index)
    }

    /// At least `size` bytes of the sample; returns their offset.
    pub fn place(&mut self, id: u32, role: &str, size: usize) -> Result<usize> {
        let index = self.index(id, role)?;
        let field = &self.list[index];
        if field.slot || field.size < size {
            return Err(self.wrong(index, role, &format!("{size} bytes of the sample")));
        }
        let offset = field.offset;
        self.list[index].raw = true;
        Ok(offset)
    }

    /// Where the sample has texts of at least `size` bytes of which nothing behind the NUL is read.
    pub fn texts(&self, size: usize) -> Vec<Range<usize>> {
        let read = |f: &&Field| !f.slot && f.kind != Kind::Container && f.size > 0;
        let place = |f: &Field| f.offset..f.offset + f.size;
        let fields: Vec<&Field> = self.list.iter().filter(read).collect();
        // Of a union, the bytes are those of other fields too.
        let apart = |f: &Field| {
            fields.iter().filter(|other| overlap(&place(f), &place(other))).count() == 1
        };
        let is_text = |f: &&&Field| f.kind == Kind::Char && !f.array && !f.raw && f.size >= size;
        fields.iter().filter(is_text).filter(|f| apart(f)).map(|f| place(f)).collect()
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

fn compile(
    field: &plan::Field,
    parent: Option<usize>,
    sample_size: usize,
) -> std::result::Result<Field, String> {
    let array = field.array || field.count.is_some_and(|n| n > 1);
    let container = field.kind == Kind::Container;
    let slot = field.slot || field.kind == Kind::Str;
    let mut compiled = Field {
        name: field.name.clone(),
        full_name: field.full_name.clone(),
        parent,
        kind: field.kind,
        array: array && !container,
        count: 1,
        element: field.size,
        offset: field.offset,
        size: field.size,
        bits: None,
        slot: slot && !container,
        patched: false,
        raw: false,
        json: field.json,
    };
    if compiled.slot {
        if array {
            return Err("an array cannot be a slot".into());
        }
        return Ok(compiled);
    }
    if field.offset.checked_add(field.size).is_none_or(|end| end > sample_size) {
        return Err(format!(
            "offset {} size {} is outside the {sample_size} bytes of the sample",
            field.offset, field.size
        ));
    }
    if container {
        return Ok(compiled);
    }
    if field.bits > 0 {
        let storage = field.size as u64 * 8;
        let end = u64::from(field.bits) + u64::from(field.bit_offset);
        if !is_integer(field.kind) && field.kind != Kind::Bool {
            return Err("only integers can be bit-fields".into());
        }
        if array || storage > 64 || end > storage {
            return Err(format!("bits {} at {} of {storage}", field.bits, field.bit_offset));
        }
        compiled.bits = Some(Bits { shift: field.bit_offset, width: field.bits });
        return Ok(compiled);
    }
    if array {
        let default = width(field.kind).map_or(1, |w| field.size / w);
        compiled.count = field.count.filter(|n| *n > 0).unwrap_or(default);
        if compiled.count > 0 {
            if !field.size.is_multiple_of(compiled.count) {
                return Err(format!("{} elements in {} bytes", compiled.count, field.size));
            }
            compiled.element = field.size / compiled.count;
        }
    }
    match width(field.kind) {
        Some(w) if w != compiled.element && compiled.count > 0 => {
            Err(format!("an element of {} bytes cannot be {:?}", compiled.element, field.kind))
        }
        _ => Ok(compiled),
    }
}
