//! What the threads of a run spend their time on.

/// Time of all threads of a run together, ns. What is left of the length of the run times the threads, they waited.
///
/// The same task takes longer on several threads than on one, where all that it reads is in the caches of the core that
/// wrote it.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Occupancy {
    /// How many threads.
    pub threads: usize,
    /// From the start of the first phase to the end of the last.
    pub length: f64,
    /// The hub.
    pub hub: f64,
    /// The spokes.
    pub spokes: f64,
    /// Errands.
    pub errands: f64,
    /// Between phases.
    pub leading: f64,
}

impl Occupancy {
    /// What all threads together waited.
    pub fn waiting(&self) -> f64 {
        let Occupancy { threads, length, hub, spokes, errands, leading } = *self;
        (threads as f64 * length - (hub + spokes + errands + leading)).max(0.0)
    }

    /// Adds the time of another thread.
    pub(super) fn add(&mut self, other: &Occupancy) {
        let Occupancy { threads: _, length: _, hub, spokes, errands, leading } = *other;
        self.hub += hub;
        self.spokes += spokes;
        self.errands += errands;
        self.leading += leading;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_wait_when_they_do_nothing_else() {
        let one = Occupancy { hub: 10.0, spokes: 20.0, leading: 1.0, ..Occupancy::default() };
        let other = Occupancy { spokes: 25.0, errands: 4.0, ..Occupancy::default() };
        let mut both = Occupancy { threads: 2, length: 50.0, ..Occupancy::default() };
        both.add(&one);
        both.add(&other);
        assert_eq!((both.spokes, both.waiting()), (45.0, 40.0));
        assert!(Occupancy { length: 10.0, ..both }.waiting() <= 0.0, "clocks are not exact");
    }
}
