//! Modules that are made to do harm: each is one error, or harmless.

use super::*;

fn error(text: &str) -> String {
    guest_of(text).err().expect("must be refused").message
}

#[test]
fn what_is_no_module() {
    for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x01", &[0xff; 64]] {
        let error = Module::compile(bytes).err().expect("must be refused");
        assert!(!error.message.is_empty() && !error.message.contains('\n'));
    }
    let valid = wat::parse_str(module_text("")).unwrap();
    for cut in 9..valid.len() {
        let _ = Module::compile(&valid[..cut]);
    }
}

#[test]
fn what_a_module_must_have() {
    assert_eq!(error("(module)"), "it exports no memory");
    assert_eq!(error("(module (memory (export \"memory\") 1))"), "it exports no gadgetAPIVersion");
    let version = |n: u32| {
        format!(
            "(module (memory (export \"memory\") 1)
             (func (export \"gadgetAPIVersion\") (result i64) (i64.const {n})))"
        )
    };
    assert!(error(&version(2)).contains("is 2, expected: 1"));
    assert!(guest_of(&version(1)).is_ok());
    let wrong = "(module (memory (export \"memory\") 1)
        (func (export \"gadgetAPIVersion\") (result i32) (i32.const 1)))";
    assert!(error(wrong).contains("another signature"));
}

#[test]
fn what_it_may_not_ask_for() {
    let with = |part: &str| error(&module_text(part));
    assert!(!error("(module (memory (export \"memory\") 257))").is_empty());
    assert!(!error("(module (memory (export \"memory\") i64 1))").is_empty());
    assert!(!error("(module (import \"ig\" \"noSuchFunction\" (func)))").is_empty());
    assert!(!error("(module (import \"ig\" \"gadgetLog\" (func (param i32))))").is_empty());
    assert!(!error("(module (import \"env\" \"memory\" (memory 1)))").is_empty());
    assert!(!with("(table 100000000 funcref)").is_empty());
    assert!(with("(start $s) (func $s (loop (br 0)))").contains("fuel"));
    assert!(with("(start $s) (func $s (unreachable))").contains("unreachable"));
    let imports = "(import \"ig\" \"gadgetLog\" (func (param i32 i64)))".repeat(5000);
    assert!(error(&format!("(module {imports})")).contains("5000 imports"));
}

#[test]
fn a_failure_at_start_has_the_modules_words() {
    let text = "(module
        (import \"wasi_snapshot_preview1\" \"fd_write\"
          (func $write (param i32 i32 i32 i32) (result i32)))
        (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
        (memory (export \"memory\") 1)
        (data (i32.const 0) \"\\10\\00\\00\\00\\10\\00\\00\\00\") (data (i32.const 16) \"panic: no luck\\0a\\0a\")
        (func (export \"gadgetAPIVersion\") (result i64) (i64.const 1))
        (func (export \"gadgetInit\") (result i32)
          (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 200)))
          (call $exit (i32.const 2)) (i32.const 0)))";
    let guest = guest_of(text).unwrap();
    let error = guest.call(Stage::Init).unwrap_err().message;
    assert_eq!(error, "gadgetInit: it ended itself with status 2: panic: no luck");
}

#[test]
fn a_flood_of_handles_is_refused() {
    let flood = format!(
        "(local $n i32)
         (loop
           (drop (call $ds (i64.const {})))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if 0 (i32.lt_u (local.get $n) (i32.const 5000))))
         (call $ds (i64.const {}))",
        at(0, 4),
        at(0, 4)
    );
    let (code, lines) = result_of("exec", &flood);
    assert_eq!(code, 0);
    assert!(lines[0].text.contains("too many open handles"));
    assert!(lines.len() <= _core::wasm::limits::LOG_LINES);
}

#[test]
fn packets_cannot_fill_the_hosts_memory() {
    // 4096 packets with a text of 32 KiB are more than a module may hold.
    let flood = format!(
        "(local $d i32) (local $f i32) (local $p i32) (local $n i32) (local $r i32)
         (local.set $d (call $new_ds (i64.const {name}) (i32.const 1)))
         (local.set $f (call $add (local.get $d) (i64.const {name}) (i32.const 12)))
         (loop
           (local.set $p (call $single (local.get $d)))
           (local.set $r (call $set (local.get $f) (local.get $p) (i32.const 12)
             (i64.const {text})))
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if 0 (i32.and (i32.eqz (local.get $r))
             (i32.lt_u (local.get $n) (i32.const 4000)))))
         (local.get $n)",
        name = at(0, 3),
        text = at(0, 32768)
    );
    let (count, lines) = result_of("new", &flood);
    assert!((1000..2049).contains(&count), "{count}");
    assert!(lines[0].text.contains("holds too much"), "{lines:?}");
}

#[test]
fn what_host_functions_do_counts_too() {
    // Each call makes random numbers for a whole megabyte.
    let guest = guest_of(
        "(module
        (import \"wasi_snapshot_preview1\" \"random_get\"
          (func $random (param i32 i32) (result i32)))
        (memory (export \"memory\") 17)
        (func (export \"gadgetAPIVersion\") (result i64) (i64.const 1))
        (func (export \"gadgetInit\") (result i32)
          (loop (drop (call $random (i32.const 0) (i32.const 1048576))) (br 0)) (i32.const 0)))",
    )
    .unwrap();
    let error = guest.call(Stage::Init).unwrap_err().message;
    assert!(error.contains("what it asks the host for takes too much time"), "{error}");
}

#[test]
fn what_all_maps_take_is_limited() {
    let (code, lines) = result_of(
        "exec",
        &format!("(call $new_map (i64.const {}) (i32.const 2) (i32.const 4) (i32.const 1048576) (i32.const 256))", at(0, 4)),
    );
    assert_eq!(code, 0);
    assert!(lines[0].text.contains("maps of more than 268435456 bytes"), "{lines:?}");
}

#[test]
fn deep_recursion_traps() {
    let guest = guest(
        "(func $f (call $f)) (func (export \"gadgetInit\") (result i32)
        (call $f) (i32.const 0))",
    );
    assert!(guest.call(Stage::Init).unwrap_err().message.starts_with("gadgetInit: "));
}
