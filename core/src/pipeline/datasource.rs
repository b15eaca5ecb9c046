//! One data source: samples in, rendered events and counts out.

use super::array::{Array, MAX_RENDERED};
use super::condition::Condition;
use super::dependencies;
use super::filter::Filter;
use super::metrics::{Metrics, Series};
use super::step::{self, Step};
use super::steps::context::Context;
use super::steps::time::Clock;
use crate::errors::{Error, Result};
use crate::render::columns::Columns;
use crate::render::json::Json;
use crate::render::pcapng::Pcapng;
use crate::render::tree;
use crate::render::unicode;
use crate::render::yaml::Yaml;
use crate::schema::event::{from_sample, Event, Slot, Slots, Value};
use crate::schema::field::Fields;
use crate::schema::lookups::Lookups;
use crate::schema::plan::{self, Kind, Mode};

/// Rendered bytes after which a batch is handed out: with its last event still a block that
/// malloc takes from its heap. Larger ones are mapped anew each time, a page fault for every
/// 4 KiB of output.
pub const BATCH_BYTES: usize = 192 << 10;
/// The same for modes that render nothing.
pub const BATCH_EVENTS: u64 = 1 << 16;

enum Renderer {
    None,
    Json(Json),
    Pretty(Json),
    Yaml(Yaml),
    Columns(Columns),
    /// A header, and the fields whose text is written.
    Text(Vec<u8>, Vec<usize>),
    Pcapng(Box<Pcapng>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub emitted: u64,
    pub discarded: u64,
    /// Shorter than the plan's smallest sample: neither emitted nor discarded.
    pub malformed: u64,
    /// Elements that an array had no room for.
    pub overflow: u64,
    /// Lost while their namespace was not identified.
    pub unidentified: u64,
}

impl Counts {
    /// Received, but neither emitted nor discarded.
    pub fn lost(&self) -> u64 {
        self.malformed + self.overflow + self.unidentified
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub data: Vec<u8>,
    /// Compact JSON, a line an event; None unless the plan keeps events.
    pub kept: Option<Vec<u8>>,
    pub events: u64,
}

pub struct DataSource {
    pub name: String,
    pub counts: Counts,
    fields: Fields,
    steps: Vec<Step>,
    /// Filters on the sample alone, run before any step.
    early: Vec<Filter>,
    late: Vec<Filter>,
    conditions: Vec<Condition>,
    /// Events that were left out since a condition could not be decided.
    pub undecided: u64,
    names: Vec<Box<str>>,
    sample_size: usize,
    min_size: usize,
    /// Where a sample says its mount namespace.
    mntns: Option<usize>,
    renderer: Renderer,
    terminal: bool,
    keep: Option<Json>,
    array: Option<Array>,
    metrics: Option<Metrics>,
    /// None of its samples is lost before it is here.
    pub pushed: bool,
    /// The field of the bytes behind the struct, and the one that says how many.
    rest: Option<(usize, Option<usize>)>,
    slots: Slots,
    clock: Clock,
    /// A short sample, extended with zeros.
    extended: Vec<u8>,
    cell: Vec<u8>,
    out: Rendered,
}

impl DataSource {
    pub fn compile(plan: &plan::DataSource, lookups: &mut Lookups) -> Result<DataSource> {
        let mut fields = Fields::compile(plan)?;
        let mut names = Vec::new();
        let steps = step::compile(&plan.steps, &mut fields, lookups, &mut names)?;
        let filters = Filter::compile_all(&plan.filters, &fields)?;
        let (early, late) = filters.into_iter().partition(|f| f.reads_sample(&fields));
        let conditions = Condition::compile_all(&plan.conditions, &fields)?;
        let nodes = tree::build(&fields);
        let rest = rest(plan, &fields)?;
        let dependencies = dependencies::of_fields(&fields, &steps, rest.map(|(field, _)| field));
        let array = plan.array.then(|| Array::compile(plan, &fields)).transpose()?;
        if array.is_none() && (!plan.sort.is_empty() || plan.limit.is_some()) {
            return Err(Error::plan(format!(
                "data source {}: only arrays are sorted or limited",
                plan.name
            )));
        }
        let json = if array.is_some() { Json::element } else { Json::compile };
        let renderer = match plan.output.mode {
            Mode::None => Renderer::None,
            Mode::Json => Renderer::Json(json(&nodes, &fields, &dependencies, false)),
            Mode::Jsonpretty => Renderer::Pretty(json(&nodes, &fields, &dependencies, true)),
            Mode::Yaml => Renderer::Yaml(Yaml::compile(&nodes, &fields)),
            Mode::Text => {
                let is_text = |f: &usize| matches!(fields.list[*f].kind, Kind::Str | Kind::Char);
                let header = plan.output.header.clone().into_bytes();
                Renderer::Text(header, (0..fields.list.len()).filter(is_text).collect())
            }
            Mode::Columns => Renderer::Columns(Columns::compile(&plan.output.columns, &fields)?),
            Mode::Pcapng => capture(plan, &fields, rest.map(|(field, _)| field), &steps)?,
        };
        let mntns = steps.iter().find_map(|s| s.mntns()).map(|i| &fields.list[i]);
        // What an array shows is read now, not sent when it happened.
        let mntns = mntns.filter(|f| !f.slot && f.size == 8 && !plan.array).map(|f| f.offset);
        let mut source = DataSource {
            name: plan.name.clone(),
            mntns,
            counts: Counts::default(),
            steps,
            early,
            late,
            conditions,
            undecided: 0,
            names,
            sample_size: plan.sample_size,
            min_size: plan.min_size,
            renderer,
            terminal: plan.output.terminal,
            keep: plan.keep.then(|| Json::compile(&nodes, &fields, &dependencies, false)),
            array,
            metrics: plan.metrics.as_ref().map(|m| Metrics::compile(m, &fields)).transpose()?,
            pushed: plan.pushed,
            rest,
            fields,
            slots: Slots::default(),
            clock: Clock::default(),
            extended: Vec::new(),
            cell: Vec::new(),
            out: Rendered::default(),
        };
        source.out = source.empty(0);
        if let Renderer::Pcapng(pcapng) = &source.renderer {
            source.out.data = pcapng.begin();
        }
        Ok(source)
    }

