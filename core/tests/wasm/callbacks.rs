//! Callbacks among the steps of a pipeline.

use std::sync::Arc;

use super::*;
use _core::stream::{Pace, Stream};

/// `gadgetInit` looks up exec's fields and subscribes with the callback `body`, which has locals
/// $id, $ds and $data; globals $pid, $args, $user and $new have the fields' handles.
fn exec_guest(body: &str, more: &str) -> Guest {
    guest(&format!(
        "(data (i32.const 0) \"execpidargsusernewhello\")
         (global $pid (mut i32) (i32.const 0)) (global $args (mut i32) (i32.const 0))
         (global $user (mut i32) (i32.const 0)) (global $new (mut i32) (i32.const 0))
         (func (export \"gadgetInit\") (result i32) (local $d i32)
           (local.set $d (call $ds (i64.const {exec})))
           (global.set $pid (call $field (local.get $d) (i64.const {pid})))
           (global.set $args (call $field (local.get $d) (i64.const {args})))
           (global.set $user (call $field (local.get $d) (i64.const {user})))
           (global.set $new (call $add (local.get $d) (i64.const {new}) (i32.const 12)))
           (call $sub (local.get $d) (i32.const 1) (i32.const 0) (i64.const 7)))
         (func (export \"dataSourceCallback\") (param $id i64) (param $ds i32) (param $data i32)
           {body}) {more}",
        exec = at(0, 4),
        pid = at(4, 3),
        args = at(7, 4),
        user = at(11, 4),
        new = at(15, 3),
    ))
}

const HELLO: u64 = 5 << 32 | 18;

/// PLAN with the field and the step that the module asked for.
fn plan() -> String {
    PLAN.replacen(
        "\"slot\": true}]",
        "\"slot\": true}, {\"id\": 4, \"name\": \"new\", \"full_name\": \"new\", \"kind\": \"str\", \
         \"slot\": true}], \"steps\": [{\"op\": \"wasm\", \"callback\": 7, \"type\": 1}], \
         \"filters\": [{\"field\": 0, \"op\": \"!=\", \"value\": \"99\"}]",
        1,
    )
}

fn sample(pid: u32) -> Vec<u8> {
    let mut sample = pid.to_ne_bytes().to_vec();
    sample.extend([0; 4]);
    sample.extend(b"a\0bcd\0\0\0\0\0\0\0\0\0\0\0");
    sample
}

/// What is rendered of samples with these pids.
fn shown(guest: Guest, pids: &[u32]) -> (String, Arc<Guest>) {
    guest.call(Stage::Init).expect("gadgetInit");
    let guest = Arc::new(guest);
    let opened = Stream::open_with(&plan(), None, Some((Arc::clone(&guest), None)));
    let stream = opened.expect("a stream");
    let samples: Vec<Vec<u8>> = pids.iter().map(|p| sample(*p)).collect();
    let batch = stream.push("exec", samples.iter().map(Vec::as_slice)).expect("a batch");
    (String::from_utf8(batch.rendered.data).unwrap(), guest)
}

#[test]
fn values_are_read_and_set() {
    let body = format!(
        "(drop (call $set (global.get $pid) (local.get $data) (i32.const 8)
           (i64.add (i64.const 1)
             (call $scalar (global.get $pid) (local.get $data) (i32.const 8) (i32.const 0)))))
         (drop (call $buffer (global.get $args) (local.get $data) (i32.const 14)
           (i64.const {whole})))
         (i32.store8 (i32.const 101) (i32.const 43))
         (drop (call $set (global.get $args) (local.get $data) (i32.const 12) (i64.const {five})))
         (drop (call $set (global.get $new) (local.get $data) (i32.const 12) (i64.const {HELLO})))",
        whole = at(100, 16),
        five = at(100, 5),
    );
    let (text, guest) = shown(exec_guest(&body, ""), &[7, 98]);
    assert_eq!(
        text, "{\"args\":\"a+bcd\",\"delta\":0,\"new\":\"hello\",\"pid\":8,\"user\":\"\"}\n",
        "filters see what the module set: pid 99 does not pass"
    );
    assert_eq!(guest.statistics().calls, 2);
    assert_eq!(guest.take_log().0, vec![]);
}

