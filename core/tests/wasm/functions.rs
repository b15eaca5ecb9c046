//! Each host function: right arguments, wrong handles and kinds, pointers outside.

use super::*;

/// Outside of a page.
const OUTSIDE: u64 = 4 << 32 | 65534;
const BUFFER: &str = "outside of the module's memory";
const UNKNOWN: &str = "an unknown handle";
const OTHER_KIND: &str = "another kind";

fn exec() -> String {
    format!("(call $ds (i64.const {}))", at(0, 4))
}

fn pid() -> String {
    format!("(call $field {} (i64.const {}))", exec(), at(4, 3))
}

/// A packet of a data source that the module makes, with a field of kind `kind`; locals $ds, $f
/// and $p have the handles.
fn with_packet(kind: u32, expression: &str) -> String {
    format!(
        "(local $d i32) (local $f i32) (local $p i32)
         (local.set $d (call $new_ds (i64.const {name}) (i32.const 1)))
         (local.set $f (call $add (local.get $d) (i64.const {name}) (i32.const {kind})))
         (local.set $p (call $single (local.get $d))) {expression}",
        name = at(8, 3)
    )
}

const DATA: &str = "execpidnew\\00hello";

#[test]
fn logging() {
    let log = |level: i32, buffer: u64| {
        format!("(call $log (i32.const {level}) (i64.const {buffer})) (i32.const 0)")
    };
    let (code, lines) = result_of(DATA, &log(2, at(0, 4)));
    assert_eq!((code, &lines[..]), (0, &[Line { level: 2, text: "exec".into() }][..]));
    refused(DATA, &log(5, at(0, 4)), "unknown level");
    refused(DATA, &log(1, OUTSIDE), BUFFER);
    assert_eq!(result_of(DATA, "(call $should_log (i32.const 4))").0, 1);
    assert_eq!(result_of(DATA, "(call $should_log (i32.const 5))").0, 0);
    assert_eq!(result_of(DATA, "(call $should_log (i32.const -1))").0, 0);
}

#[test]
fn data_sources() {
    assert_eq!(result_of(DATA, &exec()).0, 1);
    let get = |buffer: u64| format!("(call $ds (i64.const {buffer}))");
    assert_eq!(refused(DATA, &get(at(0, 3)), "no data source"), 0);
    assert_eq!(refused(DATA, &get(OUTSIDE), BUFFER), 0);
    let new =
        |buffer: u64, kind: i32| format!("(call $new_ds (i64.const {buffer}) (i32.const {kind}))");
    assert_eq!(result_of(DATA, &new(at(7, 3), 1)).0, 1);
    assert_eq!(refused(DATA, &new(at(0, 4), 1), "exists already"), 0);
    assert_eq!(refused(DATA, &new(at(7, 3), 3), "unknown type"), 0);
    assert_eq!(refused(DATA, &new(0, 1), "a name of 0 bytes"), 0);
    let subscribe = |ds: &str, kind: i32| {
        format!("(call $sub {ds} (i32.const {kind}) (i32.const -5) (i64.const 9))")
    };
    assert_eq!(result_of(DATA, &subscribe(&exec(), 1)).0, 0);
    assert_eq!(refused(DATA, &subscribe(&exec(), 2), "no arrays"), 1);
    assert_eq!(refused(DATA, &subscribe(&exec(), 0), "unknown type"), 1);
    assert_eq!(refused(DATA, &subscribe("(i32.const 77)", 1), UNKNOWN), 1);
    assert_eq!(refused(DATA, &subscribe(&pid(), 1), OTHER_KIND), 1);
    assert_eq!(result_of(DATA, &format!("(call $unref {})", exec())).0, 0);
    assert_eq!(result_of(DATA, &format!("(call $is_ref {})", exec())).0, 1);
    assert_eq!(refused(DATA, "(call $is_ref (i32.const 5))", UNKNOWN), 2);
    assert_eq!(refused(DATA, "(call $unref (i32.const 5))", UNKNOWN), 1);
    assert_eq!(result_of(DATA, &format!("(call $release {})", exec())).0, 0);
    assert_eq!(refused(DATA, "(call $release (i32.const 0))", UNKNOWN), 1);
}