    pub fn empty(&self, capacity: usize) -> Rendered {
        Rendered {
            data: Vec::with_capacity(capacity),
            kept: self.keep.as_ref().map(|_| Vec::new()),
            events: 0,
        }
    }

    /// The mount namespace that a sample tells.
    #[inline]
    pub fn mntns_of(&self, sample: &[u8]) -> Option<u64> {
        let at = self.mntns?;
        Some(u64::from_ne_bytes(sample.get(at..at + 8)?.try_into().ok()?))
    }

    /// Counts samples of namespaces that proved to be none of the wanted ones…
    pub fn discard(&mut self, samples: u64) {
        self.counts.received += samples;
        self.counts.discarded += samples;
    }

    /// …or of which that is not known.
    pub fn lose(&mut self, samples: u64) {
        self.counts.received += samples;
        self.counts.unidentified += samples;
    }

    /// Takes one sample; false once the batch should be handed out.
    pub fn process(&mut self, lookups: &Lookups, sample: &[u8]) -> bool {
        self.counts.received += 1;
        if sample.len() < self.min_size {
            self.counts.malformed += 1;
            return true;
        }
        let mut extended = std::mem::take(&mut self.extended);
        let (whole, rest) = match sample.split_at_checked(self.sample_size) {
            Some(in_place) => in_place,
            None => {
                extended.clear();
                extended.extend_from_slice(sample);
                extended.resize(self.sample_size, 0);
                (&extended[..], &[][..])
            }
        };
        if self.array.is_some() {
            self.element(lookups, whole);
        } else {
            self.event(lookups, whole, rest);
        }
        self.extended = extended;
        !self.is_full()
    }

    fn event(&mut self, lookups: &Lookups, sample: &[u8], rest: &[u8]) {
        let Some(rest) = self.cut_rest(sample, rest) else {
            self.counts.malformed += 1;
            return;
        };
        if self.evaluate(lookups, sample, rest, true) {
            self.render(lookups, sample, rest);
        } else {
            self.counts.discarded += 1;
        }
    }

