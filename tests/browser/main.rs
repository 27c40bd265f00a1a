//! The gateway in a real browser: Chromium, headless, against the real binary.
//!
//! Pages of the gateway's own origin are `/health/live` with subscribers injected by the driver.
//! Such a page survives when the gateway is killed. Without Chromium or chromedriver the tests say
//! so and pass; with `REQUIRE_ALL_TESTS=1` they fail.

mod behind_nginx; // the start page through a proxy
mod cookies; // access tokens in cookies, in pages of the gateway and of other origins
mod http_2; // more streams than HTTP/1.1 allows
mod jobs; // the page that waits for a job
mod parent; // what the page around the iframe may do and may not see
mod questions; // a worker's question becomes a form
mod recycle; // the iframe replaces its document unnoticed
mod restart; // the gateway stops and restarts
mod same_events; // every transport delivers the same, byte for byte
mod silence; // connections that stay open and dead
mod start_page; // the first page that a user sees
mod state; // the page of docs/state.md
mod support;