#[test]
fn a_subscription_needs_the_callback() {
    let guest = guest(&format!(
        "(data (i32.const 0) \"exec\") (func (export \"gadgetInit\") (result i32)
         (call $sub {} (i32.const 1) (i32.const 0) (i64.const 1)))",
        exec()
    ));
    assert!(guest.call(Stage::Init).is_err());
    assert!(guest.take_log().0[0].text.contains("no dataSourceCallback"));
}

#[test]
fn fields() {
    assert_eq!(result_of(DATA, &pid()).0, 2);
    let field = |ds: &str, buffer: u64| format!("(call $field {ds} (i64.const {buffer}))");
    assert_eq!(refused(DATA, &field(&exec(), at(7, 3)), "no field"), 0);
    assert_eq!(refused(DATA, &field(&exec(), OUTSIDE), BUFFER), 0);
    assert_eq!(refused(DATA, &field("(i32.const 3)", at(4, 3)), UNKNOWN), 0);
    assert_eq!(result_of("execPID", &pid()).0, 2, "any case");
    let add = |buffer: u64, kind: u32| {
        format!("(call $add {} (i64.const {buffer}) (i32.const {kind}))", exec())
    };
    assert_eq!(result_of(DATA, &add(at(7, 3), 12)).0, 2);
    assert_eq!(refused(DATA, &add(at(4, 3), 12), "already"), 0);
    assert_eq!(refused(DATA, &add(at(7, 3), 15), "unknown kind"), 0);
    assert_eq!(result_of(DATA, &format!("(call $tag {} (i64.const {}))", pid(), at(7, 3))).0, 0);
    let tag = format!("(call $tag {} (i64.const {}))", exec(), at(7, 3));
    assert_eq!(refused(DATA, &tag, OTHER_KIND), 1);
}

