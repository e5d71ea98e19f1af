//! The simulation kernel: virtual time, logical processes, executors. It knows nothing of LLMs.
//!
//! A simulation is a list of [`Lp`]s that exchange messages. An executor hands every LP its events in the one total
//! order of [`EventKey`]s; what an LP does with them depends on nothing else, so every executor gives the same result.
//!
//! ```
//! use fleetsim::kernel::{self, Class, Context, Lp, LpId, Observer, Span, Time};
//!
//! /// Two LPs that play ping-pong for ten milliseconds; the recorder counts the hits.
//! struct Player(LpId);
//!
//! const BALL: Class = Class::new(0);
//!
//! impl Lp for Player {
//!     type Message = ();
//!     type Recorder = u32;
//!
//!     fn lookahead(&self) -> Span {
//!         Span::from_ms(1)
//!     }
//!
//!     fn start(&mut self, context: &mut Context<'_, (), u32>) {
//!         if context.id() == LpId::new(0) {
//!             context.send(self.0, Time::ZERO + Span::from_ms(1), BALL, ());
//!         }
//!     }
//!
//!     fn receive(&mut self, (): (), context: &mut Context<'_, (), u32>) {
//!         *context.recorder() += 1;
//!         if context.now() < Time::ZERO + Span::from_ms(10) {
//!             context.send(self.0, context.now() + Span::from_ms(1), BALL, ());
//!         }
//!     }
//!
//!     fn wake(&mut self, _: &mut Context<'_, (), u32>) {}
//! }
//!
//! struct Nobody;
//!
//! impl Observer<u32> for Nobody {
//!     fn poll(&self, _: Time, _: &mut u32) -> std::ops::ControlFlow<()> {
//!         std::ops::ControlFlow::Continue(())
//!     }
//! }
//!
//! let mut hits = 0;
//! let mut players = [Player(LpId::new(1)), Player(LpId::new(0))];
//! let finished = kernel::run_sequential(&mut players, &mut hits, &Nobody).unwrap();
//! assert_eq!((hits, finished.end), (10, Time::ZERO + Span::from_ms(10)));
//! ```

mod activity;
mod asynchronous;
mod bell;
mod group;
pub mod key;
mod lp;
mod parallel;
mod queue;
pub mod rng;
mod sequential;
mod sync;
pub mod time;
pub mod toys;
pub mod tree;

pub use activity::Activity;
pub use asynchronous::run as run_asynchronous;
pub use key::EventKey;
pub use lp::{Class, Context, Envelope, Lp, LpId, give_up};
pub use parallel::{
    Account, Occupancy, ParallelOptions, Prediction, can_run_parallel, empty_phases,
    run as run_parallel,
};
pub use queue::MessageQueue;
pub use sequential::{Finished, Observer, Stopped, run as run_sequential};
pub use time::{ParseSpanError, Span, Time};
