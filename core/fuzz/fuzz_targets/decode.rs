//! Any sample under any of the plans: no panic, one line of valid JSON for each event.
#![no_main]

use ig_py_core_fuzz::{output, run, Input};
use libfuzzer_sys::fuzz_target;
use serde_json::{json, Value};

fuzz_target!(|data: &[u8]| {
    let Some(mut input) = Input::of(data) else { return };
    *output(&mut input.plan) = json!({"mode": "json"});
    let rendered = run(&input.plan, &input.samples);
    let text = String::from_utf8(rendered.data).expect("JSON is UTF-8");
    // Not lines(): NEL and its like are no line ends of ours.
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    assert_eq!(lines.len() as u64, rendered.events);
    for line in lines {
        let event: Value = serde_json::from_str(line).expect("every line is JSON");
        assert!(event.is_object());
    }
});
