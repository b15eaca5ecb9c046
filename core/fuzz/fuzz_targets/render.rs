//! Any sample in the modes that people read: nothing that a terminal obeys, and what is counted
//! is there.
#![no_main]

use ig_py_core_fuzz::{columns, is_harmless, output, run, Input};
use libfuzzer_sys::fuzz_target;
use serde_json::{json, Value};

fuzz_target!(|data: &[u8]| {
    let Some(mut input) = Input::of(data) else { return };
    let columns = columns(&input.plan, input.settings);

    *output(&mut input.plan) = json!({"mode": "columns", "columns": columns});
    let rows = run(&input.plan, &input.samples);
    let text = String::from_utf8(rows.data).expect("columns are UTF-8");
    assert!(is_harmless(&text), "{text:?}");
    assert_eq!(text.matches('\n').count() as u64, rows.events);

    *output(&mut input.plan) = json!({"mode": "yaml"});
    let documents = run(&input.plan, &input.samples);
    let text = String::from_utf8(documents.data).expect("YAML is UTF-8");
    assert!(is_harmless(&text), "{text:?}");
    let begun = text.split_terminator('\n').filter(|line| *line == "---").count();
    assert_eq!(begun as u64, documents.events);

    *output(&mut input.plan) = json!({"mode": "jsonpretty"});
    let objects = run(&input.plan, &input.samples);
    let values = serde_json::Deserializer::from_slice(&objects.data).into_iter::<Value>();
    let values: Vec<Value> = values.map(|v| v.expect("every object is JSON")).collect();
    assert_eq!(values.len() as u64, objects.events);
});
