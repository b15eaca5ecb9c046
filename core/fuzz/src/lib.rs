//! What both targets share: the plans, how a corpus file becomes samples, what must hold.
//!
//! A corpus file is: one byte that chooses a plan, two bytes of settings (the `render` target),
//! then samples, each a length (two bytes, little-endian, cut to what is left) and its bytes.

use _core::pipeline::plan::Plan;
use _core::pipeline::source::{Rendered, Source};
use _core::pipeline::world::{Held, World};
use serde_json::{json, Value};

const PLANS: [&str; 4] = [
    include_str!("../plans/kinds.json"),
    include_str!("../plans/steps.json"),
    include_str!("../plans/filters.json"),
    include_str!("../plans/names.json"),
];
const HEADER: usize = 3;
const MAX_SAMPLES: usize = 64;

/// A corpus file taken apart.
pub struct Input<'a> {
    pub plan: Value,
    pub settings: u16,
    pub samples: Vec<&'a [u8]>,
}

impl<'a> Input<'a> {
    /// None when the header is incomplete.
    pub fn of(data: &'a [u8]) -> Option<Input<'a>> {
        let (head, mut rest) = data.split_at_checked(HEADER)?;
        let plan = PLANS[usize::from(head[0]) % PLANS.len()];
        let mut samples = Vec::new();
        while let (Some((length, after)), true) =
            (rest.split_first_chunk::<2>(), samples.len() < MAX_SAMPLES)
        {
            let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
            let (sample, next) = after.split_at(length);
            samples.push(sample);
            rest = next;
        }
        Some(Input {
            plan: serde_json::from_str(plan).expect("plans are JSON"),
            settings: u16::from_le_bytes([head[1], head[2]]),
            samples,
        })
    }
}

fn world() -> World {
    let mut world = World { clock_offset_ns: 1_795_400_000_000_000_000, ..World::default() };
    world.set_names([(0, "root".into())].into(), [(0, "\u{1b}wheel".into())].into());
    world
}

/// Compiles *plan*, which must be possible, and runs the samples; every one is accounted for.
pub fn run(plan: &Value, samples: &[&[u8]]) -> Rendered {
    let plan = Plan::parse(&plan.to_string()).expect("the plan is well-formed");
    let mut world = world();
    let mut source = Source::compile(&plan.datasources[0], &mut world).expect("it compiles");
    let name = [("runtime.containerName".to_string(), Held::Text("a\u{202e}\"\n".into()))];
    world.containers.set(1, 1, &name).expect("one container");
    for sample in samples {
        source.process(&world, sample);
    }
    let counts = source.counts;
    assert_eq!(counts.received, samples.len() as u64);
    assert_eq!(counts.received, counts.emitted + counts.discarded + counts.malformed);
    let rendered = source.take().unwrap_or_else(|| source.empty(0));
    assert_eq!(rendered.events, counts.emitted);
    rendered
}

/// The output section of a plan.
pub fn output(plan: &mut Value) -> &mut Value {
    &mut plan["datasources"][0]["output"]
}

/// Columns over all fields, their settings drawn from *settings*.
pub fn columns(plan: &Value, settings: u16) -> Value {
    let fields = plan["datasources"][0]["fields"].as_array().expect("fields");
    let made = fields.iter().enumerate().map(|(i, field)| {
        let bits = usize::from(settings.rotate_left(i as u32 * 3));
        json!({
            "field": field["id"],
            "width": (bits % 40) as i64 - 1,
            "align": ["left", "right"][bits >> 6 & 1],
            "ellipsis": ["end", "start", "middle", "none"][bits >> 7 & 3],
            "hex": bits >> 9 & 1 == 1,
            "precision": bits >> 10 & 7,
        })
    });
    Value::Array(made.collect())
}

/// Text that no terminal obeys: no control, format or line-separating character but LF.
pub fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    })
}
