//! YAML documents. A string is quoted only if YAML would read it as something else.

use super::json::is_object;
use super::tree::Node;
use super::yaml_scalar;
use super::{float, json};
use crate::schema::event::{Array, Event, Value};
use crate::schema::field::{Field, Fields};

struct Part {
    literal: Box<[u8]>,
    field: usize,
    depth: usize,
}

pub struct Yaml {
    parts: Vec<Part>,
}

const NO_FIELD: usize = usize::MAX;

struct Builder {
    parts: Vec<Part>,
    literal: Vec<u8>,
}

impl Builder {
    fn part(&mut self, field: usize, depth: usize) {
        let literal = std::mem::take(&mut self.literal).into_boxed_slice();
        self.parts.push(Part { literal, field, depth });
    }

    /// Every value part begins right after the colon and ends its own line.
    fn mapping(&mut self, nodes: &[Node], fields: &Fields, depth: usize) {
        for node in nodes {
            let field = &fields.list[node.index];
            self.literal.resize(self.literal.len() + 2 * depth, b' ');
            yaml_scalar::key(field.name.as_bytes(), &mut self.literal);
            self.literal.push(b':');
            if !is_object(node, field) {
                self.part(node.index, depth);
            } else if node.children.is_empty() {
                self.literal.extend_from_slice(b" {}\n");
            } else {
                self.literal.push(b'\n');
                self.mapping(&node.children, fields, depth + 1);
            }
        }
    }
}

impl Yaml {
    pub fn compile(nodes: &[Node], fields: &Fields) -> Yaml {
        let mut b = Builder { parts: Vec::new(), literal: b"---\n".to_vec() };
        if nodes.is_empty() {
            b.literal.extend_from_slice(b"{}\n");
        }
        b.mapping(nodes, fields, 0);
        b.part(NO_FIELD, 0);
        Yaml { parts: b.parts }
    }

    /// The fields that are written.
    pub fn reads(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().map(|part| part.field).filter(|field| *field != NO_FIELD)
    }

    /// One document: `---` and the event.
    pub fn write(&self, event: &Event<'_>, fields: &[Field], out: &mut Vec<u8>) {
        for part in &self.parts {
            out.extend_from_slice(&part.literal);
            let Some(field) = fields.get(part.field) else { continue };
            match event.value(part.field, field) {
                Value::Array(array) => sequence(&array, part.depth, out),
                other => {
                    out.push(b' ');
                    scalar(other, part.depth + 1, out);
                    out.push(b'\n');
                }
            }
        }
    }
}

fn sequence(array: &Array<'_>, depth: usize, out: &mut Vec<u8>) {
    if array.is_empty() {
        out.extend_from_slice(b" []\n");
        return;
    }
    out.push(b'\n');
    for value in array.iter() {
        // Items have the indentation of their key.
        out.resize(out.len() + 2 * depth, b' ');
        out.extend_from_slice(b"- ");
        scalar(value, depth + 1, out);
        out.push(b'\n');
    }
}

fn scalar(value: Value<'_>, depth: usize, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => yaml_scalar::string(text, depth, out),
        Value::F32(f) if f.is_finite() && f.fract() != 0.0 => float::go(&float::shortest32(f), out),
        Value::F64(f) if f.is_finite() && f.fract() != 0.0 => float::go(&float::shortest64(f), out),
        Value::Bytes(raw) => {
            let mut hex = Vec::new();
            json::scalar(Value::Bytes(raw), &mut hex);
            yaml_scalar::string(&hex[1..hex.len() - 1], depth, out);
        }
        other => json::scalar(other, out),
    }
}
