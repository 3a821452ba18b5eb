//! One strict reading of the bytes of a request, written from RFC 9112 alone: what reaches the app must be exactly this.

/// A request. Texts hold one letter for each byte.
#[derive(Debug)]
pub struct Reading {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The first request among these bytes; `None` when it is none, or not a whole one. Forgiving only where the RFC lets a server be:
/// empty lines in front, and a bare LF for the end of a line of the head.
pub fn of(bytes: &str) -> Option<Reading> {
    let mut rest = bytes.trim_start_matches(['\r', '\n']);
    let (line, after) = rest.split_once('\n')?;
    rest = after;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (method, line) = line.split_once(' ')?;
    let (target, version) = line.rsplit_once(' ')?;
    if !is_token(method) || !target.is_ascii() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let line = self::line(&mut rest)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let plain = |letter: char| letter == '\t' || (letter >= ' ' && letter != '\x7f');
        if !is_token(name) || !value.chars().all(plain) {
            return None;
        }
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let all = |name: &str| -> Vec<&str> {
        headers
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect()
    };
    let body = match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        ([], []) => String::new(),
        ([], [length]) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            letters(rest, length.parse().ok()?)?.0.to_owned()
        }
        ([encoding], []) if encoding.eq_ignore_ascii_case("chunked") && version == "HTTP/1.1" => {
            chunks(rest)?
        }
        _ => return None,
    };
    Some(Reading {
        method: method.to_owned(),
        target: escaped(target),
        headers,
        body,
    })
}

/// A target as the HTTP library gives it to the gateway, and the gateway to the app: what cannot stand in one is escaped before anybody
/// looks (RFC 9112, 3, would rather have it refused). So both read the same, and no server ever sees what was sent.
fn escaped(target: &str) -> String {
    let legal = |letter: char| ('!'..='~').contains(&letter);
    if target.chars().all(legal) {
        return target.to_owned();
    }
    let escape = |letter: char| match letter {
        '<' | '>' | '"' => format!("%{:02X}", u32::from(letter)),
        letter if !legal(letter) => format!("%{:02X}", u32::from(letter)),
        letter => letter.to_string(),
    };
    target.chars().map(escape).collect()
}

fn line<'b>(rest: &mut &'b str) -> Option<&'b str> {
    let (line, after) = rest.split_once('\n')?;
    *rest = after;
    let line = line.strip_suffix('\r').unwrap_or(line);
    (!line.contains('\r')).then_some(line)
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The first letters of a text, each of which was one byte, and what follows.
fn letters(text: &str, count: usize) -> Option<(&str, &str)> {
    let at = match text.char_indices().nth(count) {
        Some((at, _)) => at,
        None if text.chars().count() == count => text.len(),
        None => return None,
    };
    Some(text.split_at(at))
}

/// A chunked body. Where the HTTP library is laxer than RFC 9112, 7.1, this is as lax: no digits at all are a zero, an extension and
/// trailers may hold anything. What was lax is gone on the way to the app, for whom the body is written anew.
fn chunks(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (line, after) = rest.split_once("\r\n")?;
        let (size, extension) = match line.find([';', ' ', '\t']) {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        let extension = extension.trim_start_matches([' ', '\t']);
        if !size.bytes().all(|byte| byte.is_ascii_hexdigit())
            || !(extension.is_empty() || extension.starts_with(';'))
            || extension.contains('\r')
        {
            return None;
        }
        let size = match size {
            "" => 0,
            digits => usize::from_str_radix(digits, 16).ok()?,
        };
        if size == 0 {
            let over = after.starts_with("\r\n") || after.contains("\r\n\r\n");
            return over.then_some(body);
        }
        let (data, after) = letters(after, size)?;
        body.push_str(data);
        rest = after.strip_prefix("\r\n")?;
    }
}
