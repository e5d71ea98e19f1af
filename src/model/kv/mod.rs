//! KV memory of one worker: a pool of blocks with a prefix cache.
//!
//! A trace block of 512 tokens is 32 engine blocks of 16, yet these are shared, pinned and evicted together or as a
//! prefix of one another. So the pool accounts for *extents*, runs of blocks with one fate, and its cost does not grow
//! as the engine block shrinks. The results are those of a pool that tracks every block on its own; the tests hold it
//! against one.

mod extent;
mod layout;
mod pool;

pub use layout::BlockLayout;
pub use pool::{CacheChange, CacheChanges, Hit, Holding, KvPool};
