//! The network between browser and gateway, and other sites.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The added delay if everything passes slowly.
const LATENCY: Duration = Duration::from_secs(1);

/// What a proxy passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    Everything,
    /// Every connection falls silent for ever and stays open.
    Nothing,
    /// Only the connections that request the iframe's document fall silent.
    NoDocument,
    /// Everything, with a delay.
    Slowly,
}

/// A proxy below HTTP, which can fail without closing a connection.
pub(crate) struct Proxy {
    address: SocketAddr,
    passing: watch::Sender<Passing>,
    held_up: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy in front of `port`.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (passing, passes) = watch::channel(Passing::Everything);
        let held_up = Arc::<Mutex<Vec<String>>>::default();
        let notes = held_up.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, port, passes.clone(), notes.clone()));
            }
        });
        Self { address, passing, held_up }
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what passes. A silent connection stays silent.
    pub(crate) fn let_pass(&self, passing: Passing) {
        self.passing.send_replace(passing);
    }

    /// Whether a request that begins with this was held back.
    pub(crate) fn holds_up(&self, request: &str) -> bool {
        let held_up = self.held_up.lock().unwrap_or_else(PoisonError::into_inner);
        held_up.iter().any(|it| it.starts_with(request))
    }
}

async fn serve(
    mut client: TcpStream,
    port: u16,
    mut passing: watch::Receiver<Passing>,
    held_up: Arc<Mutex<Vec<String>>>,
) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut request, mut reply) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut is_silent = *passing.borrow_and_update() == Passing::Nothing;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Some(sent) = read.ok().filter(|it| 0 < *it).map(|it| &request[..it]) else { return };
                let is_held_up = *passing.borrow() == Passing::NoDocument && sent.starts_with(b"GET /iframe");
                is_silent |= is_held_up;
                if is_silent {
                    let text = String::from_utf8_lossy(sent).into_owned();
                    held_up.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                } else if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut reply), if !is_silent => {
                let Some(sent) = read.ok().filter(|it| 0 < *it).map(|it| &reply[..it]) else { return };
                if *passing.borrow() == Passing::Slowly {
                    tokio::time::sleep(LATENCY).await;
                }
                if client.write_all(sent).await.is_err() {
                    return;
                }
            }
            changed = passing.changed() => {
                is_silent |= changed.is_err() || *passing.borrow() == Passing::Nothing;
            }
        }
    }
}

/// Serves `html` at every path of `port`, as another site would.
pub(crate) async fn serve_page(port: u16, html: String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{html}",
        html.len()
    );
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let response = response.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                // Browsers open spare connections on which they never send a request.
                if client.read(&mut request).await.is_ok_and(|it| 0 < it) {
                    let _ = client.write_all(response.as_bytes()).await;
                }
            });
        }
    });
}
