//! Any sample under any of the plans: no panic, one line of valid JSON for each event.
#![no_main]

use ig_py_core_fuzz::{target, Input, Mode};
use serde_json::Value;

target!(|data| {
    let Some(input) = Input::of(data) else { return };
    let rendered = input.run(Mode::Json);
    let text = String::from_utf8(rendered.data).expect("JSON is UTF-8");
    // lines() would hide a carriage return before the line feed.
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    assert_eq!(lines.len() as u64, rendered.events);
    for line in lines {
        let event: Value = serde_json::from_str(line).expect("every line is JSON");
        assert!(event.is_object());
    }
});
