//! Which requests are plain, and their heads.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use pingora::http::RequestHeader;

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

/// How many headers a plain request has at most. Browsers send twenty, proxies in front add some.
const HEADERS_MAX: usize = 100;

/// Neither a proxy's target, nor a part that is dropped, nor bytes that are written in several ways.
fn is_clean(target: &[u8]) -> bool {
    let is_clean = |byte: &u8| (b'!'..=b'~').contains(byte) && *byte != b'#';
    target.starts_with(b"/") && target.iter().all(is_clean)
}

/// Whether a request over HTTP/2 is plain, as far as its head says: a GET or HEAD, with nothing in it that is for the next neighbour. Its
/// host is one and its framing is clear, or Pingora would not have accepted it. `TE` is no reason: there it only says that trailers would
/// be read, and browsers say so with each request.
pub fn is_plain(head: &RequestHeader) -> bool {
    (head.method == Method::GET || head.method == Method::HEAD)
        && head.version == Version::HTTP_2
        && is_clean(head.raw_path())
        && !head
            .headers
            .keys()
            .any(|name| *name != TE && BETWEEN_NEIGHBOURS.contains(name))
}

/// The head of a request, if that is plain: one GET or HEAD over HTTP/1.1, whole, alone, with one host, and nothing in it that is for the
/// next neighbour or that anybody reads in two ways. What is no request at all is not plain either.
///
/// Besides it: whether the client's connection serves again after it.
pub fn plain(came: &Bytes) -> Option<(RequestHeader, bool)> {
    let method = match came.get(..5)? {
        b"GET /" => Method::GET,
        b"HEAD " => Method::HEAD,
        _ => return None,
    };
    let mut places = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut read = httparse::Request::new(&mut []);
    let length = match read.parse_with_uninit_headers(came, &mut places) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => return None,
    };
    if length != came.len() || read.version != Some(1) {
        return None;
    }
    let target = read.path?.as_bytes();
    if !is_clean(target) {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(read.headers.len());
    let (mut hosts, mut keeps) = (0, true);
    for header in read.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        if BETWEEN_NEIGHBOURS.contains(&name) {
            return None;
        }
        if name == HOST {
            hosts += 1;
            if header.value.contains(&b'@') {
                return None;
            }
        } else if name == CONNECTION {
            keeps &= !says_close(header.value);
        }
        let value = HeaderValue::from_maybe_shared(came.slice_ref(header.value)).ok()?;
        headers.try_append(name, value).ok()?;
    }
    if hosts != 1 {
        return None;
    }
    let uri = Uri::from_maybe_shared(came.slice_ref(target)).ok()?;
    if uri.path_and_query()?.as_str().as_bytes() != target {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (method, uri, Version::HTTP_11);
    parts.headers = headers;
    Some((RequestHeader::from(parts), keeps))
}

/// Whether a line of `Connection` ends it.
fn says_close(line: &[u8]) -> bool {
    let mut options = line.split(|byte| *byte == b',');
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, Version};
    use pingora::http::RequestHeader;

    use super::plain;

    fn is_plain(request: &str) -> bool {
        plain(&Bytes::copy_from_slice(request.as_bytes())).is_some()
    }

    #[test]
    fn a_connection_serves_until_the_client_says_otherwise() {
        for (line, keeps) in [
            ("", true),
            ("Connection: keep-alive\r\n", true),
            ("connection: Keep-Alive, Close\r\n", false),
            ("connection: keep-alive\r\nConnection: close\r\n", false),
        ] {
            let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\n");
            let (_, found) = plain(&Bytes::from(request)).expect("a plain request");
            assert_eq!(found, keeps, "{line}");
        }
    }

    #[test]
    fn what_a_browser_sends_is_plain_and_what_is_odd_is_not() {
        assert!(is_plain(
            "GET /a?b=%2F&c HTTP/1.1\r\nHost: app.test\r\nCookie: a=b\r\n\r\n"
        ));
        assert!(is_plain(
            "HEAD /a HTTP/1.1\r\nhost: app.test:80\r\nconnection: close\r\n\r\n"
        ));
        for odd in [
            "POST /a HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /a HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\nhost: me@a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "HEAD http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "HEAD * HTTP/1.1\r\nhost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nTE: trailers\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET",
            "GET / HTTP/1.1\r\nhost: a\r\n",
            "GET",
            "",
        ] {
            assert!(!is_plain(odd), "{odd:?}");
        }
    }

    #[test]
    fn over_http2_the_same_is_plain_and_trailers_may_be_welcome() {
        let is_plain = |method: &str, target: &str, name: &str| {
            let request = Request::builder()
                .method(method)
                .uri(format!("https://app.test{target}"))
                .version(Version::HTTP_2)
                .header(name, "trailers");
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            super::is_plain(&RequestHeader::from(parts))
        };
        assert!(is_plain("GET", "/a?b=%2F&c", "cookie"));
        assert!(is_plain("HEAD", "/", "te"));
        for (method, target, name) in [
            ("POST", "/a", "cookie"),
            ("OPTIONS", "/a", "cookie"),
            ("GET", "/\u{e4}", "cookie"),
            ("GET", "/a", "content-length"),
            ("GET", "/a", "expect"),
            ("GET", "/a", "trailer"),
            ("GET", "/a", "proxy-authorization"),
        ] {
            assert!(!is_plain(method, target, name), "{method} {target} {name}");
        }
    }
}
