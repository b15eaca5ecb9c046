use super::*;
use crate::pipeline::datasource::Rendered;

const PLAN: &str = include_str!("../../benches/trace_open.json");
const MNTNS: u64 = 4_026_531_900;

fn stream() -> (Stream, Vec<u8>) {
    let mut plan: serde_json::Value = serde_json::from_str(PLAN).unwrap();
    plan["backlog_bytes"] = serde_json::json!(backlog::MIN_BYTES);
    plan["datasources"][0]["output"] = serde_json::json!({"mode": "json"});
    let fields = plan["datasources"][0]["fields"].as_array().unwrap();
    let place = |name: &str| {
        let field = fields.iter().find(|f| f["full_name"] == name).unwrap();
        field["offset"].as_u64().unwrap() as usize
    };
    let size = plan["datasources"][0]["sample_size"].as_u64().unwrap();
    let mut sample = vec![0; size as usize];
    for (name, bytes) in [("proc.mntns_id", &MNTNS.to_ne_bytes()[..]), ("fname", b"/file")] {
        let at = place(name);
        sample[at..at + bytes.len()].copy_from_slice(bytes);
    }
    (Stream::open(&plan.to_string(), None).unwrap(), sample)
}

fn set(name: &str) -> Change {
    let name = ContainerValue::Text(name.into());
    Change::Set { mntns: MNTNS, netns: 0, values: vec![("runtime.containerName".into(), name)] }
}

fn push(stream: &Stream, sample: &[u8]) {
    let pushed = stream.with(|state| {
        state.backlog.push(0, sample);
        Ok(())
    });
    pushed.unwrap();
}

/// The names of the containers in what was rendered.
fn names(rendered: &Rendered) -> Vec<String> {
    let lines = rendered.data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    parsed.map(|e| e["runtime"]["containerName"].as_str().unwrap().to_string()).collect()
}

#[test]
fn samples_that_wait_keep_the_names_of_their_time() {
    let (stream, sample) = stream();
    let push = || push(&stream, &sample);
    push();
    stream.change(set("first")).unwrap(); // new: for the sample that waits, too
    push();
    stream.change(Change::End(MNTNS)).unwrap();
    stream.change(Change::Drop(MNTNS)).unwrap();
    push();
    stream.change(set("second")).unwrap();
    push();
    let rendered = stream.with(|state| {
        state.process_backlog()?;
        Ok(state.datasources[0].source.take().unwrap())
    });
    assert_eq!(names(&rendered.unwrap()), ["first", "first", "", "second"]);
    stream.change(Change::Drop(MNTNS)).unwrap();
    assert!(!stream.with(|state| Ok(state.lookups.containers.knows(MNTNS))).unwrap());
}

#[test]
fn a_drop_of_no_container_takes_no_names_of_a_later_one() {
    let (stream, sample) = stream();
    push(&stream, &sample);
    // As of a namespace that is no container's, whose number a container gets.
    stream.change(Change::Drop(MNTNS)).unwrap();
    stream.change(set("later")).unwrap();
    push(&stream, &sample);
    let rendered = stream.with(|state| {
        state.process_backlog()?;
        Ok(state.datasources[0].source.take().unwrap())
    });
    assert_eq!(names(&rendered.unwrap())[1], "later");
    assert!(stream.with(|state| Ok(state.lookups.containers.knows(MNTNS))).unwrap());
}

#[test]
fn changes_come_into_force_in_their_order() {
    let (stream, sample) = stream();
    stream.change(set("first")).unwrap();
    push(&stream, &sample);
    stream.change(Change::Drop(MNTNS)).unwrap();
    stream.change(set("second")).unwrap();
    stream.change(Change::Drop(MNTNS)).unwrap();
    stream.change(set("third")).unwrap();
    // What waits is given up: the changes behind it are due though nothing is read.
    stream
        .with(|state| {
            state.lose_oldest();
            state.apply_due()
        })
        .unwrap();
    push(&stream, &sample);
    let rendered = stream.with(|state| {
        state.process_backlog()?;
        Ok(state.datasources[0].source.take().unwrap())
    });
    assert_eq!(names(&rendered.unwrap()), ["third"]);
}

#[test]
fn a_container_that_ended_before_leaves_the_later_ones_names() {
    let (stream, sample) = stream();
    stream.change(set("later")).unwrap();
    push(&stream, &sample);
    stream.decide_ended(MNTNS, 5, Verdict::Keep, set("earlier"), set("later")).unwrap();
    push(&stream, &sample);
    let rendered = stream.with(|state| {
        state.process_backlog()?;
        Ok(state.datasources[0].source.take().unwrap())
    });
    assert_eq!(names(&rendered.unwrap()), ["later", "later"]);
}

#[test]
fn too_many_changes_cost_the_oldest_samples() {
    let (stream, sample) = stream();
    stream.change(set("first")).unwrap();
    for _ in 0..10 {
        push(&stream, &sample);
        for _ in 0..200 {
            stream.change(set("next")).unwrap();
        }
    }
    let counts = stream.with(|state| Ok(state.datasources[0].source.counts)).unwrap();
    assert!((1..10).contains(&counts.overflow), "{counts:?}");
    assert_eq!(counts.lost(), counts.overflow);
    assert_eq!(stream.give_up().unwrap(), 10 - counts.overflow);
    assert_eq!(stream.give_up().unwrap(), 0);
}
