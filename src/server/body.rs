//! Small request bodies, held while it is decided what becomes of the request, and then sent on as they came.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::Result;
use pingora::proxy::Session as Exchange;
use tokio::time::timeout;

/// Longest body held, in bytes. What Pingora can send on later is bounded by its own buffer of 64 KiB, beyond which a request would hang.
pub(super) const HELD_BYTES_MAX: usize = 60 * 1024;

/// What became of holding a body.
pub(super) enum Held {
    /// All of it; empty when there is none.
    Whole(Bytes),
    /// Not read at all, because it says that it is longer: it passes on as it comes.
    Longer,
    /// Longer than it could be held, found out too late to pass it on.
    TooLong,
}

/// Reads a body whole, to be sent on later. `within`: for all of it, however slowly it comes.
pub(super) async fn hold(exchange: &mut Exchange, within: Duration) -> Result<Held> {
    let headers = &exchange.req_header().headers;
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_none() && !headers.contains_key(TRANSFER_ENCODING) && !exchange.is_http2() {
        return Ok(Held::Whole(Bytes::new()));
    }
    if declared.is_some_and(|bytes| bytes > HELD_BYTES_MAX) {
        return Ok(Held::Longer);
    }
    if headers.contains_key(EXPECT) {
        // Nobody else says it while we wait for the body.
        exchange.write_continue_response().await?;
    }
    exchange.enable_retry_buffering();
    let mut body = BytesMut::new();
    let reading = async {
        while let Some(piece) = exchange.read_request_body().await? {
            if body.len() + piece.len() > HELD_BYTES_MAX {
                return Ok(false);
            }
            body.extend_from_slice(&piece);
        }
        Ok(true)
    };
    match timeout(within, reading).await {
        Ok(Ok(true)) => Ok(Held::Whole(body.freeze())),
        Ok(Ok(false)) => Ok(Held::TooLong),
        Ok(Err(error)) => Err(error),
        Err(_) => pingora::Error::e_explain(
            pingora::ErrorType::HTTPStatus(408),
            "the body did not come in time",
        ),
    }
}
