//! JSON. Everything that does not depend on the event is rendered when the plan is compiled.

use std::ops::Range;

use super::float;
use super::memo::Memo;
use super::ordinary::is_ordinary;
use super::tree::Node;
use crate::schema::dependency::Dependency;
use crate::schema::event::{Event, Value};
use crate::schema::field::{Field, Fields};

/// Longest literal that is copied as one block of fixed size.
const SHORT: usize = 32;

/// Literal bytes, then a field's value (usize::MAX: no value).
struct Part {
    literal: Box<[u8]>,
    /// The literal padded, when it fits: copying a constant size needs no call.
    short: Option<[u8; SHORT]>,
    field: usize,
}

impl Part {
    fn new(literal: Box<[u8]>, field: usize) -> Part {
        let short = (literal.len() <= SHORT).then(|| {
            let mut padded = [0; SHORT];
            padded[..literal.len()].copy_from_slice(&literal);
            padded
        });
        Part { literal, short, field }
    }

    #[inline]
    fn write_literal(&self, out: &mut Vec<u8>) {
        match &self.short {
            Some(padded) => {
                let end = out.len() + self.literal.len();
                out.extend_from_slice(padded);
                out.truncate(end);
            }
            None => out.extend_from_slice(&self.literal),
        }
    }
}

/// Fewer fields are written as quickly as their text is looked up.
const MIN_REPEATED: usize = 4;
/// Bytes of the sample that fields outside of objects may depend on to be remembered.
const MAX_SINGLE: usize = 8;

pub struct Json {
    parts: Vec<Part>,
    /// Parts with the same text in many events, in order: objects, and fields that a step fills.
    repeated: Vec<(Range<usize>, Memo)>,
    /// Indentation of the values' depth, for arrays of the pretty form.
    indents: Option<Vec<usize>>,
}

const NO_FIELD: usize = usize::MAX;

struct Builder<'a> {
    dependencies: &'a [Dependency],
    parts: Vec<Part>,
    repeated: Vec<(Range<usize>, Memo)>,
    indents: Vec<usize>,
    literal: Vec<u8>,
    pretty: bool,
}

impl Builder<'_> {
    fn newline(&mut self, depth: usize) {
        if self.pretty {
            self.literal.push(b'\n');
            self.literal.resize(self.literal.len() + 2 * depth, b' ');
        }
    }

    fn part(&mut self, field: usize, depth: usize) {
        let literal = std::mem::take(&mut self.literal).into_boxed_slice();
        self.parts.push(Part::new(literal, field));
        self.indents.push(depth);
    }

    fn object(&mut self, nodes: &[Node], fields: &Fields, depth: usize) {
        self.literal.push(b'{');
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                self.literal.push(b',');
            }
            self.newline(depth + 1);
            string(fields.list[node.index].name.as_bytes(), &mut self.literal);
            self.literal.extend_from_slice(if self.pretty { b": " } else { b":" });
            if is_object(node, &fields.list[node.index]) {
                self.child(node, fields, depth + 1);
            } else {
                self.part(node.index, depth + 1);
            }
        }
        if !nodes.is_empty() {
            self.newline(depth);
        }
        self.literal.push(b'}');
    }

    fn child(&mut self, node: &Node, fields: &Fields, depth: usize) {
        let (first, inner) = (self.parts.len(), self.repeated.len());
        self.object(&node.children, fields, depth);
        let parts = first..self.parts.len();
        let dependencies = self.parts[first..].iter().map(|part| &self.dependencies[part.field]);
        if parts.len() >= MIN_REPEATED {
            if let Some(memo) = Memo::of(dependencies) {
                // This replaces the entries of the objects inside.
                self.repeated.truncate(inner);
                self.repeated.push((parts, memo));
            }
        }
    }
}

