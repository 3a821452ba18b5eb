//! `get-session` at the door: answered from memory where the app would answer the same, passed on wherever the app would do more.

use serde_json::{Value, json};
use vestibule::server::door;
use vestibule::session::Record;
use vestibule::session::slide::Rules;
use vestibule::time::UnixMs;

use crate::support::{App, Gateway, NOW, Setup, cookie, record, reply};

const DAY: i64 = 86_400_000;
const PATH: &str = "/api/auth/get-session";

/// The session `token` of ada with the answer the app would give.
fn documented(token: &str) -> Record {
    Record {
        document: Some(document(token).to_string().into()),
        ..record(token, "ada")
    }
}

fn document(token: &str) -> Value {
    json!({ "session": { "token": token, "userId": "ada" }, "user": { "id": "ada", "name": "Ada" } })
}

/// An app that answers `null` to everything, so that its answers are told from the gateway's.
fn behind(change: impl FnOnce(&mut Setup)) -> (App, Gateway) {
    let app = App::scripted(|_, stream| {
        reply(
            stream,
            200,
            &[("content-type", "application/json"), ("x-by", "app")],
            b"null",
        );
    });
    let mut setup = Setup::in_front_of(app.address);
    setup.door = Some(door::Settings {
        rules: Some(Rules {
            expires_in: std::time::Duration::from_secs(7 * 86_400),
            update_age: std::time::Duration::from_secs(86_400),
        }),
        app_adds: false,
    });
    change(&mut setup);
    let gateway = setup.start();
    gateway.store.put(documented("tok"));
    (app, gateway)
}

#[test]
fn a_plain_question_is_answered_from_memory_as_the_app_would() {
    let (app, gateway) = behind(|_| {});
    for _ in 0..3 {
        let answer = gateway.get(PATH, &[("cookie", &cookie("tok"))]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        assert_eq!(answer.all("set-cookie"), [""; 0]);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body, document("tok"));
    }
    assert_eq!(
        (app.count(), gateway.store.asked()),
        (0, 1),
        "one lookup, and nothing of the app"
    );
}

#[test]
fn whatever_the_app_would_do_more_than_answer_passes_on() {
    let (app, gateway) = behind(|_| {});
    let good = cookie("tok");
    let with_data = format!("{good}; better-auth.session_data=stale");
    let with_chunk = format!("{good}; better-auth.session_data.0=stale");
    let forged = good.replace("tok.", "kot.");
    type Case<'c> = (&'c str, &'c str, &'c str, &'c [(&'c str, &'c str)]);
    let cases: &[Case<'_>] = &[
        ("no cookie", "GET", PATH, &[]),
        ("a forged cookie", "GET", PATH, &[("cookie", &forged)]),
        (
            "an unknown session",
            "GET",
            PATH,
            &[("cookie", &cookie("gone"))],
        ),
        (
            "a query",
            "GET",
            "/api/auth/get-session?disableRefresh=true",
            &[("cookie", &good)],
        ),
        (
            "another query",
            "GET",
            "/api/auth/get-session?x",
            &[("cookie", &good)],
        ),
        (
            "a slash",
            "GET",
            "/api/auth/get-session/",
            &[("cookie", &good)],
        ),
        (
            "another path",
            "GET",
            "/api/auth/list-sessions",
            &[("cookie", &good)],
        ),
        (
            "another spelling",
            "GET",
            "/api/auth/get%2dsession",
            &[("cookie", &good)],
        ),
        ("a post", "POST", PATH, &[("cookie", &good)]),
        (
            "an origin",
            "GET",
            PATH,
            &[("cookie", &good), ("origin", "https://other.test")],
        ),
        ("a stale cache", "GET", PATH, &[("cookie", &with_data)]),
        ("a piece of one", "GET", PATH, &[("cookie", &with_chunk)]),
    ];
    for (at, (what, method, target, headers)) in cases.iter().enumerate() {
        let answer = gateway.send(method, target, headers, b"");
        assert_eq!(answer.header("x-by"), Some("app"), "{what}");
        assert_eq!(app.count(), at + 1, "{what}");
    }
    // Their twins: an empty query, and the gateway's own origin.
    for (target, headers) in [
        ("/api/auth/get-session?", vec![("cookie", good.as_str())]),
        (
            PATH,
            vec![("cookie", good.as_str()), ("origin", "http://app.test")],
        ),
    ] {
        let answer = gateway.get(target, &headers);
        assert_eq!(answer.header("x-by"), None, "{target}");
    }
}

#[test]
fn a_session_that_is_due_is_for_the_app_to_extend() {
    let (app, gateway) = behind(|_| {});
    let due = Record {
        expires_at: UnixMs(NOW.0 + 6 * DAY),
        ..documented("due")
    };
    gateway.store.put(due);
    let answer = gateway.get(PATH, &[("cookie", &cookie("due"))]);
    assert_eq!((answer.header("x-by"), app.count()), (Some("app"), 1));
    // Unless it is not to be extended: then the app would only answer.
    let marker = cookie("true").replace("session_token", "dont_remember");
    let short = format!("{}; {marker}", cookie("due"));
    assert_eq!(
        gateway.get(PATH, &[("cookie", &short)]).header("x-by"),
        None
    );
    let forged = format!("{}; better-auth.dont_remember=true.x", cookie("due"));
    assert_eq!(
        gateway.get(PATH, &[("cookie", &forged)]).header("x-by"),
        Some("app")
    );
}

