//! A page in the browser.

use std::{fs, path::Path};

use fantoccini::Client;
use serde::Deserialize;
use serde_json::Value;

use super::eventually;

/// Defines `listenBySse`, `listenByIframe` and `listenByPoll`.
const LISTENERS: &str = include_str!("listeners.js");

/// The page that the browser shows.
#[derive(Clone)]
pub(crate) struct Page {
    client: Client,
}

/// An event as received by a page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Heard {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) data: String,
}

impl Page {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Returns the driver, for everything else.
    pub(crate) fn driver(&self) -> &Client {
        &self.client
    }

    /// Navigates to `address`. Returns when its document exists, which may be incomplete.
    pub(crate) async fn open(&self, address: &str) {
        self.client.goto(address).await.expect("the browser navigates");
        let script = format!("return location.href === '{address}' && document.body !== null");
        self.until(address, &script).await;
    }

    /// Opens a page of the gateway's own origin that can subscribe. It is fully loaded, so it
    /// survives when the gateway stops.
    pub(crate) async fn open_listeners(&self, origin: &str) {
        self.open(&format!("{origin}/health/live")).await;
        self.until("the page is loaded", "return document.readyState === 'complete'").await;
        self.run(LISTENERS).await;
    }

    /// Runs the body of a function in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        match self.client.execute(script, Vec::new()).await {
            Ok(value) => value,
            Err(error) => panic!("{error} in {script}"),
        }
    }

    /// Waits until the script returns `true`.
    pub(crate) async fn until(&self, what: &str, script: &str) {
        eventually(what, async || {
            // No document can reply while another one replaces it.
            let answer = self.client.execute(script, Vec::new()).await;
            answer.is_ok_and(|it| it == Value::Bool(true)).then_some(())
        })
        .await;
    }

    /// Returns the path of the present page.
    pub(crate) async fn path(&self) -> String {
        self.client.current_url().await.map_or_else(|_| String::new(), |it| it.path().to_owned())
    }

    /// Saves a picture of the window under `target/screenshots`.
    pub(crate) async fn save_picture(&self, name: &str) {
        let picture = self.client.screenshot().await.expect("a picture");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
        let folder = target.join("screenshots");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), picture).expect("a file");
    }

    /// Returns what the page has received over a transport.
    pub(crate) async fn heard(&self, transport: &str) -> Vec<Heard> {
        let text = self.run(&format!("return report('{transport}')")).await;
        serde_json::from_str(text.as_str().expect("text")).expect("events")
    }

    /// Waits until the page has received an event with this id over each transport.
    pub(crate) async fn until_heard(&self, transports: &[&str], id: &str) {
        for transport in transports {
            let what = format!("{id} over {transport}");
            self.until(&what, &format!("return has('{transport}', '{id}')")).await;
        }
    }
}
