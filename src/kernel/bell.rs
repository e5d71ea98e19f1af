//! Lets threads wait until something has happened: spinning, then yielding, then asleep.
//!
//! Loom checks in `bell/models.rs` that nobody sleeps for ever.

use crossbeam::utils::CachePadded;

use crate::kernel::sync::{
    AtomicU32, Mutex, Ordering, Thread, current, park, spin_loop, yield_now,
};

#[cfg(all(test, loom))]
mod models;

/// Looks at the count between two calls of the idle work.
const SPINS_PER_ERRAND: u32 = 32;
/// How often a thread looks before it lets others have its core: about 50 µs.
const SPINS: u32 = 4000;
/// How often it does that before it sleeps.
const YIELDS: u32 = if cfg!(loom) { 0 } else { 2000 };

/// Somebody sleeps until the count changes.
const SLEEPING: u32 = 1;
/// It has rung once more.
const RING: u32 = 2;

/// What threads listen to.
///
/// Whoever rings releases what they have done before; whoever sees the count change has acquired it.
pub(crate) struct Bell {
    /// `RING` times a count, plus [`SLEEPING`].
    count: CachePadded<AtomicU32>,
    sleepers: Mutex<Vec<Thread>>,
    spins: u32,
}

impl Bell {
    /// With more threads than cores, `spin` is not worth it.
    pub(crate) fn new(spin: bool) -> Bell {
        Bell {
            count: CachePadded::new(AtomicU32::new(0)),
            sleepers: Mutex::new(Vec::new()),
            spins: if spin { SPINS } else { 0 },
        }
    }

    /// The count to give to [`Bell::wait`]; to be read before the look at what one may have to wait for.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire) & !SLEEPING
    }

    /// Lets all who wait look again.
    pub(crate) fn ring(&self) {
        let word = self.count.fetch_add(RING, Ordering::AcqRel);
        if word & SLEEPING != 0 {
            self.count.fetch_and(!SLEEPING, Ordering::AcqRel);
            let sleepers = std::mem::take(&mut *self.sleepers.lock());
            sleepers.iter().for_each(Thread::unpark);
        }
    }

    /// Waits until the count is no longer `seen`. Meanwhile does `errand`s, as long as that says that there was one.
    pub(crate) fn wait(&self, seen: u32, errand: &mut impl FnMut() -> bool) {
        let (mut spins, mut yields) = (0, 0);
        while self.count() == seen {
            if spins % SPINS_PER_ERRAND == 0 && errand() {
                (spins, yields) = (0, 0);
            } else if spins < self.spins {
                spins += 1;
                spin_loop();
            } else if yields < YIELDS {
                yields += 1;
                yield_now();
            } else {
                self.sleep(seen);
            }
        }
    }

    fn sleep(&self, seen: u32) {
        self.sleepers.lock().push(current());
        // Either this sees that the count has changed, or whoever changes it sees that somebody sleeps.
        let word = self.count.fetch_or(SLEEPING, Ordering::AcqRel);
        if word & !SLEEPING == seen {
            park();
        }
    }
}
