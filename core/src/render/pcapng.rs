//! Packets as a pcapng capture: a section header, a description of each interface, and packets.

use std::collections::HashMap;
use std::ops::Range;

use super::pcapng_blocks::{self as blocks, MAX_OPTION, SNAPLEN};
use crate::errors::{Error, Result};
use crate::schema::event::{Event, Value};
use crate::schema::field::{Field, Fields};
use crate::schema::plan::{self, Kind};

/// Bounds on the interfaces of a capture and on the bytes of their descriptions, as every packet
/// may claim to come from another interface. Packets of further interfaces are written as those of
/// interface 0.
const MAX_INTERFACES: usize = 4096;
const MAX_DESCRIPTIONS: usize = 16 << 20;
const MAX_PARTS: usize = 256;

const NAME: &[u8] = b"virtual";
const OTHERS: &[u8] = b"others";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

pub struct Pcapng {
    payload: Payload,
    time: usize,
    unit_ns: u64,
    length: usize,
    interfaces: Interfaces,
}

enum Payload {
    /// The bytes behind the struct.
    Rest,
    Sample(Range<usize>),
}

impl Pcapng {
    /// `rest` is the field for the bytes behind the struct; `source` returns the field with the
    /// time that a text field shows.
    pub fn compile(
        plan: &plan::Capture,
        fields: &Fields,
        rest: Option<usize>,
        source: impl Fn(usize) -> Option<usize>,
    ) -> Result<Pcapng> {
        let payload = fields.index(plan.payload, "capture payload")?;
        let payload = match &fields.list[payload] {
            _ if rest == Some(payload) => Payload::Rest,
            field if holds_bytes(field) => Payload::Sample(field.offset..field.offset + field.size),
            field => {
                let name = &field.full_name;
                return Err(Error::plan(format!("capture payload: field {name} holds no bytes")));
            }
        };
        let shown = fields.index(plan.timestamp, "capture timestamp")?;
        let time = match source(shown) {
            Some(number) => number,
            None => fields.integer(plan.timestamp, "capture timestamp")?,
        };
        Ok(Pcapng {
            payload,
            time,
            // `ig` takes unknown units for microseconds.
            unit_ns: if fields.list[time].patched { 1 } else { 1000 },
            length: fields.integer(plan.length, "capture length")?,
            interfaces: Interfaces::compile(&plan.interfaces, fields)?,
        })
    }

    /// The start of a capture, also of one without packets: libpcap requires an interface.
    pub fn begin(&self) -> Vec<u8> {
        let mut out = Vec::new();
        blocks::section(&mut out);
        blocks::interface(
            if self.interfaces.parts.is_empty() { NAME } else { OTHERS },
            b"",
            &mut out,
        );
        out
    }

    /// Writes one packet; before it its interface, if that is new.
    pub fn write(&mut self, event: &Event<'_>, fields: &Fields, out: &mut Vec<u8>) {
        let word = |index: usize| event.value(index, &fields.list[index]).word();
        let payload = match &self.payload {
            Payload::Rest => event.rest,
            Payload::Sample(place) => event.sample.get(place.clone()).unwrap_or_default(),
        };
        let length = u32::try_from(word(self.length)).unwrap_or(u32::MAX);
        let captured = &payload[..payload.len().min(length as usize).min(SNAPLEN)];
        let time = u64::try_from(word(self.time) as i64).unwrap_or(0);
        let interface = self.interfaces.number(event, fields, out);
        blocks::packet(interface, time.saturating_mul(self.unit_ns), captured, length, out);
    }
}

fn holds_bytes(field: &Field) -> bool {
    let octets = matches!(field.kind, Kind::U8 | Kind::I8) && field.array;
    !field.slot && (octets || matches!(field.kind, Kind::Bytes | Kind::Char))
}

/// Interfaces by their description `name=value;name=value`.
struct Interfaces {
    /// `name=` and the field of the value.
    parts: Vec<(Box<[u8]>, usize)>,
    known: HashMap<Box<[u8]>, u32>,
    /// Bytes that are left for descriptions.
    room: usize,
    description: Vec<u8>,
}

impl Interfaces {
    fn compile(plans: &[plan::InterfacePart], fields: &Fields) -> Result<Interfaces> {
        if plans.len() > MAX_PARTS {
            let many = plans.len();
            return Err(Error::plan(format!("{many} fields of interfaces, at most {MAX_PARTS}")));
        }
        let parts = plans
            .iter()
            .map(|p| {
                let mut name = Vec::new();
                escape(p.name.as_bytes(), b"/:@ ", &mut name);
                name.push(b'=');
                Ok((name.into_boxed_slice(), fields.ordered(p.field, "capture interface")?))
            })
            .collect::<Result<_>>()?;
        Ok(Interfaces {
            parts,
            known: HashMap::new(),
            room: MAX_DESCRIPTIONS,
            description: Vec::new(),
        })
    }

