//! What ends, heard from Redis: other gateways say it on a channel, and Redis itself tells of keys that the app deletes or rewrites,
//! where it is told to (`notify-keyspace-events`).
//!
//! A message on the channel is heard by whoever is connected and by nobody else, so a line that breaks is lost at once, and a line that
//! was cut without a word is lost as soon as a `PING` stays without an answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, Value};
use tokio::time::{Instant, sleep, timeout};

use super::line::{Failure, Fault, Line};
use super::{NAME, OPEN_WAIT_MIN, REVOKED_BEFORE, Redis, may_be_token};
use crate::session::feed::{Ended, Feed, Listener, Notice, TokenDigest};
use crate::session::{BoxFuture, SourceError};
use crate::store::{KeyspaceEvents, OpenError, Settings};
use crate::time::UnixMs;

/// The channel, behind the prefix of the keys: apps that share a Redis are told apart by it.
const CHANNEL: &str = "vestibule:ended";

/// How often the line is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(3);

/// How long to wait before connecting again: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Longest message that is read, in bytes. Ours hold one id.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

/// Events that change what a key says, or end it.
const EVENTS: [&str; 4] = ["del", "expired", "evicted", "set"];

/// Letters of `notify-keyspace-events` that it takes: events by key, of deletion, of texts, and of expiry.
const LETTERS: &str = "Kg$x";

/// Listens and tells along one Redis.
pub(super) struct Channel {
    redis: Arc<Redis>,
    name: String,
    /// The word by which we know our own messages.
    from: Box<str>,
    /// Whether nonsense was heard since the line was regained, so that it is said once.
    nonsense: AtomicBool,
}

impl Channel {
    pub(super) fn new(redis: Arc<Redis>) -> Self {
        Self {
            name: redis.key(CHANNEL),
            from: uuid::Uuid::new_v4().to_string().into_boxed_str(),
            nonsense: AtomicBool::new(false),
            redis,
        }
    }

    /// Hears what is said until the line breaks. `heard` becomes true as soon as nothing can be missed.
    async fn hear(&self, listener: &dyn Listener, heard: &mut bool) -> Failure {
        let line = &self.redis.line;
        let wait = line.timeout.max(OPEN_WAIT_MIN);
        let flags = events(line, Instant::now() + wait).await;
        let listening = match line.listen(Instant::now() + wait).await {
            Ok(listening) => listening,
            Err(failure) => return failure,
        };
        let (mut sink, mut stream) = listening.split();
        match timeout(wait, self.subscribe(&mut sink, flags.as_ref())).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return failure,
            Err(_) => return Failure::unexpected("it does not let us listen in time"),
        }
        *heard = true;
        self.nonsense.store(false, Ordering::Relaxed);
        listener.regained();
        tokio::select! {
            failure = beat(&mut sink, line.timeout) => failure,
            () = self.pass_on(&mut stream, listener) => Failure::unexpected("the line was closed"),
        }
    }

    async fn subscribe(
        &self,
        sink: &mut PubSubSink,
        flags: Option<&BTreeSet<char>>,
    ) -> Result<(), Failure> {
        let failed = |error| Line::failed(&error);
        sink.subscribe(&*self.name).await.map_err(failed)?;
        let number = self.redis.line.database;
        let keys = format!("__keyspace@{number}__:{}*", escaped(&self.redis.prefix));
        let mut told = sink.psubscribe(keys).await.map_err(failed);
        // The same events by their own names bring every other key of the database along: only where keys are not known to be told.
        if told.is_ok() && !flags.is_some_and(|flags| flags.contains(&'K')) {
            let channels = EVENTS.map(|event| format!("__keyevent@{number}__:{event}"));
            told = sink.subscribe(&channels).await.map_err(failed);
        }
        match told {
            Err(failure) if failure.fault == Fault::Denied => {
                tracing::warn!(
                    %failure,
                    "Redis does not let us hear which keys end: sign-outs made by the app alone count after `sessions.cache_ttl`"
                );
                Ok(())
            }
            told => told,
        }
    }

    async fn pass_on(&self, stream: &mut PubSubStream, listener: &dyn Listener) {
        while let Some(message) = stream.next().await {
            if message.get_channel_name() == self.name {
                self.pass_on_notice(&message, listener);
            } else if let Some(what) = self.ended_by(&message) {
                listener.ended(&what, None);
            }
        }
    }

    fn pass_on_notice(&self, message: &Msg, listener: &dyn Listener) {
        let bytes = message.get_payload_bytes();
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let text = if text.len() <= MESSAGE_BYTES_MAX {
            text
        } else {
            ""
        };
        match Notice::parse(text) {
            Some(notice) if notice.from.as_deref() == Some(&*self.from) => {}
            Some(notice) => listener.ended(&notice.what, notice.at),
            // A gateway newer than we are says that something of a kind we do not know has ended: it may be anything.
            None if is_of_a_kind(text) => listener.ended(&Ended::All, None),
            None => {
                if !self.nonsense.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        bytes = bytes.len(),
                        "somebody says what is no message of ours on our channel in Redis"
                    );
                }
            }
        }
    }

    /// What an event of Redis itself says to us.
    fn ended_by(&self, message: &Msg) -> Option<Ended> {
        let channel = message.get_channel_name();
        let payload = std::str::from_utf8(message.get_payload_bytes()).ok()?;
        let (kind, rest) = channel.split_once("__:")?;
        let (event, key) = if kind.starts_with("__keyspace@") {
            (payload, rest)
        } else {
            (rest, payload)
        };
        ended_by(
            event,
            key.strip_prefix(&*self.redis.prefix)?,
            &self.redis.prefix,
        )
    }
}

