//! Ctrl-C and SIGTERM: the run stops at its next poll and leaves nothing behind. If that does not come, because it waits for a
//! pipe, a later one ends the process. Whoever passes signals on may send one twice, so a second must lie between.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::exit;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cli::exit::Exit;

/// When the user asked to stop, if that was.
static INTERRUPTED: OnceLock<Instant> = OnceLock::new();

/// So long a run has to stop by itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Listens from now on. Where signals cannot be caught, Ctrl-C ends the process at once, as it does by default.
pub(super) fn listen() {
    #[expect(clippy::disallowed_methods, reason = "signals come in real time")]
    let _ = ctrlc::set_handler(|| {
        let first = *INTERRUPTED.get_or_init(Instant::now);
        if first.elapsed() >= PATIENCE {
            // Nobody is left to hear of an error on stderr itself.
            let _ = writeln!(io::stderr(), "{}", Exit::Interrupted);
            exit(i32::from(Exit::Interrupted.code()));
        }
    });
}

/// Whether a run may go on.
pub(super) fn poll() -> ControlFlow<()> {
    if is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Whether the user has asked to stop.
pub(super) fn is_requested() -> bool {
    INTERRUPTED.get().is_some()
}
