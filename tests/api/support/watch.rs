//! The resources of the gateway's process, and waiting for conditions.

use std::{fs, time::Duration};

pub use tidegate_testkit::deadline::eventually;

use super::Gateway;

impl Gateway {
    /// How many descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        fs::read_dir(folder).expect("a process").count()
    }

    /// How much memory of the process is in use, in bytes.
    pub fn memory(&self) -> usize {
        let file = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(file).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|it| it.trim().strip_suffix(" kB")).expect("a size");
        kibibytes.trim().parse::<usize>().expect("a number") * 1024
    }

    /// How long the process has used processors.
    pub fn processor_time(&self) -> Duration {
        let file = format!("/proc/{}/stat", self.process.id());
        let stat = fs::read_to_string(file).expect("a process");
        // The name, which may contain anything, ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(") ").expect("fields");
        let fields: Vec<_> = fields.split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|it| it.parse::<u64>().expect("ticks")).sum();
        // Linux has reported hundredths of seconds to user space for decades.
        Duration::from_millis(ticks * 10)
    }
}
