//! Clients that speak HTTP/2: many requests at once on a connection, each a stream with a task of its own.
//!
//! Connections, their limits, their idle time and how they end are Pingora's, and so is each stream until somebody looks at it: streams
//! that are plain are answered here, over the connections to the app that HTTP/1.1 uses as well.

mod stream;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::TE;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, HttpSession};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use self::stream::Asker;
use super::wait::Spare;
use super::{Exchange, Said, address_of, is_special, request};
use crate::server::proxy::{Gateway, Shared};
use crate::server::streams::{self, Endable};

/// Answers streams that are plain, and gives Pingora the rest.
pub struct Http2 {
    gateway: Arc<Gateway>,
    pingora: Arc<Endable<HttpProxy<Shared>>>,
    timers: Spare,
}

impl Http2 {
    /// In front of it.
    pub const fn new(gateway: Arc<Gateway>, pingora: Arc<Endable<HttpProxy<Shared>>>) -> Self {
        Self {
            gateway,
            pingora,
            timers: Spare::new(),
        }
    }

    /// Whether a stream is a plain request, and all of it is here.
    fn is_plain(&self, stream: &HttpSession) -> bool {
        let head = stream.req_header();
        request::is_plain(head) && stream.is_body_empty() && !is_special(&self.gateway, head)
    }

    /// Answers a request. Its stream is not moved: it is most of a kilobyte.
    async fn serve(&self, stream: &mut HttpSession) {
        let (blank, ()) = http::Request::new(()).into_parts();
        let mut head = std::mem::replace(stream.req_header_mut(), RequestHeader::from(blank));
        // It is for us alone.
        head.remove_header(&TE);
        let peer = address_of(stream.client_addr());
        let mut client = Asker::new(stream);
        let mut deadline = self.timers.take();
        let mut said = Said::nothing(true);
        {
            let mut exchange = Exchange {
                gateway: &self.gateway,
                client: &mut client,
                peer,
                deadline: &mut deadline,
            };
            let served = std::pin::pin!(exchange.serve(&head, &mut said));
            streams::until_ended(served).await;
        }
        self.timers.put(deadline);
    }
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        match &mut session {
            ServerSession::H2(stream) if self.is_plain(stream) => {
                streams::endable(self.serve(stream)).await;
                None
            }
            _ => self.pingora.process_new_http(session, shutdown).await,
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.pingora.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.pingora.server_options()
    }

    async fn http_cleanup(&self) {
        self.pingora.http_cleanup().await;
    }
}
