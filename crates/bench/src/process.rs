//! Processor time and memory of processes on this machine, as Linux reports them.

use std::time::Duration;

use super::BenchError;

/// Processes to measure.
#[derive(Debug)]
pub(super) struct Processes(Vec<u32>);

/// What these processes have used until now, in total.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Processor time in user mode.
    pub(super) user: Duration,
    /// Processor time in the kernel.
    pub(super) system: Duration,
    /// Bytes of memory; a shared page is divided by the number of processes that share it (PSS).
    pub(super) memory: u64,
}

impl Processes {
    /// Selects these processes, if there are any.
    pub(super) fn watch(pids: &[u32]) -> Option<Self> {
        (!pids.is_empty()).then(|| Self(pids.to_vec()))
    }

    /// Reads the present usage.
    #[cfg(target_os = "linux")]
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        let mut usage = Usage::default();
        for pid in &self.0 {
            let read = |file: &str| {
                let path = format!("/proc/{pid}/{file}");
                std::fs::read_to_string(path)
                    .map_err(|reason| BenchError::Process { pid: *pid, reason: reason.to_string() })
            };
            let unreadable = || BenchError::Process { pid: *pid, reason: "unreadable".to_owned() };
            let (user, system) = linux::processor(&read("stat")?).ok_or_else(unreadable)?;
            usage.user += user;
            usage.system += system;
            usage.memory += linux::memory(&read("smaps_rollup")?).ok_or_else(unreadable)?;
        }
        Ok(usage)
    }

    /// Fails: the present usage can be read on Linux only.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn usage(&self) -> Result<Usage, BenchError> {
        let pid = self.0.first().copied().unwrap_or_default();
        Err(BenchError::Process { pid, reason: "this needs Linux".to_owned() })
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    use nix::unistd::{SysconfVar, sysconf};

    /// User and system time of a process (proc_pid_stat(5), fields 14 and 15).
    pub(super) fn processor(stat: &str) -> Option<(Duration, Duration)> {
        // The name may contain anything, so fields are counted after its closing parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let mut time = || {
            let count: u32 = fields.next()?.parse().ok()?;
            Some(Duration::from_secs(1) * count / u32::try_from(ticks).ok()?)
        };
        Some((time()?, time()?))
    }

    /// The proportional set size in bytes (proc_pid_smaps(5)).
    pub(super) fn memory(smaps_rollup: &str) -> Option<u64> {
        let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 100 1 1";
        let (user, system) = linux::processor(stat).expect("fields");
        assert_eq!((user, system), (Duration::from_millis(2500), Duration::from_millis(500)));
    }

    #[test]
    fn this_process_uses_memory() {
        let processes = Processes::watch(&[std::process::id()]).expect("one process");
        assert!(0 < processes.usage().expect("readable").memory);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let error = Processes::watch(&[u32::MAX]).expect("one process").usage().expect_err("none");
        assert!(error.to_string().contains("process 4294967295"), "{error}");
    }
}
