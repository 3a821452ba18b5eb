//! The app of a benchmark: it answers everything with so many bytes, and on one path with the head it was sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longest head read; the gateway itself lets less through.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// How long an unused connection is kept: longer than any gateway keeps one.
const IDLE: Duration = Duration::from_secs(75);

/// The end of the path that is answered with the head that came.
pub(super) const ECHO: &str = "/echo";

/// An app that runs until it is dropped.
pub(super) struct Upstream {
    /// Where it listens.
    pub(super) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Upstream {
    /// Starts one on a thread of its own.
    ///
    /// # Errors
    /// When no port or no thread is to be had.
    pub(super) fn start(answer_bytes: usize) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bench-app")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {answer_bytes}\r\n\r\n"
        )
        .into_bytes();
        answer.resize(answer.len() + answer_bytes, b'a');
        let answer: Arc<[u8]> = answer.into();
        runtime.spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let answer = Arc::clone(&answer);
                        tokio::spawn(async move {
                            let _ = stream.set_nodelay(true);
                            // Whoever hangs up wants nothing more.
                            let _ = serve(stream, &answer).await;
                        });
                    }
                    // Out of descriptors, for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers one connection. Requests carry no body here.
async fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if buffer.len() > HEAD_BYTES_MAX {
                return Ok(());
            }
            let read = tokio::time::timeout(IDLE, stream.read_buf(&mut buffer)).await;
            match read {
                Ok(Ok(1..)) => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => return Ok(()),
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if target.ends_with(ECHO.as_bytes()) {
            let start = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                head.len()
            );
            stream.write_all(start.as_bytes()).await?;
            stream.write_all(&head).await?;
        } else {
            stream.write_all(answer).await?;
        }
    }
}
