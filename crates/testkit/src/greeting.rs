//! The addresses that a gateway prints when it starts.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::ChildStdout,
    sync::mpsc::sync_channel,
    thread,
};

use crate::deadline::DEADLINE;

#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) address: SocketAddr,
    pub(crate) urls: Vec<String>,
    pub(crate) operations: Option<String>,
}

impl Greeting {
    /// Reads the greeting, or returns `None` if there is none before the deadline.
    pub(crate) fn read(output: ChildStdout) -> Option<Self> {
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let greeting: Vec<String> =
                lines.by_ref().take_while(|line| !line.trim().starts_with("access")).collect();
            let _ = sender.send(greeting);
            // Reads later output, so that the process does not block.
            lines.for_each(drop);
        });
        Self::parse(&receiver.recv_timeout(DEADLINE).ok()?)
    }

    fn parse(lines: &[String]) -> Option<Self> {
        let after = |label: &'static str| {
            lines.iter().filter_map(move |line| line.trim().strip_prefix(label).map(str::trim))
        };
        let urls: Vec<String> = after("open ").map(ToOwned::to_owned).collect();
        let plain = urls.first()?.strip_prefix("http://")?;
        let address = plain.trim_end_matches('/').parse().ok()?;
        let operations = after("operate ").next().and_then(|it| it.strip_suffix("metrics"));
        Some(Self { address, urls, operations: operations.map(ToOwned::to_owned) })
    }
}
