//! An app that is nothing but connections: the test reads and writes every byte itself, on both sides.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::PATIENCE;

/// One connection, with what was read of it and not yet looked at.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| stream.set_nodelay(true))
            .expect("a connection with timeouts");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub fn to(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("somebody accepts"))
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the other side reads");
    }

    /// Writes, and says whether the other side was still there.
    pub fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// A head with its blank line, as text.
    pub fn read_head(&mut self) -> String {
        self.try_read_head().expect("a whole head")
    }

    /// The same; `None` when the connection ends first.
    pub fn try_read_head(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_more() {
                return None;
            }
        };
        Some(String::from_utf8_lossy(&self.take(end)).into_owned())
    }

    /// One line without its end.
    pub fn read_line(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break at + 2;
            }
            assert!(self.read_more(), "the connection ended within a line");
        };
        let line = self.take(end);
        String::from_utf8_lossy(&line[..end - 2]).into_owned()
    }

    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(
                self.read_more(),
                "the connection ended: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
        self.take(count)
    }

    /// One chunk of a chunked body; empty at its end (trailers are left unread).
    pub fn read_chunk(&mut self) -> Vec<u8> {
        let line = self.read_line();
        let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
        if size == 0 {
            return Vec::new();
        }
        let chunk = self.read_exactly(size);
        assert_eq!(self.read_exactly(2), b"\r\n");
        chunk
    }

    /// Bytes of a chunked body until `wanted` of them are there, however they were cut.
    pub fn read_chunks(&mut self, wanted: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < wanted {
            let chunk = self.read_chunk();
            assert!(!chunk.is_empty(), "the body ended early");
            body.extend_from_slice(&chunk);
        }
        body
    }

    pub fn write_chunk(&mut self, chunk: impl AsRef<[u8]>) {
        let chunk = chunk.as_ref();
        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        self.write(bytes);
    }

    /// Reads and drops `count` bytes without keeping them.
    pub fn skip(&mut self, mut count: usize) {
        let kept = self.buffer.len().min(count);
        self.take(kept);
        count -= kept;
        let mut room = vec![0; 64 * 1024];
        while count > 0 {
            let want = room.len().min(count);
            let read = self.stream.read(&mut room[..want]).expect("more bytes");
            assert!(read > 0, "the connection ended with {count} bytes to come");
            count -= read;
        }
    }

    /// Waits for the end of the connection; what came before it.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more() {}
        std::mem::take(&mut self.buffer)
    }

    /// Has nothing more to say, and still reads.
    pub fn end_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    fn read_more(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&piece[..read]);
                true
            }
            // A wait in vain is a failure of the test, not an end of the connection.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!(
                    "waited in vain for bytes; so far: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                )
            }
            Err(_) => false,
        }
    }
}

/// The value of a header in a head.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    headers(head, name).first().copied()
}

/// All values of a header in a head.
pub fn headers<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    head.split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

/// An app whose connections are handed to the test.
pub struct RawApp {
    pub address: SocketAddr,
    accepted: Mutex<Receiver<Wire>>,
    count: Arc<AtomicUsize>,
}

impl RawApp {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (send, accepted): (Sender<Wire>, _) = mpsc::channel();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                if send.send(Wire::new(stream)).is_err() {
                    return;
                }
            }
        });
        Self {
            address,
            accepted: Mutex::new(accepted),
            count,
        }
    }

    /// The next connection.
    pub fn accept(&self) -> Wire {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv_timeout(PATIENCE)
            .expect("the gateway connects")
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// What a head tells, line by line, in one order; of what each request has of its own, only that it is there.
pub fn lines_told(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = head
        .lines()
        .map(|line| match line.split_once(':') {
            // Of each request its own, and signed anew.
            Some((name, _)) if ["x-request-id", "traceparent"].contains(&name) => name.to_owned(),
            Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
            None => line.to_owned(),
        })
        .collect();
    lines.sort();
    lines
}
