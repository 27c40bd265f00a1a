//! Another site.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

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
