//! The way of one sample: steps, filters, conditions, rendering.

use super::{DataSource, Renderer};
use crate::pipeline::steps::context::{Context, Owner};
use crate::render::unicode;
use crate::schema::event::{from_sample, Event, Slot, Value};
use crate::schema::lookups::Lookups;
use crate::schema::plan::Kind;

/// Steps that run together.
#[derive(Clone, Copy)]
enum Part {
    Steps,
    /// Behind the filters.
    Behind,
    /// For texts that are not remembered yet.
    Later,
}

impl DataSource {
    /// Takes one sample; false once the batch should be handed out.
    pub fn process(&mut self, lookups: &Lookups, sample: &[u8]) -> bool {
        self.process_of(lookups, sample, Owner::Now)
    }

    /// As [`DataSource::process`]; an element of an array is shown as one of `owner`.
    pub fn process_of(&mut self, lookups: &Lookups, sample: &[u8], owner: Owner) -> bool {
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
            self.element(lookups, whole, owner);
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
        if self.evaluate(lookups, sample, rest, Owner::Now, true) {
            self.render(lookups, sample, rest);
        } else {
            self.counts.discarded += 1;
        }
    }

    /// The bytes behind the struct, as many as their length field says; None when there are fewer.
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
    pub(super) fn evaluate(
        &mut self,
        lookups: &Lookups,
        sample: &[u8],
        rest: &[u8],
        owner: Owner,
        filtered: bool,
    ) -> bool {
        self.slots.reset(self.fields.list.len(), &self.filled);
        if let Some((field, _)) = self.rest {
            self.slots.values[field] = match self.fields.list[field].kind {
                Kind::Bytes => Slot::Rest,
                _ => Slot::RestText,
            };
        }
        self.decide(lookups, sample, rest, owner, filtered)
    }

    /// As [`DataSource::evaluate`], with slots that have values already.
    pub(super) fn decide(
        &mut self,
        lookups: &Lookups,
        sample: &[u8],
        rest: &[u8],
        owner: Owner,
        filtered: bool,
    ) -> bool {
        if filtered && !self.passes_early(lookups, sample, rest) {
            return false;
        }
        if !self.run(Part::Steps, lookups, sample, rest, owner) {
            self.refused += 1;
            return false;
        }
        if filtered && !self.passes_late(lookups, sample, rest) {
            return false;
        }
        if self.called_back {
            // They see only events that are shown.
            self.run(Part::Behind, lookups, sample, rest, Owner::Now);
        }
        true
    }

    /// Runs steps upon the event; false when one of them refused it.
    fn run(
        &mut self,
        part: Part,
        lookups: &Lookups,
        sample: &[u8],
        rest: &[u8],
        owner: Owner,
    ) -> bool {
        let mut cx = Context {
            fields: &self.fields.list,
            sample,
            rest,
            slots: &mut self.slots,
            lookups,
            names: &self.names,
            clock: &mut self.clock,
            owner,
            guest: self.guest.as_deref(),
            depth: self.depth,
            refused: false,
        };
        match part {
            Part::Steps => self.steps.iter().for_each(|step| step.run(&mut cx)),
            Part::Behind => self.behind.iter().flatten().for_each(|step| step.run(&mut cx)),
            Part::Later => self.later.iter().for_each(|step| step.run(&mut cx)),
        }
        !cx.refused
    }

    /// The filters that read only the sample.
    pub(super) fn passes_early(&self, lookups: &Lookups, sample: &[u8], rest: &[u8]) -> bool {
        let event = Event { sample, rest, slots: &self.slots, lookups, names: &self.names };
        self.early.iter().all(|f| f.passes(&event, &self.fields))
    }

    /// The filters and conditions that read what steps have made.
    pub(super) fn passes_late(&mut self, lookups: &Lookups, sample: &[u8], rest: &[u8]) -> bool {
        let event = Event { sample, rest, slots: &self.slots, lookups, names: &self.names };
        if !self.late.iter().all(|f| f.passes(&event, &self.fields)) {
            return false;
        }
        for condition in &self.conditions {
            match condition.holds(&event, &self.fields) {
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

    /// Looks for the texts of the event that are remembered; where one is not known, makes what it
    /// consists of.
    fn complete(&mut self, lookups: &Lookups, sample: &[u8], rest: &[u8]) {
        let event = Event { sample, rest, slots: &self.slots, lookups, names: &self.names };
        let mut known = true;
        if let Renderer::Json(json) | Renderer::Pretty(json) = &mut self.renderer {
            known &= json.look(&event);
        }
        if let Some(json) = &mut self.keep {
            known &= json.look(&event);
        }
        if known || self.later.is_empty() {
            return;
        }
        self.run(Part::Later, lookups, sample, rest, Owner::Now);
    }

    pub(super) fn render(&mut self, lookups: &Lookups, sample: &[u8], rest: &[u8]) {
        self.complete(lookups, sample, rest);
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
                let start = data.len();
                for index in texts.iter() {
                    if let Value::Text(text) = event.value(*index, &fields.list[*index]) {
                        data.extend_from_slice(text);
                    }
                }
                if self.terminal {
                    unicode::escape_in_text(data, start);
                }
            }
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.record(&event, fields);
        }
        if let (Some(json), Some(kept)) = (&mut self.keep, &mut self.out.kept) {
            json.write(&event, &fields.list, kept);
        }
        if !matches!(self.renderer, Renderer::None) {
            self.out.ends.push(length(&self.out.data));
        }
        self.counts.emitted += 1;
        self.out.events += 1;
    }
}

/// A batch has at most MAX_RENDERED bytes and one event.
pub(super) fn length(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}