#[test]
fn packets_and_their_values() {
    let (f, p) = ("(local.get $f)", "(local.get $p)");
    let set = |field: &str, data: &str, kind: u32, value: u64| {
        format!("(call $set {field} {data} (i32.const {kind}) (i64.const {value}))")
    };
    let data = "execpid\\00new\\00hello";
    let run = |kind: u32, expression: &str| result_of(data, &with_packet(kind, expression));
    let back = |kind: u32, set_kind: u32, value: u64| {
        run(
            kind,
            &format!(
                "(drop {}) (i32.wrap_i64 (call $scalar {f} {p} (i32.const {kind}) (i32.const 0)))",
                set(f, p, set_kind, value)
            ),
        )
    };
    assert_eq!(back(8, 8, 77).0, 77);
    assert_eq!(back(2, 2, 0xff).0, 0xffff_ffff, "an i8 is extended by its sign");
    assert_eq!(back(1, 1, 5).0, 1, "a bool is 0 or 1");
    assert_eq!(back(10, 10, 0x3f80_0000).0, 0x3f80_0000);
    let fails = |kind: u32, expression: &str, said: &str| {
        refused(data, &with_packet(kind, expression), said)
    };
    assert_eq!(fails(8, &set(f, p, 9, 1), "another size"), 1);
    assert_eq!(fails(8, &set(f, p, 13, 1), "CString"), 1);
    assert_eq!(fails(8, &set(f, p, 0, 1), "unknown kind"), 1);
    assert_eq!(fails(12, &set(f, p, 8, 1), "no scalar"), 1);
    assert_eq!(fails(12, &set(f, p, 12, OUTSIDE), BUFFER), 1);
    assert_eq!(fails(8, &set(p, p, 8, 1), OTHER_KIND), 1);
    assert_eq!(fails(8, &set(f, f, 8, 1), OTHER_KIND), 1);
    assert_eq!(fails(8, &set(f, "(i32.const 0x80010003)", 8, 1), OTHER_KIND), 1);
    assert_eq!(fails(8, &set(&pid(), p, 8, 1), "different data sources"), 1);
    let text = set(f, p, 12, at(12, 5));
    let buffer = |kind: u32, dst: u64| {
        format!("(drop {text}) (call $buffer {f} {p} (i32.const {kind}) (i64.const {dst}))")
    };
    assert_eq!(run(12, &buffer(12, at(100, 5))).0, 5);
    assert_eq!(run(14, &buffer(14, at(100, 50))).0, 5);
    assert_eq!(fails(12, &buffer(12, at(100, 4)), "too small"), 0xffff_ffff);
    assert_eq!(fails(12, &buffer(8, at(100, 50)), "neither String"), 0xffff_ffff);
    let scalar = format!(
        "(drop (call $scalar {f} {p} (i32.const 9) (i32.const 200))) (i32.load (i32.const 200))"
    );
    assert_eq!(fails(8, &scalar, "another size"), 1, "the error is written");
    let outside =
        format!("(drop (call $scalar {f} {p} (i32.const 9) (i32.const 65534))) (i32.const 0)");
    let (_, lines) = run(8, &outside);
    assert_eq!(lines.len(), 2);
    assert_eq!(run(8, &format!("(call $emit (local.get $d) {p})")).0, 0);
    assert_eq!(run(8, &format!("(call $drop (local.get $d) {p})")).0, 0);
    assert_eq!(fails(8, &format!("(call $emit {} {p})", exec()), "another data source"), 1);
    let twice = format!("(drop (call $emit (local.get $d) {p})) (call $emit (local.get $d) {p})");
    assert_eq!(fails(8, &twice, UNKNOWN), 1);
}

#[test]
fn arrays() {
    let data = "listn";
    let with = |expression: &str| {
        format!(
            "(local $d i32) (local $f i32) (local $a i32) (local $e i32)
             (local.set $d (call $ds (i64.const {})))
             (local.set $f (call $field (local.get $d) (i64.const {})))
             (local.set $a (call $array (local.get $d)))
             (local.set $e (call $element (local.get $a))) {expression}",
            at(0, 4),
            at(4, 1)
        )
    };
    let run = |expression: &str| result_of(data, &with(expression)).0;
    let (a, e) = ("(local.get $a)", "(local.get $e)");
    let set = format!("(drop (call $set (local.get $f) {e} (i32.const 9) (i64.const 41)))");
    let append = format!("{set} (drop (call $append {a} {e}))");
    assert_eq!(run(&format!("{append} (call $len {a})")), 1);
    assert_eq!(run(&format!("{append} (call $get {a} (i32.const 0))")), 0x8000_0003);
    let value = format!(
        "{append} (i32.wrap_i64 (call $scalar (local.get $f) (call $get {a} (i32.const 0))
         (i32.const 9) (i32.const 0)))"
    );
    assert_eq!(run(&value), 41);
    let fails = |expression: &str, said: &str| refused(data, &with(expression), said);
    assert_eq!(fails(&format!("(call $get {a} (i32.const 0))"), "no element"), 0);
    assert_eq!(fails(&format!("(call $len {e})"), OTHER_KIND), 0);
    assert_eq!(fails(&format!("(call $append {e} {a})"), OTHER_KIND), 1);
    assert_eq!(fails(&format!("{append} (call $append {a} {e})"), UNKNOWN), 1);
    assert_eq!(run(&format!("(call $release_element {a} {e})")), 0);
    assert_eq!(fails("(call $single (local.get $d))", "another type"), 0);
}

