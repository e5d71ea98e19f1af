//! Tests that drive the simulator from outside.

mod oracle;
mod reference;
mod support;
mod theory;
