//! Clients that speak TLS: HTTP/1.1, HTTP/2, and frames of HTTP/2 no ordinary client would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring,
};
use vestibule::server::Tls;

use super::PATIENCE;

/// The name every certificate here is for, besides this machine's.
pub const NAME: &str = "app.test";

/// A certificate made for one test, with its files.
pub struct Certificate {
    pub files: Tls,
    der: CertificateDer<'static>,
}

/// A path below the build folder that no other test has.
pub fn fresh_path(name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "tls-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&folder).expect("a folder for certificates");
    folder.join(name)
}

impl Certificate {
    pub fn self_signed() -> Self {
        let names = vec![NAME.to_owned(), "localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let files = Tls {
            cert: fresh_path("cert.pem"),
            key: fresh_path("key.pem"),
        };
        std::fs::write(&files.cert, made.cert.pem()).expect("it is written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("it is written");
        Self {
            files,
            der: made.cert.der().clone(),
        }
    }

    fn config(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from(NAME).expect("a name")
}

/// Bytes over TLS, as they are. Says which protocol was agreed on.
pub fn raw(
    address: SocketAddr,
    certificate: &Certificate,
    protocol: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let stream = TcpStream::connect(address).expect("somebody accepts");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    let connection = ClientConnection::new(certificate.config(protocol.as_bytes()), server_name())
        .expect("a client");
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("a handshake");
    }
    stream
}

/// Sends bytes over HTTP/1.1 and reads until the connection ends.
pub fn http1(address: SocketAddr, certificate: &Certificate, bytes: &str) -> String {
    let mut stream = raw(address, certificate, "http/1.1");
    stream.write_all(bytes.as_bytes()).expect("it is sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// One HTTP/2 connection of an ordinary client.
pub struct H2 {
    runtime: tokio::runtime::Runtime,
    requests: h2::client::SendRequest<Bytes>,
}

/// What came back, body included.
pub type Answer = http::Response<Vec<u8>>;

impl H2 {
    pub fn to(address: SocketAddr, certificate: &Certificate) -> Self {
        Self::with(address, certificate, &h2::client::Builder::new())
    }

    /// With these settings of HTTP/2.
    pub fn with(
        address: SocketAddr,
        certificate: &Certificate,
        settings: &h2::client::Builder,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let connector = tokio_rustls::TlsConnector::from(certificate.config(b"h2"));
        let requests = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address)
                .await
                .expect("somebody accepts");
            let stream = connector
                .connect(server_name(), stream)
                .await
                .expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (requests, connection) = settings.handshake(stream).await.expect("HTTP/2");
            tokio::spawn(async move {
                let _ = connection.await;
            });
            requests
        });
        Self { runtime, requests }
    }

    /// A GET of `target` at [`NAME`].
    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", target, headers, b"")
            .expect("an answer, not a reset")
    }

    pub fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, h2::Error> {
        self.exchange(request(method, target, headers), body)
    }

    /// Begins a request without a body, and waits for nothing.
    pub fn open(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Open<'_> {
        let request = request(method, target, headers);
        self.runtime.block_on(async {
            let mut requests = self.requests.clone().ready().await.expect("a connection");
            let (answer, sending) = requests.send_request(request, true).expect("a stream");
            Open {
                client: self,
                sending,
                answer,
                body: None,
            }
        })
    }

    fn wait<T>(&self, waiting: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, waiting)
                .await
                .expect("it comes in time")
        })
    }

    pub fn exchange(&self, request: http::Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let body = Bytes::copy_from_slice(body);
        self.runtime.block_on(async {
            let waiting = async {
                let mut requests = self.requests.clone().ready().await?;
                let (answer, mut sending) = requests.send_request(request, body.is_empty())?;
                if !body.is_empty() {
                    // A refusal may come before all of it is sent.
                    let _ = sending.send_data(body, true);
                }
                let (head, mut stream) = answer.await?.into_parts();
                let mut received = Vec::new();
                while let Some(piece) = stream.data().await {
                    let piece = piece?;
                    stream.flow_control().release_capacity(piece.len())?;
                    received.extend_from_slice(&piece);
                }
                Ok(http::Response::from_parts(head, received))
            };
            tokio::time::timeout(PATIENCE, waiting)
                .await
                .expect("an answer in time")
        })
    }
}

/// A request at [`NAME`].
fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> http::Request<()> {
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("https://{NAME}{target}"))
        .version(http::Version::HTTP_2);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// A request of an ordinary client that is under way.
pub struct Open<'c> {
    client: &'c H2,
    sending: h2::SendStream<Bytes>,
    answer: h2::client::ResponseFuture,
    body: Option<h2::RecvStream>,
}

impl Open<'_> {
    /// The head of the answer, and whether that is all of it.
    pub fn head(&mut self) -> Result<(http::Response<()>, bool), h2::Error> {
        let (head, body) = self.client.wait(&mut self.answer)?.into_parts();
        let is_all = body.is_end_stream();
        self.body = Some(body);
        Ok((http::Response::from_parts(head, ()), is_all))
    }

    /// The next piece of its body; `None`: its end. The other side is not told that there is room for more.
    pub fn piece(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let body = self.body.as_mut().expect("the head came");
        self.client.wait(body.data())
    }

    /// Tells the other side that there is room for so many bytes more.
    pub fn release(&mut self, bytes: usize) -> Result<(), h2::Error> {
        let body = self.body.as_mut().expect("the head came");
        body.flow_control().release_capacity(bytes)
    }

    /// The rest of the body.
    pub fn rest(&mut self) -> Result<Vec<u8>, h2::Error> {
        let mut rest = Vec::new();
        while let Some(piece) = self.piece() {
            let piece = piece?;
            rest.extend_from_slice(&piece);
            self.release(piece.len())?;
        }
        Ok(rest)
    }

    /// Wants no answer any more.
    pub fn reset(mut self) {
        self.sending.send_reset(h2::Reason::CANCEL);
    }
}

/// What became of a hand-made HTTP/2 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stream or the connection was ended.
    Reset,
    /// Headers came back; the first byte of them.
    Answered(u8),
}

/// Sends one HEADERS frame with these fields, literally, and says what became of it.
pub fn h2_headers(
    address: SocketAddr,
    certificate: &Certificate,
    fields: &[(&str, &str)],
) -> Outcome {
    let mut stream = raw(address, certificate, "h2");
    let bytes = [hello(), headers(1, fields)].concat();
    stream.write_all(&bytes).expect("it is sent");
    loop {
        match next_frame(&mut stream) {
            Some((1, _, payload)) => return Outcome::Answered(payload[0]),
            Some((3 | 7, ..)) | None => return Outcome::Reset,
            Some(_) => {}
        }
    }
}

/// What a client of HTTP/2 says first: that it is one, and its settings.
pub fn hello() -> Vec<u8> {
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(4, 0, 0, &[]),
    ]
    .concat()
}

/// A HEADERS frame of a request without a body. Fields are not indexed and not packed, so the server sees exactly these bytes.
pub fn headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|len| *len < 127)
                    .expect("short"),
            );
            block.extend_from_slice(text.as_bytes());
        }
    }
    // END_STREAM and END_HEADERS.
    frame(1, 5, stream, &block)
}

/// The next frame: its kind, its stream, and what is in it. `None`: the connection is closed.
pub fn next_frame(stream: &mut impl Read) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let [a, b, c, kind, _, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((kind, u32::from_be_bytes(id), payload))
}

/// One frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
