//! Sign-ins while users are moved in, with a real Better Auth behind the gateway: what it answers, what its database holds, and what
//! its users find in their mail is the measure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use vestibule::migration::password::keeping;
use vestibule::migration::password::native;
use vestibule::migration::state::State;

use crate::differential::server::Browser;
use crate::moving::{
    HOLD, OLD_PASSWORD, Place, USUAL, WRONG, bcrypt_of, now, sha1_of, shape, sign_in, took,
};
use crate::planted_secret;
use crate::support::{Answer, App, await_until, connect, exchange_on, reply};

// ------------------------------------------------------------------------------------------------------------------- old hashes

#[test]
fn the_old_password_is_good_once_slow_and_then_natively_also_without_the_gateway() {
    let place = Place::start();
    let ann = place.imported("ann", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let bob = place.imported("bob", "sha1-hex", &sha1_of(OLD_PASSWORD));
    let gateway = place.gateway(USUAL);
    for user in [&ann, &bob] {
        // Without the gateway the app knows no password of theirs.
        assert_eq!(sign_in(place.real.address, user, OLD_PASSWORD).status, 401);
        assert_eq!(place.password(user), None);
        let answer = sign_in(gateway.address, user, OLD_PASSWORD);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("token"), "a session");
        assert_eq!(place.state(user), Some(State::Rehashed));
        let hash = place.password(user).unwrap();
        assert!(native::is_native(&hash), "{hash}");
        // The second time nothing is written.
        assert_eq!(sign_in(gateway.address, user, OLD_PASSWORD).status, 200);
        assert_eq!(place.password(user).as_deref(), Some(hash.as_str()));
        assert_eq!(sign_in(place.real.address, user, OLD_PASSWORD).status, 200);
        assert_eq!(sign_in(place.real.address, user, WRONG).status, 401);
    }
    let counted = gateway.running.gateway.metrics.render();
    for line in [
        r#"vestibule_migration_moves_total{from="pending",mechanism="hash",to="rehashed"} 2"#,
        r#"vestibule_migration_sign_ins_total{mechanism="hash",outcome="rehashed",scheme="bcrypt"} 1"#,
        r#"vestibule_migration_sign_ins_total{mechanism="native",outcome="native",scheme=""} 2"#,
    ] {
        assert!(counted.contains(line), "{line}\n{counted}");
    }
}

#[test]
fn two_sign_ins_at_once_write_once() {
    let place = Place::start();
    let ann = place.imported("ann", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let gateway = place.gateway(USUAL);
    let at = gateway.address;
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| sign_in(at, &ann, OLD_PASSWORD).status))
            .collect();
        for one in all {
            assert_eq!(one.join().unwrap(), 200);
        }
    });
    let rows = place
        .real
        .sql("SELECT count(*) AS n FROM account WHERE providerId = 'credential'");
    assert_eq!(rows[0]["n"], 1);
    let counted = gateway.running.gateway.metrics.render();
    let line =
        r#"vestibule_migration_moves_total{from="pending",mechanism="hash",to="rehashed"} 1"#;
    assert!(counted.contains(line), "{counted}");
}

#[test]
fn a_hash_that_a_published_guide_put_into_the_account_is_replaced_where_it_is_listed() {
    let place = Place::start();
    let hash = bcrypt_of(OLD_PASSWORD);
    for user in ["ann", "bob"] {
        place.user(user);
        place.credential(user, &hash);
    }
    // Not listed, it is the app's: which stumbles, as it does without us.
    let strict = place.gateway(USUAL);
    assert_eq!(sign_in(strict.address, "ann", OLD_PASSWORD).status, 500);
    assert_eq!(place.password("ann").as_deref(), Some(hash.as_str()));
    let gateway = place.gateway(&format!(
        "{USUAL}[migration.passwords]\nin_account = [\"bcrypt\"]\n"
    ));
    // A wrong one looks like any other.
    let wrong = sign_in(gateway.address, "ann", WRONG);
    let unknown = sign_in(gateway.address, "nobody", WRONG);
    assert_eq!(shape(&wrong), shape(&unknown));
    assert_eq!(sign_in(gateway.address, "ann", OLD_PASSWORD).status, 200);
    assert!(native::is_native(&place.password("ann").unwrap()));
    assert_eq!(sign_in(place.real.address, "ann", OLD_PASSWORD).status, 200);
    // The old one is kept, sealed, until the end.
    let account = place.account("ann");
    let old = account.old.unwrap();
    assert_eq!(old.state, State::Rehashed);
    let stored = keeping::open(&place.vault, "ann", &old.scheme, &old.sealed).unwrap();
    assert_eq!(stored.hash.expose(), hash);
    assert_eq!(place.password("bob").as_deref(), Some(hash.as_str()));
}

#[test]
fn better_auths_own_checks_still_hold_after_the_old_password() {
    let place = Place::with(json!({
        "options": { "emailAndPassword": { "requireEmailVerification": true } },
        "plugins": { "admin": {}, "twoFactor": {} },
    }));
    for user in ["ann", "bob", "cleo"] {
        place.imported(user, "bcrypt", &bcrypt_of(OLD_PASSWORD));
    }
    place
        .real
        .sql("UPDATE user SET emailVerified = 0 WHERE id = 'ann'");
    place
        .real
        .sql("UPDATE user SET banned = 1 WHERE id = 'bob'");
    place
        .real
        .sql("UPDATE user SET twoFactorEnabled = 1 WHERE id = 'cleo'");
    place.real.sql(
        "INSERT INTO twoFactor (id, userId, secret, backupCodes) VALUES ('t', 'cleo', 'x', 'x')",
    );
    let gateway = place.gateway(USUAL);
    let said = |user| {
        let answer = sign_in(gateway.address, user, OLD_PASSWORD);
        (
            answer.status,
            serde_json::from_slice::<Value>(&answer.body).unwrap(),
        )
    };
    let (status, body) = said("ann");
    assert_eq!((status, &body["code"]), (403, &json!("EMAIL_NOT_VERIFIED")));
    let (status, body) = said("bob");
    assert_eq!((status, &body["code"]), (403, &json!("BANNED_USER")));
    let (status, body) = said("cleo");
    assert_eq!((status, &body["twoFactorRedirect"]), (200, &json!(true)));
    for user in ["ann", "bob", "cleo"] {
        assert_eq!(place.state(user), Some(State::Rehashed), "{user}");
    }
}

