//! Connections for requests that may become tunnels.
//!
//! Pingora 0.9 learns of the end of the request's body and of the app's answer by two channels, and takes either first. When it
//! takes an app's 101 before the end of a body that never was, it ends the tunnel it has just opened. On these connections an
//! answer is therefore seen one turn later than it arrives: by then the end of the body has been taken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Opens such connections.
#[derive(Debug)]
pub struct Patient;

#[async_trait]
impl Connect for Patient {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let SocketAddr::Inet(address) = address else {
            return Error::e_explain(
                ErrorType::ConnectError,
                "tunnels go to network addresses only",
            );
        };
        let socket = TcpStream::connect(address).await.map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "connecting for a tunnel", error)
        })?;
        // Frames are small and somebody waits for each. Without the option they only arrive later.
        let _ = socket.set_nodelay(true);
        Ok(VirtualSocketStream::new(Box::new(OneTurnLater {
            socket,
            wrote: false,
        }))
        .into())
    }
}

/// A socket whose answer to what was written is seen one turn of the scheduler later.
#[derive(Debug)]
struct OneTurnLater {
    socket: TcpStream,
    wrote: bool,
}

impl AsyncRead for OneTurnLater {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.wrote) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut this.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for OneTurnLater {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        Pin::new(&mut this.socket).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl VirtualSocket for OneTurnLater {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // A tunnel that says nothing is closed by `timeouts.tunnel_idle`.
            _ => Ok(()),
        }
    }
}
