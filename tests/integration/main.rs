//! Tests that drive the simulator from outside.

mod cli;
mod oracle;
mod reference;
mod support;
mod traces;
