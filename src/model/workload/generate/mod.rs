//! Requests made up from a description instead of read from a trace.
//!
//! There are two ways in: [`custom`] follows a [`GeneratorSpec`], and [`toolagent`] and [`conversation`] imitate two
//! published traces closely enough to stand in for them where the files themselves are not at hand. All are pure
//! functions of their seed, and all name every token of every prompt, so that prefixes can be found and routed to.

mod agents;
mod arrivals;
mod chat;
mod chats;
mod contexts;
mod custom;
mod lengths;
mod prefixes;
mod presets;
mod tables;
mod tools;

#[cfg(test)]
mod tests;

pub use self::agents::{AgentsSpec, agents};
pub use self::arrivals::{Arrivals, Rate};
pub use self::chats::chats;
pub use self::custom::{GeneratorSpec, custom};
pub use self::lengths::{Lengths, Shape};
pub use self::presets::{
    CONVERSATION_REQUESTS, PRESET_LENGTH, TOOLAGENT_REQUESTS, conversation, toolagent,
};

/// The purpose of every random stream of this module: no LP has one as high. The low half numbers the stream.
const STREAMS: u64 = 0xffff_ff00 << 32;