#[test]
fn an_app_that_adds_to_its_answers_gives_all_of_them() {
    let (app, gateway) = behind(|setup| {
        setup.door = Some(door::Settings {
            rules: None,
            app_adds: true,
        });
    });
    let answer = gateway.get(PATH, &[("cookie", &cookie("tok"))]);
    assert_eq!((answer.header("x-by"), app.count()), (Some("app"), 1));
}

#[test]
fn without_a_document_or_a_store_the_app_answers() {
    let (app, gateway) = behind(|_| {});
    gateway.store.put(record("bare", "bob"));
    assert_eq!(
        gateway
            .get(PATH, &[("cookie", &cookie("bare"))])
            .header("x-by"),
        Some("app")
    );
    gateway.store.fail(true);
    assert_eq!(
        gateway
            .get(PATH, &[("cookie", &cookie("tok"))])
            .header("x-by"),
        Some("app")
    );
    assert_eq!(app.count(), 2);
    gateway.store.fail(false);
    assert_eq!(
        gateway
            .get(PATH, &[("cookie", &cookie("tok"))])
            .header("x-by"),
        None
    );
}

#[test]
fn what_was_signed_out_is_answered_no_more() {
    let (app, gateway) = behind(|_| {});
    assert_eq!(
        gateway
            .get(PATH, &[("cookie", &cookie("tok"))])
            .header("x-by"),
        None
    );
    gateway.store.remove("tok");
    gateway.send(
        "POST",
        "/api/auth/sign-out",
        &[("cookie", &cookie("tok"))],
        b"",
    );
    let answer = gateway.get(PATH, &[("cookie", &cookie("tok"))]);
    assert_eq!((answer.header("x-by"), app.count()), (Some("app"), 2));
}

#[test]
fn a_lagging_replica_signs_nobody_out_and_is_asked_again() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use vestibule::session::{BoxFuture, Source, SourceError};

    /// Knows the session from the given question on.
    struct Replica {
        asked: AtomicUsize,
        from: usize,
    }
    impl Source for Replica {
        fn name(&self) -> &'static str {
            "replica"
        }
        fn find<'a>(
            &'a self,
            token: &'a str,
        ) -> BoxFuture<'a, Result<Option<Record>, SourceError>> {
            let known = self.asked.fetch_add(1, Ordering::SeqCst) + 1 >= self.from;
            Box::pin(std::future::ready(Ok(known.then(|| record(token, "ada")))))
        }
        fn ping(&self) -> BoxFuture<'_, Result<(), SourceError>> {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    let app = App::scripted(|_, stream| {
        let line = format!("{}; Path=/", cookie("new"));
        reply(stream, 200, &[("set-cookie", line.as_str())], b"");
    });
    for (from, status, asked) in [(1, 200, 1), (3, 200, 3), (5, 200, 5), (6, 302, 5)] {
        let replica = Arc::new(Replica {
            asked: AtomicUsize::new(0),
            from,
        });
        let gateway =
            Setup::in_front_of(app.address).start_from(Arc::clone(&replica) as Arc<dyn Source>);
        assert_eq!(gateway.get("/public/sign-in", &[]).status, 200);
        let answer = gateway.document("/dashboard", &[("cookie", &cookie("new"))]);
        assert_eq!(answer.status, status, "known from question {from} on");
        assert_eq!(replica.asked.load(Ordering::SeqCst), asked);
        if status == 302 {
            // Nobody may conclude that it is dead: the cookie stays, and the next request asks again.
            assert_eq!(answer.all("set-cookie"), [""; 0]);
            assert_eq!(
                gateway
                    .get("/dashboard", &[("cookie", &cookie("new"))])
                    .status,
                200
            );
        }
        // Its twin: a token nobody has seen being issued is believed to be missing at once.
        let stranger = Arc::new(Replica {
            asked: AtomicUsize::new(0),
            from: 2,
        });
        let gateway =
            Setup::in_front_of(app.address).start_from(Arc::clone(&stranger) as Arc<dyn Source>);
        assert_eq!(
            gateway
                .get("/dashboard", &[("cookie", &cookie("new"))])
                .status,
            401
        );
        assert_eq!(stranger.asked.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_replica_that_still_has_the_old_end_of_a_session_signs_nobody_out() {
    // At the last moment the app has extended the session. Its cookie passed by, and the replica does not know yet.
    let app = App::scripted(|_, stream| {
        let line = format!("{}; Max-Age=604800; Path=/", cookie("tok"));
        reply(stream, 200, &[("set-cookie", line.as_str())], b"");
    });
    let gateway = Gateway::in_front_of(&app);
    gateway.store.put(Record {
        expires_at: UnixMs(NOW.0 - 1),
        ..record("tok", "ada")
    });
    assert_eq!(gateway.get("/public/page", &[]).status, 200);
    let answer = gateway.document("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!(answer.status, 302);
    assert_eq!(answer.all("set-cookie"), [""; 0], "it is not dead");
    assert!(gateway.store.asked() > 1, "it was asked again");
    gateway.store.put(record("tok", "ada"));
    let answer = gateway.document("/dashboard", &[("cookie", &cookie("tok"))]);
    assert_eq!(answer.status, 200);
}