    /// The number of the event's interface. A new one is described in `out`.
    fn number(&mut self, event: &Event<'_>, fields: &Fields, out: &mut Vec<u8>) -> u32 {
        if self.parts.is_empty() || !self.describe(event, fields) {
            return 0;
        }
        if let Some(number) = self.known.get(&self.description[..]) {
            return *number;
        }
        let Some(room) = self.room.checked_sub(self.description.len()) else { return 0 };
        if self.known.len() >= MAX_INTERFACES {
            return 0;
        }
        self.room = room;
        let number = self.known.len() as u32 + 1;
        blocks::interface(NAME, &self.description, out);
        self.known.insert(self.description.clone().into_boxed_slice(), number);
        number
    }

    /// False when the description is longer than an option may be.
    fn describe(&mut self, event: &Event<'_>, fields: &Fields) -> bool {
        let out = &mut self.description;
        out.clear();
        for (i, (name, field)) in self.parts.iter().enumerate() {
            if i > 0 {
                out.push(b';');
            }
            out.extend_from_slice(name);
            match event.value(*field, &fields.list[*field]) {
                Value::Text(text) if text.len() > MAX_OPTION => return false,
                Value::Text(text) => escape(text, b"", out),
                Value::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
                Value::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
                Value::Uint(u) => out.extend_from_slice(itoa::Buffer::new().format(u).as_bytes()),
                Value::F32(f) => escape(f.to_string().as_bytes(), b"", out),
                Value::F64(f) => escape(f.to_string().as_bytes(), b"", out),
                // Such fields are refused when the plan is compiled.
                Value::Bytes(_) | Value::Array(_) | Value::Container(_) => {}
            }
            if out.len() > MAX_OPTION {
                return false;
            }
        }
        true
    }
}

