//! Any elements, sorted, limited and summed: one valid JSON array, and every element is counted.
//! The data are elements of 16 bytes.
#![no_main]

use _core::pipeline::datasource::DataSource;
use _core::schema::lookups::Lookups;
use _core::schema::plan::Plan;
use ig_py_core_fuzz::target;
use serde_json::Value;

const PLAN: &str = include_str!("../plans/array.json");
const ELEMENT: usize = 16;
const LIMIT: usize = 20;

target!(|data| {
    let plan = Plan::parse(PLAN).expect("the plan is well-formed");
    let mut lookups = Lookups::default();
    let mut source = DataSource::compile(&plan.datasources[0], &mut lookups).expect("it compiles");
    source.begin();
    let mut elements = 0;
    for element in data.chunks(ELEMENT) {
        source.process(&lookups, element);
        elements += 1;
    }
    let rendered = source.finish(&lookups);
    let array: Value = serde_json::from_slice(&rendered.data).expect("an array is JSON");
    let shown = array.as_array().expect("it is an array");
    assert_eq!(shown.len() as u64, rendered.events);
    assert!(shown.len() <= LIMIT);
    let counts = source.counts;
    assert_eq!(counts.received, elements);
    assert_eq!(counts.received, counts.emitted + counts.discarded + counts.lost());
    let numbers: Vec<i64> = shown.iter().map(|e| e["number"].as_i64().expect("i32")).collect();
    assert!(numbers.windows(2).all(|w| w[0] >= w[1]));
    assert_eq!(source.series().is_empty(), shown.is_empty());
});