#[test]
fn a_failed_callback_changes_nothing() {
    let body = format!(
        "(drop (call $set (global.get $pid) (local.get $data) (i32.const 8) (i64.const 1)))
         (drop (call $set (global.get $new) (local.get $data) (i32.const 12) (i64.const {HELLO})))
         (unreachable)"
    );
    let (text, guest) = shown(exec_guest(&body, ""), &[7, 8]);
    assert_eq!(
        text,
        "{\"args\":\"a\",\"delta\":0,\"new\":\"\",\"pid\":7,\"user\":\"\"}\n\
         {\"args\":\"a\",\"delta\":0,\"new\":\"\",\"pid\":8,\"user\":\"\"}\n"
    );
    assert_eq!(guest.statistics().failed, 2);
    let (lines, _) = guest.take_log();
    assert_eq!(lines.len(), 1, "it is said once: {lines:?}");
    assert!(lines[0].text.contains("shown without it"));
}

#[test]
fn a_callback_that_loops_is_ended_and_then_not_called() {
    let (text, guest) = shown(exec_guest("(loop (br 0))", ""), &[1, 2, 3, 4, 5]);
    assert_eq!(text.lines().count(), 5);
    assert_eq!(guest.statistics(), _core::wasm::Statistics { calls: 5, failed: 5 });
    let lines = guest.take_log().0;
    assert!(lines[0].text.contains("longer than 0.2 s"), "{lines:?}");
    assert!(lines[1].text.contains("not called any more"), "{lines:?}");
}

#[test]
fn handles_of_an_event_end_with_its_callback() {
    let body = "(drop (call $scalar (global.get $pid) (global.get $kept) (i32.const 8)
                  (i32.const 0)))
                (global.set $kept (local.get $data))";
    let guest = exec_guest(body, "(global $kept (mut i32) (i32.const 0))");
    let (text, guest) = shown(guest, &[1, 2]);
    assert_eq!(text.lines().count(), 2);
    let lines = guest.take_log().0;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|l| l.text.contains("an unknown handle")));
}

#[test]
fn a_callback_may_emit_into_its_own_data_source() {
    // Each event emits another one: after so many the circle is cut.
    let body = "(local $p i32) (local.set $p (call $single (local.get $ds)))
        (drop (call $set (global.get $pid) (local.get $p) (i32.const 8) (i64.const 5)))
        (drop (call $emit (local.get $ds) (local.get $p)))";
    let guest = exec_guest(body, "");
    guest.call(Stage::Init).unwrap();
    let guest = Arc::new(guest);
    let stream = Stream::open_with(&plan(), None, Some((Arc::clone(&guest), None))).unwrap();
    stream.push("exec", [&sample(1)[..]].into_iter()).unwrap();
    let mut text = Vec::new();
    let mut sink = |batch: _core::stream::Batch| {
        text.extend(batch.rendered.data);
        Ok(())
    };
    let pace = Pace { timeout: Some(Duration::ZERO), busy: None, gather: Duration::ZERO, rare: 0 };
    stream.pump(pace, &mut sink).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.lines().count(), _core::wasm::limits::EMIT_DEPTH as usize, "{text}");
    assert!(text.starts_with("{\"args\":\"\",\"delta\":0,\"new\":\"\",\"pid\":5,\"user\":\"\"}\n"));
    assert!(guest.take_log().0[0].text.contains("in a circle"));
}

