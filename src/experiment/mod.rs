//! Many runs that belong together.

pub mod sweep;
