//! Loom's atomics and locks with the signatures of the real ones, and with flaws that a model can switch on.
//!
//! A model that never fails proves nothing. With a [`Flaw`] the code under test is run with one of its steps done
//! wrong, and loom has to find an interleaving in which that shows. Flaws sit here so that production code knows
//! nothing of them; a step is named by its type and operation, as in `AtomicU32::fetch_sub`.

#![allow(dead_code, reason = "not every operation is in use")]

use std::cell::Cell;

pub(crate) use loom::{
    sync::MutexGuard,
    sync::atomic::{AtomicBool, Ordering},
    thread::{Thread, current, park, yield_now, yield_now as spin_loop},
};

/// How steps of one kind go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// They order nothing.
    Relaxed(&'static str),
    /// A load and a store, instead of one step that nobody can come between.
    Torn(&'static str),
}

thread_local! {
    /// Loom runs all threads of a model on the thread of its test.
    static FLAW: Cell<Option<Flaw>> = const { Cell::new(None) };
}

/// Lets all models that this test runs from now on go wrong.
pub(crate) fn inject(flaw: Flaw) {
    FLAW.set(Some(flaw));
}

/// The order that the step gets in place of `order`.
fn flawed(step: &'static str, order: Ordering) -> Ordering {
    if FLAW.get() == Some(Flaw::Relaxed(step)) { Ordering::Relaxed } else { order }
}

macro_rules! atomic {
    ($name:ident, $int:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(crate) fn new(value: $int) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $int {
                self.0.load(flawed(concat!(stringify!($name), "::load"), order))
            }

            /// A swap: loom 0.7 does not order a plain store and a concurrent read-modify-write, and would let a thread
            /// read the other's value after its own.
            pub(crate) fn store(&self, value: $int, order: Ordering) {
                self.0.swap(value, flawed(concat!(stringify!($name), "::store"), order));
            }
        }

        atomic!($name, $int, fetch_add, |old, value| old.wrapping_add(value));
        atomic!($name, $int, fetch_sub, |old, value| old.wrapping_sub(value));
        atomic!($name, $int, fetch_or, |old, value| old | value);
        atomic!($name, $int, fetch_and, |old, value| old & value);
    };
    ($name:ident, $int:ty, $operation:ident, |$old:ident, $value:ident| $new:expr) => {
        impl $name {
            pub(crate) fn $operation(&self, $value: $int, order: Ordering) -> $int {
                let step = concat!(stringify!($name), "::", stringify!($operation));
                if FLAW.get() == Some(Flaw::Torn(step)) {
                    let $old = self.0.load(Ordering::Acquire);
                    self.0.store($new, Ordering::Release);
                    $old
                } else {
                    self.0.$operation($value, flawed(step, order))
                }
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// Loom's lock, with the signatures of `parking_lot`.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no model panics with a lock held")
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect("no model panics with a lock held")
    }
}

/// The queue of `crossbeam`, for one thread that pushes a few times and one that pops: with the order between the two
/// sides that it promises, and no more.
#[derive(Debug)]
pub(crate) struct SegQueue<T> {
    slots: [Mutex<Option<T>>; 4],
    pushed: AtomicU32,
    popped: AtomicU32,
}

impl<T> SegQueue<T> {
    pub(crate) fn new() -> Self {
        let slots = std::array::from_fn(|_| Mutex::new(None));
        SegQueue { slots, pushed: AtomicU32::new(0), popped: AtomicU32::new(0) }
    }

    pub(crate) fn push(&self, value: T) {
        let slot = self.pushed.load(Ordering::Relaxed);
        *self.slots[slot as usize].lock() = Some(value);
        self.pushed.store(slot + 1, Ordering::Release);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        let slot = self.popped.load(Ordering::Relaxed);
        if slot == self.pushed.load(Ordering::Acquire) {
            return None;
        }
        self.popped.store(slot + 1, Ordering::Relaxed);
        self.slots[slot as usize].lock().take()
    }
}
