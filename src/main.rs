//! The tidegate binary. Everything is in the library.

use std::process::ExitCode;

// Wastes less memory on long-lived small allocations than the system's allocator.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tidegate::cli::run()
}
