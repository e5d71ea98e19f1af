//! WIP
use crate::io::config::check::Violation;
use crate::io::config::text::Config;
use crate::model::deployment::Deployment;
use crate::model::timing::Table;
use std::fmt;
use std::sync::Arc;
#[derive(Default)]
pub(super) struct Tables;
pub(super) struct Absent(String);
impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl Absent {
    pub(super) fn into_error(self) -> Violation {
        Violation::contradiction("timing.model", self.0)
    }
}
impl Tables {
    pub(super) fn find(
        &mut self,
        _: &Config,
        d: &Deployment,
    ) -> Result<Result<Arc<Table>, Absent>, Violation> {
        Ok(Err(Absent(format!("no table for {d}"))))
    }
}
