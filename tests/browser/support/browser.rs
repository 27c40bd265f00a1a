//! Headless Chromium, driven through chromedriver.

use std::{env, io, process::Stdio};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::{LocalSet, spawn_local},
};

use super::Page;

/// Names under which distributions install the browser.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Variables that require every test if one of them is 1.
const REQUIRE_ALL: [&str; 2] = ["REQUIRE_ALL_TESTS", "TIDEGATE_REQUIRE_ALL"];

/// A browser of its own for one test.
struct Browser {
    client: Client,
    driver: Child,
    /// The profile and other files of the browser.
    _directory: TempDir,
}

/// Runs a test in a new browser, which is stopped however the test ends. Without a browser the test
/// is skipped, unless the environment requires every test.
pub(crate) async fn in_browser<F: Future<Output = ()> + 'static>(test: impl FnOnce(Page) -> F) {
    run(test, &[]).await;
}

/// The same, with the scripts of pages disabled. The driver can still run its own.
pub(crate) async fn in_browser_without_scripts<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Page) -> F,
) {
    run(test, &["--blink-settings=scriptEnabled=false"]).await;
}

/// The same, accepting every certificate.
pub(crate) async fn in_browser_that_trusts_every_certificate<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Page) -> F,
) {
    run(test, &["--ignore-certificate-errors"]).await;
}

async fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce(Page) -> F, arguments: &[&str]) {
    let browser = match Browser::start(arguments).await {
        Ok(browser) => browser,
        Err(missing)
            if REQUIRE_ALL.iter().any(|it| env::var_os(it).is_some_and(|it| it == "1")) =>
        {
            panic!("{missing}");
        }
        Err(missing) => {
            eprintln!("skipped: {missing}");
            return;
        }
    };
    let page = Page::new(browser.client.clone());
    let outcome = LocalSet::new().run_until(async { spawn_local(test(page)).await }).await;
    browser.stop().await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure.into_panic());
    }
}

impl Browser {
    /// Starts a browser. The error names what is missing on this machine.
    async fn start(arguments: &[&str]) -> Result<Self, String> {
        let binary = installed().ok_or("there is no Chromium on this machine")?;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("TMPDIR", directory.path());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut driver = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err("there is no chromedriver on this machine".to_owned());
            }
            driver => driver.expect("chromedriver starts"),
        };
        let port = port(&mut driver).await;
        let client = connect(port, &binary, &directory, arguments).await;
        Ok(Self { client, driver, _directory: directory })
    }

    async fn stop(mut self) {
        // Ends the browser. If that fails, the test has already failed.
        let _ = self.client.close().await;
        let _ = self.driver.kill().await;
    }
}

fn installed() -> Option<String> {
    let path = env::var_os("PATH")?;
    let places: Vec<_> = env::split_paths(&path).collect();
    let files = NAMES.iter().flat_map(|name| places.iter().map(move |place| place.join(name)));
    files.into_iter().find(|file| file.is_file()).map(|file| file.to_string_lossy().into_owned())
}

/// Returns the port that chromedriver has chosen.
async fn port(driver: &mut Child) -> u16 {
    let output = driver.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines.next_line().await.expect("its output is text");
        let line = line.expect("chromedriver says its port before it ends");
        let told = line.split_once("successfully on port ");
        if let Some(port) = told.and_then(|(_, port)| port.trim_end_matches('.').parse().ok()) {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return port;
        }
    }
}

async fn connect(port: u16, binary: &str, directory: &TempDir, arguments: &[&str]) -> Client {
    let user_data = format!("--user-data-dir={}", directory.path().join("profile").display());
    let mut all = vec![
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        // Sites that are not this machine's, though tests serve them here.
        "--host-resolver-rules=MAP *.test 127.0.0.1",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // Pictures show final states, not transitions.
        "--force-prefers-reduced-motion",
        &user_data,
    ];
    all.extend(arguments);
    let capabilities = json!({
        "browserName": "chrome",
        // Pages with endless streams never finish loading.
        "pageLoadStrategy": "none",
        "goog:chromeOptions": { "binary": binary, "args": all },
    });
    let serde_json::Value::Object(capabilities) = capabilities else { unreachable!("an object") };
    ClientBuilder::new(HttpConnector::new())
        .capabilities(capabilities)
        .connect(&format!("http://127.0.0.1:{port}"))
        .await
        .expect("chromedriver starts a browser")
}
