//! Text that is reused from event to event is the same as text that is written anew, and what is
//! shown of a field does not depend on the other fields that are shown.

use std::collections::HashMap;

use _core::pipeline::datasource::DataSource;
use _core::schema::lookups::{ContainerValue, Lookups};
use _core::schema::plan::Plan;
use serde_json::{json, Value};

const PLAN: &str = include_str!("../benches/trace_open.json");
const EVENTS: u32 = 3000;
const PROCESSES: u32 = 50;

/// Random numbers that are the same in every run.
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}

struct Samples {
    size: usize,
    offsets: HashMap<String, usize>,
}

impl Samples {
    fn of(plan: &Value) -> Samples {
        let ds = &plan["datasources"][0];
        let fields = ds["fields"].as_array().unwrap().iter();
        let offset = |f: &Value| f["offset"].as_u64().unwrap() as usize;
        Samples {
            size: ds["sample_size"].as_u64().unwrap() as usize,
            offsets: fields.map(|f| (f["full_name"].as_str().unwrap().into(), offset(f))).collect(),
        }
    }

    fn one(&self, numbers: &mut Numbers) -> Vec<u8> {
        let mut sample = vec![0; self.size];
        let mut put = |name: &str, bytes: &[u8]| {
            let at = self.offsets[name];
            sample[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let process = numbers.below(PROCESSES);
        put("timestamp_raw", &u64::from(numbers.below(1 << 31)).to_ne_bytes());
        put("proc.comm", format!("p\"{}", process % 7).as_bytes());
        put("proc.pid", &(process / 2).to_ne_bytes());
        put("proc.tid", &process.to_ne_bytes());
        put("proc.mntns_id", &u64::from(process % 6).to_ne_bytes());
        put("proc.creds.uid", &(process % 3).to_ne_bytes());
        put("proc.creds.gid", &numbers.below(3).to_ne_bytes());
        put("proc.parent.comm", b"parent");
        put("fd", &numbers.below(9).to_ne_bytes());
        put("error_raw", &numbers.below(3).to_ne_bytes());
        put("flags_raw", &(numbers.below(4) << 6).to_ne_bytes());
        put("mode_raw", &(0o640 + numbers.below(3)).to_ne_bytes());
        put("fname", format!("/file-{}", numbers.below(5)).as_bytes());
        sample
    }
}

/// A container is added, ended or dropped, or users get other names.
fn change(lookups: &mut Lookups, numbers: &mut Numbers) {
    let mntns = u64::from(numbers.below(6));
    let text =
        |name: &str, n: u32| (name.to_string(), ContainerValue::Text(format!("{name}-{n}").into()));
    match numbers.below(5) {
        0 => lookups.containers.drop(mntns),
        1 => lookups.containers.end(mntns),
        2 => {
            let name = |id: u32, n: u32| (id, format!("user-{n}").into_boxed_str());
            let names = |n: u32| [name(0, n), name(2, n + 1)].into();
            lookups.set_names(names(numbers.below(3)), names(numbers.below(3))).unwrap();
        }
        _ => {
            let values = [
                text("runtime.containerName", numbers.below(3)),
                text("k8s.podName", numbers.below(2)),
                ("runtime.containerPid".to_string(), ContainerValue::Uint(numbers.below(3).into())),
                ("k8s.hostnetwork".to_string(), ContainerValue::Bool(numbers.below(2) == 0)),
            ];
            lookups.containers.set(mntns, u64::from(numbers.below(3)), &values).unwrap();
        }
    }
}

#[test]
fn whatever_changes_in_between() {
    for mode in ["json", "jsonpretty"] {
        let mut plan: Value = serde_json::from_str(PLAN).unwrap();
        plan["datasources"][0]["output"] = json!({"mode": mode});
        let samples = Samples::of(&plan);
        let plan = Plan::parse(&plan.to_string()).unwrap();
        let mut lookups = Lookups::default();
        let mut source = DataSource::compile(&plan.datasources[0], &mut lookups).unwrap();
        let mut numbers = Numbers(4711);
        for number in 0..EVENTS {
            if numbers.below(40) == 0 {
                change(&mut lookups, &mut numbers);
            }
            let mut anew = DataSource::compile(&plan.datasources[0], &mut lookups).unwrap();
            let sample = samples.one(&mut numbers);
            source.process(&lookups, &sample);
            anew.process(&lookups, &sample);
            let [got, wanted] = [&mut source, &mut anew].map(|s| s.take().unwrap().data);
            assert_eq!(
                String::from_utf8_lossy(&got),
                String::from_utf8_lossy(&wanted),
                "event {number} as {mode}"
            );
        }
    }
}

const WIDTH: usize = 30;

/// Rows of some fields, and how many of the events were emitted.
fn rows(plan: &Value, shown: &[Value], filters: &Value) -> (Vec<String>, u64) {
    let mut plan = plan.clone();
    let columns: Vec<Value> =
        shown.iter().map(|field| json!({"field": field["id"], "width": WIDTH})).collect();
    plan["datasources"][0]["output"] = json!({"mode": "columns", "columns": columns});
    plan["datasources"][0]["filters"] = filters.clone();
    let samples = Samples::of(&plan);
    let plan = Plan::parse(&plan.to_string()).unwrap();
    let mut lookups = Lookups::default();
    let mut source = DataSource::compile(&plan.datasources[0], &mut lookups).unwrap();
    let mut numbers = Numbers(4711);
    for _ in 0..200 {
        if numbers.below(10) == 0 {
            change(&mut lookups, &mut numbers);
        }
        source.process(&lookups, &samples.one(&mut numbers));
    }
    let data = source.take().map_or(Vec::new(), |out| out.data);
    let text = String::from_utf8(data).unwrap();
    (text.lines().map(str::to_string).collect(), source.counts.emitted)
}

/// The fields that have a value of their own.
fn shown(plan: &Value) -> Vec<Value> {
    let fields = plan["datasources"][0]["fields"].as_array().unwrap().iter();
    fields.filter(|f| f["kind"] != "container").cloned().collect()
}

#[test]
fn a_field_alone_is_shown_as_among_all() {
    let plan: Value = serde_json::from_str(PLAN).unwrap();
    let fields = shown(&plan);
    let (all, _) = rows(&plan, &fields, &json!([]));
    for (place, field) in fields.iter().enumerate() {
        let (alone, _) = rows(&plan, std::slice::from_ref(field), &json!([]));
        let start = place * (WIDTH + 1);
        let cells: Vec<&str> = all.iter().map(|row| &row[start..start + WIDTH]).collect();
        assert_eq!(alone, cells, "{}", field["full_name"]);
    }
}

#[test]
fn a_filter_reads_a_field_that_is_not_shown() {
    let plan: Value = serde_json::from_str(PLAN).unwrap();
    let fields = shown(&plan);
    for (name, value) in [
        ("flags", "O_RDONLY|O_CREAT"),
        ("mode", "-rw-r-----"),
        ("error", "ENOENT"),
        ("proc.creds.user", "uid:1"),
        ("runtime.containerName", "runtime.containerName-1"),
    ] {
        let find = |name: &str| fields.iter().find(|f| f["full_name"] == name).unwrap().clone();
        let filters = json!([{"field": find(name)["id"], "op": "==", "value": value}]);
        let (_, among_all) = rows(&plan, &fields, &filters);
        let (_, hidden) = rows(&plan, &[find("fname")], &filters);
        assert_eq!(hidden, among_all, "{name}");
        assert!((1..200).contains(&hidden), "{name}: {hidden} of 200");
    }
}
