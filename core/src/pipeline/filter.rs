//! Filters: one comparison of one field with a constant, checked when compiled.

use std::cmp::Ordering;

use crate::errors::{Error, Result};
use crate::schema::event::{Event, Value};
use crate::schema::field::{is_integer, is_signed, width, Fields};
use crate::schema::plan::{self, Kind};

const MAX_FILTERS: usize = 256;
/// Compiled size of one regular expression, bytes.
const MAX_REGEX: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    fn holds(self, order: Option<Ordering>) -> bool {
        match (self, order) {
            (Op::Ne, order) => order != Some(Ordering::Equal),
            (_, None) => false,
            (Op::Eq, Some(o)) => o.is_eq(),
            (Op::Lt, Some(o)) => o.is_lt(),
            (Op::Le, Some(o)) => o.is_le(),
            (Op::Gt, Some(o)) => o.is_gt(),
            (Op::Ge, Some(o)) => o.is_ge(),
        }
    }
}

#[derive(Debug)]
enum Test {
    Uint(Op, u64),
    Int(Op, i64),
    Float(Op, f64),
    Bool(Op, bool),
    Text(Op, Box<[u8]>),
    Regex(regex::bytes::Regex, bool),
}

#[derive(Debug)]
pub struct Filter {
    field: usize,
    test: Test,
}

impl Filter {
    pub fn compile_all(plans: &[plan::Filter], fields: &Fields) -> Result<Vec<Filter>> {
        if plans.len() > MAX_FILTERS {
            return Err(Error::plan(format!("{} filters, at most {MAX_FILTERS}", plans.len())));
        }
        plans.iter().map(|p| Filter::compile(p, fields)).collect()
    }

    fn compile(plan: &plan::Filter, fields: &Fields) -> Result<Filter> {
        let index = fields.index(plan.field, "filter")?;
        let field = &fields.list[index];
        let bad = |why: String| Error::plan(format!("filter on {}: {why}", field.full_name));
        let text = matches!(field.kind, Kind::Char | Kind::Str);
        if field.array || matches!(field.kind, Kind::Bytes | Kind::Container) {
            return Err(bad(format!("values of kind {:?} cannot be compared", field.kind)));
        }
        let op = match plan.op.as_str() {
            "==" | "=" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            "~" | "!~" if !text => {
                return Err(bad("regular expressions match only strings".into()));
            }
            "~" | "!~" => {
                let regex = regex(&plan.value).map_err(bad)?;
                return Ok(Filter { field: index, test: Test::Regex(regex, plan.op == "~") });
            }
            op => return Err(bad(format!("unknown operator {op:?}"))),
        };
        let number = |what: &str| bad(format!("{:?} is not {what}", plan.value));
        let bits = field.bits.map_or(width(field.kind).unwrap_or(8) as u32 * 8, |b| b.width);
        let test = match field.kind {
            Kind::Char | Kind::Str => Test::Text(op, plan.value.as_bytes().into()),
            Kind::Bool => {
                if !matches!(op, Op::Eq | Op::Ne) {
                    return Err(bad("booleans are only equal or not".into()));
                }
                match plan.value.as_str() {
                    "true" | "1" => Test::Bool(op, true),
                    "false" | "0" => Test::Bool(op, false),
                    _ => return Err(number("true, false, 1 or 0")),
                }
            }
            // A constant such as 0.1 is rounded to the precision of the field.
            Kind::F32 => {
                let value: f32 = plan.value.parse().map_err(|_| number("a number"))?;
                Test::Float(op, value.into())
            }
            Kind::F64 => Test::Float(op, plan.value.parse().map_err(|_| number("a number"))?),
            kind if is_signed(kind) => {
                let value: i64 = plan
                    .value
                    .parse()
                    .map_err(|_| number(&format!("a signed {bits} bit number")))?;
                if bits < 64 && !(-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value) {
                    return Err(number(&format!("a signed {bits} bit number")));
                }
                Test::Int(op, value)
            }
            kind => {
                debug_assert!(is_integer(kind));
                let unsigned = format!("an unsigned {bits} bit number");
                // `ig` accepts no sign here.
                let digits = plan.value.bytes().all(|b| b.is_ascii_digit());
                let value: u64 =
                    plan.value.parse().ok().filter(|_| digits).ok_or_else(|| number(&unsigned))?;
                if bits < 64 && value >> bits != 0 {
                    return Err(number(&unsigned));
                }
                Test::Uint(op, value)
            }
        };
        Ok(Filter { field: index, test })
    }

    /// True when the field's value is in the sample and no step changes it.
    pub fn reads_sample(&self, fields: &Fields) -> bool {
        let field = &fields.list[self.field];
        !field.slot && !field.patched
    }

    pub fn field(&self) -> usize {
        self.field
    }

    /// A value whose kind is not the field's passes only `!=`.
    pub fn passes(&self, event: &Event<'_>, fields: &Fields) -> bool {
        let value = event.value(self.field, &fields.list[self.field]);
        match (&self.test, value) {
            (Test::Uint(op, want), Value::Uint(have)) => op.holds(Some(have.cmp(want))),
            (Test::Uint(op, want), Value::Int(have)) => {
                op.holds(Some(i128::from(have).cmp(&i128::from(*want))))
            }
            (Test::Int(op, want), Value::Int(have)) => op.holds(Some(have.cmp(want))),
            (Test::Int(op, want), Value::Uint(have)) => {
                op.holds(Some(i128::from(have).cmp(&i128::from(*want))))
            }
            (Test::Float(op, want), Value::F64(have)) => op.holds(have.partial_cmp(want)),
            (Test::Float(op, want), Value::F32(have)) => {
                op.holds(f64::from(have).partial_cmp(want))
            }
            (Test::Bool(op, want), Value::Bool(have)) => op.holds(Some(have.cmp(want))),
            (Test::Text(op, want), Value::Text(have)) => op.holds(Some(have.cmp(want))),
            (Test::Regex(regex, wanted), Value::Text(have)) => found(regex, have) == *wanted,
            (Test::Regex(_, wanted), _) => !wanted,
            (
                Test::Uint(op, _)
                | Test::Int(op, _)
                | Test::Float(op, _)
                | Test::Bool(op, _)
                | Test::Text(op, _),
                _,
            ) => op.holds(None),
        }
    }
}

/// Compiles a regular expression; the error is the reason in one line.
pub fn regex(pattern: &str) -> std::result::Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .build()
        .map_err(|e| {
            // The last line is the reason; those before it point at the place.
            let all = e.to_string();
            let what = all.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("invalid regular expression {pattern:?}: {what}")
        })
}

/// Matches as RE2 does: each byte that is not UTF-8 counts as one U+FFFD. Otherwise not even `.`
/// would match such a byte, and a container could evade a pattern with it.
pub fn found(regex: &regex::bytes::Regex, text: &[u8]) -> bool {
    if std::str::from_utf8(text).is_ok() {
        return regex.is_match(text);
    }
    let mut runes = String::with_capacity(text.len() * 3);
    for chunk in text.utf8_chunks() {
        runes.push_str(chunk.valid());
        runes.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    regex.is_match(runes.as_bytes())
}
