//! Conditions: expressions that must all be true for an event (docs/filter-expressions.md).
//!
//! Python has checked the types when it wrote the plan. A condition is undecided when a type does
//! not fit all the same, or when an expression has no value (a division by zero).

mod functions;
mod value;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use functions::{call, function, Function};
use value::{arithmetic, number, order, text, truth, whole, V};

use super::filter;
use crate::errors::{Error, Result};
use crate::schema::event::{Event, Value};
use crate::schema::field::Fields;
use crate::schema::plan::Node;

const MAX_CONDITIONS: usize = 64;
const MAX_NODES: usize = 4096;

#[derive(Clone, Copy, Debug)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Contains,
    StartsWith,
    EndsWith,
    In,
}

#[derive(Clone, Copy, Debug)]
enum Quantifier {
    All,
    Any,
    None,
    One,
}

#[derive(Debug)]
enum Expr {
    Field(usize),
    Constant(V<'static>),
    List(Vec<Expr>),
    /// The element that a quantifier tests.
    Element,
    Not(Box<Expr>),
    Negative(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    If(Box<[Expr; 3]>),
    /// The first is a whole number from the second to the third.
    Within(Box<[Expr; 3]>),
    Two(Op, Box<[Expr; 2]>),
    Matches(Box<Expr>, regex::bytes::Regex),
    Networks(Box<Expr>, Vec<(IpAddr, u8)>),
    Each(Quantifier, Box<[Expr; 2]>),
    Call(Function, Vec<Expr>),
}

#[derive(Debug)]
pub struct Condition(Expr);

impl Condition {
    pub fn compile_all(plans: &[Node], fields: &Fields) -> Result<Vec<Condition>> {
        if plans.len() > MAX_CONDITIONS {
            return Err(bad(format!("{} conditions, at most {MAX_CONDITIONS}", plans.len())));
        }
        let mut left = MAX_NODES;
        plans.iter().map(|p| Ok(Condition(compile(p, fields, &mut left)?))).collect()
    }

    /// None when the condition is undecided.
    pub fn holds(&self, event: &Event<'_>, fields: &Fields) -> Option<bool> {
        truth(&self.0.value(&Scope { event: *event, fields }, None)?)
    }
}

fn bad(why: String) -> Error {
    Error::plan(format!("condition: {why}"))
}

fn compile(plan: &Node, fields: &Fields, left: &mut usize) -> Result<Expr> {
    *left = left.checked_sub(1).ok_or_else(|| bad(format!("more than {MAX_NODES} parts")))?;
    let mut args = Vec::with_capacity(plan.args.len());
    for arg in &plan.args {
        args.push(compile(arg, fields, left)?);
    }
    let op = plan.op.as_str();
    let text = || plan.value.as_ref().and_then(|v| v.as_str());
    let count = || bad(format!("{op}: {} arguments do not fit", plan.args.len()));
    if let Some(op) = binary(op) {
        return Ok(Expr::Two(op, Box::new(args.try_into().map_err(|_| count())?)));
    }
    if let Some((function, fewest, most)) = function(op) {
        if !(fewest..=most).contains(&args.len()) {
            return Err(count());
        }
        return Ok(Expr::Call(function, args));
    }
    Ok(match op {
        "field" => {
            let id = plan.field.ok_or_else(|| bad("field: which one is missing".into()))?;
            Expr::Field(fields.index(id, "condition")?)
        }
        "value" => Expr::Constant(constant(plan)?),
        "list" => Expr::List(args),
        "element" => Expr::Element,
        "not" | "neg" => {
            let [one]: [Expr; 1] = args.try_into().map_err(|_| count())?;
            let one = Box::new(one);
            if op == "not" {
                Expr::Not(one)
            } else {
                Expr::Negative(one)
            }
        }
        "and" => Expr::And(args),
        "or" => Expr::Or(args),
        "if" => Expr::If(Box::new(args.try_into().map_err(|_| count())?)),
        "within" => Expr::Within(Box::new(args.try_into().map_err(|_| count())?)),
        "matches" => {
            let [one]: [Expr; 1] = args.try_into().map_err(|_| count())?;
            let pattern = text().ok_or_else(|| bad("matches: no pattern".into()))?;
            Expr::Matches(Box::new(one), filter::regex(pattern).map_err(bad)?)
        }
        "networks" => {
            let [one]: [Expr; 1] = args.try_into().map_err(|_| count())?;
            let given = plan.value.as_ref().and_then(|v| v.as_array()).ok_or_else(count)?;
            let networks = given.iter().map(|n| n.as_str().and_then(network));
            let networks = networks.collect::<Option<_>>();
            Expr::Networks(Box::new(one), networks.ok_or_else(|| bad("no network".into()))?)
        }
        "all" | "any" | "none" | "one" => {
            let kind = match op {
                "all" => Quantifier::All,
                "any" => Quantifier::Any,
                "none" => Quantifier::None,
                _ => Quantifier::One,
            };
            Expr::Each(kind, Box::new(args.try_into().map_err(|_| count())?))
        }
        _ => return Err(bad(format!("there is no {op:?}"))),
    })
}

fn binary(name: &str) -> Option<Op> {
    Some(match name {
        "==" => Op::Eq,
        "!=" => Op::Ne,
        "<" => Op::Lt,
        "<=" => Op::Le,
        ">" => Op::Gt,
        ">=" => Op::Ge,
        "+" => Op::Add,
        "-" => Op::Sub,
        "*" => Op::Mul,
        "/" => Op::Div,
        "%" => Op::Mod,
        "**" => Op::Pow,
        "contains" => Op::Contains,
        "startsWith" => Op::StartsWith,
        "endsWith" => Op::EndsWith,
        "in" => Op::In,
        _ => return None,
    })
}

fn constant(plan: &Node) -> Result<V<'static>> {
    Ok(match &plan.value {
        Some(serde_json::Value::Bool(b)) => V::Bool(*b),
        Some(serde_json::Value::String(s)) => V::Text(Cow::Owned(s.as_bytes().to_vec())),
        Some(serde_json::Value::Number(n)) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(u), _, _) => V::Int(u.into()),
            (_, Some(i), _) => V::Int(i.into()),
            (_, _, Some(f)) => V::Float(f),
            _ => return Err(bad(format!("{n} is no number"))),
        },
        _ => return Err(bad("a value is missing".into())),
    })
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

