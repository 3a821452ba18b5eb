//! The plain exchange: a request without a body, and its answer, passed on by ourselves.
//!
//! Pingora's own way serves every request there is, with bodies, upgrades, caches and trailers, and each pays for all of them: two
//! channels, a task that watches each waiting connection, several copies of each head. Most requests are a GET over a connection that
//! is there already. These go this way: one connection, one head out, one head back, and pieces of the answer as they come. What reads,
//! frames and writes are Pingora's sessions here too. Whatever is not as plain, and whatever a waiting connection lost before an answer
//! began, goes Pingora's way.

use std::time::Duration;

use http::header::{
    CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession as AppSession;
use pingora::protocols::http::v1::server::HttpSession as ClientSession;
use pingora::proxy::Session as Exchange;
use pingora::time::timeout;
use pingora::{Error, ErrorType, OkOrErr as _, OrErr as _, Result, RetryType};
use tokio::io::AsyncWriteExt as _;

use super::forward;
use super::proxy::{Ctx, Gateway};
use super::upstream::Manner;

/// What is between two neighbours only (RFC 9110, section 7.6.1): a request with any of these is Pingora's.
const BETWEEN_NEIGHBOURS: [HeaderName; 11] = [
    TRANSFER_ENCODING,
    CONTENT_LENGTH,
    UPGRADE,
    EXPECT,
    TE,
    TRAILER,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// What became of it.
pub enum Passed {
    /// The client has its answer.
    Answered,
    /// Nothing has happened that the client or the app would notice twice: it goes Pingora's way.
    Not,
}

/// Whether a request is plain: nothing of it but a head, and nothing in it that is for the next neighbour alone.
fn is_plain(exchange: &Exchange) -> bool {
    let head = exchange.req_header();
    head.version == Version::HTTP_11
        && matches!(*exchange.downstream_session, ServerSession::H1(_))
        && head.method == Method::GET
        // Neither a proxy's target nor anything that ends a line.
        && head.raw_path().starts_with(b"/")
        && head.raw_path().iter().all(|byte| *byte > b' ' && *byte != 0x7f)
        && !head
            .headers
            .keys()
            .any(|name| BETWEEN_NEIGHBOURS.contains(name))
}

/// Passes a plain request on, and its answer back.
///
/// # Errors
/// When the app, or the client, fails in the middle of it: as Pingora says it.
pub async fn pass(gateway: &Gateway, exchange: &mut Exchange, ctx: &mut Ctx) -> Result<Passed> {
    if ctx.manner != Manner::Exchange
        || !ctx.passage.is_plain()
        || ctx.actions.is_some()
        || ctx.is_held
        || !is_plain(exchange)
    {
        return Ok(Passed::Not);
    }
    let (Some(app), Some(permit), Some(client)) =
        (gateway.apps.get(ctx.app), &ctx.permit, ctx.client)
    else {
        return Error::e_explain(ErrorType::InternalError, "no permit");
    };
    let Some(place) = app.place() else {
        return Ok(Passed::Not);
    };
    let wire = forward::to_wire(
        exchange.req_header(),
        &gateway.identity,
        permit.principal().map(|entry| &**entry),
        client,
        gateway.gate.clock.now(),
        &ctx.trace,
    )?;
    ctx.attempts += 1;
    let (mut stream, kept) = match app.kept.take(place.address, &place.name) {
        Some(stream) => (stream, true),
        None => match app.connect(&place).await {
            Ok(stream) => (stream, false),
            // Said again by Pingora's way, which asks another address if there is one.
            Err(_) => return Ok(Passed::Not),
        },
    };
    if let Err(error) = send(&mut stream, &wire, app.write_timeout()).await {
        // The app may have closed it while it waited. Nothing of an answer was seen, and a GET may be asked again.
        return if kept {
            Ok(Passed::Not)
        } else {
            Err(error.into_up())
        };
    }
    // It has written nothing itself, and so takes the answer for one to a GET, which it is.
    let mut session = AppSession::new(stream);
    session.read_timeout = Some(app.first_byte_timeout());
    let Some(head) = head_of(&mut session, exchange, kept).await? else {
        return Ok(Passed::Not);
    };
    answer(gateway, &mut session, head, exchange, ctx).await?;
    session.respect_keepalive();
    if let Some(stream) = session.reuse().await {
        app.kept.put(stream, place.address, &place.name);
    }
    Ok(Passed::Answered)
}

async fn send(stream: &mut Stream, wire: &[u8], within: Duration) -> Result<()> {
    let sent = timeout(within, async {
        stream.write_all(wire).await?;
        stream.flush().await
    });
    match sent.await {
        Ok(sent) => sent.or_err(ErrorType::WriteError, "while writing request headers"),
        Err(_) => Error::e_explain(ErrorType::WriteTimedout, "while writing request headers"),
    }
}

fn client_session(exchange: &mut Exchange) -> Result<&mut ClientSession> {
    match &mut *exchange.downstream_session {
        ServerSession::H1(session) => Ok(session),
        _ => Error::e_explain(ErrorType::InternalError, "not HTTP/1"),
    }
}

/// Waits for the next head of the app, or for the client to leave. `None`: a connection that had waited was closed meanwhile, and nothing
/// came of an answer.
async fn head_of(
    session: &mut AppSession,
    exchange: &mut Exchange,
    kept: bool,
) -> Result<Option<ResponseHeader>> {
    let client = client_session(exchange)?;
    let read = tokio::select! {
        biased;
        read = session.read_response() => read,
        left = client.read_body_or_idle(true) => return Err(left_early(left)),
    };
    match read {
        Ok(_) => {}
        Err(error) if kept && matches!(error.retry, RetryType::ReusedOnly) => return Ok(None),
        Err(error) => return Err(error.into_up()),
    }
    let head = session.resp_header().cloned();
    head.map(Some)
        .or_err(ErrorType::InternalError, "no head was read")
}

/// A client that closes, or sends more than it said.
fn left_early<T>(left: Result<T>) -> Box<Error> {
    match left {
        Err(error) => error.into_down(),
        Ok(_) => {
            Error::explain(ErrorType::InvalidHTTPHeader, "a body that was not declared").into_down()
        }
    }
}

/// Gives the client the app's answer.
async fn answer(
    gateway: &Gateway,
    session: &mut AppSession,
    mut head: ResponseHeader,
    exchange: &mut Exchange,
    ctx: &mut Ctx,
) -> Result<()> {
    while head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        let early = Box::new(head);
        client_session(exchange)?
            .write_response_header(early)
            .await
            .map_err(|error| error.into_down())?;
        head = head_of(session, exchange, false)
            .await?
            .or_err(ErrorType::InternalError, "no head was read")?;
    }
    let is_bodiless = session.is_body_done();
    let has_none = matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    if !has_none
        && !is_bodiless
        && !head.headers.contains_key(TRANSFER_ENCODING)
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        // An answer that ends with its connection: the client's stays.
        head.set_version(Version::HTTP_11);
        head.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    gateway.answered(exchange, &mut head, ctx).await?;
    client_session(exchange)?
        .write_response_header(Box::new(head))
        .await
        .map_err(|error| error.into_down())?;
    let mut is_done = is_bodiless;
    while !is_done {
        let client = client_session(exchange)?;
        let piece = tokio::select! {
            biased;
            piece = session.read_body_ref() => piece.map_err(|error| error.into_up())?,
            left = client.read_body_or_idle(true) => return Err(left_early(left)),
        };
        if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
            client
                .write_body(piece)
                .await
                .map_err(|error| error.into_down())?;
        }
        is_done = session.is_body_done();
        if !is_done {
            gateway.goes_on(ctx)?;
        }
    }
    client_session(exchange)?
        .finish_body()
        .await
        .map_err(|error| error.into_down())?;
    Ok(())
}
