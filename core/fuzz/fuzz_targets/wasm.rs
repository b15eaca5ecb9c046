//! Any module, and any arguments to host functions: an error or a result, never a panic. The data
//! are arguments of 8 bytes: a module calls one host function after the other with them.
#![no_main]

use std::collections::HashMap;
use std::time::Duration;

use _core::wasm::{Guest, Module, Stage};
use ig_py_core_fuzz::target;

const PLAN: &str = include_str!("../plans/wasm.json");
/// Name, and number of bits of each parameter and of the result; 0: there is none.
const FUNCTIONS: &[(&str, &[u8], u8)] = &[
    ("gadgetLog", &[32, 64], 0),
    ("gadgetShouldLog", &[32], 32),
    ("newDataSource", &[64, 32], 32),
    ("getDataSource", &[64], 32),
    ("dataSourceSubscribe", &[32, 32, 32, 64], 32),
    ("dataSourceGetField", &[32, 64], 32),
    ("dataSourceAddField", &[32, 64, 32], 32),
    ("dataSourceNewPacketSingle", &[32], 32),
    ("dataSourceNewPacketArray", &[32], 32),
    ("dataSourceEmitAndRelease", &[32, 32], 32),
    ("dataSourceRelease", &[32, 32], 32),
    ("dataSourceUnreference", &[32], 32),
    ("dataSourceIsReferenced", &[32], 32),
    ("dataArrayNew", &[32], 32),
    ("dataArrayAppend", &[32, 32], 32),
    ("dataArrayRelease", &[32, 32], 32),
    ("dataArrayLen", &[32], 32),
    ("dataArrayGet", &[32, 32], 32),
    ("fieldGetScalar", &[32, 32, 32, 32], 64),
    ("fieldGetBuffer", &[32, 32, 32, 64], 32),
    ("fieldSet", &[32, 32, 32, 64], 32),
    ("fieldAddTag", &[32, 64], 32),
    ("getParamValue", &[64, 64], 32),
    ("setConfig", &[64, 64, 32], 32),
    ("getMap", &[64], 32),
    ("mapLookup", &[32, 64, 64], 32),
    ("mapUpdate", &[32, 64, 64, 64], 32),
    ("mapDelete", &[32, 64], 32),
    ("mapRelease", &[32], 32),
    ("releaseHandle", &[32], 32),
    ("getSyscallName", &[32, 64], 32),
    ("getSyscallID", &[64], 32),
    ("getSyscallDeclaration", &[64, 64], 32),
    ("newPerfReader", &[32, 32, 32], 32),
    ("perfReaderPause", &[32], 32),
    ("perfReaderResume", &[32], 32),
    ("perfReaderRead", &[32, 64], 32),
    ("perfReaderClose", &[32], 32),
    ("shouldDiscardMntnsID", &[64], 32),
];
const TEXTS: &str = "execpidlistnewmode";

fn leb(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(mut value: i64, out: &mut Vec<u8>) {
    loop {
        let byte = value as u8 & 0x7f;
        value >>= 7;
        if (value == 0 && byte & 0x40 == 0) || (value == -1 && byte & 0x40 != 0) {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

fn section(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number);
    leb(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn kind(bits: u8) -> u8 {
    if bits == 32 {
        0x7f
    } else {
        0x7e
    }
}

/// Most arguments are small, so that handles and kinds are met.
fn argument(words: &mut std::slice::ChunksExact<'_, u8>) -> Option<u64> {
    let word = u64::from_le_bytes(words.next()?.try_into().ok()?);
    Some(match word >> 61 {
        0..=3 => word & 0xf,
        // A buffer of the texts.
        4 | 5 => (word & 7) << 32 | (word >> 8 & 15),
        6 => 0x8000_0000 | (word & 3) << 16 | (word >> 8 & 7),
        _ => word,
    })
}

fn module(data: &[u8]) -> Vec<u8> {
    let (mut types, mut imports, mut code) = (Vec::new(), Vec::new(), Vec::new());
    leb(FUNCTIONS.len() as u64 + 3, &mut types);
    leb(FUNCTIONS.len() as u64, &mut imports);
    for (index, (name, parameters, result)) in FUNCTIONS.iter().enumerate() {
        types.push(0x60);
        leb(parameters.len() as u64, &mut types);
        types.extend(parameters.iter().map(|bits| kind(*bits)));
        types.push(u8::from(*result != 0));
        types.extend((*result != 0).then(|| kind(*result)));
        imports.extend([2, b'i', b'g', name.len() as u8]);
        imports.extend(name.as_bytes());
        imports.push(0);
        leb(index as u64, &mut imports);
    }
    types.extend([0x60, 0, 1, 0x7f, 0x60, 0, 1, 0x7e, 0x60, 3, 0x7e, 0x7f, 0x7f, 0]);
    let mut words = data.chunks_exact(8);
    'calls: while let Some(first) = words.next() {
        let index = usize::from(first[0]) % FUNCTIONS.len();
        let (_, parameters, result) = FUNCTIONS[index];
        let mut call = Vec::new();
        for bits in parameters {
            let Some(value) = argument(&mut words) else { break 'calls };
            call.push(if *bits == 32 { 0x41 } else { 0x42 });
            signed(if *bits == 32 { i64::from(value as i32) } else { value as i64 }, &mut call);
        }
        call.push(0x10);
        leb(index as u64, &mut call);
        call.extend((result != 0).then_some(0x1a));
        code.extend(call);
    }
    let n = FUNCTIONS.len() as u8;
    let mut out = b"\0asm\x01\0\0\0".to_vec();
    section(1, &types, &mut out);
    section(2, &imports, &mut out);
    section(3, &[3, n, n + 1, n + 2], &mut out);
    section(5, &[1, 0, 1], &mut out);
    let mut exports = vec![4];
    let named = [
        ("memory", 2, 0),
        ("gadgetInit", 0, n),
        ("gadgetAPIVersion", 0, n + 1),
        ("dataSourceCallback", 0, n + 2),
    ];
    for (name, what, index) in named {
        exports.push(name.len() as u8);
        exports.extend(name.as_bytes());
        exports.extend([what, index]);
    }
    section(7, &exports, &mut out);
    let mut bodies = vec![3];
    for body in [&[&code[..], &[0x41, 0]].concat()[..], &[0x42, 1], &[]] {
        leb(body.len() as u64 + 2, &mut bodies);
        bodies.push(0);
        bodies.extend_from_slice(body);
        bodies.push(0x0b);
    }
    section(10, &bodies, &mut out);
    let mut texts = vec![1, 0, 0x41, 0, 0x0b, TEXTS.len() as u8];
    texts.extend(TEXTS.as_bytes());
    section(11, &texts, &mut out);
    out
}

fn live(module: &Module) {
    let limit = Duration::from_millis(20);
    let params = HashMap::from([("mode".to_string(), "fast".to_string())]);
    let Ok(guest) = Guest::new(module, params, 4, limit) else { return };
    guest.declare(PLAN).expect("the plan is well-formed");
    let _ = guest.call(Stage::Init);
    guest.bind(HashMap::new(), None);
    let _ = guest.call(Stage::Stop);
    let (lines, _) = guest.take_log();
    assert!(lines.len() <= _core::wasm::limits::LOG_LINES);
    while guest.take_emitted().is_some() {}
}

target!(|data| {
    // As it is, a module that is nearly always malformed.
    let _ = Module::compile(data);
    live(&Module::compile(&module(data)).expect("a valid module"));
});