/// A module whose callback for the array sets its first element to their number, and appends 9.
fn array_guest() -> Guest {
    let guest = guest(&format!(
        "(data (i32.const 0) \"listn\") (global $n (mut i32) (i32.const 0))
         (func (export \"gadgetInit\") (result i32) (local $d i32)
           (local.set $d (call $ds (i64.const {})))
           (global.set $n (call $field (local.get $d) (i64.const {})))
           (call $sub (local.get $d) (i32.const 2) (i32.const 0) (i64.const 7)))
         (func (export \"dataSourceCallback\") (param $id i64) (param $ds i32) (param $a i32)
           (local $e i32)
           (drop (call $set (global.get $n) (call $get (local.get $a) (i32.const 0)) (i32.const 9)
             (i64.extend_i32_u (call $len (local.get $a)))))
           (local.set $e (call $element (local.get $a)))
           (drop (call $set (global.get $n) (local.get $e) (i32.const 9) (i64.const 9)))
           (drop (call $append (local.get $a) (local.get $e))))",
        at(0, 4),
        at(4, 1)
    ));
    guest.call(Stage::Init).unwrap();
    guest
}

#[test]
fn callbacks_behind_filters_sorting_and_limits_see_what_is_left() {
    for (place, expected) in [
        ("steps", "[{\"n\":4},{\"n\":5},{\"n\":9}]\n"),
        ("filters", "[{\"n\":3},{\"n\":5},{\"n\":9}]\n"),
        ("sort", "[{\"n\":3},{\"n\":11},{\"n\":40}]\n"),
        ("limit", "[{\"n\":3},{\"n\":11},{\"n\":40},{\"n\":9}]\n"),
    ] {
        let callback = r#"[{"op": "wasm", "callback": 7, "type": 2}]"#;
        let calls = match place {
            "steps" => format!(r#""steps": {callback}"#),
            place => format!(r#""behind": {{"{place}": {callback}}}"#),
        };
        let plan = PLAN.replacen(
            "\"offset\": 0, \"size\": 8}]",
            &format!(
                r#""offset": 0, "size": 8}}], "sort": [{{"field": 0}}], "limit": 3, {calls},
                "filters": [{{"field": 0, "op": "!=", "value": "3"}}]"#
            ),
            1,
        );
        for late in [false, true] {
            let guest = Arc::new(array_guest());
            let plan = if late { plan.replace(callback, "[]") } else { plan.clone() };
            let open = Stream::open_with(&plan, None, Some((Arc::clone(&guest), None)));
            let stream = open.unwrap();
            if late {
                stream.subscribe("list", 7, 2, place).unwrap();
            }
            let samples: Vec<[u8; 8]> = [40u64, 3, 11, 5].iter().map(|n| n.to_ne_bytes()).collect();
            let batch = stream.push("list", samples.iter().map(|s| &s[..])).unwrap();
            assert_eq!(
                String::from_utf8(batch.rendered.data).unwrap(),
                expected,
                "{place}, {late}"
            );
            assert_eq!(guest.take_log().0, vec![]);
        }
    }
}

#[test]
fn callbacks_among_the_steps_see_what_filters_leave_out() {
    for (place, calls) in [("steps", 3), ("filters", 1), ("limit", 1)] {
        for late in [false, true] {
            let guest = exec_guest("", "");
            guest.call(Stage::Init).unwrap();
            let guest = Arc::new(guest);
            let callback = "[{\"op\": \"wasm\", \"callback\": 7, \"type\": 1}]";
            // `delta` is not set by the module: the filter reads only the sample.
            let plan = plan().replace("\"field\": 0, \"op\"", "\"field\": 1, \"op\"");
            let plan = match (late, place) {
                (true, _) => plan.replace(callback, "[]"),
                (_, "steps") => plan,
                (_, place) => plan.replace(
                    &format!("\"steps\": {callback}"),
                    &format!("\"behind\": {{\"{place}\": {callback}}}"),
                ),
            };
            let open = Stream::open_with(&plan, None, Some((Arc::clone(&guest), None)));
            let stream = open.unwrap();
            if late {
                stream.subscribe("exec", 7, 1, place).unwrap();
            }
            let samples = [99u8, 1, 99].map(|delta| {
                let mut sample = sample(7);
                sample[4] = delta;
                sample
            });
            let batch = stream.push("exec", samples.iter().map(Vec::as_slice)).unwrap();
            assert_eq!((batch.rendered.events, guest.statistics().calls), (1, calls), "{place}");
        }
    }
}

#[test]
fn arrays_are_seen_whole() {
    let guest = array_guest();
    let plan = PLAN.replacen(
        "\"offset\": 0, \"size\": 8}]",
        "\"offset\": 0, \"size\": 8}], \"sort\": [{\"field\": 0, \"descending\": true}], \
         \"steps\": [{\"op\": \"wasm\", \"callback\": 7, \"type\": 2}]",
        1,
    );
    let guest = Arc::new(guest);
    let stream = Stream::open_with(&plan, None, Some((Arc::clone(&guest), None))).unwrap();
    let samples: Vec<[u8; 8]> = [40u64, 3, 11].iter().map(|n| n.to_ne_bytes()).collect();
    let batch = stream.push("list", samples.iter().map(|s| &s[..])).unwrap();
    assert_eq!(
        String::from_utf8(batch.rendered.data).unwrap(),
        "[{\"n\":11},{\"n\":9},{\"n\":3},{\"n\":3}]\n"
    );
    assert_eq!(guest.take_log().0, vec![]);
}

#[test]
fn texts_of_samples_that_this_process_makes_end_at_nul() {
    let body = "(drop (call $set (global.get $pid) (local.get $data) (i32.const 8)
        (i64.extend_i32_u (call $buffer (global.get $args) (local.get $data) (i32.const 12)
          (i64.const 0x1000000100)))))";
    for (pushed, length) in [("", 16), (", \"pushed\": true", 1)] {
        let guest = exec_guest(body, "");
        let declared =
            PLAN.replacen("\"sample_size\": 24", &format!("\"sample_size\": 24{pushed}"), 1);
        guest.declare(&declared).unwrap();
        let (text, _) = shown(guest, &[7]);
        assert!(text.contains(&format!("\"pid\":{length},")), "{text}");
    }
}
