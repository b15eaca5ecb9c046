//! One data source: samples in, rendered events and counts out.

use super::event::{Event, Slots};
use super::field::Fields;
use super::filter::Filter;
use super::plan::{self, Mode};
use super::step::{self, Context, Step};
use super::steps::time::Clock;
use super::world::World;
use crate::errors::Result;
use crate::render::columns::Columns;
use crate::render::json::Json;
use crate::render::tree;
use crate::render::unicode;
use crate::render::yaml::Yaml;

/// Rendered bytes after which a batch is handed out.
pub const BATCH_BYTES: usize = 1 << 20;
/// The same for modes that render nothing.
pub const BATCH_EVENTS: u64 = 1 << 16;

enum Renderer {
    None,
    Json(Json),
    Yaml(Yaml),
    Columns(Columns),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub emitted: u64,
    pub discarded: u64,
    /// Shorter than the plan's smallest sample: neither emitted nor discarded.
    pub malformed: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub data: Vec<u8>,
    /// Compact JSON, a line an event; None unless the plan keeps events.
    pub kept: Option<Vec<u8>>,
    pub events: u64,
}

pub struct Source {
    pub name: String,
    pub counts: Counts,
    fields: Fields,
    steps: Vec<Step>,
    /// Filters on the sample alone, run before any step.
    early: Vec<Filter>,
    late: Vec<Filter>,
    names: Vec<Box<str>>,
    sample_size: usize,
    min_size: usize,
    renderer: Renderer,
    terminal: bool,
    keep: Option<Json>,
    slots: Slots,
    clock: Clock,
    /// A short sample, extended with zeros.
    extended: Vec<u8>,
    cell: Vec<u8>,
    out: Rendered,
}

impl Source {
    pub fn compile(plan: &plan::DataSource, world: &mut World) -> Result<Source> {
        let mut fields = Fields::compile(plan)?;
        let mut names = Vec::new();
        let steps = step::compile(&plan.steps, &mut fields, world, &mut names)?;
        let filters = Filter::compile_all(&plan.filters, &fields)?;
        let (early, late) = filters.into_iter().partition(|f| f.reads_sample(&fields));
        let nodes = tree::build(&fields);
        let renderer = match plan.output.mode {
            Mode::None => Renderer::None,
            Mode::Json => Renderer::Json(Json::compile(&nodes, &fields, false)),
            Mode::Jsonpretty => Renderer::Json(Json::compile(&nodes, &fields, true)),
            Mode::Yaml => Renderer::Yaml(Yaml::compile(&nodes, &fields)),
            Mode::Columns => Renderer::Columns(Columns::compile(&plan.output.columns, &fields)?),
        };
        let mut source = Source {
            name: plan.name.clone(),
            counts: Counts::default(),
            steps,
            early,
            late,
            names,
            sample_size: plan.sample_size,
            min_size: plan.min_size,
            renderer,
            terminal: plan.output.terminal,
            keep: plan.keep.then(|| Json::compile(&nodes, &fields, false)),
            fields,
            slots: Slots::default(),
            clock: Clock::default(),
            extended: Vec::new(),
            cell: Vec::new(),
            out: Rendered::default(),
        };
        source.out = source.empty(0);
        Ok(source)
    }

    pub fn empty(&self, capacity: usize) -> Rendered {
        Rendered {
            data: Vec::with_capacity(capacity),
            kept: self.keep.as_ref().map(|_| Vec::new()),
            events: 0,
        }
    }

    /// Takes one sample; false once the batch should be handed out.
    pub fn process(&mut self, world: &World, sample: &[u8]) -> bool {
        self.counts.received += 1;
        if sample.len() < self.min_size {
            self.counts.malformed += 1;
            return true;
        }
        let mut extended = std::mem::take(&mut self.extended);
        let whole = match sample.get(..self.sample_size) {
            Some(in_place) => in_place,
            None => {
                extended.clear();
                extended.extend_from_slice(sample);
                extended.resize(self.sample_size, 0);
                &extended
            }
        };
        self.event(world, whole);
        self.extended = extended;
        !self.is_full()
    }

    fn event(&mut self, world: &World, sample: &[u8]) {
        self.slots.reset(self.fields.list.len());
        let names = &self.names;
        let fields = &self.fields;
        let passes = |filters: &[Filter], slots: &Slots| {
            let event = Event { sample, slots, world, names };
            filters.iter().all(|f| f.passes(&event, fields))
        };
        if !passes(&self.early, &self.slots) {
            self.counts.discarded += 1;
            return;
        }
        let mut cx = Context {
            fields: &fields.list,
            sample,
            slots: &mut self.slots,
            world,
            names,
            clock: &mut self.clock,
        };
        for step in &self.steps {
            step.run(&mut cx);
        }
        if !passes(&self.late, &self.slots) {
            self.counts.discarded += 1;
            return;
        }
        let event = Event { sample, slots: &self.slots, world, names };
        let data = &mut self.out.data;
        match &self.renderer {
            Renderer::None => {}
            Renderer::Json(json) => {
                let start = data.len();
                json.write(&event, &fields.list, data);
                if self.terminal {
                    unicode::escape_in_json(data, start);
                }
            }
            Renderer::Yaml(yaml) => yaml.write(&event, &fields.list, data),
            Renderer::Columns(columns) => columns.write(&event, fields, &mut self.cell, data),
        }
        if let (Some(json), Some(kept)) = (&self.keep, &mut self.out.kept) {
            json.write(&event, &fields.list, kept);
        }
        self.counts.emitted += 1;
        self.out.events += 1;
    }

    fn is_full(&self) -> bool {
        let kept = self.out.kept.as_ref().map_or(0, Vec::len);
        self.out.data.len() + kept >= BATCH_BYTES || self.out.events >= BATCH_EVENTS
    }

    /// What was rendered since the last call; None when no event came through.
    pub fn take(&mut self) -> Option<Rendered> {
        if self.out.events == 0 {
            return None;
        }
        // The next batch is likely as large: avoid growing it again step by step.
        let next = self.empty(self.out.data.len());
        Some(std::mem::replace(&mut self.out, next))
    }
}
