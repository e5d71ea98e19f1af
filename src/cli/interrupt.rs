//! Ctrl-C and SIGTERM: the run stops at its next poll and leaves nothing behind.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Listens from now on. Where signals cannot be caught, Ctrl-C ends the process at once, as it does by default.
pub(super) fn listen() {
    // Relaxed: the flag carries no data, and the poll only has to see it soon.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

/// Whether a run may go on.
pub(super) fn poll() -> ControlFlow<()> {
    if is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Whether the user has asked to stop.
pub(super) fn is_requested() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
