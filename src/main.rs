//! The tidegate binary; see the library for everything.

use std::process::ExitCode;

// Holds long-lived small allocations with less waste than the system's allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
