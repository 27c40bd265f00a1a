//! The gateway in a real browser: Chromium, headless, against the real binary.
//!
//! Pages of the gateway's own origin are `/health/live` with listeners put into them by the driver: such a page stays
//! when the gateway is killed. Where Chromium or chromedriver is missing, the tests say so and pass; with
//! `REQUIRE_ALL_TESTS=1` they fail.

mod cookies; // tokens in cookies, in pages of the gateway and in others
mod http_2; // as many streams as a page likes
mod jobs; // the page that waits for a job
mod parent; // what the page around the iframe may do and may not see
mod recycle; // the iframe replaces its document, and nobody notices
mod restart; // the gateway goes and comes back
mod same_events; // every transport hands on the same, byte for byte
mod silence; // connections that stay open and dead
mod start_page; // what a newcomer sees first
mod support;