/// What has ended when `event` happened to the key `name` behind the prefix.
fn ended_by(event: &str, name: &str, prefix: &str) -> Option<Ended> {
    if !EVENTS.contains(&event) {
        return None;
    }
    if let Some(user_id) = name.strip_prefix(REVOKED_BEFORE) {
        return (event == "set").then(|| Ended::User(user_id.into()));
    }
    if let Some(key) = name.strip_prefix("api-key:") {
        // Beside the keys themselves there are indexes of them.
        return (!key.contains(':')).then(|| Ended::ApiKey(key.into()));
    }
    // Without a prefix every key of the database passes by, other programs' among them: only what the framework makes counts.
    let framework = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (may_be_token(name) && (framework || !prefix.is_empty()))
        .then(|| Ended::Token(TokenDigest::of(name)))
}

/// A pattern that matches a text and nothing else.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut pattern, letter| {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(letter);
        pattern
    })
}

/// Whether a text has the form of a message, whatever it says.
fn is_of_a_kind(text: &str) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    value.is_some_and(|value| value.get("kind").is_some_and(serde_json::Value::is_string))
}

/// Asks whether the line is still there, until it is not.
async fn beat(sink: &mut PubSubSink, wait: Duration) -> Failure {
    loop {
        sleep(PING_EVERY).await;
        match timeout(wait, sink.ping::<Value>()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Line::failed(&error),
            Err(_) => return Failure::unexpected("the line has gone silent"),
        }
    }
}

impl Feed for Channel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn listen<'a>(&'a self, listener: &'a dyn Listener) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut retry = RETRY_MIN;
            let mut said = false;
            loop {
                let mut heard = false;
                let failure = self.hear(listener, &mut heard).await;
                if heard {
                    listener.lost();
                    retry = RETRY_MIN;
                    said = false;
                }
                if !said {
                    tracing::warn!(%failure, "the line to Redis on which revocations travel is broken");
                    said = true;
                }
                sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        })
    }

    fn tell<'a>(&'a self, what: &'a Ended) -> BoxFuture<'a, Result<(), SourceError>> {
        let notice = Notice {
            what: what.clone(),
            at: Some(now()),
            from: Some(self.from.clone()),
        };
        let mut question = redis::cmd("PUBLISH");
        question.arg(&self.name).arg(notice.to_text());
        let redis = Arc::clone(&self.redis);
        Box::pin(self.redis.line.at_home(async move {
            let began = Instant::now();
            let deadline = began + redis.line.timeout;
            let told = redis.line.ask(&question, deadline).await;
            told.map(drop)
                .map_err(|failure| failure.into_source_error(began))
        }))
    }
}

// When it was said is only for people who read logs: nothing is decided by another machine's clock.
#[allow(clippy::disallowed_methods)]
fn now() -> UnixMs {
    UnixMs(chrono::Utc::now().timestamp_millis())
}

/// The letters of `notify-keyspace-events`. `None`: the server does not say, as most hosted ones.
async fn events(line: &Line, deadline: Instant) -> Option<BTreeSet<char>> {
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg("notify-keyspace-events");
    let values = match line.ask(&question, deadline).await.ok()? {
        Value::Array(values) => values,
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .collect(),
        _ => return None,
    };
    match values.into_iter().nth(1)? {
        Value::BulkString(letters) => Some(String::from_utf8_lossy(&letters).chars().collect()),
        Value::SimpleString(letters) => Some(letters.chars().collect()),
        _ => None,
    }
}

