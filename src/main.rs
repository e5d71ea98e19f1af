//! The `fleetsim` command.

use std::io::Write;
use std::panic;
use std::process::ExitCode;

use fleetsim::cli::{self, report_panic};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A bug is shown as one sentence, unless somebody has asked for the stack.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        panic::set_hook(Box::new(|_| {}));
    }
    let result = panic::catch_unwind(|| cli::main(std::env::args_os()));
    let Err(exit) = result.unwrap_or_else(|payload| Err(report_panic(payload.as_ref()))) else {
        return ExitCode::SUCCESS;
    };
    let text = exit.to_string();
    if !text.is_empty() {
        // Nobody is left to hear of an error on stderr itself.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    ExitCode::from(exit.code())
}
