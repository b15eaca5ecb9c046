//! The samples of one namespace that wait for a decision.

/// Bytes before each sample: the index of its data source, and its length.
pub const HEADER: usize = 8;

/// Samples in order of arrival, one behind the other.
#[derive(Debug, Default)]
pub struct Queue {
    /// The namespace was created by a user.
    pub of_user: bool,
    bytes: Vec<u8>,
    events: u64,
    /// By data source: samples that found no room, all of them later than those inside.
    overflow: Vec<u64>,
}

impl Queue {
    pub fn push(&mut self, datasource: usize, sample: &[u8]) {
        self.bytes.extend_from_slice(&(datasource as u32).to_ne_bytes());
        self.bytes.extend_from_slice(&(sample.len() as u32).to_ne_bytes());
        self.bytes.extend_from_slice(sample);
        self.events += 1;
    }

    /// Counts a sample for which there is no room.
    pub fn refuse(&mut self, datasource: usize) {
        if self.overflow.len() <= datasource {
            self.overflow.resize(datasource + 1, 0);
        }
        self.overflow[datasource] += 1;
    }

    /// True until the first sample was refused.
    pub fn is_complete(&self) -> bool {
        self.overflow.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// Indexes of data sources and samples, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_at_checked(HEADER)?;
            let word =
                |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap_or([0; 4]));
            let (sample, behind) = behind.split_at_checked(word(4) as usize)?;
            rest = behind;
            Some((word(0) as usize, sample))
        })
    }

    /// Indexes of data sources, and how many samples of each were refused.
    pub fn overflow(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.overflow.iter().copied().enumerate().filter(|(_, n)| *n > 0)
    }
}
