//! Random plans and samples: never a panic, always valid JSON, every sample accounted for.

use _core::pipeline::datasource::DataSource;
use _core::schema::lookups::{ContainerValue, Lookups};
use _core::schema::plan::Plan;
use _core::stream::Stream;
use serde_json::{json, Value};

/// xorshift64*: reproducible without a dependency.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        // Printable, control and arbitrary bytes in turn: all paths of escaping.
        let style = self.below(4);
        (0..n)
            .map(|_| match style {
                0 => b' ' + self.below(95) as u8,
                1 => self.below(32) as u8,
                2 => [0, b'"', b'\\', 0x7f, 0x80, 0xc2, 0xe2, 0x80, 0xa8, 0xf0][self.below(10)],
                _ => self.next() as u8,
            })
            .collect()
    }
}

const KINDS: [(&str, usize); 13] = [
    ("bool", 1),
    ("u8", 1),
    ("u16", 2),
    ("u32", 4),
    ("u64", 8),
    ("i8", 1),
    ("i16", 2),
    ("i32", 4),
    ("i64", 8),
    ("f32", 4),
    ("f64", 8),
    ("char", 0),
    ("bytes", 0),
];

fn random_plan(r: &mut Random, mode: &str) -> (Value, usize) {
    let size = 1 + r.below(300);
    let mut fields: Vec<Value> = Vec::new();
    let mut integers = Vec::new();
    for id in 0..1 + r.below(30) {
        let (kind, width) = KINDS[r.below(KINDS.len())];
        let count = [1, 1, 1, 3][r.below(4)];
        let element = if width == 0 { r.below(24) } else { width };
        let total = (element * count).min(size);
        let offset = r.below(size - total + 1);
        let parent = (id > 0 && r.below(3) == 0).then(|| r.below(id));
        let mut field = json!({
            "id": id, "name": format!("f{id}\"\u{1b}"), "full_name": format!("f{id}"),
            "parent": parent, "kind": kind, "offset": offset, "size": total,
            "count": count, "json": r.below(8) != 0
        });
        if width > 0 && count == 1 && !kind.starts_with('f') {
            integers.push(id);
            if r.below(5) == 0 {
                let bits = 1 + r.below(total * 8);
                field["bits"] = json!(bits);
                field["bit_offset"] = json!(r.below(total * 8 - bits + 1));
            }
        }
        fields.push(field);
    }
    let slot = fields.len();
    fields.push(json!({"id": slot, "name": "s", "full_name": "s", "kind": "str", "slot": true}));
    let mut steps = Vec::new();
    for _ in 0..r.below(8) {
        if integers.is_empty() {
            break;
        }
        let src = integers[r.below(integers.len())];
        let op = [
            "errno",
            "signal",
            "user",
            "group",
            "bytes",
            "duration",
            "file_mode",
            "file_flags",
            "syscall",
        ][r.below(9)];
        steps.push(json!({"op": op, "src": src, "dst": slot}));
        steps.push(json!({"op": "enum", "src": src, "dst": slot, "set": r.below(2) == 0,
            "values": [[0, "ZERO"], [1, "ONE"], [-1, "MINUS"], [u64::MAX, "MAX"]]}));
        steps.push(json!({"op": "container", "mntns": src, "netns": src,
            "fields": {"runtime.containerName": slot}}));
    }
    let columns: Vec<Value> = (0..=slot)
        .map(|id| {
            let align = ["left", "right"][r.below(2)];
            let ellipsis = ["end", "start", "middle", "none"][r.below(4)];
            let (width, precision, hex) = (r.below(20) as i64 - 1, r.below(5), r.below(2) == 0);
            json!({"field": id, "width": width, "hex": hex, "align": align,
                "precision": precision, "ellipsis": ellipsis})
        })
        .collect();
    let plan = json!({"version": 1, "datasources": [{
        "name": "x", "sample_size": size, "keep": true, "fields": fields, "steps": steps,
        "filters": [], "output": {"mode": mode, "columns": columns}}]});
    (plan, size)
}

#[test]
fn random_samples_never_break_the_pipeline() {
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let mut compiled = 0;
    for round in 0..1500 {
        let mode = ["json", "jsonpretty", "yaml", "columns", "none"][round % 5];
        let (document, size) = random_plan(&mut r, mode);
        let plan = Plan::parse(&document.to_string()).expect("well-formed");
        let mut lookups = Lookups::default();
        // A random plan may be invalid (an element may reach beyond the sample's end).
        let Ok(mut source) = DataSource::compile(&plan.datasources[0], &mut lookups) else {
            continue;
        };
        compiled += 1;
        lookups
            .containers
            .set(1, 2, &[("runtime.containerName".into(), ContainerValue::Text("c".into()))])
            .unwrap();
        let samples = 1 + r.below(6);
        for _ in 0..samples {
            let length = [0, size, size / 2, size + 7, 1][r.below(5)];
            let sample = r.bytes(length);
            source.process(&lookups, &sample);
        }
        let rendered = source.take().expect("no filter drops anything");
        assert_eq!(rendered.events as usize, samples);
        let kept = String::from_utf8(rendered.kept.unwrap()).expect("JSON is UTF-8");
        for line in kept.lines() {
            let _: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        }
        assert_eq!(kept.lines().count(), samples);
        let data = String::from_utf8(rendered.data).expect("output is UTF-8");
        match mode {
            "json" => assert_eq!(data, kept),
            "jsonpretty" => {
                let compact: Vec<Value> =
                    kept.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
                let pretty: Vec<Value> = serde_json::Deserializer::from_str(&data)
                    .into_iter()
                    .map(Result::unwrap)
                    .collect();
                assert_eq!(pretty, compact);
            }
            "columns" => {
                assert!(data.chars().all(|c| c == '\n' || !c.is_control()), "{data:?}");
                assert_eq!(data.lines().count(), samples);
            }
            "yaml" => {
                assert!(data.chars().all(|c| c == '\n' || !c.is_control()), "{data:?}");
                assert_eq!(data.matches("---\n").count(), samples);
            }
            _ => assert!(data.is_empty()),
        }
    }
    assert!(compiled > 500, "only {compiled} plans compiled");
}

#[test]
fn random_documents_are_refused_or_accepted_calmly() {
    let mut r = Random(7);
    let (document, _) = random_plan(&mut r, "json");
    let text = document.to_string();
    for _ in 0..4000 {
        let mut broken = text.clone().into_bytes();
        for _ in 0..1 + r.below(4) {
            let at = r.below(broken.len());
            broken[at] = b"0123456789{}[]\",:-ntf"[r.below(21)];
        }
        let Ok(broken) = String::from_utf8(broken) else { continue };
        if let Ok(stream) = Stream::open(&broken, None) {
            let samples = [r.bytes(64), r.bytes(0), r.bytes(5000)];
            let _ = stream.push("x", samples.iter().map(Vec::as_slice));
        }
    }
}
