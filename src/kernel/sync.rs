//! Atomics, locks and parking of the executors: the real ones, or loom's, which try every interleaving.

#[cfg(loom)]
mod modelled;

#[cfg(not(loom))]
pub(crate) use crossbeam::queue::SegQueue;
#[cfg(loom)]
pub(crate) use modelled::*;
#[cfg(not(loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    thread::{Thread, current, park, yield_now},
};
