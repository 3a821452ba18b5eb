//! What a request costs when its session is remembered: the cookie, the decision, the headers and the assertion, in time and in
//! allocations; and what opening a cookie cache costs. `cargo bench --bench gate`
//!
//! With `VESTIBULE_JUDGE=N` it judges N requests and does nothing else: `benches/instructions` counts what that takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method};
use pingora::http::RequestHeader;
use vestibule::authenticator;
use vestibule::credential::cookie_cache::{self, CookieCache, Entropy, Payload, Remembered};
use vestibule::credential::key_ring::KeyRings;
use vestibule::credential::signature::Signer;
use vestibule::credential::{Presented, names, secrets};
use vestibule::gate::Gate;
use vestibule::identity::{self, Identity};
use vestibule::policy::{Conditions, Need, Rule, Verdict};
use vestibule::request::RequestView;
use vestibule::route::{self, RouteSpec, RouteTable, SourceSpec};
use vestibule::secret::Secret;
use vestibule::server::forward::{self, AddressText, Client, Trace};
use vestibule::session::cache::Entry;
use vestibule::session::resolve::{Sessions, Tier};
use vestibule::session::{BoxFuture, Freshness, Record, Source, SourceError};
use vestibule::target::Target;
use vestibule::time::{Clock, ManualClock, UnixMs};

const SECRET: &str = "a secret of the benches, forty-two letters";
const NOW: UnixMs = UnixMs(1_795_000_000_000);
const SESSIONS: usize = 1000;
const ROUTES: usize = 100;

/// Allocations one remembered, signed-in request may cost `judge`.
const JUDGE_ALLOCATIONS: u64 = 0;

/// Allocations stamping it may cost: the address of the client and what the app is told of the caller (the letters of each, and what shares
/// them), and room for the headers (where they are, and what they are).
const STAMP_ALLOCATIONS: u64 = 6;

// ------------------------------------------------------------------------------------------------------- counting allocator

struct Counting;

thread_local! {
    static ALLOCATED: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

// SAFETY: every call goes to the system's allocator as it is; counting touches no memory it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = ALLOCATED.try_with(|counter| {
            let (count, bytes) = counter.get();
            counter.set((count + 1, bytes + layout.size() as u64));
        });
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and bytes of one call.
fn allocations<T>(what: &str, call: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATED.get();
    let made = black_box(call());
    let after = ALLOCATED.get();
    drop(made);
    let (count, bytes) = (after.0 - before.0, after.1 - before.1);
    println!("{what}: {count} allocations, {bytes} bytes");
    count
}

// ------------------------------------------------------------------------------------------------------------------ the set

struct Everybody;

impl Source for Everybody {
    fn name(&self) -> &'static str {
        "bench"
    }
    fn find<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
        let record = record(token);
        Box::pin(async move { Ok(Some(record)) })
    }
    fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }
}

fn record(token: &str) -> Record {
    Record {
        session_id: format!("session-{token}").into(),
        token: Secret::new(token),
        expires_at: NOW.plus(Duration::from_secs(86_400)),
        created_at: Some(NOW),
        updated_at: Some(NOW),
        impersonated_by: None,
        organization_id: None,
        organization_role: None,
        user_id: format!("user-{token}").into(),
        email: Some("ada@example.com".into()),
        email_verified: true,
        name: Some("Ada".into()),
        role: Some("user".into()),
        banned: false,
        ban_expires: None,
        team_id: None,
        document: None,
    }
}

struct Set {
    gate: Gate,
    identity: Identity,
    requests: Vec<HeaderMap>,
    targets: Vec<String>,
}

