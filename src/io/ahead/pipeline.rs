//! Work that any thread may do before it is asked for, handed out in order.
//!
//! The work falls into pieces. To *cut* the next piece off is serial: one thread at a time does it, and so gives the piece
//! its place. To *finish* a piece is not: several threads finish a piece each. Finished pieces wait in a window of bounded
//! size for the one who uses them, the *reader*. A reader who finds nothing prepared does the work itself, so that no
//! thread but the reader's is ever needed.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::model::workload::ReadAhead;

/// So many pieces wait in the window at most.
pub(super) const PIECES_MAX: usize = 64;

/// Nothing is added to a window that holds so many bytes.
pub(super) const BYTES_MAX: usize = 8 << 20;

/// What the work is.
pub(in crate::io) trait Stages: Send + Sync {
    /// What cutting needs and changes.
    type State: Send;
    /// A piece as it was cut off.
    type Raw: Send;
    /// A finished piece.
    type Piece: Send;

    /// Cuts off the next piece; nothing after the last, however often it is asked.
    fn cut(&self, state: &mut Self::State) -> Option<Self::Raw>;

    /// Finishes a piece.
    fn finish(&self, raw: Self::Raw) -> Self::Piece;

    /// About how many bytes a piece takes.
    fn size(raw: &Self::Raw) -> usize;
}

/// The work, and what has been done of it.
pub(in crate::io) struct Pipeline<S: Stages> {
    stages: S,
    /// Locked while a piece is cut off, and always before the window.
    state: Mutex<S::State>,
    window: Mutex<Window<S::Piece>>,
    /// A piece was added to the window, or one in it finished, or there are no more.
    changed: Condvar,
    /// Enough is prepared, or everything. A hint: those who ask in vain disturb nobody.
    rests: AtomicBool,
}

/// Pieces that have been cut off and not yet read, the next one first.
struct Window<P> {
    slots: VecDeque<Slot<P>>,
    /// The number of the first one: how many were taken out before it.
    first: u64,
    bytes: usize,
    /// There is nothing more to cut off.
    ended: bool,
}

struct Slot<P> {
    size: usize,
    /// Nothing while somebody is at it.
    outcome: Option<Outcome<P>>,
}

/// A piece, or what the thread that worked on it panicked with.
type Outcome<P> = Result<P, Box<dyn Any + Send>>;

/// What the reader finds in the window.
enum Front<P> {
    Finished(Outcome<P>),
    /// Somebody is at the next piece.
    InWork,
    /// Nobody is.
    Empty,
    Ended,
}

impl<P> Window<P> {
    fn rests(&self) -> bool {
        self.ended || self.slots.len() >= PIECES_MAX || self.bytes >= BYTES_MAX
    }

    /// Nothing is in it, and something may still come.
    fn is_empty(&mut self) -> bool {
        self.slots.is_empty() && !self.ended
    }

    /// The first piece can be taken.
    fn is_finished(&self) -> bool {
        self.slots.front().is_some_and(|slot| slot.outcome.is_some())
    }

    /// Adds a piece, finished or not; gives its number.
    fn push(&mut self, size: usize, outcome: Option<Outcome<P>>) -> u64 {
        self.bytes += size;
        self.slots.push_back(Slot { size, outcome });
        self.first + self.slots.len() as u64 - 1
    }

    fn take(&mut self) -> Front<P> {
        match self.slots.front_mut().map(|slot| slot.outcome.take()) {
            Some(Some(outcome)) => {
                self.bytes -= self.slots.pop_front().map_or(0, |slot| slot.size);
                self.first += 1;
                Front::Finished(outcome)
            }
            Some(None) => Front::InWork,
            None if self.ended => Front::Ended,
            None => Front::Empty,
        }
    }
}

impl<S: Stages> Pipeline<S> {
    /// Prepares nothing yet.
    pub(in crate::io) fn new(stages: S, state: S::State) -> Pipeline<S> {
        let window = Window { slots: VecDeque::new(), first: 0, bytes: 0, ended: false };
        Pipeline {
            stages,
            state: Mutex::new(state),
            window: Mutex::new(window),
            changed: Condvar::new(),
            rests: AtomicBool::new(false),
        }
    }

    /// The next piece, for the reader, of whom there is one; nothing after the last.
    ///
    /// # Panics
    /// If the work on this piece panicked, on whatever thread, with what it said there.
    pub(in crate::io) fn next(&self) -> Option<S::Piece> {
        loop {
            let mut window = self.window.lock();
            let front = window.take();
            self.rests.store(window.rests(), Ordering::Relaxed);
            match front {
                Front::Finished(outcome) => {
                    drop(window);
                    return Some(outcome.unwrap_or_else(|payload| resume_unwind(payload)));
                }
                Front::InWork => {
                    drop(window);
                    // Meanwhile there may be something else to do.
                    if !self.advance() {
                        let in_work = |window: &mut Window<_>| !window.is_finished();
                        self.changed.wait_while(&mut self.window.lock(), in_work);
                    }
                }
                Front::Empty => match self.state.try_lock() {
                    Some(mut state) => {
                        drop(window);
                        match self.stages.cut(&mut state) {
                            Some(raw) => {
                                drop(state);
                                return Some(self.stages.finish(raw));
                            }
                            None => self.window.lock().ended = true,
                        }
                    }
                    // Whoever holds the lock finds an empty window and fills it: it is let go of before a window that
                    // was found to be full.
                    None => self.changed.wait_while(&mut window, Window::is_empty),
                },
                Front::Ended => return None,
            }
        }
    }
}

impl<S: Stages> ReadAhead for Pipeline<S> {
    fn advance(&self) -> bool {
        if self.rests.load(Ordering::Relaxed) {
            return false;
        }
        let Some(mut state) = self.state.try_lock() else { return false };
        let window = self.window.lock();
        if window.rests() {
            drop(state);
            return false;
        }
        drop(window);
        // A panic belongs to the reader, when it comes to the piece: then a run ends in the same way on any thread.
        let cut = catch_unwind(AssertUnwindSafe(|| self.stages.cut(&mut state)));
        let mut window = self.window.lock();
        let (number, raw) = match cut {
            Ok(Some(raw)) => (window.push(S::size(&raw), None), Some(raw)),
            Ok(None) => {
                window.ended = true;
                (0, None)
            }
            Err(payload) => {
                window.ended = true;
                (window.push(0, Some(Err(payload))), None)
            }
        };
        self.rests.store(window.rests(), Ordering::Relaxed);
        drop(window);
        drop(state);
        self.changed.notify_one();
        let Some(raw) = raw else { return true };
        let outcome = catch_unwind(AssertUnwindSafe(|| self.stages.finish(raw)));
        let mut window = self.window.lock();
        let index = (number - window.first) as usize;
        window.slots[index].outcome = Some(outcome);
        drop(window);
        self.changed.notify_one();
        true
    }
}
