//! Atomics, locks and parking of the executors: the real ones, or loom's, which try every interleaving. Rings are the real
//! ones in either case: no model has lanes of its own.

#[cfg(loom)]
mod modelled;

#[cfg(not(loom))]
pub(crate) use crossbeam::queue::SegQueue;
#[cfg(loom)]
pub(crate) use modelled::*;
#[cfg(not(loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use rtrb::{Consumer, Producer, PushError, RingBuffer};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    thread::{Thread, current, park, yield_now},
};