    /// As many of the bytes behind the struct as its field says; None when there are fewer.
    fn cut_rest<'a>(&self, sample: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
        match self.rest {
            Some((_, Some(length))) => {
                let length = from_sample(&self.fields.list[length], sample).word();
                rest.get(..usize::try_from(length).ok()?)
            }
            _ => Some(rest),
        }
    }

    /// Runs steps and filters; false when the event is not wanted.
    fn evaluate(&mut self, lookups: &Lookups, sample: &[u8], rest: &[u8], filtered: bool) -> bool {
        self.slots.reset(self.fields.list.len());
        if let Some((field, _)) = self.rest {
            self.slots.values[field] = match self.fields.list[field].kind {
                Kind::Bytes => Slot::Rest,
                _ => Slot::RestText,
            };
        }
        let names = &self.names;
        let fields = &self.fields;
        let passes = |filters: &[Filter], slots: &Slots| {
            let event = Event { sample, rest, slots, lookups, names };
            !filtered || filters.iter().all(|f| f.passes(&event, fields))
        };
        if !passes(&self.early, &self.slots) {
            return false;
        }
        let mut cx = Context {
            fields: &fields.list,
            sample,
            slots: &mut self.slots,
            lookups,
            names,
            clock: &mut self.clock,
        };
        for step in &self.steps {
            step.run(&mut cx);
        }
        if !passes(&self.late, &self.slots) {
            return false;
        }
        let event = Event { sample, rest, slots: &self.slots, lookups, names };
        for condition in self.conditions.iter().filter(|_| filtered) {
            match condition.holds(&event, fields) {
                Some(true) => {}
                Some(false) => return false,
                None => {
                    self.undecided += 1;
                    return false;
                }
            }
        }
        true
    }

    fn render(&mut self, lookups: &Lookups, sample: &[u8], rest: &[u8]) {
        let fields = &self.fields;
        let event = Event { sample, rest, slots: &self.slots, lookups, names: &self.names };
        let data = &mut self.out.data;
        match &mut self.renderer {
            Renderer::None => {}
            Renderer::Json(json) | Renderer::Pretty(json) => {
                let start = data.len();
                json.write(&event, &fields.list, data);
                if self.terminal {
                    unicode::escape_in_json(data, start);
                }
            }
            Renderer::Yaml(yaml) => yaml.write(&event, &fields.list, data),
            Renderer::Columns(columns) => columns.write(&event, fields, &mut self.cell, data),
            Renderer::Pcapng(pcapng) => pcapng.write(&event, fields, data),
            Renderer::Text(header, texts) => {
                data.extend_from_slice(header);
                for index in texts.iter() {
                    if let Value::Text(text) = event.value(*index, &fields.list[*index]) {
                        data.extend_from_slice(text);
                    }
                }
            }
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.record(&event, fields);
        }
        if let (Some(json), Some(kept)) = (&mut self.keep, &mut self.out.kept) {
            json.write(&event, &fields.list, kept);
        }
        self.counts.emitted += 1;
        self.out.events += 1;
    }

    /// Begins an array; until [`DataSource::finish`], samples are its elements.
    pub fn begin(&mut self) {
        let Some(array) = &mut self.array else { return };
        array.shown = 0;
        array.open = true;
        match self.renderer {
            Renderer::Json(_) | Renderer::Pretty(_) => self.out.data.push(b'['),
            Renderer::Columns(_) => self.out.data.extend_from_slice(&array.header),
            Renderer::Yaml(_) | Renderer::Text(..) | Renderer::Pcapng(_) | Renderer::None => {}
        }
    }

    fn element(&mut self, lookups: &Lookups, sample: &[u8]) {
        if !self.evaluate(lookups, sample, &[], true) {
            self.counts.discarded += 1;
            return;
        }
        let Some(array) = &mut self.array else { return };
        if !array.sorts() {
            self.show(lookups, sample);
            return;
        }
        let names = &self.names;
        let event = Event { sample, rest: &[], slots: &self.slots, lookups, names };
        if !array.collect(&event, &self.fields) {
            self.counts.overflow += 1;
        }
    }

