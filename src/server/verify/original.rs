//! What a proxy says of the request it asks about.

use http::HeaderName;
use pingora::http::RequestHeader;

/// A request as a proxy tells of it, not yet checked: the same checks follow as for one that comes here.
#[derive(Debug, PartialEq, Eq)]
pub struct Original<'h> {
    /// The method.
    pub method: &'h str,
    /// The host, with its port where there is one.
    pub host: &'h str,
    /// Path and query.
    pub target: &'h [u8],
}

/// Why it cannot be told what was asked. Then nobody gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{header}` is {what}")]
pub struct Unclear {
    /// The header.
    pub header: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

/// How browsers came. Some proxies say `ws` and `wss` of a WebSocket's handshake.
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// The one value of a header: two would be two answers to the same question.
pub fn one<'h>(head: &'h RequestHeader, name: &'static str) -> Result<&'h str, Unclear> {
    let unclear = |what| Unclear { header: name, what };
    let mut values = head.headers.get_all(HeaderName::from_static(name)).iter();
    let value = values.next().ok_or(unclear("missing"))?;
    if values.next().is_some() {
        return Err(unclear("there twice"));
    }
    let value = value.to_str().map_err(|_| unclear("not readable"))?;
    if value.is_empty() {
        return Err(unclear("empty"));
    }
    Ok(value)
}

/// The same of several, where the name is one that a proxy sets whatever the client says.
pub fn forwarded(head: &RequestHeader) -> Result<Original<'_>, Unclear> {
    scheme(one(head, "x-forwarded-proto")?, "x-forwarded-proto")?;
    Ok(Original {
        method: one(head, "x-forwarded-method")?,
        host: one(head, "x-forwarded-host")?,
        target: one(head, "x-forwarded-uri")?.as_bytes(),
    })
}

/// A whole address in one header.
pub fn address<'h>(
    head: &'h RequestHeader,
    method: &'static str,
    url: &'static str,
) -> Result<Original<'h>, Unclear> {
    let unclear = |what| Unclear { header: url, what };
    let (said, rest) = one(head, url)?
        .split_once("://")
        .ok_or(unclear("no address"))?;
    scheme(said, url)?;
    // The path begins at the first slash, and at nothing else: a host never holds one.
    let slash = rest.find('/').ok_or(unclear("without a path"))?;
    let (host, target) = rest.split_at_checked(slash).unwrap_or((rest, ""));
    Ok(Original {
        method: one(head, method)?,
        host,
        target: target.as_bytes(),
    })
}

/// The request itself, for proxies that repeat it.
pub fn repeated<'h>(head: &'h RequestHeader, target: &'h [u8]) -> Result<Original<'h>, Unclear> {
    Ok(Original {
        method: head.method.as_str(),
        host: one(head, "host")?,
        target,
    })
}

fn scheme(said: &str, header: &'static str) -> Result<(), Unclear> {
    let what = "no scheme we know";
    match SCHEMES.contains(&said) {
        true => Ok(()),
        false => Err(Unclear { header, what }),
    }
}

/// Whether a (lower-case) header is one by which proxies tell of a request: in a question it is the proxy's, not the client's.
pub fn is_said_by_proxies(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "forwarded" | "x-original-method" | "x-original-url" | "connection"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in lines {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    const FORWARDED: [(&str, &str); 4] = [
        ("X-Forwarded-Method", "POST"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "app.test:8443"),
        ("X-Forwarded-Uri", "/a?b=c"),
    ];

    #[test]
    fn what_is_told_once_is_taken_and_what_is_missing_or_told_twice_is_not() {
        let whole = head(&FORWARDED);
        let told = forwarded(&whole).unwrap();
        let expected = Original {
            method: "POST",
            host: "app.test:8443",
            target: b"/a?b=c",
        };
        assert_eq!(told, expected);
        for (index, (name, value)) in FORWARDED.into_iter().enumerate() {
            let mut less = FORWARDED.to_vec();
            less.remove(index);
            assert_eq!(
                forwarded(&head(&less)).unwrap_err().what,
                "missing",
                "{name}"
            );
            let mut more = FORWARDED.to_vec();
            more.push((name, value));
            assert_eq!(
                forwarded(&head(&more)).unwrap_err().what,
                "there twice",
                "{name}"
            );
            let mut empty = FORWARDED.to_vec();
            empty[index].1 = "";
            assert_eq!(
                forwarded(&head(&empty)).unwrap_err().what,
                "empty",
                "{name}"
            );
        }
        for scheme in ["HTTPS", "ftp", "https, http", "https "] {
            let mut odd = FORWARDED.to_vec();
            odd[1].1 = scheme;
            assert!(forwarded(&head(&odd)).is_err(), "{scheme}");
        }
    }

    #[test]
    fn an_address_is_cut_at_its_first_slash() {
        let told = |url: &'static str| {
            let head = head(&[("X-Original-Method", "GET"), ("X-Original-URL", url)]);
            let told = address(&head, "x-original-method", "x-original-url");
            told.map(|told| {
                (
                    told.host.to_owned(),
                    String::from_utf8_lossy(told.target).into_owned(),
                )
            })
            .map_err(|unclear| unclear.what)
        };
        let is = |host: &str, target: &str| Ok((host.to_owned(), target.to_owned()));
        assert_eq!(
            told("https://app.test/a?u=http://b/c"),
            is("app.test", "/a?u=http://b/c")
        );
        assert_eq!(told("http://app.test:80//x"), is("app.test:80", "//x"));
        // Neither is a host or a path: what follows refuses them.
        assert_eq!(told("http://user@app.test/a"), is("user@app.test", "/a"));
        assert_eq!(told("http:///a"), is("", "/a"));
        assert_eq!(told("http://app.test"), Err("without a path"));
        assert_eq!(told("http://app.test?/x"), is("app.test?", "/x"));
        assert_eq!(told("/a"), Err("no address"));
        assert_eq!(told("file://app.test/a"), Err("no scheme we know"));
    }
}
