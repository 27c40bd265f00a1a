//! Black-box tests of the gateway: the real binary on a free port, one module per capability.

#![allow(missing_docs, unreachable_pub, reason = "nobody links to a test")]

mod support;

mod admission; // rights and room before anything is read or held
mod auth; // tokens: which are good, and for how long
mod bench; // `tidegate bench`: what it counts, what it refuses
mod budgets; // what patterns and matchers may cost, in all and for one address
mod clients; // what the libraries of frameworks send, and what they need of the answer
#[cfg(target_os = "linux")]
mod connections; // connections without a request: how long they stay, and who gives way
mod cors; // what pages of other origins may do
mod crash; // SIGKILL at random moments: nothing acknowledged is lost, nothing comes twice
mod dead_peers; // clients that are gone are forgotten
mod development; // who may ask without keys
mod discovery; // metadata, content negotiation, QUERY
mod durable; // what is there after a restart and after a crash, on every transport
mod durable_jobs; // jobs after a crash
mod encoders; // properties of the encoders: what is read back is what was published
mod eventsource; // EventSource: bytes, heads, resume, heartbeats
mod failing_history; // what happens to streams when the history cannot be read
mod fairness; // a crowd does not hold up the few
mod gaps; // what cannot be served is said, and only to those whom it concerns
mod half_closed; // peers that have said all they will say, and peers that are gone
#[cfg(target_os = "linux")]
mod handing_on; // restarts on a listener that stays
mod handover; // what the way of a socket from actix to its shard rests on
mod hostile; // clients that stall, vanish, or take their time
mod http2; // what one connection may hold, and responses that are not taken
mod iframe; // the forever iframe: bytes, head, escapes, ends
mod job_model; // the state machine of a job against a naive one
mod jobs; // jobs over HTTP: creators, workers, watchers
mod key_sets; // key sets of other servers, and every family of algorithms
mod limits; // seats, descriptors, and how it is said that there are none
mod matching; // which subscribers a topic reaches, in both dialects
mod operations; // health, metrics
mod poll; // long poll: envelope, waiting, tags, sessions
mod presentation; // where a request carries its token
mod privacy; // private events, live and in replay, over all transports
mod publish; // forms, JSON, idempotency, order among many publishers
mod publish_rules; // the rules of publishing with tokens
mod races; // what happens at the same time
mod refusals; // bad input: every refusal is a problem document
mod resume; // properties of resuming: nothing lost, nothing twice
mod retention; // rules that keep some topics longer or shorter than others
mod searches; // searches in the history: bounded, and said to be
mod settings; // the command line and the configuration
mod slow_readers; // clients that stall, or read little at a time
mod sockets_model; // sockets in a shard against a naive model
mod stop; // SIGTERM and SIGINT
#[cfg(target_os = "linux")]
mod store; // full disks, damage, and the tools for the store
mod subscriptions; // who subscribes to what: events and lists
mod tls; // HTTPS, HTTP/2, certificates
mod token_command; // tidegate token
#[cfg(target_os = "linux")]
mod trouble; // stores without a name, disks that take nothing, commits that hang