/// Percent-encodes the bytes of a value, except letters, digits and those in `plain`.
fn escape(text: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            _ if plain.contains(byte) => out.push(*byte),
            b' ' => out.push(b'+'),
            _ => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend_from_slice(&[b'%', HEX[high], HEX[low]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::datasource::DataSource;
    use crate::schema::lookups::Lookups;
    use serde_json::{json, Value as Json};

    const NOW: u64 = 1_795_448_000_123_456_789;

    /// time (8 bytes), length (4), place (12), and what is behind them.
    fn plan(capture: Json) -> Json {
        json!({
            "name": "p", "sample_size": 24, "rest": {"field": 3},
            "fields": [
                {"id": 0, "name": "time_raw", "full_name": "time_raw", "kind": "u64", "size": 8},
                {"id": 1, "name": "length", "full_name": "length", "kind": "i32", "offset": 8,
                 "size": 4},
                {"id": 2, "name": "place", "full_name": "place", "kind": "char", "offset": 12,
                 "size": 12},
                {"id": 3, "name": "payload", "full_name": "payload", "kind": "bytes",
                 "slot": true},
                {"id": 4, "name": "time", "full_name": "time", "kind": "str"},
                {"id": 5, "name": "buffer", "full_name": "buffer", "kind": "u8", "offset": 12,
                 "size": 12, "count": 12}],
            "steps": [{"op": "timestamp", "src": 0, "dst": 4}],
            "output": {"mode": "pcap-ng", "capture": capture}})
    }

    fn whole() -> Json {
        json!({"payload": 3, "timestamp": 4, "length": 1,
               "interfaces": [{"field": 2, "name": "place;"}]})
    }

    fn compile(plan: &Json) -> Result<DataSource> {
        let plan = serde_json::from_value(plan.clone()).unwrap();
        DataSource::compile(&plan, &mut Lookups::default())
    }

    fn sample(time: u64, length: i32, place: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut raw = time.to_ne_bytes().to_vec();
        raw.extend_from_slice(&length.to_ne_bytes());
        raw.extend_from_slice(place);
        raw.resize(24, 0);
        raw.extend_from_slice(payload);
        raw
    }

    fn word(raw: &[u8], at: usize) -> usize {
        u32::from_le_bytes(raw[at..at + 4].try_into().unwrap()) as usize
    }

    /// Kind and body of each block.
    fn blocks(mut data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let total = word(data, 4);
            assert_eq!((total % 4, word(data, total - 4)), (0, total));
            found.push((word(data, 0) as u32, data[8..total - 4].to_vec()));
            data = &data[total..];
        }
        found
    }

    fn run(plan: &Json, samples: &[Vec<u8>]) -> Vec<(u32, Vec<u8>)> {
        let mut source = compile(plan).unwrap();
        let lookups = Lookups::default();
        for sample in samples {
            source.process(&lookups, sample);
        }
        blocks(&source.take().unwrap().data)
    }

    /// Interface, ns, captured bytes and length of each packet.
    fn packets(blocks: &[(u32, Vec<u8>)]) -> Vec<(usize, u64, Vec<u8>, usize)> {
        let packet = |b: &[u8]| {
            let ns = (word(b, 4) as u64) << 32 | word(b, 8) as u64;
            (word(b, 0), ns, b[20..20 + word(b, 12)].to_vec(), word(b, 16))
        };
        blocks.iter().filter(|b| b.0 == 6).map(|b| packet(&b.1)).collect()
    }

    #[test]
    fn a_capture_without_packets_has_an_interface() {
        let mut source = compile(&plan(whole())).unwrap();
        let begun = source.take().unwrap();
        assert_eq!(begun.events, 0);
        let found = blocks(&begun.data);
        assert_eq!(found.iter().map(|b| b.0).collect::<Vec<_>>(), [0x0A0D_0D0A, 1]);
        assert_eq!(found[0].1[..8], [0x4D, 0x3C, 0x2B, 0x1A, 1, 0, 0, 0]);
        assert_eq!(found[1].1[..8], [1, 0, 0, 0, 0, 0, 4, 0]);
        assert!(source.take().is_none());
    }

    #[test]
    fn packets_and_where_they_come_from() {
        let found = run(
            &plan(whole()),
            &[
                sample(NOW, 3, b"a b;/\xff", b"abc"),
                sample(NOW + 1, 1500, b"", b"abcd"),
                sample(NOW + 2, 3, b"a b;/\xff", b"xyz"),
            ],
        );
        assert_eq!(found.iter().map(|b| b.0).collect::<Vec<_>>()[2..], [1, 6, 1, 6, 6]);
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        assert_eq!(text(&found[2].1[24..42]), "place%3B=a+b%3B%2F");
        assert_eq!(text(&found[4].1[24..33]), "place%3B=");
        assert_eq!(
            packets(&found),
            [
                (1, NOW, b"abc".to_vec(), 3),
                (2, NOW + 1, b"abcd".to_vec(), 1500),
                (1, NOW + 2, b"xyz".to_vec(), 3)
            ]
        );
    }

    #[test]
    fn lengths_that_lie_are_bounded() {
        let large = vec![7; SNAPLEN + 100];
        let samples = [
            sample(1, -1, b"", &large),
            sample(1, 2, b"", b"abc"),
            sample(1, 0, b"", b"abc"),
            sample(u64::MAX, 9, b"", b""),
        ];
        let found = packets(&run(&plan(whole()), &samples));
        let lengths: Vec<_> = found.iter().map(|p| (p.2.len(), p.3)).collect();
        assert_eq!(lengths, [(SNAPLEN, u32::MAX as usize), (2, 2), (0, 0), (0, 9)]);
        assert_eq!(found[3].1, 0);
    }

    #[test]
    fn interfaces_are_bounded() {
        let samples: Vec<_> = (0..MAX_INTERFACES + 10)
            .map(|n| sample(1, 1, format!("{n}").as_bytes(), b"x"))
            .collect();
        let found = run(&plan(whole()), &samples);
        let interfaces = found.iter().filter(|b| b.0 == 1).count();
        assert_eq!(interfaces, MAX_INTERFACES + 1);
        let numbers: Vec<_> = packets(&found).iter().map(|p| p.0).collect();
        assert_eq!(numbers[MAX_INTERFACES - 1..MAX_INTERFACES + 2], [MAX_INTERFACES, 0, 0]);
    }

    #[test]
    fn a_buffer_and_microseconds() {
        let mut given = plan(json!({"payload": 5, "timestamp": 0, "length": 1}));
        given["steps"] = json!([]);
        let found = run(&given, &[sample(1_795_448_000_123_456, 4, b"abcdefgh", b"")]);
        assert_eq!(found.iter().map(|b| b.0).collect::<Vec<_>>()[1..], [1, 6]);
        let time = 1_795_448_000_123_456_000;
        assert_eq!(packets(&found), [(0, time, b"abcd".to_vec(), 4)]);
    }

    #[test]
    fn a_field_that_does_not_fit_is_refused() {
        for (key, value) in [
            ("payload", json!(0)),
            ("payload", json!(4)),
            ("timestamp", json!(2)),
            ("timestamp", json!(9)),
            ("length", json!(2)),
            ("interfaces", json!([{"field": 5, "name": "x"}])),
        ] {
            let mut capture = whole();
            capture[key] = value;
            assert!(compile(&plan(capture)).is_err(), "{key}");
        }
        let mut given = plan(whole());
        given["output"] = json!({"mode": "pcap-ng"});
        assert!(compile(&given).is_err());
    }
}
