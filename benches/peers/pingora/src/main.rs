//! A proxy of Pingora that only passes on, or only redirects: the measure of what auth costs.
//!
//! `plain-pingora LISTEN UPSTREAM [redirect | tls CERT KEY]`, addresses with ports. One thread, connections kept both ways, no log.
//! With a certificate it speaks HTTP/2 too; only the build with the feature `tuned` does.

use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;

use async_trait::async_trait;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[cfg(feature = "tuned")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As many connections are kept to the upstream as Vestibule keeps by default.
const KEPT: usize = 512;

/// Where somebody without a session is sent; Vestibule's answer is as long.
const SIGN_IN: &str = "/sign-in?callbackURL=%2Fanswer";

struct Plain {
    upstream: SocketAddr,
    redirect: bool,
}

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora::Result<bool> {
        if !self.redirect {
            return Ok(false);
        }
        let mut answer = ResponseHeader::build(StatusCode::FOUND, Some(3))?;
        answer.insert_header(header::LOCATION, SIGN_IN)?;
        answer.insert_header(header::CACHE_CONTROL, "private, no-store")?;
        answer.insert_header(header::CONTENT_LENGTH, "0")?;
        session
            .write_response_header(Box::new(answer), true)
            .await?;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let listen = arguments.next();
    let upstream = arguments.next().and_then(|text| text.parse().ok());
    let (Some(listen), Some(upstream)) = (listen, upstream) else {
        eprintln!("usage: plain-pingora LISTEN UPSTREAM [redirect | tls CERT KEY]");
        return ExitCode::from(2);
    };
    let mode = arguments.next();
    let redirect = mode.as_deref() == Some("redirect");
    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads: 1,
            upstream_keepalive_pool_size: KEPT,
            ..ServerConf::default()
        },
    );
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Plain { upstream, redirect });
    #[cfg(feature = "tuned")]
    if mode.as_deref() == Some("tls") {
        let (Some(cert), Some(key)) = (arguments.next(), arguments.next()) else {
            eprintln!("tls takes a certificate and its key");
            return ExitCode::from(2);
        };
        let settings = pingora::listeners::tls::TlsSettings::intermediate(&cert, &key);
        let Ok(mut settings) = settings else {
            eprintln!("the certificate does not work");
            return ExitCode::from(2);
        };
        settings.enable_h2();
        service.add_tls_with_settings(&listen, None, settings);
    } else {
        service.add_tcp(&listen);
    }
    #[cfg(not(feature = "tuned"))]
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