impl Builder<'_> {
    /// Remembers what is left outside of objects: fields that depend on the same few bytes of the
    /// sample, such as a number and its name.
    fn remember_single(&mut self, fields: &Fields) {
        let dependency = |part: &Part| match self.dependencies.get(part.field) {
            Some(Dependency::Sample(range)) if range.len() <= MAX_SINGLE => Some(range.clone()),
            _ => None,
        };
        let mut found = Vec::new();
        let mut from = 0;
        while from < self.parts.len() {
            let inside = self.repeated.iter().find(|(range, _)| range.contains(&from));
            if let Some((range, _)) = inside {
                from = range.end;
                continue;
            }
            let Some(bytes) = dependency(&self.parts[from]) else {
                from += 1;
                continue;
            };
            let covered = |i: usize| self.repeated.iter().any(|(range, _)| range.contains(&i));
            let same =
                |i: &usize| dependency(&self.parts[*i]).as_ref() == Some(&bytes) && !covered(*i);
            let end = (from..self.parts.len()).take_while(same).last().map_or(from, |i| i) + 1;
            let named = self.parts[from..end].iter().any(|part| fields.list[part.field].slot);
            let needs = self.parts[from..end].iter().map(|part| &self.dependencies[part.field]);
            if let Some(memo) = Memo::of(needs).filter(|_| named) {
                found.push((from..end, memo));
            }
            from = end;
        }
        self.repeated.extend(found);
        self.repeated.sort_by_key(|(range, _)| range.start);
    }
}

pub fn is_object(node: &Node, field: &Field) -> bool {
    !node.children.is_empty() || field.kind == crate::schema::plan::Kind::Container
}

impl Json {
    /// `dependencies` are those of each field, by index.
    pub fn compile(
        nodes: &[Node],
        fields: &Fields,
        dependencies: &[Dependency],
        pretty: bool,
    ) -> Json {
        Json::of(nodes, fields, dependencies, pretty, b"\n")
    }

    /// An object that is an element of an array, without a newline.
    pub fn element(
        nodes: &[Node],
        fields: &Fields,
        dependencies: &[Dependency],
        pretty: bool,
    ) -> Json {
        Json::of(nodes, fields, dependencies, pretty, b"")
    }

    fn of(
        nodes: &[Node],
        fields: &Fields,
        dependencies: &[Dependency],
        pretty: bool,
        end: &[u8],
    ) -> Json {
        let mut b = Builder {
            dependencies,
            parts: Vec::new(),
            repeated: Vec::new(),
            indents: Vec::new(),
            literal: Vec::new(),
            pretty,
        };
        b.object(nodes, fields, usize::from(end.is_empty()));
        b.literal.extend_from_slice(end);
        b.part(NO_FIELD, 0);
        b.remember_single(fields);
        let indents = pretty.then_some(b.indents);
        Json { parts: b.parts, repeated: b.repeated, indents }
    }

    /// Calls `sink` with each field that is written, and whether its text is remembered: then its
    /// value is read only after [`Json::look`] was false.
    pub fn reads(&self, sink: &mut dyn FnMut(usize, bool)) {
        for (i, part) in self.parts.iter().enumerate().filter(|(_, p)| p.field != NO_FIELD) {
            sink(part.field, self.repeated.iter().any(|(range, _)| range.contains(&i)));
        }
    }

    /// To be called before [`Json::write`]; true when all texts that are remembered are known.
    pub fn look(&mut self, event: &Event<'_>) -> bool {
        let version = event.lookups.version();
        self.repeated.iter_mut().fold(true, |all, (_, memo)| memo.look(event, version) && all)
    }

    /// One event, with its newline unless it is an element.
    pub fn write(&mut self, event: &Event<'_>, fields: &[Field], out: &mut Vec<u8>) {
        let Json { parts, repeated, indents } = self;
        let write = |range: Range<usize>, out: &mut Vec<u8>| {
            for (i, part) in range.clone().zip(&parts[range]) {
                part.write_literal(out);
                let Some(field) = fields.get(part.field) else { continue };
                match event.value(part.field, field) {
                    Value::Array(array) => {
                        let depth = indents.as_ref().map(|d| d[i]);
                        write_array(&array, depth, out);
                    }
                    other => scalar(other, out),
                }
            }
        };
        let mut done = 0;
        for (range, memo) in repeated {
            write(done..range.start, out);
            memo.write(event, out, |out| write(range.clone(), out));
            done = range.end;
        }
        write(done..parts.len(), out);
    }
}

