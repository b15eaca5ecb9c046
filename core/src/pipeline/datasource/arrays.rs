//! Data sources that are arrays: elements are rendered together.

use super::process::length;
use super::{DataSource, Rendered, Renderer};
use crate::pipeline::array::{Array, MAX_RENDERED};
use crate::pipeline::steps::context::Owner;
use crate::schema::event::Event;
use crate::schema::lookups::Lookups;

impl DataSource {
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

    pub(super) fn element(&mut self, lookups: &Lookups, sample: &[u8], owner: Owner) {
        if self.whole.is_some() {
            return self.collect(lookups, sample, owner);
        }
        if !self.evaluate(lookups, sample, &[], owner, true) {
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
        if !array.collect(&event, &self.fields, owner) {
            self.counts.overflow += 1;
        }
    }

    /// Renders the element that was just evaluated, if the array has room for it.
    pub(super) fn show(&mut self, lookups: &Lookups, sample: &[u8]) {
        let Some(array) = &mut self.array else { return };
        if array.shown >= array.limit {
            self.counts.discarded += 1;
            return;
        }
        self.put(lookups, sample);
    }

    /// Renders the element that was just evaluated.
    pub(super) fn put(&mut self, lookups: &Lookups, sample: &[u8]) {
        let Some(array) = &mut self.array else { return };
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

    /// Ends the array and returns what was rendered of it.
    pub fn finish(&mut self, lookups: &Lookups) -> Rendered {
        if self.whole.is_some() {
            self.finish_whole(lookups);
            return self.end();
        }
        let (elements, owners, order) =
            self.array.as_mut().map(Array::take_sorted).unwrap_or_default();
        let size = self.sample_size;
        for element in order {
            let (sample, owner) =
                (&elements[element * size..(element + 1) * size], owners[element]);
            let room = self.array.as_ref().is_some_and(|a| a.shown < a.limit);
            if room {
                // Other elements have overwritten the slots: the steps run again. The
                // filters have let this element pass already.
                self.evaluate(lookups, sample, &[], owner, false);
            }
            self.show(lookups, sample);
        }
        self.end()
    }

    fn end(&mut self) -> Rendered {
        let shown = self.array.as_mut().map_or(0, |array| {
            array.open = false;
            array.shown
        });
        match self.renderer {
            Renderer::Pretty(_) if shown > 0 => self.out.data.extend_from_slice(b"\n]\n"),
            Renderer::Json(_) | Renderer::Pretty(_) => self.out.data.extend_from_slice(b"]\n"),
            _ => {}
        }
        if matches!(self.renderer, Renderer::Json(_) | Renderer::Pretty(_)) {
            // One document: without its end, no element of it can be read.
            self.out.ends.fill(length(&self.out.data));
        }
        let next = self.empty(0);
        std::mem::replace(&mut self.out, next)
    }
}
