//! One data source: samples in, rendered events and counts out.

mod arrays;
mod behind;
mod emitted;
mod process;
mod whole;

use std::sync::Arc;

use crate::errors::{Error, Result};
use crate::pipeline::array::Array;
use crate::pipeline::condition::Condition;
use crate::pipeline::demand::{Demand, Need};
use crate::pipeline::dependencies;
use crate::pipeline::filter::Filter;
use crate::pipeline::metrics::{Metrics, Series};
use crate::pipeline::step::{self, Callback, Step};
use crate::pipeline::steps::time::Clock;
use crate::pipeline::whole::Whole;
use crate::render::columns::Columns;
use crate::render::json::Json;
use crate::render::pcapng::Pcapng;
use crate::render::tree;
use crate::render::yaml::Yaml;
use crate::schema::event::Slots;
use crate::schema::field::Fields;
use crate::schema::lookups::Lookups;
use crate::schema::plan::{self, Kind, Mode};
use crate::schema::texts::Texts;
use crate::wasm::Guest;
use behind::Behind;

/// Rendered bytes after which a batch is handed out. With its last event, the batch is still a
/// block that malloc takes from its heap; larger blocks are mapped anew each time, with a page
/// fault for every 4 KiB of output.
pub const BATCH_BYTES: usize = 192 << 10;
/// The same for modes that render nothing.
pub const BATCH_EVENTS: u64 = 1 << 16;

/// Bytes of a text field from which on only its text is kept of a sample that waits.
const LONG_TEXT: usize = 64;

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
    /// Samples shorter than the plan's `min_size`: neither emitted nor discarded.
    pub malformed: u64,
    /// Elements for which an array had no room, and samples for which the memory limit had none.
    pub overflow: u64,
    /// Samples that were dropped because their namespace was not identified in time.
    pub unidentified: u64,
}

impl Counts {
    /// Samples that were received, but neither emitted nor discarded.
    pub fn lost(&self) -> u64 {
        self.malformed + self.overflow + self.unidentified
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub data: Vec<u8>,
    /// Compact JSON, one line per event; None unless the plan keeps events.
    pub kept: Option<Vec<u8>>,
    pub events: u64,
    /// For each event, the length of `data` with which the whole event is there; empty for modes
    /// that render nothing.
    pub ends: Vec<u32>,
}

pub struct DataSource {
    pub name: String,
    pub counts: Counts,
    fields: Fields,
    steps: Vec<Step>,
    /// Steps that run only when a text that is remembered is not known.
    later: Vec<Step>,
    /// Callbacks of the module that see only what is shown: by [`Behind`].
    behind: [Vec<Step>; 3],
    /// Fields that `steps` fill.
    filled: Vec<usize>,
    /// Filters that read only the sample: they run before any step.
    early: Vec<Filter>,
    late: Vec<Filter>,
    conditions: Vec<Condition>,
    /// Events that were left out because a condition was undecided.
    pub undecided: u64,
    /// Events that were left out because an endpoint has an address of an unknown version.
    pub refused: u64,
    names: Vec<Box<str>>,
    pub sample_size: usize,
    min_size: usize,
    /// Offset of the mount namespace in a sample.
    mntns: Option<usize>,
    renderer: Renderer,
    terminal: bool,
    keep: Option<Json>,
    array: Option<Array>,
    metrics: Option<Metrics>,
    /// Samples are pushed by this process: none is lost on the way.
    pub pushed: bool,
    /// The gadget's wasm module.
    guest: Option<Arc<Guest>>,
    /// The module has callbacks.
    called_back: bool,
    /// The elements of an array with callbacks: these see all of them.
    whole: Option<Whole>,
    /// How many callbacks one after the other emitted what is processed.
    depth: u32,
    /// The field for the bytes behind the struct, and the field with their number.
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
        DataSource::compile_with(plan, lookups, None)
    }

