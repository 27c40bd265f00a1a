//! The command line of a run, and the plan made from it before anything is sent.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use bytesize::ByteSize;
use clap::Args;
use jiff::SignedDuration;
use url::Url;

use super::transport::Transport;
use super::{BenchError, marker, target::Target};

/// Messages that are published if neither a number nor a duration is given.
const MESSAGES: u32 = 100;

/// The most bytes that a payload may have. A gateway's limit is usually lower.
const MAX_PAYLOAD: u64 = 64 * 1024 * 1024;

/// Flags of `tidegate bench`.
#[derive(Debug, Clone, Args)]
pub struct Flags {
    /// The gateway, `http://127.0.0.1:3000`, or the full address of a Mercure hub.
    #[arg(value_parser = web_address)]
    url: Url,
    /// How subscribers receive: sse, iframe or poll.
    #[arg(long, default_value = "sse", value_parser = transport)]
    transport: Transport,
    /// Subscribers held at the same time.
    #[arg(long, value_name = "N", default_value = "100")]
    subscribers: NonZeroU32,
    /// Number of topics; each subscriber has one of them.
    #[arg(long, value_name = "N", default_value = "1")]
    topics: NonZeroU32,
    /// Messages a second, of all publishers together; 0 for as fast as replies arrive.
    #[arg(long, value_name = "N", default_value = "10", value_parser = rate)]
    rate: f64,
    /// Messages published in all [default: 100, unless --duration is given].
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    messages: Option<NonZeroU32>,
    /// How long to publish, `30s`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Bytes of a message, `100` or `64KiB`.
    #[arg(long, value_name = "SIZE", default_value = "100")]
    payload: ByteSize,
    /// Connections over which messages are published.
    #[arg(long, value_name = "N", default_value = "1")]
    publishers: NonZeroU16,
    /// Time without a delivery after which missing messages count as lost.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    patience: Duration,
    /// Process of the server on this machine, or several separated by commas, to measure processor
    /// time and memory (Linux).
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Access token of subscribers and publishers.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Access token of publishers, if it is a different one.
    #[arg(long, value_name = "TOKEN")]
    publish_token: Option<String>,
    /// Do not check the server's certificate.
    #[arg(long)]
    insecure: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// When publishing ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Messages(u32),
    Duration(Duration),
}

/// A run whose flags have been checked.
#[derive(Debug)]
pub(super) struct Plan {
    /// Separates this run's topics and messages from those of others.
    pub(super) run: u32,
    pub(super) target: Target,
    pub(super) transport: Transport,
    pub(super) subscribers: u32,
    pub(super) topics: u32,
    pub(super) publishers: u16,
    pub(super) quantity: Quantity,
    /// The time between two messages, or `None` to publish as fast as replies arrive.
    pub(super) interval: Option<Duration>,
    pub(super) payload: usize,
    pub(super) patience: Duration,
    pub(super) pids: Vec<u32>,
}

impl Plan {
    pub(super) fn new(flags: &Flags) -> Result<Self, BenchError> {
        let payload = flags.payload.as_u64();
        if !(marker::LENGTH as u64..=MAX_PAYLOAD).contains(&payload) {
            return Err(BenchError::Payload { least: marker::LENGTH, most: MAX_PAYLOAD });
        }
        let quantity = match (flags.messages, flags.duration) {
            (None, Some(duration)) => Quantity::Duration(duration),
            (messages, _) => Quantity::Messages(messages.map_or(MESSAGES, NonZeroU32::get)),
        };
        let subscribe_token = flags.token.as_deref();
        let publish_token = flags.publish_token.as_deref().or(subscribe_token);
        let run = fastrand::u32(..);
        Ok(Self {
            run,
            target: Target::resolve(
                &flags.url,
                run,
                flags.insecure,
                subscribe_token,
                publish_token,
            )?,
            transport: flags.transport,
            subscribers: flags.subscribers.get(),
            topics: flags.topics.get(),
            publishers: flags.publishers.get(),
            quantity,
            interval: (0.0 < flags.rate).then(|| Duration::from_secs_f64(1.0 / flags.rate)),
            payload: usize::try_from(payload).unwrap_or(usize::MAX),
            patience: flags.patience,
            pids: flags.pid.clone(),
        })
    }

    /// Returns how many publishers a topic has. While there are enough topics, publishers share
    /// none.
    pub(super) fn lanes(&self, topic: u32) -> usize {
        let publishers = u32::from(self.publishers);
        if publishers <= self.topics {
            return 1;
        }
        (publishers - topic).div_ceil(self.topics).max(1) as usize
    }

    /// Returns the topic of a publisher's message, and the publisher's lane in that topic.
    pub(super) fn lane(&self, publisher: u16, message: u32) -> (u32, u16) {
        let (publisher, publishers) = (u32::from(publisher), u32::from(self.publishers));
        if self.topics <= publisher {
            let lane = publisher / self.topics;
            return (publisher % self.topics, u16::try_from(lane).unwrap_or(u16::MAX));
        }
        let own = (self.topics - publisher).div_ceil(publishers);
        (publisher + message % own * publishers, 0)
    }
}

fn web_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|it| matches!(it.scheme(), "http" | "https"));
    url.ok_or_else(|| "not an http or https address such as `http://127.0.0.1:3000`".to_owned())
}

fn transport(name: &str) -> Result<Transport, String> {
    let found = Transport::ALL.into_iter().find(|it| it.as_str() == name);
    found.ok_or_else(|| "not one of sse, iframe, poll".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|it| (0.0..=1e9).contains(it));
    // Less than one message in four months is a typing error.
    let rate = rate.filter(|it| *it == 0.0 || 1e-7 < *it);
    rate.ok_or_else(|| "not a number of messages a second".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|it| Duration::try_from(it).ok());
    parsed.ok_or_else(|| "not a duration such as `30s` or `5m`".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let line = ["bench", "http://127.0.0.1:1"].iter().chain(arguments);
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        Plan::new(&line.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn bad_arguments_are_refused_with_what_is_wrong() {
        for (arguments, told) in [
            (&["--transport", "carrier-pigeon"][..], "not one of sse, iframe, poll"),
            (&["--payload", "10"], "a message has 46 bytes at least"),
            (&["--rate=-1"], "not a number of messages a second"),
            (&["--rate", "nan"], "not a number of messages a second"),
            (&["--duration", "soon"], "not a duration"),
            (&["--duration", "1s", "--messages", "1"], "cannot be used with"),
            (&["--subscribers", "0"], "--subscribers"),
        ] {
            let error = plan(arguments).expect_err("refused");
            assert!(error.contains(told), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_topic_has_its_lanes_and_no_other(topics in 1_u32..20, publishers in 1_u16..20) {
            let (topics_text, publishers_text) = (topics.to_string(), publishers.to_string());
            let plan =
                plan(&["--topics", &topics_text, "--publishers", &publishers_text]).expect("a plan");
            let used: BTreeSet<(u32, u16)> = (0..publishers)
                .flat_map(|publisher| (0..topics).map(move |message| (publisher, message)))
                .map(|(publisher, message)| plan.lane(publisher, message))
                .collect();
            let promised = (0..topics)
                .flat_map(|topic| (0..plan.lanes(topic)).map(move |lane| (topic, lane)))
                .map(|(topic, lane)| (topic, u16::try_from(lane).expect("few")))
                .collect();
            prop_assert_eq!(used, promised);
        }
    }
}
