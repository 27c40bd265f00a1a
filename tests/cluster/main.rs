//! Several gateways with one log in a real Redis. Without `redis-server` the tests say so and pass;
//! with `REQUIRE_ALL_TESTS=1` they fail.

#![allow(missing_docs, unreachable_pub, reason = "no crate links to a test")]

mod support;

mod access; // who may connect to Redis, and how: TLS, users, Sentinel, Cluster
mod faults; // Redis is killed, paused, away, full, emptied; nodes are killed
mod nodes; // what is published at one node is heard at all, and a subscriber may move
mod refused; // an unsuitable Redis, and contradictory settings
mod rolling; // all nodes are replaced under load
mod terms; // what Redis has lost between two terms is put back, or said
