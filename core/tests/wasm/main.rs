//! Modules written as text, against the whole host.

mod callbacks;
mod functions;
mod hostile;

use std::collections::HashMap;
use std::time::Duration;

use _core::errors::Result;
use _core::wasm::{Guest, Line, Module, Stage};

/// Imports that tests use, with their types.
const IMPORTS: &str = r#"
    (import "ig" "gadgetLog" (func $log (param i32 i64)))
    (import "ig" "gadgetShouldLog" (func $should_log (param i32) (result i32)))
    (import "ig" "newDataSource" (func $new_ds (param i64 i32) (result i32)))
    (import "ig" "getDataSource" (func $ds (param i64) (result i32)))
    (import "ig" "dataSourceSubscribe" (func $sub (param i32 i32 i32 i64) (result i32)))
    (import "ig" "dataSourceGetField" (func $field (param i32 i64) (result i32)))
    (import "ig" "dataSourceAddField" (func $add (param i32 i64 i32) (result i32)))
    (import "ig" "dataSourceNewPacketSingle" (func $single (param i32) (result i32)))
    (import "ig" "dataSourceNewPacketArray" (func $array (param i32) (result i32)))
    (import "ig" "dataSourceEmitAndRelease" (func $emit (param i32 i32) (result i32)))
    (import "ig" "dataSourceRelease" (func $drop (param i32 i32) (result i32)))
    (import "ig" "dataSourceUnreference" (func $unref (param i32) (result i32)))
    (import "ig" "dataSourceIsReferenced" (func $is_ref (param i32) (result i32)))
    (import "ig" "dataArrayNew" (func $element (param i32) (result i32)))
    (import "ig" "dataArrayAppend" (func $append (param i32 i32) (result i32)))
    (import "ig" "dataArrayRelease" (func $release_element (param i32 i32) (result i32)))
    (import "ig" "dataArrayLen" (func $len (param i32) (result i32)))
    (import "ig" "dataArrayGet" (func $get (param i32 i32) (result i32)))
    (import "ig" "fieldGetScalar" (func $scalar (param i32 i32 i32 i32) (result i64)))
    (import "ig" "fieldGetBuffer" (func $buffer (param i32 i32 i32 i64) (result i32)))
    (import "ig" "fieldSet" (func $set (param i32 i32 i32 i64) (result i32)))
    (import "ig" "fieldAddTag" (func $tag (param i32 i64) (result i32)))
    (import "ig" "getParamValue" (func $param (param i64 i64) (result i32)))
    (import "ig" "setConfig" (func $config (param i64 i64 i32) (result i32)))
    (import "ig" "newMap" (func $new_map (param i64 i32 i32 i32 i32) (result i32)))
    (import "ig" "getMap" (func $map (param i64) (result i32)))
    (import "ig" "mapLookup" (func $lookup (param i32 i64 i64) (result i32)))
    (import "ig" "mapUpdate" (func $update (param i32 i64 i64 i64) (result i32)))
    (import "ig" "mapDelete" (func $delete (param i32 i64) (result i32)))
    (import "ig" "mapRelease" (func $release_map (param i32) (result i32)))
    (import "ig" "releaseHandle" (func $release (param i32) (result i32)))
    (import "ig" "getSyscallName" (func $syscall_name (param i32 i64) (result i32)))
    (import "ig" "getSyscallID" (func $syscall_id (param i64) (result i32)))
    (import "ig" "getSyscallDeclaration" (func $declaration (param i64 i64) (result i32)))
    (import "ig" "newPerfReader" (func $perf (param i32 i32 i32) (result i32)))
    (import "ig" "perfReaderPause" (func $pause (param i32) (result i32)))
    (import "ig" "perfReaderResume" (func $resume (param i32) (result i32)))
    (import "ig" "perfReaderRead" (func $read (param i32 i64) (result i32)))
    (import "ig" "perfReaderClose" (func $close (param i32) (result i32)))
    (import "ig" "kallsymsSymbolExists" (func $symbol (param i64) (result i32)))
    (import "ig" "shouldDiscardMntnsID" (func $discard (param i64) (result i32)))
"#;

/// A module with all imports, a page of memory and `body`.
pub fn module_text(body: &str) -> String {
    format!(
        "(module {IMPORTS} (memory (export \"memory\") 1)
         (func (export \"gadgetAPIVersion\") (result i64) (i64.const 1)) {body})"
    )
}

pub fn compile(text: &str) -> Result<Module> {
    Module::compile(&wat::parse_str(text).expect("the text of a module"))
}

pub fn guest_of(text: &str) -> Result<Guest> {
    let params = HashMap::from([("mode".to_string(), "fast".to_string())]);
    Guest::new(&compile(text)?, params, 4, Duration::from_millis(200))
}

/// A module with all imports and `body`, with the data source `exec`: pid, args and, of the sort
/// that operators add, `user`; and the array `list`.
pub fn guest(body: &str) -> Guest {
    let guest = guest_of(&module_text(body)).expect("a valid module");
    guest.declare(PLAN).expect("a valid plan");
    guest
}

pub const PLAN: &str = r#"{"version": 1, "clock_offset_ns": 0, "timezone_offset_s": 0,
    "datasources": [
      {"name": "exec", "sample_size": 24, "output": {"mode": "json"}, "fields": [
        {"id": 0, "name": "pid", "full_name": "pid", "kind": "u32", "offset": 0, "size": 4},
        {"id": 1, "name": "delta", "full_name": "delta", "kind": "i16", "offset": 4, "size": 2},
        {"id": 2, "name": "args", "full_name": "args", "kind": "char", "offset": 8, "size": 16},
        {"id": 3, "name": "user", "full_name": "user", "kind": "str", "slot": true}]},
      {"name": "list", "sample_size": 8, "array": true, "output": {"mode": "json"}, "fields": [
        {"id": 0, "name": "n", "full_name": "n", "kind": "u64", "offset": 0, "size": 8}]}]}"#;

/// A buffer of a module's memory as one number.
pub fn at(address: u32, length: u32) -> u64 {
    u64::from(length) << 32 | u64::from(address)
}

/// What `gadgetInit` returns when it is `expression`, and what was logged meanwhile.
pub fn result_of(data: &str, expression: &str) -> (i64, Vec<Line>) {
    let guest = guest(&format!(
        "(data (i32.const 0) \"{data}\")
         (func (export \"dataSourceCallback\") (param i64 i32 i32))
         (func (export \"gadgetInit\") (result i32) {expression})"
    ));
    let code = match guest.call(Stage::Init) {
        Ok(_) => 0,
        Err(error) => {
            let (_, code) = error.message.split_once("(status ").expect("a status");
            code.trim_end_matches(')').parse().expect("a number")
        }
    };
    (code, guest.take_log().0)
}

/// As [`result_of`]; exactly one line was logged, which has `said`.
pub fn refused(data: &str, expression: &str, said: &str) -> i64 {
    let (code, lines) = result_of(data, expression);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].text.contains(said), "{:?} lacks {said}", lines[0].text);
    code
}