    /// Renders the element that was just evaluated, where the array has room for it.
    fn show(&mut self, lookups: &Lookups, sample: &[u8]) {
        let Some(array) = &mut self.array else { return };
        if array.shown >= array.limit {
            self.counts.discarded += 1;
            return;
        }
        if self.out.data.len() >= MAX_RENDERED {
            self.counts.overflow += 1;
            return;
        }
        array.shown += 1;
        let first = array.shown == 1;
        let separator: &[u8] = match (&self.renderer, first) {
            (Renderer::Json(_), false) => b",",
            (Renderer::Pretty(_), true) => b"\n  ",
            (Renderer::Pretty(_), false) => b",\n  ",
            _ => b"",
        };
        self.out.data.extend_from_slice(separator);
        self.render(lookups, sample, &[]);
    }

    /// Ends the array: what was rendered of it.
    pub fn finish(&mut self, lookups: &Lookups) -> Rendered {
        let (elements, order) = self.array.as_mut().map(Array::take_sorted).unwrap_or_default();
        let size = self.sample_size;
        for element in order {
            let sample = &elements[element * size..(element + 1) * size];
            let room = self.array.as_ref().is_some_and(|a| a.shown < a.limit);
            if room {
                // Its slots are gone: filters have let it pass, steps run again.
                self.evaluate(lookups, sample, &[], false);
            }
            self.show(lookups, sample);
        }
        let shown = self.array.as_mut().map_or(0, |array| {
            array.open = false;
            array.shown
        });
        match self.renderer {
            Renderer::Pretty(_) if shown > 0 => self.out.data.extend_from_slice(b"\n]\n"),
            Renderer::Json(_) | Renderer::Pretty(_) => self.out.data.extend_from_slice(b"]\n"),
            _ => {}
        }
        let next = self.empty(0);
        std::mem::replace(&mut self.out, next)
    }

    pub fn series(&self) -> &[Series] {
        self.metrics.as_ref().map_or(&[], Metrics::series)
    }

    pub fn is_array(&self) -> bool {
        self.array.is_some()
    }

    /// True between [`DataSource::begin`] and [`DataSource::finish`].
    pub fn is_open(&self) -> bool {
        self.array.as_ref().is_some_and(|a| a.open)
    }

    fn is_full(&self) -> bool {
        let kept = self.out.kept.as_ref().map_or(0, Vec::len);
        self.out.data.len() + kept >= BATCH_BYTES || self.out.events >= BATCH_EVENTS
    }

    /// What was rendered since the last call; None when it was nothing.
    pub fn take(&mut self) -> Option<Rendered> {
        if self.out.events == 0 && self.out.data.is_empty() {
            return None;
        }
        // The next batch is likely as large: avoid growing it again step by step.
        let length = self.out.data.len();
        let next = self.empty(length + length / 8);
        Some(std::mem::replace(&mut self.out, next))
    }
}

fn rest(plan: &plan::DataSource, fields: &Fields) -> Result<Option<(usize, Option<usize>)>> {
    let Some(rest) = &plan.rest else { return Ok(None) };
    let field = fields.bytes_slot(rest.field, "rest")?;
    let length = rest.length.map(|l| fields.integer(l, "rest")).transpose()?;
    if plan.array {
        return Err(Error::plan(format!("data source {}: arrays have no rest", plan.name)));
    }
    Ok(Some((field, length)))
}

fn capture(
    plan: &plan::DataSource,
    fields: &Fields,
    rest: Option<usize>,
    steps: &[Step],
) -> Result<Renderer> {
    let bad = |why: &str| Error::plan(format!("data source {}: {why}", plan.name));
    let given = plan.output.capture.as_ref().ok_or_else(|| bad("a capture of no fields"))?;
    if plan.array {
        return Err(bad("arrays are no capture"));
    }
    let time_of = |text| steps.iter().find_map(|s| s.time_of(text));
    Ok(Renderer::Pcapng(Pcapng::compile(given, fields, rest, time_of)?.into()))
}
