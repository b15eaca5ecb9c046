//! Events for the data plane: the plans, how a corpus file becomes events, and the properties that
//! must hold of their text.
//!
//! A corpus file is: one byte that chooses a plan, one byte of settings (of columns), then
//! samples, each a length (two bytes, little-endian, cut to what is left) and its bytes.

use std::cell::RefCell;
use std::collections::HashMap;

use _core::pipeline::datasource::{DataSource, Rendered};
use _core::schema::lookups::{ContainerValue, Lookups};
use _core::schema::plan::Plan;
use _core::schema::wall::WallClock;
use serde_json::{json, Value};

const PLANS: [&str; 4] = [
    include_str!("../plans/kinds.json"),
    include_str!("../plans/steps.json"),
    include_str!("../plans/filters.json"),
    include_str!("../plans/names.json"),
];
const MAX_SAMPLES: usize = 64;

/// The parts of a corpus file.
pub struct Input<'a> {
    plan: usize,
    settings: u8,
    samples: Vec<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Json,
    Jsonpretty,
    Yaml,
    Columns,
}

/// By plan, mode and settings.
type Compiled = HashMap<(usize, Mode, u8), (Lookups, DataSource)>;

thread_local! {
    /// Compiled once, as that takes longer than a sample.
    static COMPILED: RefCell<Compiled> = RefCell::default();
}

impl<'a> Input<'a> {
    /// None when the header is incomplete.
    pub fn of(data: &'a [u8]) -> Option<Input<'a>> {
        let ([plan, settings], mut rest) = data.split_first_chunk::<2>()?;
        let mut samples = Vec::new();
        while let (Some((length, after)), true) =
            (rest.split_first_chunk::<2>(), samples.len() < MAX_SAMPLES)
        {
            let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
            let (sample, next) = after.split_at(length);
            samples.push(sample);
            rest = next;
        }
        Some(Input { plan: usize::from(*plan) % PLANS.len(), settings: *settings, samples })
    }

    /// The samples rendered in *mode*; every one is accounted for.
    pub fn run(&self, mode: Mode) -> Rendered {
        let settings = if mode == Mode::Columns { self.settings } else { 0 };
        COMPILED.with_borrow_mut(|compiled| {
            let (lookups, source) = compiled
                .entry((self.plan, mode, settings))
                .or_insert_with(|| compile(PLANS[self.plan], mode, settings));
            let before = source.counts;
            for sample in &self.samples {
                source.process(lookups, sample);
            }
            let counts = source.counts;
            let emitted = counts.emitted - before.emitted;
            assert_eq!(counts.received - before.received, self.samples.len() as u64);
            assert_eq!(counts.received, counts.emitted + counts.discarded + counts.malformed);
            let rendered = source.take().unwrap_or_else(|| source.empty(0));
            assert_eq!(rendered.events, emitted);
            rendered
        })
    }
}

fn compile(plan: &str, mode: Mode, settings: u8) -> (Lookups, DataSource) {
    let mut plan: Value = serde_json::from_str(plan).expect("plans are JSON");
    let output = match mode {
        Mode::Json => json!({"mode": "json"}),
        Mode::Jsonpretty => json!({"mode": "jsonpretty"}),
        Mode::Yaml => json!({"mode": "yaml"}),
        Mode::Columns => json!({"mode": "columns", "columns": columns(&plan, settings)}),
    };
    plan["datasources"][0]["output"] = output;
    let plan = Plan::parse(&plan.to_string()).expect("the plan is well-formed");
    let clock = WallClock::fixed(1_795_400_000_000_000_000);
    let mut lookups = Lookups { clock, ..Lookups::default() };
    lookups
        .set_names([(0, "root".into())].into(), [(0, "\u{1b}wheel".into())].into())
        .expect("two names");
    let source = DataSource::compile(&plan.datasources[0], &mut lookups).expect("it compiles");
    let name =
        [("runtime.containerName".to_string(), ContainerValue::Text("a\u{202e}\"\n".into()))];
    lookups.containers.set(1, 1, &name).expect("one container");
    (lookups, source)
}

/// A column for each field, each with other settings.
fn columns(plan: &Value, settings: u8) -> Value {
    let fields = plan["datasources"][0]["fields"].as_array().expect("fields");
    let made = fields.iter().enumerate().map(|(i, field)| {
        let bits = (usize::from(settings) + 1) * (i + 1) * 0x9e37;
        let align = ["left", "right"][bits >> 6 & 1];
        let ellipsis = ["end", "start", "middle", "none"][bits >> 7 & 3];
        json!({
            "field": field["id"], "width": (bits % 40) as i64 - 1, "align": align,
            "ellipsis": ellipsis, "hex": bits >> 9 & 1 == 1, "precision": bits >> 10 & 7
        })
    });
    Value::Array(made.collect())
}

/// True for text that does not control a terminal: it has no control, format or line separating
/// character but LF.
pub fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    })
}