#[test]
fn parameters_and_configuration() {
    let data = "modefast?";
    let param = |key: u64, dst: u64| format!("(call $param (i64.const {key}) (i64.const {dst}))");
    assert_eq!(result_of(data, &param(at(0, 4), at(100, 4))).0, 0);
    assert_eq!(refused(data, &param(at(0, 4), at(100, 3)), "too small"), 1);
    assert_eq!(refused(data, &param(at(4, 4), at(100, 4)), "no parameter"), 1);
    let config = |value: u64, kind: u32| {
        format!("(call $config (i64.const {}) (i64.const {value}) (i32.const {kind}))", at(0, 4))
    };
    assert_eq!(result_of(data, &config(at(4, 4), 12)).0, 0);
    assert_eq!(refused(data, &config(at(4, 4), 8), "is not String"), 1);
    assert_eq!(refused(data, &config(OUTSIDE, 12), BUFFER), 1);
}

#[test]
fn maps_and_readers_that_are_not_there() {
    let data = "map";
    let new = |kind: u32, key: u32| {
        format!(
            "(call $new_map (i64.const {}) (i32.const {kind}) (i32.const {key}) (i32.const 4)
             (i32.const 1))",
            at(0, 3)
        )
    };
    assert_eq!(refused(data, &new(0, 4), "unknown type"), 0);
    assert_eq!(refused(data, &new(34, 4), "unknown type"), 0);
    assert_eq!(refused(data, &new(1, 1 << 30), "a key of"), 0);
    let get = format!("(call $map (i64.const {}))", at(0, 3));
    assert_eq!(refused(data, &get, "no loaded map"), 0);
    let none = "(i32.const 9)";
    for call in [
        format!("(call $lookup {none} (i64.const 0) (i64.const 0))"),
        format!("(call $update {none} (i64.const 0) (i64.const 0) (i64.const 0))"),
        format!("(call $delete {none} (i64.const 0))"),
        format!("(call $release_map {none})"),
        format!("(call $pause {none})"),
        format!("(call $resume {none})"),
        format!("(call $close {none})"),
        format!("(call $read {none} (i64.const 0))"),
    ] {
        assert_eq!(refused(data, &call, UNKNOWN), 1, "{call}");
    }
    let update = format!("(call $update {none} (i64.const 0) (i64.const 0) (i64.const 5))");
    assert_eq!(refused(data, &update, "unknown flags"), 1);
    let perf = format!("(call $perf {none} (i32.const 4096) (i32.const 1))");
    assert_eq!(refused(data, &perf, UNKNOWN), 0);
}

#[test]
fn system_calls_and_symbols() {
    let data = "readno_such_call";
    let name = |id: u32, size: u32| {
        format!(
            "(drop (call $syscall_name (i32.const {id}) (i64.const {})))
             (i32.load8_u (i32.const 100))",
            at(100, size)
        )
    };
    let read = if cfg!(target_arch = "aarch64") { 63 } else { 0 };
    assert_eq!(result_of(data, &name(read, 20)).0, i64::from(b'r'));
    assert_eq!(result_of(data, &name(9999, 20)).0, i64::from(b's'));
    assert_eq!(refused(data, &name(read, 2), "too small"), 0);
    let id = |length: u32| format!("(call $syscall_id (i64.const {}))", at(0, length));
    assert_eq!(result_of(data, &id(4)).0, i64::from(read));
    assert_eq!(refused(data, &id(6), "no system call"), 0xffff_ffff);
    let declared = format!("(call $declaration (i64.const {}) (i64.const 0))", at(0, 4));
    assert_eq!(refused(data, &declared, "tracefs is not mounted"), 1);
    assert_eq!(refused(data, &format!("(call $symbol (i64.const {OUTSIDE}))"), BUFFER), 0);
    assert_eq!(result_of(data, &format!("(call $symbol (i64.const {}))", at(4, 12))).0, 0);
    assert_eq!(result_of(data, "(call $discard (i64.const 1))").0, 0, "no filter keeps all");
}