/// Whether these letters are enough to hear of every session that the app ends. Expiry is not among them: we know it in advance.
fn suffices(letters: &BTreeSet<char>) -> bool {
    let has = |letter: char| letters.contains(&letter);
    (has('K') || has('E')) && (has('A') || (has('g') && has('$')))
}

impl Redis {
    /// What an operator should hear about events, if anything.
    pub(super) async fn events_warning(&self, deadline: Instant) -> Option<String> {
        match events(&self.line, deadline).await {
            Some(letters) if suffices(&letters) => None,
            Some(_) => Some(format!(
                "the server does not tell of keys that end, so sign-outs made by the app alone count after `sessions.cache_ttl`: add \
                 `{LETTERS}` to its `notify-keyspace-events`"
            )),
            None => Some(format!(
                "the server does not say whether it tells of keys that end (`CONFIG GET` is not allowed); unless its \
                 `notify-keyspace-events` holds `{LETTERS}`, sign-outs made by the app alone count after `sessions.cache_ttl`"
            )),
        }
    }
}

/// Adds the letters that are needed, or takes them away.
pub(super) async fn keyspace_events(
    settings: Settings,
    enable: bool,
) -> Result<KeyspaceEvents, OpenError> {
    let line = Line::new(&settings)?;
    let began = Instant::now();
    let deadline = began + line.timeout.max(OPEN_WAIT_MIN);
    let denied = || OpenError::Denied {
        store: NAME,
        place: line.place.clone(),
        cause: "it does not show its configuration (`CONFIG GET`)".to_owned(),
    };
    let ping = line.ask(&redis::cmd("PING"), deadline).await;
    ping.map_err(|failure| failure.into_open_error(&line.place, began))?;
    let mut letters = events(&line, deadline).await.ok_or_else(denied)?;
    let before: String = letters.iter().collect();
    for letter in LETTERS.chars() {
        if enable {
            // `A` stands for all kinds of events; only how they are told is said beside it.
            if letter == 'K' || !letters.contains(&'A') {
                letters.insert(letter);
            }
        } else {
            letters.remove(&letter);
        }
    }
    let after: String = letters.iter().collect();
    if after != before {
        let mut question = redis::cmd("CONFIG");
        question
            .arg("SET")
            .arg("notify-keyspace-events")
            .arg(&after);
        let set = line.ask(&question, deadline).await;
        set.map_err(|failure| failure.into_open_error(&line.place, began))?;
    }
    Ok(KeyspaceEvents { before, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "TOKENTOKENTOKENTOKENTOKENTOKEN01";

    #[test]
    fn keys_say_what_ended() {
        let token = Some(Ended::Token(TokenDigest::of(TOKEN)));
        for event in EVENTS {
            assert_eq!(ended_by(event, TOKEN, "better-auth:"), token, "{event}");
        }
        let user = Some(Ended::User("u1".into()));
        assert_eq!(ended_by("set", "revoked-sessions-before-u1", "p:"), user);
        let key = Some(Ended::ApiKey("hash".into()));
        assert_eq!(ended_by("del", "api-key:hash", "p:"), key);
        let own = Some(Ended::Token(TokenDigest::of("own-token")));
        assert_eq!(ended_by("del", "own-token", "p:"), own);
    }

    #[test]
    fn other_keys_say_nothing() {
        for (event, name) in [
            ("expire", TOKEN),
            ("del", "revoked-sessions-before-u1"),
            ("set", "active-sessions-u1"),
            ("set", "verification:reset-password:x"),
            ("set", "192.0.2.50|/sign-in/email"),
            ("set", "api-key:by-id:k"),
            ("set", ""),
        ] {
            assert_eq!(ended_by(event, name, "p:"), None, "{event} {name}");
        }
        assert_eq!(ended_by("set", "another-program", ""), None);
        assert!(ended_by("set", TOKEN, "").is_some());
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped(r"a*b?[c]\"), r"a\*b\?\[c\]\\");
        assert_eq!(escaped("better_auth:"), "better_auth:");
    }

    #[test]
    fn which_letters_suffice() {
        let enough = |letters: &str| suffices(&letters.chars().collect());
        for letters in ["Kg$", "Eg$x", "AK", "AKE", "gE$"] {
            assert!(enough(letters), "{letters}");
        }
        for letters in ["", "K", "g$", "Kg", "Ex$", "A"] {
            assert!(!enough(letters), "{letters}");
        }
    }

    #[test]
    fn a_message_of_an_unknown_kind_is_none_to_pass_over() {
        assert!(is_of_a_kind(r#"{"kind":"passkey","value":"x"}"#));
        for text in ["", "nonsense", "{}", "[]", r#"{"kind":1}"#] {
            assert!(!is_of_a_kind(text), "{text}");
        }
    }
}
