//! Black-box tests of the gateway: the real binary on a free port, one module per capability.

#![allow(missing_docs, unreachable_pub, reason = "nobody links to a test")]

mod support;

mod auth; // tokens: which are good, and for how long
mod bench; // `tidegate bench`: what it counts, what it refuses
mod cors; // what pages of other origins may do
mod development; // who may ask without keys
mod discovery; // metadata, content negotiation, QUERY
mod encoders; // properties of the encoders: what is read back is what was published
mod eventsource; // EventSource: bytes, heads, resume, heartbeats
mod gaps; // what cannot be served is said, and only to those whom it concerns
mod hostile; // clients that stall, vanish, or take their time
mod iframe; // the forever iframe: bytes, head, escapes, ends
mod job_model; // the state machine of a job against a naive one
mod jobs; // jobs over HTTP: creators, workers, watchers
mod key_sets; // key sets of other servers, and every family of algorithms
mod matching; // which subscribers a topic reaches, in both dialects
mod operations; // health, metrics
mod poll; // long poll: envelope, waiting, tags, sessions
mod presentation; // where a request carries its token
mod privacy; // private events, live and in replay, over all transports
mod publish; // forms, JSON, idempotency, order among many publishers
mod publish_rules; // the rules of publishing with tokens
mod refusals; // bad input: every refusal is a problem document
mod resume; // properties of resuming: nothing lost, nothing twice
mod settings; // the command line and the configuration
mod stop; // SIGTERM and SIGINT
mod subscriptions; // who subscribes to what: events and lists
mod token_command; // tidegate token
