//! Any sample in the modes that people read: nothing controls the terminal, and every counted event
//! is in the output.
#![no_main]

use ig_py_core_fuzz::{is_harmless, target, Input, Mode};
use serde_json::Value;

target!(|data| {
    let Some(input) = Input::of(data) else { return };

    let rows = input.run(Mode::Columns);
    let text = String::from_utf8(rows.data).expect("columns are UTF-8");
    assert!(is_harmless(&text), "{text:?}");
    assert_eq!(text.matches('\n').count() as u64, rows.events);

    let documents = input.run(Mode::Yaml);
    let text = String::from_utf8(documents.data).expect("YAML is UTF-8");
    assert!(is_harmless(&text), "{text:?}");
    let begun = text.split_terminator('\n').filter(|line| *line == "---").count();
    assert_eq!(begun as u64, documents.events);

    let objects = input.run(Mode::Jsonpretty);
    let values = serde_json::Deserializer::from_slice(&objects.data).into_iter::<Value>();
    let values: Vec<Value> = values.map(|v| v.expect("every object is JSON")).collect();
    assert_eq!(values.len() as u64, objects.events);
});
