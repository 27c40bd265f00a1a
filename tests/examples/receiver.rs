//! A small HTTP server whose replies the test chooses.

use std::{collections::HashMap, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

use crate::support::in_time;

/// A request, with lower-case header names.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

/// Receives requests until dropped.
pub(crate) struct Receiver {
    /// Its own address.
    pub(crate) url: String,
    requests: mpsc::Receiver<Request>,
    serving: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    /// Starts a server. `answer` gets the number of each request, from 0. It returns the response
    /// after the protocol version: `200 OK\r\n`, then headers and a body, if any. An empty one
    /// breaks the connection.
    pub(crate) async fn start(
        answer: impl Fn(usize, &Request) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::channel(1000);
        let answer = Arc::new(answer);
        let serving = tokio::spawn(async move {
            for number in 0.. {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let (sender, answer) = (sender.clone(), answer.clone());
                // One request per connection: every reply closes it.
                tokio::spawn(async move {
                    let Some(request) = read(&mut stream).await else { return };
                    let answer = answer(number, &request);
                    let _ = sender.send(request).await;
                    if let Some((head, body)) = answer.split_once("\r\n\r\n") {
                        let response = format!(
                            "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        let _ = stream.write_all(response.as_bytes()).await;
                    }
                });
            }
        });
        Self { url, requests, serving }
    }

    /// The next request.
    pub(crate) async fn request(&mut self) -> Request {
        in_time("a request", self.requests.recv()).await.expect("the server runs")
    }

    /// Whether there was no further request.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(Some(0), |it| it.parse().ok())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { path, headers, body: String::from_utf8(body).ok()? })
}