fn within(address: IpAddr, network: &(IpAddr, u8)) -> bool {
    let differs = |a: u128, b: u128, width: u32| {
        let rest = width - u32::from(network.1);
        rest < width && (a ^ b) >> rest != 0
    };
    match (address, network.0) {
        (IpAddr::V4(a), IpAddr::V4(n)) => !differs(u32::from(a).into(), u32::from(n).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => !differs(a.into(), n.into(), 128),
        _ => false,
    }
}

/// What an expression reads.
struct Scope<'a> {
    event: Event<'a>,
    fields: &'a Fields,
}

impl Expr {
    fn value<'a>(&'a self, scope: &Scope<'a>, element: Option<&V<'a>>) -> Option<V<'a>> {
        Some(match self {
            Expr::Field(index) => match scope.event.value(*index, &scope.fields.list[*index]) {
                Value::Bool(b) => V::Bool(b),
                Value::Int(i) => V::Int(i.into()),
                Value::Uint(u) => V::Int(u.into()),
                Value::F32(f) => V::Float(f.into()),
                Value::F64(f) => V::Float(f),
                Value::Text(t) => V::Text(Cow::Borrowed(t)),
                Value::Bytes(_) | Value::Array(_) | Value::Container(_) => return None,
            },
            Expr::Constant(V::Text(t)) => V::Text(Cow::Borrowed(t)),
            Expr::Constant(v) => v.clone(),
            Expr::List(items) => {
                V::List(items.iter().map(|i| i.value(scope, element)).collect::<Option<_>>()?)
            }
            Expr::Element => element?.clone(),
            Expr::Not(one) => V::Bool(!truth(&one.value(scope, element)?)?),
            Expr::Negative(one) => match one.value(scope, element)? {
                V::Int(i) => V::Int(-i),
                V::Float(f) => V::Float(-f),
                _ => return None,
            },
            Expr::And(all) => {
                for one in all {
                    if !truth(&one.value(scope, element)?)? {
                        return Some(V::Bool(false));
                    }
                }
                V::Bool(true)
            }
            Expr::Or(any) => {
                for one in any {
                    if truth(&one.value(scope, element)?)? {
                        return Some(V::Bool(true));
                    }
                }
                V::Bool(false)
            }
            Expr::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                let chosen =
                    if truth(&condition.value(scope, element)?)? { then } else { otherwise };
                chosen.value(scope, element)?
            }
            Expr::Within(parts) => {
                let [what, from, to] = &**parts;
                let what = what.value(scope, element)?;
                let (from, to) = (from.value(scope, element)?, to.value(scope, element)?);
                V::Bool(whole(&from)? <= whole(&what)? && whole(&what)? <= whole(&to)?)
            }
            Expr::Two(op, sides) => {
                let [left, right] = &**sides;
                two(*op, left.value(scope, element)?, right.value(scope, element)?)?
            }
            Expr::Matches(one, regex) => {
                V::Bool(filter::found(regex, text(&one.value(scope, element)?)?))
            }
            Expr::Networks(one, networks) => {
                let value = one.value(scope, element)?;
                let address = std::str::from_utf8(text(&value)?).ok().and_then(|t| t.parse().ok());
                let address = address.map(|a: IpAddr| a.to_canonical());
                V::Bool(address.is_some_and(|a| networks.iter().any(|n| within(a, n))))
            }
            Expr::Each(kind, parts) => {
                let [list, test] = &**parts;
                let V::List(items) = list.value(scope, element)? else { return None };
                let mut met = 0;
                for item in &items {
                    met += usize::from(truth(&test.value(scope, Some(item))?)?);
                }
                V::Bool(match kind {
                    Quantifier::All => met == items.len(),
                    Quantifier::Any => met > 0,
                    Quantifier::None => met == 0,
                    Quantifier::One => met == 1,
                })
            }
            Expr::Call(function, args) => {
                let values = args.iter().map(|a| a.value(scope, element));
                call(*function, values.collect::<Option<Vec<_>>>()?)?
            }
        })
    }
}

