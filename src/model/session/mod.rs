//! Sessions: calls that wait for one another.
//!
//! A chat is a chain of calls, an agent a graph of them: it fans out, waits for tools, comes together again. A [`Plan`] is
//! such a graph, checked. [`Sessions`] holds those that are going on and says which call is ready when:
//!
//! ```text
//! ready(call) = the latest end of the calls it waits for + its delay + its tools' time
//! ```
//!
//! A call that waits for nothing is ready its delay after the session opens. A latency counts from the moment at which the
//! call is ready, since its client sends it then. A session that is done or given up is forgotten, so memory follows the
//! sessions that are going on.
//!
//! [`Client`] is what a user does when an answer takes too long.

mod client;
mod live;
mod opening;
mod plan;

pub use client::{Backoff, Client, ClientCounts, ClientSpec, Next};
pub use live::{CallId, LiveCall, Progress, ReadyCall, SessionCounts, Sessions};
pub use opening::{Ask, Opening};
pub use plan::{CallSpec, LONGEST_MS, Plan, PlanError};
