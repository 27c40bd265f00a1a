//! Black-box tests of the gateway: the real binary on a free port, one module per capability.

#![allow(missing_docs, unreachable_pub, reason = "no crate links to a test")]

mod support;

mod actions; // clients: their streams, and what they do with `POST /client`
mod admission; // rights and room are checked before anything is read or held
mod app; // the application behind a gateway: handlers, guards, visits
mod auth; // access tokens: which are valid, and for how long
mod backends; // backends and clients: lists, orders, calls
mod bench; // `tidegate bench`: what it counts, what it refuses
mod budgets; // costs of patterns and matchers, in total and per address
mod clients; // requests of frameworks' libraries, and what they need from the reply
#[cfg(target_os = "linux")]
mod connections; // connections without a request: how long they stay, and which give way
mod cors; // what pages of other origins may do
mod crash; // SIGKILL at random moments: nothing acknowledged is lost, nothing comes twice
mod crash_clients; // clients over kill -9: rooms, lists and messages
mod crashing_jobs; // the same for every change of jobs, their keys and their events
mod dead_peers; // disconnected clients are forgotten
mod description; // /openapi.json
mod development; // access without keys
mod discovery; // metadata, content negotiation, QUERY
mod durable; // what survives a restart and a crash, on every transport
mod durable_jobs; // jobs after a crash
mod encoders; // properties of the encoders: what is read back is what was published
mod eventsource; // EventSource: bytes, heads, resume, heartbeats
mod failing_history; // streams when the history cannot be read
mod fairness; // a crowd does not delay the others
mod gaps; // gaps are reported, and only to the subscribers concerned
mod guide; // docs/troubleshooting.md: each command prints what it says
mod half_closed; // peers that have ended their side, and peers that are gone
#[cfg(target_os = "linux")]
mod handing_on; // restarts on a listener that stays open
mod handover; // requirements of handing a socket from actix to its shard
mod hostile; // clients that stall, vanish, or take their time
mod hostile_clients; // clients that want too much, or what belongs to others
mod http2; // what one connection may hold, and responses that are not taken
mod iframe; // the forever iframe: bytes, head, escapes, ends
mod job_model; // the state machine of a job against a naive one
mod jobs; // jobs over HTTP: creators, workers, watchers
mod key_sets; // key sets of other servers, and every family of algorithms
mod limits; // seats, descriptors, and how refusals are reported
mod local_pages; // development mode and pages of other local servers
mod matching; // which subscribers a topic reaches, in both dialects
mod mistakes; // the mistakes of a first try, and the cures that are named
mod operations; // health, metrics
mod parameters; // names: which are known, misspelled, ignored or of one dialect
#[cfg(target_os = "linux")]
mod pipelining; // requests that are sent before earlier ones are answered
mod poll; // long poll: envelope, waiting, tags, sessions
mod presentation; // where a request carries its access token
mod privacy; // private events, live and in replay, over all transports
mod publish; // forms, JSON, idempotency, order among many publishers
mod publish_rules; // the rules of publishing with access tokens
mod questions; // jobs that ask people, and their answers
mod races; // concurrency
mod refusals; // bad input: every refusal is a problem document
mod resume; // properties of resuming: nothing lost, nothing twice
mod retention; // rules that keep some topics longer or shorter than others
mod seam; // several nodes on one log that is late and forgetful
mod searches; // searches in the history: bounded, and reported as such
mod settings; // the command line and the configuration
mod slow_readers; // clients that stall, or read little at a time
mod sockets_model; // sockets in a shard against a naive model
mod state; // the state of topics: statuses, limits, hostile JSON, crashes
mod state_model; // the state of topics against naive models
mod steer_model; // topics joined and left on open streams, against a naive model
mod stop; // SIGTERM and SIGINT
#[cfg(target_os = "linux")]
mod store; // full disks, damage, and the tools for the store
mod subscriptions; // subscriptions: events and lists
mod tls; // HTTPS, HTTP/2, certificates
mod token_command; // tidegate token
#[cfg(target_os = "linux")]
mod trouble; // stores without a name, full disks, commits that hang