fn two<'a>(op: Op, left: V<'a>, right: V<'a>) -> Option<V<'a>> {
    let compared = |holds: fn(Ordering) -> bool| -> Option<V<'a>> {
        Some(V::Bool(order(&left, &right)?.is_some_and(holds)))
    };
    Some(match op {
        Op::Eq => compared(Ordering::is_eq)?,
        Op::Ne => V::Bool(order(&left, &right)? != Some(Ordering::Equal)),
        Op::Lt => compared(Ordering::is_lt)?,
        Op::Le => compared(Ordering::is_le)?,
        Op::Gt => compared(Ordering::is_gt)?,
        Op::Ge => compared(Ordering::is_ge)?,
        Op::Add => match (&left, &right) {
            (V::Text(a), V::Text(b)) => V::Text(Cow::Owned([&**a, &**b].concat())),
            _ => arithmetic(&left, &right, i128::checked_add, |a, b| a + b)?,
        },
        Op::Sub => arithmetic(&left, &right, i128::checked_sub, |a, b| a - b)?,
        Op::Mul => arithmetic(&left, &right, i128::checked_mul, |a, b| a * b)?,
        Op::Div => V::Float(number(&left)? / number(&right)?),
        Op::Mod => V::Int(whole(&left)?.checked_rem(whole(&right)?)?),
        Op::Pow => V::Float(number(&left)?.powf(number(&right)?)),
        Op::Contains => V::Bool(memchr::memmem::find(text(&left)?, text(&right)?).is_some()),
        Op::StartsWith => V::Bool(text(&left)?.starts_with(text(&right)?)),
        Op::EndsWith => V::Bool(text(&left)?.ends_with(text(&right)?)),
        Op::In => {
            let V::List(items) = &right else { return None };
            V::Bool(items.iter().any(|i| order(&left, i) == Some(Some(Ordering::Equal))))
        }
    })
}
