//! What one remembered session holds of memory, counted at the allocator.
//! `cargo test --test memory -- --nocapture` prints it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::HeaderMap;
use vestibule::credential::Method;
use vestibule::credential::signature::Signer;
use vestibule::identity::{self, Identity};
use vestibule::secret::Secret;
use vestibule::server::forward::{self, AddressText, Client, Outgoing, Trace};
use vestibule::session::cache::Entry;
use vestibule::session::resolve::{Resolution, Sessions, Who};
use vestibule::session::{BoxFuture, Freshness, Record, Source, SourceError};
use vestibule::time::{Clock, ManualClock, UnixMs};

const NOW: UnixMs = UnixMs(1_795_000_000_000);

/// Bytes a session may hold over all that is remembered of it, its assertion apart.
const SESSION_BYTES_MAX: u64 = 400;

// ------------------------------------------------------------------------------------------------------- counting allocator

struct Counting;

thread_local! {
    /// Bytes that live: as asked for, and as mimalloc rounds them.
    static LIVE: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

fn count(layout: Layout, sign: i64) {
    let size = i64::try_from(layout.size()).unwrap_or(i64::MAX);
    // A thread that is ending has no counter any more.
    let _ = LIVE.try_with(|live| {
        let (asked, rounded) = live.get();
        live.set((asked + sign * size, rounded + sign * rounded_up(size)));
    });
}

/// The size of the block in which mimalloc serves a request: whole words up to eight of them (two by two, on 64 bits), then four sizes for
/// each doubling; what is large is served in pages.
///
/// Source: mimalloc 2, `mi_bin` and `mi_good_size`.
fn rounded_up(size: i64) -> i64 {
    match size {
        ..=8 => 8,
        9..=64 => (size + 15) & !15,
        65..=131_072 => {
            let step = 1 << ((size - 1).ilog2() - 2);
            (size + step - 1) & !(step - 1)
        }
        _ => (size + 4095) & !4095,
    }
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout, -1);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// ------------------------------------------------------------------------------------------------------------- the sessions

struct Everybody;

impl Source for Everybody {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        Box::pin(std::future::ready(Ok(Some(record(token)))))
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Three texts that say who it is; ids and tokens of 32 letters, as the framework makes them.
fn record(token: &str) -> Record {
    let number = token.trim_start_matches('t');
    Record {
        session_id: format!("s{number}").into(),
        token: Secret::new(token),
        expires_at: NOW.plus(Duration::from_secs(86_400)),
        created_at: Some(NOW),
        updated_at: Some(NOW),
        impersonated_by: None,
        organization_id: None,
        organization_role: None,
        user_id: format!("u{number}").into(),
        email: Some(format!("ada.{}@example.com", &number[21..]).into()),
        email_verified: true,
        name: Some("Ada  Lovelace".into()),
        role: None,
        banned: false,
        ban_expires: None,
        team_id: None,
        document: None,
    }
}

fn token(number: usize) -> String {
    format!("t{number:031}")
}

fn sessions(number: usize) -> Sessions {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    Sessions::new(
        &vestibule::session::Settings {
            cache_ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            entries_max: 2 * (FIRST + number) as u64,
            // Room for all of them, and less for each than one weighs.
            bytes_max: 600 * (FIRST + number) as u64,
            negative_max: 1000,
            enforce_bans: false,
        },
        Signer::new(&Secret::new("a secret of the tests, forty-two letters..")),
        Arc::new(Everybody),
        clock,
        Box::new(|_| {}),
    )
}

fn identity(assertion: bool) -> Identity {
    Identity::new(
        &identity::Settings {
            preset: "vestibule",
            assertion,
            issuer: "https://app.test".into(),
            audience: "https://app.test".into(),
            lifetime: Duration::from_secs(60),
            key: None,
        },
        &Secret::new("material"),
        &[],
    )
    .expect("a key")
}

/// Has a session looked up, and the app told of it, as for a request.
fn visit(sessions: &Sessions, identity: &Identity, number: usize) -> usize {
    let (resolution, _) = sessions
        .find(&token(number), Method::SESSION, Freshness::Cached, None)
        .now_or_never()
        .expect("no wait");
    let Resolution::Verified(Who::Known(entry)) = resolution else {
        panic!("not known: {resolution:?}");
    };
    let wire = wire(identity, &entry);
    assert!(wire.windows(4).any(|letters| letters == b"Ada%"));
    wire.len()
}

fn wire(identity: &Identity, entry: &Entry) -> Vec<u8> {
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let client = Client {
        address,
        text: AddressText::new(address),
        secure: true,
        through_trusted: false,
    };
    let head = Outgoing::build("GET", b"/", None).expect("a head");
    let trace = Trace::read(&HeaderMap::new(), || 7);
    forward::to_wire(&head, identity, Some(entry), client, NOW, &trace).expect("a head")
}

/// Sessions that are remembered before any is counted.
const FIRST: usize = 700;

/// Bytes each of so many more sessions holds: as asked for, and as rounded.
fn held(number: usize, assertion: bool) -> (u64, u64) {
    let (sessions, identity) = (sessions(number), identity(assertion));
    // What the first ones bring is made once, however many follow: queues and counters of some hundred KiB.
    for first in 0..FIRST {
        visit(&sessions, &identity, number + first);
    }
    let before = LIVE.get();
    for one in 0..number {
        visit(&sessions, &identity, one);
    }
    let after = LIVE.get();
    assert_eq!(sessions.cache().len(), number + FIRST);
    let reckoned = sessions.cache().weight() / sessions.cache().len() as u64;
    let each = |bytes: i64| u64::try_from(bytes).unwrap().div_ceil(number as u64);
    let (asked, rounded) = (each(after.0 - before.0), each(after.1 - before.1));
    assert!(
        assertion || reckoned.abs_diff(rounded) <= rounded / 5,
        "the bound is reckoned with {reckoned} bytes a session, and one holds {rounded}"
    );
    (asked, rounded)
}

#[test]
fn a_remembered_session_holds_less_than_four_hundred_bytes() {
    for number in [2_000, 100_000] {
        let (asked, rounded) = held(number, false);
        println!("{number} sessions more: {asked} bytes each, {rounded} as mimalloc rounds them");
        assert!(rounded <= SESSION_BYTES_MAX, "{rounded} bytes a session");
    }
    let number = 10_000;
    let ((without, _), (with, rounded)) = (held(number, false), held(number, true));
    println!("{number} sessions with their assertions: {with} bytes each, {rounded} as rounded");
    assert!(with > without + 500, "an assertion is counted");
}
