//! Enumerators by value, and sets of flags.

use std::collections::HashMap;

use crate::errors::{Error, Result};
use crate::schema::event::Slot;

pub struct Table {
    by_value: HashMap<u64, u32>,
    /// (value, text) in declaration order, for sets.
    members: Vec<(u64, u32)>,
    set: bool,
    separator: Box<str>,
}

pub enum Found {
    One(Slot),
    Set,
}

impl Table {
    /// Negative values are sign-extended, as the values of signed fields are.
    pub fn compile(
        values: &[(serde_json::Number, String)],
        set: bool,
        separator: &str,
        texts: &mut Vec<Box<str>>,
    ) -> Result<Table> {
        let mut table = Table {
            by_value: HashMap::new(),
            members: Vec::with_capacity(values.len()),
            set,
            separator: separator.into(),
        };
        for (number, name) in values {
            let value = match (number.as_u64(), number.as_i64()) {
                (Some(u), _) => u,
                (None, Some(i)) => i as u64,
                (None, None) => {
                    return Err(Error::plan(format!("step enum: {number} is not a whole number")))
                }
            };
            let text = texts.len() as u32;
            texts.push(name.as_str().into());
            table.by_value.entry(value).or_insert(text);
            table.members.push((value, text));
        }
        Ok(table)
    }

    pub fn lookup(&self, value: u64) -> Found {
        if self.set {
            return Found::Set;
        }
        Found::One(match self.by_value.get(&value) {
            Some(text) => Slot::Named(*text),
            None => Slot::Static("UNKNOWN"),
        })
    }

    /// Writes every enumerator whose bits are all set in `value`; an enumerator of value 0 always
    /// is.
    pub fn write_set(&self, value: u64, texts: &[Box<str>], out: &mut Vec<u8>) {
        let mut first = true;
        for (member, text) in &self.members {
            if value & member != *member {
                continue;
            }
            if !first {
                out.extend_from_slice(self.separator.as_bytes());
            }
            first = false;
            out.extend_from_slice(texts[*text as usize].as_bytes());
        }
    }
}
