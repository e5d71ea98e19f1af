//! Ctrl-C and SIGTERM: the run stops at its next poll and leaves nothing behind. If that does not come, because it waits for a
//! pipe, the second one ends the process.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::exit::Exit;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Listens from now on. Where signals cannot be caught, Ctrl-C ends the process at once, as it does by default.
pub(super) fn listen() {
    // Relaxed: the flag carries no data, and the poll only has to see it soon.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            // Nobody is left to hear of an error on stderr itself.
            let _ = writeln!(io::stderr(), "{}", Exit::Interrupted);
            #[expect(clippy::disallowed_methods, reason = "main waits for what may never come")]
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
    INTERRUPTED.load(Ordering::Relaxed)
}
