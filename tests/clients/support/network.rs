//! The network between client and gateway.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{gateway::hub_at, in_time};

/// What a proxy does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Passing,
    /// Every connection is cut after this text from the gateway. Later ones are not passed on.
    CutBehind(&'static str),
    /// Every connection is cut.
    Cut,
}

/// A proxy below HTTP, for one client.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    n_heartbeats: watch::Sender<usize>,
}

impl Proxy {
    /// Starts a proxy in front of `port`.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, _) = watch::channel(State::Passing);
        let (n_heartbeats, _) = watch::channel(0);
        let (changes, counter) = (state.clone(), n_heartbeats.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, port, changes.clone(), counter.clone()));
            }
        });
        Self { address, state, n_heartbeats }
    }

    /// Returns the URL of the hub through this proxy.
    pub(crate) fn hub(&self) -> String {
        hub_at(self.address.port())
    }

    /// Cuts the connection. New ones are cut at once until `mend` is called.
    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Cuts the connection after this text, which is in the middle of an event.
    pub(crate) fn cut_behind(&self, text: &'static str) {
        self.state.send_replace(State::CutBehind(text));
    }

    /// Waits until the connection was cut.
    pub(crate) async fn is_cut(&self) {
        let mut state = self.state.subscribe();
        let cut = in_time("the cut", state.wait_for(|it| *it == State::Cut)).await;
        drop(cut.expect("the proxy runs"));
    }

    /// Lets everything pass again.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Passing);
    }

    /// Returns how many heartbeats have passed.
    pub(crate) fn n_heartbeats(&self) -> usize {
        *self.n_heartbeats.borrow()
    }

    /// Waits until this many heartbeats have passed.
    pub(crate) async fn heartbeats(&self, count: usize) {
        let mut n_heartbeats = self.n_heartbeats.subscribe();
        let passed = in_time("heartbeats", n_heartbeats.wait_for(|it| count <= *it)).await;
        drop(passed.expect("the proxy runs"));
    }
}

async fn serve(
    mut client: TcpStream,
    port: u16,
    state: watch::Sender<State>,
    n_heartbeats: watch::Sender<usize>,
) {
    let mut changes = state.subscribe();
    if *changes.borrow_and_update() == State::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut request, mut reply) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Some(sent) = read.ok().filter(|it| 0 < *it).map(|it| &request[..it]) else { return };
                if server.write_all(sent).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut reply) => {
                let Some(mut sent) = read.ok().filter(|it| 0 < *it).map(|it| &reply[..it]) else { return };
                if sent == b"2\r\n:\n\r\n" {
                    n_heartbeats.send_modify(|it| *it += 1);
                }
                let end = end_within(&state.borrow(), sent);
                if let Some(end) = end {
                    sent = &sent[..end];
                }
                if client.write_all(sent).await.is_err() {
                    return;
                }
                if end.is_some() {
                    // An orderly end, so that the client receives all of it.
                    let _ = client.shutdown().await;
                    state.send_replace(State::Cut);
                    return;
                }
            }
            _ = changes.changed() => {
                if *changes.borrow_and_update() == State::Cut {
                    return;
                }
            }
        }
    }
}

/// Returns where to cut, if that is within these bytes.
fn end_within(state: &State, bytes: &[u8]) -> Option<usize> {
    let State::CutBehind(text) = state else { return None };
    let at = bytes.windows(text.len()).position(|it| it == text.as_bytes())?;
    Some(at + text.len())
}
