//! The gateway and the libraries with which others receive from a Mercure hub: each in its own runtime, as its
//! documentation shows it.
//!
//! `make test` installs them (`tests/clients/install`). Where a library, Node.js or Python is missing, the tests say so
//! and pass; with `REQUIRE_ALL_TESTS=1` they fail.

mod authorized; // private events, with the right token only
mod receives; // events as they were published, and nothing else
mod resumes; // connections that are cut, that end, and a gateway that is killed
mod support;