impl Set {
    fn new() -> Self {
        let signer = Signer::new(&Secret::new(SECRET));
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let rule = Rule {
            need: Need::SignedIn(Conditions::default()),
            freshness: Freshness::Cached,
        };
        let routes = (0..ROUTES).map(|number| RouteSpec {
            sources: vec![SourceSpec {
                source: format!("/area{number}/:path*"),
                locale: true,
                ..SourceSpec::default()
            }],
            methods: Vec::new(),
            hosts: Vec::new(),
            upstream: 0,
            rule: rule.clone(),
            app_caches: false,
            line: None,
        });
        let table = RouteTable::build(&route::Settings {
            nextjs: vestibule::app::NextJs::default(),
            routes: routes.collect(),
            default: rule.clone(),
            default_upstream: 0,
            same_app: Vec::new(),
            auth_base_path: "/api/auth".into(),
            auth_upstream: 0,
            sign_in_path: Some("/sign-in".into()),
            dev: false,
        })
        .expect("a table");
        let sessions = Sessions::new(
            &vestibule::session::Settings {
                cache_ttl: Duration::from_secs(30),
                negative_ttl: Duration::from_secs(5),
                entries_max: 100_000,
                bytes_max: 1 << 30,
                negative_max: 1000,
                enforce_bans: false,
            },
            signer.clone(),
            Arc::new(Everybody),
            Arc::clone(&clock),
            Box::new(|_| {}),
        );
        let sessions = Arc::new(sessions);
        let authenticators = authenticator::build(&authenticator::Context {
            settings: &authenticator::Settings::default(),
            cookies: &names::Settings::default(),
            secrets: &secrets::Settings::single(Secret::new(SECRET)),
            sessions: &sessions,
            cookie_cache: None,
            key_rings: &KeyRings::default(),
            api_keys: None,
            clock: &clock,
        });
        let requests = (0..SESSIONS)
            .map(|number| {
                // 32 letters, as the framework makes them.
                let cookie = signer.issue(&format!("{number:032}"));
                let mut headers = HeaderMap::new();
                let text = format!("theme=dark; better-auth.session_token={cookie}; lang=en");
                headers.insert("cookie", HeaderValue::from_str(&text).expect("a cookie"));
                for (name, value) in [
                    ("host", "app.test"),
                    ("accept", "text/html,application/xhtml+xml"),
                    (
                        "user-agent",
                        "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
                    ),
                    ("accept-encoding", "gzip, deflate, br"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ] {
                    headers.insert(name, HeaderValue::from_static(value));
                }
                headers
            })
            .collect();
        let set = Self {
            gate: Gate {
                routes: table,
                authenticators,
                fall_through: false,
                sessions,
                clock,
            },
            identity: Identity::new(
                &identity::Settings {
                    preset: "vestibule",
                    assertion: true,
                    issuer: "https://app.test".into(),
                    audience: "https://app.test".into(),
                    lifetime: Duration::from_secs(60),
                    key: None,
                },
                &Secret::new(SECRET),
                &[],
            )
            .expect("a key"),
            requests,
            targets: (0..SESSIONS)
                .map(|number| format!("/area{}/items/{number}?tab=2", number % ROUTES))
                .collect(),
        };
        for number in 0..SESSIONS {
            set.judge(number);
        }
        set
    }

    /// Judges the request of one session; everything it needs is remembered, so nothing is waited for.
    fn judge(&self, number: usize) -> (Arc<Entry>, Tier) {
        let request = RequestView {
            method: &Method::GET,
            target: Target::parse(self.targets[number].as_bytes()).expect("a target"),
            host: "app.test",
            headers: &self.requests[number],
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let decision = self
            .gate
            .judge(&request)
            .now_or_never()
            .expect("no wait")
            .expect("no ambiguity");
        let Verdict::Allow(permit) = &decision.verdict else {
            panic!("refused: {decision:?}")
        };
        let entry = permit.principal().expect("somebody");
        (Arc::clone(entry), decision.tier)
    }

    fn view(&self, number: usize) -> RequestView<'_> {
        RequestView {
            method: &Method::GET,
            target: Target::parse(b"/").expect("a target"),
            host: "app.test",
            headers: &self.requests[number],
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// The outgoing copy of a request, as Pingora makes it.
    fn outgoing(&self, number: usize) -> RequestHeader {
        let mut head =
            RequestHeader::build("GET", self.targets[number].as_bytes(), None).expect("a request");
        for (name, value) in &self.requests[number] {
            head.insert_header(name.clone(), value.clone())
                .expect("a header");
        }
        head
    }
}

fn client() -> Client {
    let address = IpAddr::from([203, 0, 113, 7]);
    Client {
        address,
        text: AddressText::new(address),
        secure: true,
        through_trusted: false,
    }
}

fn trace() -> Trace {
    Trace::read(&HeaderMap::new(), || 7)
}

/// One judgement as `benches/instructions` counts it: found in the profile by its name.
// SAFETY: no other function has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "Rust" fn vestibule_judge_once(set: &Set, number: usize) {
    black_box(set.judge(number));
}

/// The cookie that the app sealed for a session, and what opens it.
fn sealed(strategy: &str) -> (CookieCache, HeaderMap) {
    let settings = cookie_cache::Settings {
        strategy: strategy.to_owned(),
        ..cookie_cache::Settings::default()
    };
    let secrets = secrets::Settings::single(Secret::new(SECRET));
    let context = cookie_cache::Context {
        secrets: &secrets,
        published: None,
    };
    let cache =
        CookieCache::new(&settings, &names::Settings::default(), &context).expect("a cache");
    let said = Payload::of_document(DOCUMENT, NOW.plus(Duration::from_secs(86_400)), NOW)
        .expect("an answer of get-session");
    let value = cache
        .seal(&said, Remembered::Yes, NOW, &Entropy([7; 32]))
        .expect("a cookie");
    let mut headers = HeaderMap::new();
    let text = format!("theme=dark; {}={value}", cache.name());
    headers.insert("cookie", HeaderValue::from_str(&text).expect("a header"));
    (cache, headers)
}

/// What `get-session` says of one session.
const DOCUMENT: &str = r#"{"session":{"id":"s1","token":"00000000000000000000000000000001","userId":"u1","expiresAt":"2099-01-01T00:00:00.000Z","createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z","ipAddress":"203.0.113.7","userAgent":"Mozilla/5.0"},"user":{"id":"u1","name":"Ada","email":"ada@example.com","emailVerified":true,"image":null,"createdAt":"2026-01-01T00:00:00.000Z","updatedAt":"2026-01-01T00:00:00.000Z"}}"#;

/// Its token.
const TOKEN: &str = "00000000000000000000000000000001";

fn cookie_caches(criterion: &mut Criterion) {
    for strategy in ["compact", "jwt", "jwe"] {
        let (cache, headers) = sealed(strategy);
        let open = || cache.open(&headers, TOKEN, NOW);
        allocations(&format!("cookie cache, {strategy}, opened"), || {
            assert!(open().is_ok(), "{strategy}: what was sealed opens");
        });
        criterion.bench_function(&format!("cookie cache/{strategy} opened"), |bencher| {
            bencher.iter(open);
        });
    }
}

fn gate(criterion: &mut Criterion) {
    let set = Set::new();
    if let Some(times) = std::env::var("VESTIBULE_JUDGE")
        .ok()
        .and_then(|text| text.parse().ok())
    {
        (0..times).for_each(|number: usize| vestibule_judge_once(&set, number % SESSIONS));
        std::process::exit(0);
    }

    let judged = allocations("judge, remembered", || set.judge(7));
    assert_eq!(judged_tier(&set), Tier::Memory);
    assert!(
        judged == JUDGE_ALLOCATIONS,
        "a remembered request costs {judged} allocations, and not {JUDGE_ALLOCATIONS}"
    );
    let presented = set.view(7);
    allocations("cookie, found and decoded", || {
        set.gate.presented(&presented)
    });
    let (entry, _) = set.judge(7);
    set.identity.assertion(&entry, NOW).expect("a signature");
    let reused = allocations("assertion, reused", || set.identity.assertion(&entry, NOW));
    assert_eq!(reused, 0, "a signature that stands is copied");
    let trace = trace();
    let stamp = |head: &mut RequestHeader| {
        let (identity, entry) = (&set.identity, Some(&*entry));
        forward::stamp(head, identity, entry, client(), NOW, &trace).expect("it is stamped");
    };
    // The first copy of a value makes what all of them share.
    stamp(&mut set.outgoing(7));
    allocations("- of which the values about the caller", || {
        let values = set.identity.headers(&entry).map(|(_, value)| value.len());
        values.sum::<usize>()
    });
    let mut head = set.outgoing(7);
    let made = allocations("headers, stamped", || stamp(&mut head));
    assert!(
        made <= STAMP_ALLOCATIONS,
        "stamping costs {made} allocations, and not {STAMP_ALLOCATIONS}"
    );
    allocations("request id and traceparent, made", self::trace);
    allocations("assertion, signed", || {
        let later = NOW.plus(Duration::from_secs(40));
        set.identity.assertion(&entry, later).expect("a signature")
    });

    let mut next = 0;
    let mut turn = move || {
        next = (next + 1) % SESSIONS;
        next
    };
    criterion.bench_function("cookie/verify", |bencher| {
        bencher.iter(|| {
            let view = set.view(turn());
            let Some((kind, Presented::Found(found))) = set.gate.presented(&view) else {
                panic!("no cookie")
            };
            kind.session(&found)
        });
    });
    criterion.bench_function("judge/remembered", |bencher| {
        bencher.iter(|| set.judge(turn()));
    });
    criterion.bench_function("identity/assertion reused", |bencher| {
        bencher.iter(|| set.identity.assertion(&entry, NOW));
    });
    let mut later = NOW;
    criterion.bench_function("identity/assertion signed", |bencher| {
        bencher.iter(|| {
            // Half its life and more: the one before does not count any more.
            later = later.plus(Duration::from_secs(31));
            set.identity.assertion(&entry, later)
        });
    });
    criterion.bench_function("request id and traceparent", |bencher| {
        bencher.iter(self::trace)
    });
    criterion.bench_function("identity/headers stamped", |bencher| {
        bencher.iter_batched(
            || set.outgoing(7),
            |mut head| {
                forward::stamp(
                    &mut head,
                    &set.identity,
                    Some(&entry),
                    client(),
                    NOW,
                    &trace,
                )
                .expect("it is stamped");
                head
            },
            criterion::BatchSize::SmallInput,
        );
    });
}

fn judged_tier(set: &Set) -> Tier {
    set.judge(7).1
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .without_plots();
    targets = gate, cookie_caches
}
criterion_main!(benches);
