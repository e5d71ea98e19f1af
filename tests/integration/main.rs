//! Tests that drive the simulator from outside.

mod reference;
mod support;
