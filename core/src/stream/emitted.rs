//! Packets that the gadget's wasm module emitted: processed after the events whose callbacks emitted
//! them.

use super::sink::Batch;
use super::state::State;

/// Rendered bytes of arrays that wait to be handed out.
const MAX_MADE: usize = 64 << 20;
/// Packets of one drain: the rest follows with the next.
const MAX_PACKETS: usize = 1 << 16;

impl State {
    /// Processes what the module has emitted; the arrays among it. True when some may be left.
    pub fn take_emitted(&mut self) -> (Vec<Batch>, bool) {
        let mut batches = Vec::new();
        let Some(guest) = self.guest.clone() else { return (batches, false) };
        let mut bytes = 0;
        for _ in 0..MAX_PACKETS {
            let Some(packet) = guest.take_emitted() else { return (batches, false) };
            let name = guest.source_name(packet.source).unwrap_or_default();
            let Ok(index) = self.find(&name) else { continue };
            let State { lookups, datasources, .. } = self;
            let source = &mut datasources[index].source;
            if let Some(rendered) = source.emitted(lookups, packet) {
                bytes += rendered.data.len();
                batches.push(Batch { datasource: name, rendered });
            }
            if bytes >= MAX_MADE || source.rendered_bytes() >= MAX_MADE {
                return (batches, true);
            }
        }
        (batches, true)
    }
}
