//! The gateway with the libraries that clients of Mercure hubs use, and the project's own for
//! browsers. Each runs in its own runtime, as its documentation shows.
//!
//! `make test` installs them (`tests/clients/install`). Without a library, Node.js or Python the
//! tests say so and pass; with `REQUIRE_ALL_TESTS=1` they fail.

mod authorized; // private events, with the right access token only
mod library; // the browser library: scripts, types, what is served
mod receives; // events as they were published, and nothing else
mod resumes; // connections that are cut or end, and a killed gateway
mod support;