    /// As [`DataSource::compile`], with the wasm module whose callbacks are among the steps.
    pub fn compile_with(
        plan: &plan::DataSource,
        lookups: &mut Lookups,
        guest: Option<Arc<Guest>>,
    ) -> Result<DataSource> {
        let mut fields = Fields::compile(plan)?;
        if let Some((guest, source)) = guest.as_ref().and_then(|g| Some((g, g.source(&plan.name)?)))
        {
            guest.settable(source).iter().for_each(|name| fields.patch(name));
        }
        let mut names = Vec::new();
        let steps = step::compile(&plan.steps, &mut fields, lookups, &mut names, guest.as_deref())?;
        let behind = behind::compile(plan, &mut fields, guest.as_deref())?;
        // A callback among the steps is called for events that filters leave out, too.
        let sees_all = steps.iter().any(|s| matches!(s, Step::Wasm(_)));
        let called_back = sees_all || behind.iter().any(|b| !b.is_empty());
        let whole = plan.array && called_back;
        let filters = Filter::compile_all(&plan.filters, &fields)?;
        let (early, late): (Vec<Filter>, Vec<Filter>) =
            filters.into_iter().partition(|f| !sees_all && f.reads_sample(&fields));
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
        // An array that this process makes has no rows of namespaces that are not wanted.
        let decided = plan.array && plan.pushed;
        let mntns = mntns.filter(|f| !f.slot && f.size == 8 && !decided).map(|f| f.offset);
        let keep = plan.keep.then(|| Json::compile(&nodes, &fields, &dependencies, false));
        let metrics = plan.metrics.as_ref().map(|m| Metrics::compile(m, &fields)).transpose()?;
        let any = array.is_some()
            || metrics.is_some()
            || !conditions.is_empty()
            // The module reads and sets any field.
            || guest.is_some();
        let demand =
            if any { Demand::all(&fields) } else { demand(&fields, &renderer, &keep, &late) };
        let (steps, later) = demand.divide(steps, &fields);
        let mut filled: Vec<usize> = match guest {
            Some(_) => (0..fields.list.len()).collect(),
            None => Vec::new(),
        };
        steps.iter().for_each(|step| step.outputs(&mut |field, _| filled.push(field)));
        let mut source = DataSource {
            name: plan.name.clone(),
            mntns,
            counts: Counts::default(),
            steps,
            later,
            behind,
            filled,
            early,
            late,
            conditions,
            undecided: 0,
            refused: 0,
            names,
            sample_size: plan.sample_size,
            min_size: plan.min_size,
            renderer,
            terminal: plan.output.terminal,
            keep,
            array,
            metrics,
            pushed: plan.pushed,
            guest,
            called_back,
            whole: whole.then(|| Whole::new(plan.sample_size)),
            depth: 0,
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

    /// Calls a callback of the wasm module from now on: behind all steps, or as `behind` says.
    pub fn subscribe(&mut self, callback: u64, kind: u32, behind: &str) -> Result<()> {
        if self.is_open() {
            return Err(Error::plan(format!("data source {} is being read", self.name)));
        }
        let guest = self.guest.as_deref();
        let callback = Callback::compile(callback, kind, &self.fields, guest)?;
        self.called_back = true;
        match Behind::of(behind)? {
            Some(place) => self.behind[place as usize].push(Step::Wasm(callback)),
            None => {
                self.steps.push(Step::Wasm(callback));
                self.late.append(&mut self.early);
            }
        }
        if self.array.is_some() {
            self.whole.get_or_insert_with(|| Whole::new(self.sample_size));
        }
        Ok(())
    }

    pub fn empty(&self, capacity: usize) -> Rendered {
        Rendered {
            data: Vec::with_capacity(capacity),
            kept: self.keep.as_ref().map(|_| Vec::new()),
            events: 0,
            ends: Vec::new(),
        }
    }

    /// The mount namespace in a sample.
    #[inline]
    pub fn mntns_of(&self, sample: &[u8]) -> Option<u64> {
        let at = self.mntns?;
        Some(u64::from_ne_bytes(sample.get(at..at + 8)?.try_into().ok()?))
    }

    /// Where a sample tells its mount namespace.
    pub fn mntns_at(&self) -> Option<usize> {
        self.mntns
    }

    /// Counts samples of a namespace whose events are not wanted.
    pub fn discard(&mut self, samples: u64) {
        self.counts.received += samples;
        self.counts.discarded += samples;
    }

    /// Counts a sample for which there is no room.
    pub fn refuse(&mut self) {
        self.counts.received += 1;
        self.counts.overflow += 1;
    }

    /// How samples are kept that wait to be processed. A capture has bytes of any kind.
    pub fn texts(&self) -> Texts {
        let places = match self.renderer {
            Renderer::Pcapng(_) => Vec::new(),
            // The module may read what is behind a NUL.
            _ if self.guest.is_some() => Vec::new(),
            _ => self.fields.texts(LONG_TEXT),
        };
        Texts::new(self.sample_size, places)
    }

    /// Counts samples of a namespace that was not identified in time.
    pub fn lose(&mut self, samples: u64) {
        self.counts.received += samples;
        self.counts.unidentified += samples;
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

    /// Bytes that wait for [`DataSource::take`].
    pub fn rendered_bytes(&self) -> usize {
        self.out.data.len() + self.out.kept.as_ref().map_or(0, Vec::len)
    }

    fn is_full(&self) -> bool {
        self.rendered_bytes() >= BATCH_BYTES || self.out.events >= BATCH_EVENTS
    }

    /// What was rendered since the last call; None when nothing was.
    pub fn take(&mut self) -> Option<Rendered> {
        if self.out.events == 0 && self.out.data.is_empty() {
            return None;
        }
        // The next batch is likely as large: it gets the memory for that at once.
        let length = self.out.data.len();
        let next = self.empty(length + length / 8);
        Some(std::mem::replace(&mut self.out, next))
    }
}

/// The fields that the output and the filters behind the steps read.
fn demand(fields: &Fields, renderer: &Renderer, keep: &Option<Json>, late: &[Filter]) -> Demand {
    let mut demand = Demand::none(fields);
    let mut json = |json: &Json| {
        json.reads(&mut |field, remembered| {
            demand.add(field, if remembered { Need::Sometimes } else { Need::Always });
        });
    };
    keep.iter().for_each(&mut json);
    let mut read: Vec<usize> = late.iter().map(Filter::field).collect();
    match renderer {
        Renderer::None => {}
        Renderer::Json(rendered) | Renderer::Pretty(rendered) => json(rendered),
        Renderer::Yaml(yaml) => read.extend(yaml.reads()),
        Renderer::Columns(columns) => read.extend(columns.reads()),
        Renderer::Text(_, texts) => read.extend(texts),
        Renderer::Pcapng(_) => return Demand::all(fields),
    }
    read.into_iter().for_each(|field| demand.add(field, Need::Always));
    demand
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
