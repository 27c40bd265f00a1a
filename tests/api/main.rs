//! Black-box tests of the gateway: the real binary on a free port, one module per capability.

#![allow(missing_docs, unreachable_pub, reason = "nobody links to a test")]

mod support;

mod crash; // SIGKILL at random moments: nothing acknowledged is lost, nothing comes twice
mod development; // who may ask without keys
mod durable; // what is there after a restart and after a crash, on every transport
mod durable_jobs; // jobs after a crash
mod encoders; // properties of the encoders: what is read back is what was published
mod eventsource; // EventSource: bytes, heads, resume, heartbeats
mod gaps; // what cannot be served is said, and only to those whom it concerns
mod hostile; // clients that stall, vanish, or take their time
mod iframe; // the forever iframe: bytes, head, escapes, ends
mod job_model; // the state machine of a job against a naive one
mod jobs; // jobs over HTTP: creators, workers, watchers
mod operations; // health, metrics
mod poll; // long poll: envelope, waiting, tags, sessions
mod publish; // forms, JSON, idempotency, order among many publishers
mod refusals; // bad input: every refusal is a problem document
mod resume; // properties of resuming: nothing lost, nothing twice
mod retention; // rules that keep some topics longer or shorter than others
mod settings;
mod stop;
#[cfg(target_os = "linux")]
mod store; // full disks, damage, and the tools for the store // SIGTERM and SIGINT // the command line and the configuration