fn write_array(array: &crate::schema::event::Array<'_>, depth: Option<usize>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, value) in array.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if let Some(depth) = depth {
            indent(depth + 1, out);
        }
        scalar(value, out);
    }
    if let (Some(depth), false) = (depth, array.is_empty()) {
        indent(depth, out);
    }
    out.push(b']');
}

fn indent(depth: usize, out: &mut Vec<u8>) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth, b' ');
}

#[inline(always)]
pub fn scalar(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        Value::Uint(u) => out.extend_from_slice(itoa::Buffer::new().format(u).as_bytes()),
        Value::F32(f) if f.is_finite() => float::es6(&float::shortest32(f), out),
        Value::F64(f) if f.is_finite() => float::es6(&float::shortest64(f), out),
        // JSON has no notation for "not a number".
        Value::F32(_) | Value::F64(_) => out.extend_from_slice(b"null"),
        Value::Text(text) => string(text, out),
        Value::Bytes(raw) => hex_string(raw, out),
        Value::Container(_) => out.extend_from_slice(b"{}"),
        Value::Array(array) => write_array(&array, None, out),
    }
}

#[cold]
#[inline(never)]
fn escaped(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        escape(chunk.valid(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn hex_string(raw: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    out.reserve(raw.len() * 2);
    for byte in raw {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
    out.push(b'"');
}

/// Bytes that may not be copied as they are: controls, quote, backslash, and all beyond ASCII.
const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = i < 0x20 || i == b'"' as usize || i == b'\\' as usize || i >= 0x80;
        i += 1;
    }
    table
};

/// A quoted JSON string; the bytes need not be UTF-8.
pub fn string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if is_ordinary(text) {
        out.extend_from_slice(text);
    } else {
        escaped(text, out);
    }
    out.push(b'"');
}

fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if !SPECIAL[usize::from(*byte)] {
            continue;
        }
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => {
                out.extend_from_slice(&bytes[done..i]);
                out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                done = i + 1;
                continue;
            }
            // U+2028 and U+2029 end lines in JavaScript.
            0xe2 if bytes[i..].starts_with("\u{2028}".as_bytes()) => b"\\u2028",
            0xe2 if bytes[i..].starts_with("\u{2029}".as_bytes()) => b"\\u2029",
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..i]);
        out.extend_from_slice(short);
        done = if *byte == 0xe2 { i + 3 } else { i + 1 };
    }
    out.extend_from_slice(&bytes[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &[u8]) -> String {
        let mut out = Vec::new();
        string(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings() {
        assert_eq!(show(b"plain"), r#""plain""#);
        assert_eq!(show(b"q\"b\\n\nr\rt\t\x01\x7f<&>"), "\"q\\\"b\\\\n\\nr\\rt\\t\\u0001\x7f<&>\"");
        assert_eq!(show("é\u{a0}\u{2028}x\u{2029}€".as_bytes()), "\"é\u{a0}\\u2028x\\u2029€\"");
        assert_eq!(show(b"/tmp/\xff\xfe-\xc3\xa9"), "\"/tmp/\\ufffd\\ufffd-é\"");
        assert_eq!(show(b"\xe2\x82"), r#""\ufffd\ufffd""#);
    }

    #[test]
    fn every_byte_gives_valid_json() {
        for a in 0..=255u8 {
            for b in [0, 0x1f, b'"', 0x80, 0xa8, 0xe2, 0xff] {
                let text = show(&[a, b, 0xe2, 0x80, a]);
                serde_json::from_str::<String>(&text).unwrap();
            }
        }
    }

    #[test]
    fn numbers() {
        let show = |v| {
            let mut out = Vec::new();
            scalar(v, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(show(Value::Uint(u64::MAX)), "18446744073709551615");
        assert_eq!(show(Value::F32(0.1)), "0.1");
        assert_eq!(show(Value::F64(f64::NAN)), "null");
        assert_eq!(show(Value::Bytes(&[0, 0xab])), "\"00ab\"");
    }
}
