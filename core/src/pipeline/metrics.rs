//! Sums over events by key fields: counters, gauges and histograms.

use std::collections::HashMap;

use crate::errors::{Error, Result};
use crate::render::json;
use crate::schema::event::{Event, Value};
use crate::schema::field::{is_integer, Fields};
use crate::schema::plan::{self, Kind, MetricKind};

/// Combinations of key values that have a series of their own; further ones share a series without
/// keys.
const MAX_SERIES: usize = 2000;
const MAX_FIELDS: usize = 256;
/// The most slots of a histogram: one for each power of two.
const MAX_SLOTS: usize = 65;

/// The value of one metric in one series.
#[derive(Clone, Debug, PartialEq)]
pub enum Sum {
    Count(u64),
    Float(f64),
    Last(i64),
    Slots(Vec<u64>),
}

struct Metric {
    field: usize,
    kind: MetricKind,
}

/// All metrics of one combination of key values.
#[derive(Clone, Debug)]
pub struct Series {
    /// A JSON list of the key values; empty for the combinations beyond the limit.
    pub keys: String,
    pub sums: Vec<Sum>,
}

pub struct Metrics {
    keys: Vec<usize>,
    metrics: Vec<Metric>,
    places: HashMap<Vec<u8>, usize>,
    series: Vec<Series>,
    key: Vec<u8>,
}

impl Metrics {
    pub fn compile(plan: &plan::Metrics, fields: &Fields) -> Result<Metrics> {
        if plan.keys.len() > MAX_FIELDS || plan.values.len() > MAX_FIELDS {
            return Err(Error::plan(format!("metrics of more than {MAX_FIELDS} fields")));
        }
        let keys = plan.keys.iter().map(|k| fields.ordered(*k, "metric key"));
        let metrics = plan.values.iter().map(|m| {
            let field = fields.index(m.field, "metric")?;
            let found = &fields.list[field];
            let number =
                is_integer(found.kind) || matches!(found.kind, Kind::F32 | Kind::F64 | Kind::Bool);
            let fits = match m.kind {
                MetricKind::Histogram => {
                    found.array && found.count <= MAX_SLOTS && is_integer(found.kind)
                }
                MetricKind::Counter | MetricKind::Gauge => !found.array && number,
            };
            if !fits {
                let what = "a number, or at most 65 slots of a histogram";
                return Err(Error::plan(format!("metric {}: must be {what}", found.full_name)));
            }
            Ok(Metric { field, kind: m.kind })
        });
        Ok(Metrics {
            keys: keys.collect::<Result<_>>()?,
            metrics: metrics.collect::<Result<_>>()?,
            places: HashMap::new(),
            series: Vec::new(),
            key: Vec::new(),
        })
    }

    pub fn record(&mut self, event: &Event<'_>, fields: &Fields) {
        self.key.clear();
        for (i, index) in self.keys.iter().enumerate() {
            self.key.push(if i == 0 { b'[' } else { b',' });
            json::scalar(event.value(*index, &fields.list[*index]), &mut self.key);
        }
        self.key.extend_from_slice(if self.keys.is_empty() { b"[]" } else { b"]" });
        let place = match self.places.get(&self.key) {
            Some(place) => *place,
            None => self.new_series(),
        };
        for (metric, sum) in self.metrics.iter().zip(&mut self.series[place].sums) {
            add(metric.kind, event.value(metric.field, &fields.list[metric.field]), sum);
        }
    }

    fn new_series(&mut self) -> usize {
        let full = self.series.len() >= MAX_SERIES;
        if full && self.places.contains_key(&b""[..]) {
            return self.places[&b""[..]];
        }
        let key = if full { Vec::new() } else { self.key.clone() };
        let zero = |m: &Metric| match m.kind {
            MetricKind::Histogram => Sum::Slots(Vec::new()),
            MetricKind::Counter | MetricKind::Gauge => Sum::Count(0),
        };
        let keys = String::from_utf8_lossy(&key).into_owned();
        self.series.push(Series { keys, sums: self.metrics.iter().map(zero).collect() });
        self.places.insert(key, self.series.len() - 1);
        self.series.len() - 1
    }

    /// In the order in which they were first seen.
    pub fn series(&self) -> &[Series] {
        &self.series
    }
}

fn add(kind: MetricKind, value: Value<'_>, sum: &mut Sum) {
    match (kind, value) {
        (MetricKind::Histogram, Value::Array(slots)) => {
            let Sum::Slots(sums) = sum else { return };
            sums.resize(slots.iter().count().max(sums.len()), 0);
            for (slot, sum) in slots.iter().zip(sums) {
                *sum = sum.wrapping_add(slot.word());
            }
        }
        (MetricKind::Counter, Value::F32(_) | Value::F64(_)) => {
            let before = if let Sum::Float(f) = sum { *f } else { 0.0 };
            *sum = Sum::Float(before + float(value));
        }
        (MetricKind::Counter, value) => {
            let before = if let Sum::Count(n) = sum { *n } else { 0 };
            *sum = Sum::Count(before.wrapping_add(value.word()));
        }
        (MetricKind::Gauge, Value::F32(_) | Value::F64(_)) => *sum = Sum::Float(float(value)),
        (MetricKind::Gauge, Value::Int(i)) => *sum = Sum::Last(i),
        (_, value) => *sum = Sum::Count(value.word()),
    }
}

fn float(value: Value<'_>) -> f64 {
    match value {
        Value::F32(f) => f.into(),
        Value::F64(f) => f,
        _ => 0.0,
    }
}