// ------------------------------------------------------------------------------------------------------------ failures are alike

#[test]
fn every_failed_sign_in_has_the_same_answer_at_the_same_moment() {
    let place = Place::start();
    place.native("native");
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place.user("none");
    let sealed = place.vault.seal(
        vestibule::migration::vault::Purpose::Hash,
        "somebody else",
        b"{}",
        place.random(),
    );
    place.user("corrupt");
    place.keep("corrupt", "bcrypt", sealed);
    place.imported("blocked", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let moved = place.accounts.move_state("blocked", State::Blocked, now());
    assert!(place.runtime.block_on(moved).unwrap());
    let gateway = place.gateway(USUAL);
    let mut seen = BTreeMap::new();
    for (user, password) in [
        ("native", WRONG),
        ("old", WRONG),
        ("none", WRONG),
        ("corrupt", OLD_PASSWORD),
        ("blocked", OLD_PASSWORD),
        ("unknown", WRONG),
        ("unknown", ""),
    ] {
        let (answer, time) = took(|| sign_in(gateway.address, user, password));
        assert_eq!(answer.status, 401, "{user}: {}", answer.text());
        // At the hold, or at a half of it later where the machine was too busy: never anywhere else.
        assert!(time >= HOLD, "{user}: {time:?}");
        let after = (time - HOLD).as_millis() % (HOLD / 2).as_millis();
        assert!(after < 400, "{user}: {time:?}");
        seen.insert(format!("{user} {password}"), shape(&answer));
    }
    let first = seen.values().next().unwrap();
    assert!(
        first
            .2
            .contains("If you had an account before 2026-12-01, we have sent you a link"),
        "{}",
        first.2
    );
    for (who, shape) in &seen {
        assert_eq!(shape, first, "{who}");
    }
    // A blocked one is not let in with the right password either, and nothing was written.
    assert_eq!(place.password("blocked"), None);
    assert_eq!(place.state("old"), Some(State::Pending));
    // The twin: who is right waits for nobody.
    assert_eq!(sign_in(gateway.address, "native", OLD_PASSWORD).status, 200);
}

#[test]
fn a_username_fails_with_its_own_words_and_signs_in_with_the_old_password() {
    let place = Place::with(json!({ "plugins": { "username": {}, "phoneNumber": {} } }));
    place.imported("ann", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place
        .real
        .sql("UPDATE user SET username = 'ann_1', phoneNumber = '+491' WHERE id = 'ann'");
    let gateway = place.gateway(USUAL);
    let post =
        |endpoint: &str, body: Value| Browser::default().post(gateway.address, endpoint, &body);
    let wrong = post(
        "/sign-in/username",
        json!({ "username": "ann_1", "password": WRONG }),
    );
    let unknown = post(
        "/sign-in/username",
        json!({ "username": "nobody", "password": WRONG }),
    );
    assert_eq!(shape(&wrong), shape(&unknown));
    assert!(wrong.text().contains("INVALID_USERNAME_OR_PASSWORD"));
    let phone = |number, password: &str| {
        post(
            "/sign-in/phone-number",
            json!({ "phoneNumber": number, "password": password }),
        )
    };
    // There the framework itself tells them apart: an account without a password, and none at all.
    let (wrong, unknown) = (phone("+491", WRONG), phone("+492", WRONG));
    assert_eq!(shape(&wrong), shape(&unknown));
    assert!(wrong.text().contains("INVALID_PHONE_NUMBER_OR_PASSWORD"));
    let right = post(
        "/sign-in/username",
        json!({ "username": "Ann_1", "password": OLD_PASSWORD }),
    );
    assert_eq!(right.status, 200, "{}", right.text());
    assert_eq!(phone("+491", OLD_PASSWORD).status, 200);
}

#[test]
fn reasons_are_named_where_the_operator_accepts_it() {
    let place = Place::start();
    place.user("none");
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let gateway = place.gateway(
        "[migration.sign_in]\nfailures = \"explicit\"\n[migration.reset]\nredirect_to = \"/new\"\n",
    );
    let code = |user| {
        let answer = sign_in(gateway.address, user, WRONG);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, body["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(code("none"), (401, "PASSWORD_RESET_REQUIRED".into()));
    for user in ["old", "unknown"] {
        assert_eq!(code(user), (401, "INVALID_EMAIL_OR_PASSWORD".into()));
    }
}

// -------------------------------------------------------------------------------------------------------------------- the mails

#[test]
fn whoever_has_no_usable_hash_finds_one_link_in_the_mail_and_gets_in_by_it() {
    let place = Place::start();
    place.user("none");
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place.native("native");
    let sealed = place.vault.seal(
        vestibule::migration::vault::Purpose::Hash,
        "corrupt",
        b"not what we write",
        place.random(),
    );
    place.user("corrupt");
    place.keep("corrupt", "bcrypt", sealed);
    let gateway = place.gateway(USUAL);
    for user in ["none", "none", "corrupt", "old", "native", "unknown"] {
        assert_eq!(sign_in(gateway.address, user, WRONG).status, 401);
    }
    for user in ["none", "corrupt"] {
        await_until("the mail", || !place.links(user).is_empty());
    }
    await_until("the state", || {
        place.state("corrupt") == Some(State::ResetSent)
    });
    let link = &place.links("none")[0];
    assert_eq!(link["client"], "127.0.0.1");
    assert_eq!(link["host"], "app.test");
    assert_eq!(link["origin"], "http://app.test");
    // A quarter of an hour later there is a second one, and no more before.
    assert_eq!(place.links("none").len(), 1);
    gateway.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(sign_in(gateway.address, "none", WRONG).status, 401);
    await_until("the second mail", || place.links("none").len() == 2);
    for user in ["old", "native"] {
        assert_eq!(place.links(user).len(), 0, "{user} only mistyped");
    }
    // The credential row comes from Better Auth itself.
    for user in ["none", "corrupt"] {
        let token = place.links(user)[0]["token"].clone();
        let body = json!({ "newPassword": "brand new and mine", "token": token });
        let set = Browser::default().post(gateway.address, "/reset-password", &body);
        assert_eq!(set.status, 200, "{}", set.text());
        assert_eq!(
            sign_in(gateway.address, user, "brand new and mine").status,
            200
        );
        assert!(native::is_native(&place.password(user).unwrap()));
    }
    let counted = gateway.running.gateway.metrics.render();
    for line in [
        r#"vestibule_migration_resets_total{outcome="address_limit"} 1"#,
        r#"vestibule_migration_resets_total{outcome="sent"} 3"#,
    ] {
        assert!(counted.contains(line), "{line}\n{counted}");
    }
}

#[test]
fn without_a_page_for_the_link_no_mail_is_sent_and_none_is_promised() {
    let place = Place::start();
    place.user("none");
    let gateway = place.gateway("[migration.sign_in]\nhold = \"500ms\"\n");
    let answer = sign_in(gateway.address, "none", WRONG);
    assert_eq!(
        answer.text(),
        r#"{"code":"INVALID_EMAIL_OR_PASSWORD","message":"Invalid email or password"}"#
    );
    assert_eq!(place.links("none").len(), 0);
}

// ---------------------------------------------------------------------------------------------------------------------- control

#[test]
fn shadow_mode_looks_and_changes_nothing() {
    let place = Place::start();
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place.user("none");
    let gateway = place.gateway(&format!("shadow = true\n{USUAL}"));
    for (user, password) in [("old", OLD_PASSWORD), ("old", WRONG), ("none", WRONG)] {
        let ours = sign_in(gateway.address, user, password);
        let theirs = sign_in(place.real.address, user, password);
        assert_eq!((ours.status, ours.text()), (theirs.status, theirs.text()));
    }
    let counted = |line: &str| gateway.running.gateway.metrics.render().contains(line);
    for (mechanism, scheme, outcome) in [
        ("hash", "bcrypt", "shadow_rehashed"),
        ("hash", "bcrypt", "shadow_wrong"),
        ("reset", "", "shadow_reset"),
    ] {
        let line = format!(
            r#"vestibule_migration_sign_ins_total{{mechanism="{mechanism}",outcome="{outcome}",scheme="{scheme}"}} 1"#
        );
        await_until(outcome, || counted(&line));
    }
    assert_eq!(place.state("old"), Some(State::Pending));
    assert_eq!(place.password("old"), None);
    assert_eq!(place.links("none").len(), 0);
}

#[test]
fn the_kill_switch_and_the_cohort_leave_sign_ins_to_the_app() {
    let place = Place::start();
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place.imported("qa", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let off = place.gateway(&format!(
        "disable = [\"hash\", \"reset\", \"jit\"]\n{USUAL}"
    ));
    let (ours, theirs) = (
        sign_in(off.address, "old", OLD_PASSWORD),
        sign_in(place.real.address, "old", OLD_PASSWORD),
    );
    assert_eq!((ours.status, ours.text()), (401, theirs.text()));
    // Old hashes alone switched off: nobody who has one is reset.
    let off = place.gateway(&format!("disable = [\"hash\"]\n{USUAL}"));
    assert_eq!(sign_in(off.address, "old", OLD_PASSWORD).status, 401);
    assert_eq!(place.state("old"), Some(State::Pending));
    let pilot = place.gateway(&format!("addresses = [\"qa@*\"]\n{USUAL}"));
    assert_eq!(
        sign_in(pilot.address, "old", OLD_PASSWORD).text(),
        theirs.text()
    );
    assert_eq!(sign_in(pilot.address, "qa", OLD_PASSWORD).status, 200);
    assert_eq!(place.links("old").len(), 0);
}

// --------------------------------------------------------------------------------------------------------- as the app has it

/// Sends a body as it is, framed as told.
fn raw(at: SocketAddr, endpoint: &str, kind: &str, body: &[u8], chunked: bool) -> Answer {
    let mut bytes = format!(
        "POST /api/auth{endpoint} HTTP/1.1\r\nhost: app.test\r\norigin: http://app.test\r\n"
    );
    if !kind.is_empty() {
        bytes.push_str(&format!("content-type: {kind}\r\n"));
    }
    let mut bytes = match chunked {
        true => format!("{bytes}transfer-encoding: chunked\r\n\r\n").into_bytes(),
        false => format!("{bytes}content-length: {}\r\n\r\n", body.len()).into_bytes(),
    };
    if chunked {
        for piece in body.chunks(7) {
            bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
            bytes.extend(piece);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
    } else {
        bytes.extend(body);
    }
    exchange_on(&mut connect(at), &bytes)
}

#[test]
fn bodies_pass_as_they_came_or_are_refused() {
    let place = Place::start();
    for user in ["form", "chunks", "bom", "twice", "long"] {
        place.imported(user, "bcrypt", &bcrypt_of(OLD_PASSWORD));
    }
    let gateway = place.gateway(USUAL);
    let json_type = "application/json";
    let body = |user: &str| {
        json!({ "email": format!("{user}@example.com"), "password": OLD_PASSWORD }).to_string()
    };
    let form = |user: &str| {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("email", &format!("{user}@example.com"))
            .append_pair("password", OLD_PASSWORD)
            .finish()
    };
    let send = |kind: &str, body: &[u8], chunked| {
        raw(gateway.address, "/sign-in/email", kind, body, chunked)
    };
    let form_type = "application/x-www-form-urlencoded";
    let answer = send(form_type, form("form").as_bytes(), false);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(send(json_type, body("chunks").as_bytes(), true).status, 200);
    let bom = [b"\xef\xbb\xbf", body("bom").as_bytes()].concat();
    assert_eq!(
        send("application/json; charset=utf-16", &bom, false).status,
        200
    );
    let twice = format!(
        r#"{{"email":"long@example.com","password":"x",{}"#,
        &body("twice")[1..]
    );
    assert_eq!(send(json_type, twice.as_bytes(), false).status, 200);
    for user in ["form", "chunks", "bom", "twice"] {
        assert_eq!(place.state(user), Some(State::Rehashed), "{user}");
    }
    // What the app answers itself is its own answer, to the byte.
    let malformed: [(&str, &[u8]); 8] = [
        (json_type, b"{bad json"),
        (json_type, b""),
        (json_type, br#"{"email":"old@example.com"}"#),
        (json_type, br#"{"email":5,"password":"password-1234"}"#),
        (
            json_type,
            br#"{"email":"not-an-email","password":"x","x":[1e999]}"#,
        ),
        (
            "text/plain",
            br#"{"email":"old@example.com","password":"x"}"#,
        ),
        ("", br#"{"email":"old@example.com","password":"x"}"#),
        (
            json_type,
            br#"{"email":"a@b.c","password":"x","callbackURL":"https://evil.example"}"#,
        ),
    ];
    for (kind, body) in malformed {
        let theirs = raw(place.real.address, "/sign-in/email", kind, body, false);
        let ours = send(kind, body, false);
        let what = String::from_utf8_lossy(body);
        assert_eq!(
            (ours.status, ours.text()),
            (theirs.status, theirs.text()),
            "{what}"
        );
        assert_ne!(ours.status, 401, "{what}");
    }
    // Longer than can be held: it is refused, and nothing of it is looked at.
    let padded = |bytes: usize| {
        let body = body("long");
        format!(r#"{{"x":"{}",{}"#, "x".repeat(bytes), &body[1..])
    };
    assert_eq!(
        send(json_type, padded(70_000).as_bytes(), false).status,
        413
    );
    assert_eq!(send(json_type, padded(70_000).as_bytes(), true).status, 413);
    assert_eq!(place.state("long"), Some(State::Pending));
    assert_eq!(
        send(json_type, padded(50_000).as_bytes(), false).status,
        200
    );
}

#[test]
fn a_sign_in_from_another_site_is_the_apps_to_refuse_and_changes_nothing() {
    let place = Place::start();
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let gateway = place.gateway(USUAL);
    let body = json!({ "email": "old@example.com", "password": OLD_PASSWORD }).to_string();
    let send = |origin: &str| {
        gateway.send(
            "POST",
            "/api/auth/sign-in/email",
            &[
                ("content-type", "application/json"),
                ("origin", origin),
                ("cookie", "a=b"),
            ],
            body.as_bytes(),
        )
    };
    let refused = send("https://evil.example");
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("INVALID_ORIGIN"),
        "{}",
        refused.text()
    );
    assert_eq!(place.state("old"), Some(State::Pending));
    assert_eq!(send("http://app.test").status, 200);
    assert_eq!(place.state("old"), Some(State::Rehashed));
}

#[test]
fn outside_the_window_answers_are_better_auths_own() {
    let place = Place::start();
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place.native("native");
    for window in ["closes = \"2020-01-01\"", "opens = \"2099-01-01\""] {
        let gateway = place.gateway(&format!("{window}\n{USUAL}"));
        for (user, password) in [("old", OLD_PASSWORD), ("native", WRONG), ("unknown", WRONG)] {
            let theirs = sign_in(place.real.address, user, password);
            let ours = sign_in(gateway.address, user, password);
            assert_eq!((ours.status, ours.text()), (401, theirs.text()));
            for name in ["content-type", "cache-control", "set-cookie", "retry-after"] {
                assert_eq!(ours.all(name), theirs.all(name), "{name}");
            }
        }
        assert_eq!(sign_in(gateway.address, "native", OLD_PASSWORD).status, 200);
    }
    assert_eq!(place.state("old"), Some(State::Pending));
}

// --------------------------------------------------------------------------------------------------------------- the old system

/// An old system: knows `OLD_PASSWORD` of everybody, and says that a user is whom `ids` says.
fn old_system(id_of: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> App {
    App::scripted(move |seen, stream| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let email = body["email"].as_str().unwrap_or_default();
        match id_of(email) {
            Some(id) if id == "down" => reply(stream, 503, &[], b""),
            Some(id) if body["password"] == OLD_PASSWORD => {
                let user = json!({
                    "id": id.trim_start_matches("2fa:"), "email": email, "email_verified": true,
                    "name": "As It Was", "second_factor": id.starts_with("2fa:"),
                });
                let json = [("content-type", "application/json")];
                reply(stream, 200, &json, user.to_string().as_bytes());
            }
            _ => reply(stream, 401, &[], b""),
        }
    })
}

impl Place {
    fn map(&self, user: &str, id: &str) {
        let mapped = self.accounts.map(user, "generic", id, now());
        assert!(self.runtime.block_on(mapped).unwrap());
    }

    fn source_state(&self, user: &str) -> Option<State> {
        let account = self.account(user);
        account.sources.first().map(|source| source.state)
    }
}

fn asking(old: &App, more: &str) -> String {
    let address = old.address;
    format!(
        "{USUAL}{more}[migration.from.generic]\ncheck_url = \"http://{address}/check\"\nper_minute = 60\n"
    )
}

#[test]
fn the_old_system_is_asked_once_and_its_answer_is_kept() {
    let place = Place::start();
    place.user("ann");
    place.map("ann", "s-ann");
    let old = old_system(|email| email.split('@').next().map(|name| format!("s-{name}")));
    let gateway = place.gateway(&asking(&old, ""));
    assert_eq!(sign_in(gateway.address, "ann", WRONG).status, 401);
    assert_eq!(place.password("ann"), None);
    assert_eq!(sign_in(gateway.address, "ann", OLD_PASSWORD).status, 200);
    assert_eq!(place.source_state("ann"), Some(State::Jit));
    let asked = old.count();
    assert_eq!(asked, 2);
    // From now on it is Better Auth's alone, and gone is gone.
    for (at, password, status) in [
        (gateway.address, OLD_PASSWORD, 200),
        (gateway.address, WRONG, 401),
        (place.real.address, OLD_PASSWORD, 200),
    ] {
        assert_eq!(sign_in(at, "ann", password).status, status);
    }
    assert_eq!(old.count(), asked);
    assert_eq!(place.links("ann").len(), 0, "no mail for a wrong password");
}

#[test]
fn a_password_changed_there_since_the_export_is_found_out_there() {
    let place = Place::start();
    place.imported("ann", "bcrypt", &bcrypt_of("the one before"));
    place.map("ann", "s-ann");
    let old = old_system(|_| Some("s-ann".into()));
    let gateway = place.gateway(&asking(&old, ""));
    assert_eq!(sign_in(gateway.address, "ann", WRONG).status, 401);
    assert_eq!(sign_in(gateway.address, "ann", OLD_PASSWORD).status, 200);
    assert_eq!(sign_in(place.real.address, "ann", OLD_PASSWORD).status, 200);
}

#[test]
fn an_address_that_belongs_to_somebody_else_there_by_now_lets_nobody_in() {
    let place = Place::start();
    for user in ["ann", "bob"] {
        place.user(user);
    }
    place.map("ann", "s-ann");
    let old = old_system(|_| Some("s-somebody-else".into()));
    let gateway = place.gateway(&asking(&old, ""));
    let moved = sign_in(gateway.address, "ann", OLD_PASSWORD);
    let unknown = sign_in(gateway.address, "unknown", WRONG);
    assert_eq!(shape(&moved), shape(&unknown));
    assert_eq!(place.source_state("ann"), Some(State::Blocked));
    assert_eq!(place.password("ann"), None);
    // Mapped to nobody, with an address that both sides have verified: the same person.
    assert_eq!(sign_in(gateway.address, "bob", OLD_PASSWORD).status, 200);
    // Its twin, whose address nobody here has verified.
    place.user("cleo");
    place
        .real
        .sql("UPDATE user SET emailVerified = 0 WHERE id = 'cleo'");
    let other = old_system(|_| Some("s-cleo".into()));
    let gateway = place.gateway(&asking(&other, ""));
    assert_eq!(sign_in(gateway.address, "cleo", OLD_PASSWORD).status, 401);
    assert_eq!(place.password("cleo"), None);
}

#[test]
fn an_outage_is_the_same_for_everybody_and_sends_no_mail() {
    let place = Place::start();
    place.user("ann");
    place.map("ann", "s-ann");
    place.user("none");
    let sealed = place.vault.seal(
        vestibule::migration::vault::Purpose::Hash,
        "other",
        b"{}",
        place.random(),
    );
    place.keep("none", "bcrypt", sealed);
    let elsewhere = place.accounts.map("none", "clerk", "user_1", now());
    assert!(place.runtime.block_on(elsewhere).unwrap());
    place.native("native");
    let old = old_system(|_| Some("down".into()));
    let gateway = place.gateway(&asking(&old, ""));
    let needs_it = sign_in(gateway.address, "ann", OLD_PASSWORD);
    assert_eq!(needs_it.status, 503);
    assert!(needs_it.text().contains("legacy_provider_unavailable"));
    assert!(needs_it.header("retry-after").is_some());
    for (user, password) in [("unknown", WRONG), ("native", WRONG), ("none", WRONG)] {
        let answer = sign_in(gateway.address, user, password);
        assert_eq!(shape(&answer), shape(&needs_it), "{user}");
    }
    // Who needs nobody else gets in.
    assert_eq!(sign_in(gateway.address, "native", OLD_PASSWORD).status, 200);
    for user in ["ann", "none"] {
        assert_eq!(place.links(user).len(), 0, "{user}");
    }
    // Nothing was counted as a failure of anybody's.
    let counted = gateway.running.gateway.metrics.render();
    assert!(
        !counted.contains(r#"vestibule_migration_success_ratio{mechanism="jit""#),
        "{counted}"
    );
}

#[test]
fn whoever_only_the_old_system_knows_is_taken_over_where_that_is_wanted() {
    let place = Place::start();
    let old = old_system(|email| match email {
        "new@example.com" => Some("s-new".into()),
        _ => None,
    });
    let closed = place.gateway(&asking(&old, ""));
    assert_eq!(sign_in(closed.address, "new", OLD_PASSWORD).status, 401);
    assert_eq!(old.count(), 0);
    let gateway = place.gateway(&asking(&old, "[migration.sign_up]\nmode = \"trickle\"\n"));
    assert_eq!(sign_in(gateway.address, "other", OLD_PASSWORD).status, 401);
    let answer = sign_in(gateway.address, "new", OLD_PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let rows = place
        .real
        .sql("SELECT id, name, emailVerified FROM user WHERE email = 'new@example.com'");
    assert_eq!(
        rows[0],
        json!({ "id": "s-new", "name": "As It Was", "emailVerified": 1 })
    );
    assert_eq!(sign_in(place.real.address, "new", OLD_PASSWORD).status, 200);
}

#[test]
fn a_second_factor_that_nobody_can_ask_for_lets_nobody_in() {
    let place = Place::start();
    for user in ["ann", "bob"] {
        place.user(user);
        place.map(user, &format!("2fa:s-{user}")[4..]);
    }
    let old = old_system(|email| match email {
        "ann@example.com" => Some("2fa:s-ann".into()),
        _ => Some("s-bob".into()),
    });
    // The app has no plugin for it.
    let gateway = place.gateway(&asking(&old, ""));
    let ann = sign_in(gateway.address, "ann", OLD_PASSWORD);
    assert_eq!(ann.status, 401);
    assert_eq!(
        shape(&ann),
        shape(&sign_in(gateway.address, "unknown", WRONG))
    );
    assert_eq!(place.password("ann"), None);
    assert_eq!(sign_in(gateway.address, "bob", OLD_PASSWORD).status, 200);
}

// ---------------------------------------------------------------------------------------------------------------------- the log

#[test]
fn no_password_typed_or_stored_and_no_address_reaches_the_log_and_every_step_does() {
    let place = Place::start();
    let found = planted_secret::listening();
    let (password, email) = (planted_secret::PASSWORD, planted_secret::EMAIL);
    let name = email.strip_suffix("@example.com").unwrap();
    place.imported(name, "bcrypt", &bcrypt_of(password));
    let old = old_system(|_| Some("down".into()));
    let more = "[migration.passwords]\nin_account = [\"bcrypt\"]\n";
    let gateway = place.gateway(&asking(&old, more));
    let audited = || found.lock().unwrap().audited;
    let before = audited();
    for typed in [WRONG, password, password, &format!("{password}x")] {
        let _ = sign_in(gateway.address, name, typed);
    }
    place.user("nobody");
    let _ = sign_in(gateway.address, "nobody", password);
    assert_eq!(place.state(name), Some(State::Rehashed));
    await_until("the audit line", || audited() > before);
    assert_eq!(found.lock().unwrap().leaks, [""; 0]);
    let counted = gateway.running.gateway.metrics.render();
    assert!(!counted.contains(password) && !counted.contains(name));
}

// -------------------------------------------------------------------------------------------------------------------- the limits

#[test]
fn too_many_wrong_ones_are_told_to_wait_and_nothing_is_checked_any_more() {
    let place = Place::start();
    place.imported("ann", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let gateway = place.gateway(&format!("{USUAL}[migration.limits]\npair = 3\n"));
    let statuses: Vec<u16> = (0..5)
        .map(|_| sign_in(gateway.address, "ann", WRONG).status)
        .collect();
    assert!(statuses.starts_with(&[401, 401, 401]), "{statuses:?}");
    assert_eq!(statuses[4], 429, "{statuses:?}");
    let held = sign_in(gateway.address, "ann", OLD_PASSWORD);
    assert_eq!(held.status, 429);
    assert!(held.header("retry-after").is_some());
    assert_eq!(place.state("ann"), Some(State::Pending));
    // Others sign in.
    place.native("native");
    assert_eq!(sign_in(gateway.address, "native", OLD_PASSWORD).status, 200);
}

#[test]
fn nobody_signs_up_with_a_long_body_while_sign_ups_are_frozen() {
    let place = Place::start();
    let gateway = place.gateway(&format!("{USUAL}[migration.sign_up]\nmode = \"freeze\"\n"));
    let body = |bytes: usize| {
        let image = "x".repeat(bytes);
        json!({ "email": "ann@example.com", "password": OLD_PASSWORD, "name": "Ann", "image": image })
    };
    for (bytes, status) in [(10, 503), (70_000, 413)] {
        let answer = Browser::default().post(gateway.address, "/sign-up/email", &body(bytes));
        assert_eq!(answer.status, status);
    }
    assert_eq!(
        place
            .real
            .sql("SELECT id FROM user")
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}

#[test]
fn guesses_in_a_body_that_the_app_refuses_are_counted_and_answered_no_sooner() {
    let place = Place::start();
    place.native("native");
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let gateway = place.gateway(&format!("{USUAL}[migration.limits]\npair = 3\n"));
    let guess = |user: &str| {
        let body = json!({
            "email": format!("{user}@example.com"), "password": WRONG, "rememberMe": "not a flag",
        });
        Browser::default().post(gateway.address, "/sign-in/email", &body)
    };
    for user in ["native", "old", "unknown"] {
        let (answer, time) = took(|| guess(user));
        // The app's own answer, and it came before any password was checked there.
        assert_eq!(answer.status, 400, "{user}: {}", answer.text());
        assert!(time >= HOLD, "{user}: {time:?}");
        let statuses: Vec<u16> = (0..4).map(|_| guess(user).status).collect();
        assert!(statuses.starts_with(&[400, 400]), "{user}: {statuses:?}");
        assert_eq!(statuses[3], 429, "{user}: {statuses:?}");
    }
}

#[test]
fn whoever_is_blocked_does_not_get_in_with_a_long_body() {
    let place = Place::start();
    place.imported("ann", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let moved = place.accounts.move_state("ann", State::Blocked, now());
    assert!(place.runtime.block_on(moved).unwrap());
    place.credential(
        "ann",
        native::hash(OLD_PASSWORD.as_bytes(), place.random()).expose(),
    );
    let gateway = place.gateway(USUAL);
    assert_eq!(sign_in(gateway.address, "ann", OLD_PASSWORD).status, 401);
    let padded = format!(
        r#"{{"x":"{}","email":"ann@example.com","password":"{OLD_PASSWORD}"}}"#,
        "x".repeat(70_000)
    );
    let json = "application/json";
    for chunked in [false, true] {
        let at = gateway.address;
        let answer = raw(at, "/sign-in/email", json, padded.as_bytes(), chunked);
        assert_eq!(answer.status, 413, "{}", answer.text());
    }
}

#[test]
fn whoever_is_blocked_does_not_get_in_from_an_origin_only_the_app_trusts() {
    let place = Place::with(json!({ "options": { "trustedOrigins": ["https://other.test"] } }));
    for name in ["ann", "bob"] {
        place.imported(name, "bcrypt", &bcrypt_of(OLD_PASSWORD));
        let hash = native::hash(OLD_PASSWORD.as_bytes(), place.random());
        place.credential(name, hash.expose());
    }
    let moved = place.accounts.move_state("ann", State::Blocked, now());
    assert!(place.runtime.block_on(moved).unwrap());
    let gateway = place.gateway(USUAL);
    let from = |origin: &str, name: &str| {
        let body = json!({ "email": format!("{name}@example.com"), "password": OLD_PASSWORD });
        gateway.send(
            "POST",
            "/api/auth/sign-in/email",
            &[("content-type", "application/json"), ("origin", origin)],
            body.to_string().as_bytes(),
        )
    };
    assert_eq!(from("https://other.test", "ann").status, 401);
    assert_eq!(from("https://other.test", "bob").status, 200);
    // Where neither trusts it, the app says so to both.
    assert_eq!(from("https://evil.test", "ann").status, 403);
    assert_eq!(from("https://evil.test", "bob").status, 403);
}

#[test]
fn a_new_password_by_mail_does_not_take_the_place_of_a_second_factor() {
    let place = Place::start();
    let user = vestibule::migration::accounts::NewUser {
        id: Some("ann".into()),
        email: "ann@example.com".into(),
        email_verified: true,
        name: "Ann".into(),
        image: None,
        username: None,
        phone: None,
        created_at: None,
        source: Some(("generic".into(), "s-ann".into())),
        password: None,
        had_second_factor: true,
    };
    let made = place.accounts.create(&user, now());
    let ann = place.runtime.block_on(made).unwrap();
    place.credential(
        &ann,
        native::hash(OLD_PASSWORD.as_bytes(), place.random()).expose(),
    );
    // The app has no plugin that could ask for it.
    let gateway = place.gateway(USUAL);
    let answer = sign_in(gateway.address, "ann", OLD_PASSWORD);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(
        shape(&answer),
        shape(&sign_in(gateway.address, "unknown", WRONG))
    );
}

#[test]
fn a_hash_in_the_account_that_is_of_no_use_or_blocked_fails_like_any_other() {
    let place = Place::start();
    for user in ["ann", "bob"] {
        place.user(user);
    }
    // Broken off.
    place.credential("ann", "$2b$10$abc");
    place.imported("cleo", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    let moved = place.accounts.move_state("cleo", State::Blocked, now());
    assert!(place.runtime.block_on(moved).unwrap());
    place.credential("cleo", &bcrypt_of(OLD_PASSWORD));
    let gateway = place.gateway(&format!(
        "{USUAL}[migration.passwords]\nin_account = [\"bcrypt\"]\n"
    ));
    let unknown = shape(&sign_in(gateway.address, "unknown", WRONG));
    for user in ["ann", "cleo"] {
        let answer = sign_in(gateway.address, user, OLD_PASSWORD);
        assert_eq!(shape(&answer), unknown, "{user}");
    }
    await_until("the mail", || !place.links("ann").is_empty());
    assert_eq!(place.links("cleo").len(), 0);
}

#[test]
fn an_answer_of_the_app_without_a_body_is_replaced_by_one_that_arrives() {
    let place = Place::start();
    for head in [
        "content-length: 0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "connection: close\r\n\r\n",
    ] {
        let app = App::scripted(move |_, stream| {
            use std::io::Write as _;
            let _ = stream.write_all(format!("HTTP/1.1 401 X\r\n{head}").as_bytes());
            if head.contains("close") {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        });
        let gateway = place.gateway_before(app.address, USUAL, &[]);
        let answer = sign_in(gateway.address, "unknown", WRONG);
        assert_eq!(answer.status, 401, "{head}");
        let length = answer.header("content-length").unwrap().to_owned();
        assert_eq!(length, answer.body.len().to_string(), "{head}");
    }
}

#[test]
fn a_front_end_of_another_origin_can_read_that_it_must_wait() {
    let place = Place::with(json!({ "options": { "trustedOrigins": ["https://front.test"] } }));
    place.native("native");
    let limits = "[migration.limits]\npair = 1\n";
    let gateway = place.gateway_before(
        place.real.address,
        &format!("{USUAL}{limits}"),
        &["https://front.test"],
    );
    let body = json!({ "email": "native@example.com", "password": WRONG }).to_string();
    let send = |origin: &str| {
        gateway.send(
            "POST",
            "/api/auth/sign-in/email",
            &[("content-type", "application/json"), ("origin", origin)],
            body.as_bytes(),
        )
    };
    assert_eq!(send("https://front.test").status, 401);
    let waits = send("https://front.test");
    assert_eq!(waits.status, 429, "{}", waits.text());
    let allowed = "access-control-allow-origin";
    assert_eq!(waits.header(allowed), Some("https://front.test"));
    let credentials = waits.header("access-control-allow-credentials");
    assert_eq!(credentials, Some("true"));
    assert_eq!(send("http://app.test").header(allowed), None);
}

// ------------------------------------------------------------------------------------------------------- the framework's vectors

/// What differs from one run of the framework to the next.
fn steady(mut body: Value) -> Value {
    const RANDOM: [&str; 5] = ["token", "id", "createdAt", "updatedAt", "userId"];
    match &mut body {
        Value::Object(fields) => {
            // Whether a column that holds nothing is told depends on the database they used.
            fields.retain(|_, value| !value.is_null());
            for (key, value) in fields.iter_mut() {
                *value = match (RANDOM.contains(&key.as_str()), value.is_null()) {
                    (true, false) => json!("something"),
                    _ => steady(value.take()),
                };
            }
        }
        Value::Array(list) => {
            for value in list {
                *value = steady(value.take());
            }
        }
        _ => {}
    }
    body
}

/// A value as SQL.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Bool(truth) => u8::from(*truth).to_string(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => other.to_string(),
    }
}

#[test]
fn recorded_sign_ins_are_answered_as_recorded_inside_and_outside_the_window() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sign-in.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let mut by_configuration: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for case in cases {
        let configuration = case["config"].to_string();
        by_configuration
            .entry(configuration)
            .or_default()
            .push(case);
    }
    let (mut run, mut left_out) = (0, Vec::new());
    for cases in by_configuration.values() {
        let configuration = &cases[0]["config"];
        let mut options = json!({});
        if let Some(emails) = configuration["emailAndPassword"].as_object() {
            let mut emails = emails.clone();
            emails.remove("sendResetPassword");
            options["emailAndPassword"] = Value::Object(emails);
        }
        let mut plugins = json!({});
        for plugin in configuration["plugins"].as_array().into_iter().flatten() {
            let name = plugin.as_str().unwrap();
            plugins[name.split('(').next().unwrap()] = json!({});
        }
        let place = Place::with(json!({ "options": options, "plugins": plugins }));
        let closed = place.gateway("closes = \"2020-01-01\"");
        let open = place.gateway("[migration.sign_in]\nhold = \"10ms\"\n");
        for case in cases {
            let id = case["id"].as_str().unwrap();
            let rows = case["seed_rows"].as_object().unwrap();
            for gateway in [&closed, &open] {
                for table in ["session", "account", "verification", "user"] {
                    place.real.sql(&format!("DELETE FROM {table}"));
                }
                for (table, rows) in ["user", "account", "twoFactor"]
                    .iter()
                    .filter_map(|table| Some((table, rows.get(*table)?)))
                {
                    for row in rows.as_array().unwrap() {
                        let row = row.as_object().unwrap();
                        let names: Vec<_> = row.keys().map(|key| format!("\"{key}\"")).collect();
                        let values: Vec<_> = row.values().map(literal).collect();
                        place.real.sql(&format!(
                            "INSERT INTO \"{table}\" ({}) VALUES ({})",
                            names.join(", "),
                            values.join(", ")
                        ));
                    }
                }
                if plugins["twoFactor"].is_object() {
                    // Theirs had one, which was not written down.
                    place.real.sql("DELETE FROM twoFactor");
                    place.real.sql("INSERT INTO twoFactor (id, userId, secret, backupCodes) SELECT 't', id, 'x', 'x' FROM user");
                }
                for request in case["requests"].as_array().unwrap() {
                    let path = request["path"].as_str().unwrap();
                    let method = request["method"].as_str().unwrap();
                    let recorded = request["body"].clone();
                    if !path.starts_with("/sign-in") || recorded.get("token").is_some() {
                        continue;
                    }
                    let expected = &request["expect"];
                    // Whoever set another password did so with a token of that run.
                    if recorded["password"] == "brand-new-pass-1" || id == "reset-password" {
                        left_out.push(id.to_owned());
                        continue;
                    }
                    let kind = request["headers"]["content-type"]
                        .as_str()
                        .unwrap_or("application/json");
                    let body = match &recorded {
                        Value::String(text) => text.clone(),
                        Value::Null => String::new(),
                        other => other.to_string(),
                    };
                    let answer = if method == "GET" {
                        gateway.get(&format!("/api/auth{path}"), &[])
                    } else {
                        raw(gateway.address, path, kind, body.as_bytes(), false)
                    };
                    run += 1;
                    let status = expected["status"].as_u64().unwrap();
                    assert_eq!(u64::from(answer.status), status, "{id}: {}", answer.text());
                    let said = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
                    if body.is_empty() && method == "POST" {
                        // Over a socket that is no body at all, and theirs was an empty one.
                        continue;
                    }
                    assert_eq!(steady(said), steady(expected["body"].clone()), "{id}");
                    let set = |lines: Vec<&str>| -> Vec<String> {
                        let names = lines.iter().map(|line| line.split('=').next());
                        let mut names: Vec<_> =
                            names.map(|name| name.unwrap().to_owned()).collect();
                        names.retain(|name| !name.ends_with("known_device"));
                        names.sort();
                        names.dedup();
                        names
                    };
                    let recorded = expected["set_cookie"].as_array();
                    let recorded = recorded.into_iter().flatten();
                    let recorded = recorded.filter_map(Value::as_str).collect();
                    assert_eq!(set(answer.all("set-cookie")), set(recorded), "{id}");
                }
            }
        }
    }
    left_out.dedup();
    println!(
        "migration sign-in.json: {} found, {run} requests run, left out: {left_out:?}",
        cases.len()
    );
    assert!(run > 60, "{run}");
}
