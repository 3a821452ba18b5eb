//! The lines about requests: one for each, and so written several times faster than the general way writes them.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::log::Lines;

/// The target of these lines.
const TARGET: &str = "vestibule::access";

/// What stands before the fields, after the time: as the general formatter writes it.
const HEAD: &str = "  INFO vestibule::access:";

/// Where they go without the general way; none unless the log is of text and says as much.
static INTO: OnceLock<Lines> = OnceLock::new();

/// From now on they go there.
pub(super) fn write_into(lines: Lines) {
    // Once per process: whoever comes second writes to the log of the first.
    let _ = INTO.set(lines);
}

/// What is told of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// Its method.
    pub method: &'r str,
    /// Its path, without what is secret in it.
    pub path: &'r str,
    /// The status of its answer; 0: there was none.
    pub status: u16,
    /// What was decided.
    pub verdict: &'r str,
    /// Why.
    pub reason: &'r str,
    /// The pattern of its route.
    pub route: &'r str,
    /// What kind of request it was.
    pub kind: &'r str,
    /// Who asked.
    pub client: Option<&'r str>,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How long it took to decide, in microseconds.
    pub validation_us: u64,
    /// Its id.
    pub request_id: &'r str,
    /// What went wrong, if anything.
    pub error: Option<&'r str>,
}

impl Request<'_> {
    /// Tells of it.
    pub fn tell(&self) {
        thread_local! {
            /// A line in the making.
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        match INTO.get() {
            Some(lines) if self.is_plain() => LINE.with_borrow_mut(|line| {
                line.clear();
                write_now(line);
                self.write(line);
                lines.push(line);
            }),
            _ => self.tell_generally(),
        }
    }

    fn tell_generally(&self) {
        tracing::info!(
            target: TARGET,
            method = %self.method,
            path = %self.path,
            status = self.status,
            verdict = self.verdict,
            reason = self.reason,
            route = self.route,
            kind = self.kind,
            client = self.client,
            duration_us = self.duration_us,
            validation_us = self.validation_us,
            request_id = %self.request_id,
            error = self.error.map(tracing::field::display),
        );
    }

    /// Whether every text of it stands for itself. What would be escaped is rare, and left to the general way.
    fn is_plain(&self) -> bool {
        let visible = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let quotable = |text: &str| {
            text.bytes()
                .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\')
        };
        // The others are words of ours.
        visible(self.method)
            && visible(self.path)
            && quotable(self.route)
            && self.client.is_none_or(quotable)
            && visible(self.request_id)
    }

    /// Writes ` name=value` for each of its fields, and ends the line.
    fn write(&self, line: &mut Vec<u8>) {
        let mut put = |name: &str, value: &str| {
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(value.as_bytes());
        };
        put(HEAD, "");
        put(" method=", self.method);
        put(" path=", self.path);
        put(" status=", "");
        write_number(line, u64::from(self.status), 1);
        let mut quote = |name: &str, value: &str| {
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(value.as_bytes());
            line.push(b'"');
        };
        quote(" verdict=\"", self.verdict);
        quote(" reason=\"", self.reason);
        quote(" route=\"", self.route);
        quote(" kind=\"", self.kind);
        if let Some(client) = self.client {
            quote(" client=\"", client);
        }
        line.extend_from_slice(b" duration_us=");
        write_number(line, self.duration_us, 1);
        line.extend_from_slice(b" validation_us=");
        write_number(line, self.validation_us, 1);
        line.extend_from_slice(b" request_id=");
        line.extend_from_slice(self.request_id.as_bytes());
        if let Some(error) = self.error {
            line.extend_from_slice(b" error=");
            line.extend_from_slice(error.as_bytes());
        }
        line.push(b'\n');
    }
}

/// Writes a number, with zeroes in front up to `width` digits.
fn write_number(line: &mut Vec<u8>, number: u64, width: usize) {
    // The longest has twenty digits.
    let mut digits = [b'0'; 20];
    let (mut rest, mut used) = (number, 0);
    for digit in digits.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        used += 1;
    }
    let from = digits.len() - used.max(width);
    line.extend_from_slice(digits.get(from..).unwrap_or_default());
}

/// Writes the time: in UTC, to the microsecond.
// A line says when it is written, whatever time requests are judged by; the general formatter asks the system too.
#[allow(clippy::disallowed_methods)]
fn write_now(line: &mut Vec<u8>) {
    thread_local! {
        /// The second this thread wrote last, and its text: it stays for thousands of lines.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() {
            let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let known = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
            *text = known.format("%Y-%m-%dT%H:%M:%S.").to_string();
            *second = now.as_secs();
        }
        line.extend_from_slice(text.as_bytes());
    });
    write_number(line, u64::from(now.subsec_micros()), 6);
    line.push(b'Z');
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PLAIN: Request<'static> = Request {
        method: "GET",
        path: "/answer/%20",
        status: 200,
        verdict: "permit",
        reason: "session",
        route: "/answer/[id]",
        kind: "document",
        client: Some("127.0.0.1"),
        duration_us: u64::MAX,
        validation_us: 0,
        request_id: "0123456789abcdef",
        error: None,
    };

    #[test]
    fn lines_are_what_the_general_formatter_makes_of_them() {
        let failed = Request {
            status: 0,
            path: "",
            client: None,
            error: Some("ConnectRefused"),
            ..PLAIN
        };
        for request in [PLAIN, failed] {
            assert!(request.is_plain());
            let mut ours = Vec::new();
            write_now(&mut ours);
            request.write(&mut ours);
            let ours = String::from_utf8(ours).unwrap();
            let kept = Kept::default();
            let writer = kept.clone();
            let layer = tracing_subscriber::fmt::layer().with_ansi(false);
            let general =
                tracing_subscriber::registry().with(layer.with_writer(move || writer.clone()));
            tracing::subscriber::with_default(general, || request.tell_generally());
            let general = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let (at, said) = ours.split_once(' ').unwrap();
            let (at_there, said_there) = general.split_once(' ').unwrap();
            assert_eq!(said, said_there);
            // 2026-11-21T09:08:07.000012Z
            assert_eq!((at.len(), at_there.len()), (27, 27));
            let moment = |at: &str| chrono::DateTime::parse_from_rfc3339(at).unwrap();
            assert!(moment(at) <= moment(at_there), "{at} {at_there}");
        }
    }

    #[test]
    fn what_would_have_to_be_escaped_goes_the_general_way() {
        let odd = [
            Request {
                path: "/caf\u{e9}",
                ..PLAIN
            },
            Request {
                path: "/a\nb",
                ..PLAIN
            },
            Request {
                route: "/a\"b",
                ..PLAIN
            },
            Request {
                route: "/a\\b",
                ..PLAIN
            },
            Request {
                request_id: "\u{1b}[31m",
                ..PLAIN
            },
            Request {
                client: Some("\u{7}"),
                ..PLAIN
            },
        ];
        for request in odd {
            assert!(!request.is_plain(), "{request:?}");
        }
    }
}
