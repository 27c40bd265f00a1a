//! A network that is slow, silent or cut, between a client and a gateway.

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

use crate::deadline::in_time;

/// The added delay of a slow network.
const LATENCY: Duration = Duration::from_secs(1);

/// The bytes of a heartbeat on an event stream, as a chunk.
const HEARTBEAT: &[u8] = b"2\r\n:\n\r\n";

/// What a proxy passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Everything.
    Everything,
    /// Everything, with a delay.
    Slowly,
    /// Nothing: every connection falls silent for ever and stays open.
    Nothing,
    /// Everything but requests that begin with this text. Their connections fall silent.
    AllBut(&'static str),
    /// Everything up to the end of this text from the gateway. Then every connection is cut.
    UpTo(&'static str),
    /// Nothing: every connection is cut, and so are new ones.
    Cut,
}

impl Passing {
    fn holds_up(self, request: &[u8]) -> bool {
        matches!(self, Self::AllBut(start) if request.starts_with(start.as_bytes()))
    }

    /// Returns where to cut, if that is within these bytes from the gateway.
    fn end_within(self, bytes: &[u8]) -> Option<usize> {
        let Self::UpTo(text) = self else { return None };
        let at = bytes.windows(text.len()).position(|it| it == text.as_bytes())?;
        Some(at + text.len())
    }
}

/// A proxy below HTTP.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: Line,
}

/// What all connections of a proxy share.
#[derive(Debug, Clone)]
struct Line {
    passing: watch::Sender<Passing>,
    n_heartbeats: watch::Sender<usize>,
    held_up: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy in front of a gateway at `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (passing, _) = watch::channel(Passing::Everything);
        let (n_heartbeats, _) = watch::channel(0);
        let line = Line { passing, n_heartbeats, held_up: Arc::default() };
        let shared = line.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, upstream, shared.clone()));
            }
        });
        Self { address, line }
    }

    /// Returns the origin of the gateway through this proxy.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of the hub through this proxy.
    pub fn hub(&self) -> String {
        format!("{}/.well-known/mercure", self.origin())
    }

    /// Changes what passes. A silent connection stays silent.
    pub fn let_pass(&self, passing: Passing) {
        self.line.passing.send_replace(passing);
    }

    /// Whether a request that begins with this text was held back.
    pub fn holds_up(&self, request: &str) -> bool {
        let held_up = self.line.held_up.lock().unwrap_or_else(PoisonError::into_inner);
        held_up.iter().any(|it| it.starts_with(request))
    }

    /// Waits until [`Passing::UpTo`] has cut a connection.
    pub async fn is_cut(&self) {
        let mut passing = self.line.passing.subscribe();
        let cut = in_time("the cut", passing.wait_for(|it| *it == Passing::Cut)).await;
        drop(cut.expect("the proxy runs"));
    }

    /// Returns how many heartbeats have passed.
    pub fn n_heartbeats(&self) -> usize {
        *self.line.n_heartbeats.borrow()
    }

    /// Waits until this many heartbeats have passed.
    pub async fn heartbeats(&self, count: usize) {
        let mut n_heartbeats = self.line.n_heartbeats.subscribe();
        let passed = in_time("heartbeats", n_heartbeats.wait_for(|it| count <= *it)).await;
        drop(passed.expect("the proxy runs"));
    }
}

impl Line {
    fn passing(&self) -> Passing {
        *self.passing.borrow()
    }

    fn hold_up(&self, request: &[u8]) {
        let text = String::from_utf8_lossy(request).into_owned();
        self.held_up.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, line: Line) {
    let mut changes = line.passing.subscribe();
    let passing = *changes.borrow_and_update();
    if passing == Passing::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut request, mut reply) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut is_silent = passing == Passing::Nothing;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Some(sent) = received(read, &request) else { return };
                is_silent |= line.passing().holds_up(sent);
                if is_silent {
                    line.hold_up(sent);
                } else if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut reply), if !is_silent => {
                let Some(sent) = received(read, &reply) else { return };
                if !pass_on(sent, &mut client, &line).await {
                    return;
                }
            }
            _ = changes.changed() => match *changes.borrow_and_update() {
                Passing::Cut => return,
                Passing::Nothing => is_silent = true,
                Passing::Everything | Passing::Slowly | Passing::AllBut(_) | Passing::UpTo(_) => {}
            }
        }
    }
}

fn received(read: std::io::Result<usize>, buffer: &[u8]) -> Option<&[u8]> {
    read.ok().filter(|it| 0 < *it).map(|it| &buffer[..it])
}

/// Passes on what the gateway sent. Returns `false` if that ends the connection.
async fn pass_on(sent: &[u8], client: &mut TcpStream, line: &Line) -> bool {
    if sent == HEARTBEAT {
        line.n_heartbeats.send_modify(|it| *it += 1);
    }
    let passing = line.passing();
    if passing == Passing::Slowly {
        tokio::time::sleep(LATENCY).await;
    }
    let end = passing.end_within(sent);
    if client.write_all(&sent[..end.unwrap_or(sent.len())]).await.is_err() {
        return false;
    }
    if end.is_some() {
        // An orderly end, so that the client receives all of it.
        let _ = client.shutdown().await;
        line.passing.send_replace(Passing::Cut);
    }
    end.is_none()
}
