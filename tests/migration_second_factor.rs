//! Second factors of an old system, with a real Better Auth and its two-factor plugin behind the gateway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::config::{self, Sources};
use vestibule::credential::secrets;
use vestibule::migration::accounts::{Account, Accounts, Identifier, OldFactor};
use vestibule::migration::second_factor::{BackupCodes, StandIn, Totp, from_base32};
use vestibule::migration::vault::{Purpose, Vault};
use vestibule::secret::Secret;
use vestibule::server::migration::{self, Parts};
use vestibule::store;
use vestibule::time::UnixMs;

use crate::differential::server::{Browser, PASSWORD, Server};
use crate::support::databases::{Folder, settings};
use crate::support::{Answer, App, Gateway, PATIENCE, SECRET, Setup, reply};

const KEY: &str = "a key of the migration's own, for its tests";
const OLD_SECRET: [u8; 20] = [
    0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
];

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

struct Place {
    real: Server,
    folder: Folder,
    runtime: Runtime,
    accounts: Arc<dyn Accounts>,
}

impl Place {
    fn start() -> Self {
        let folder = Folder::new("second-factor");
        let real = Server::start(&json!({
            "options": { "baseURL": "http://app.test", "secret": SECRET },
            "sqlite": folder.join("app.sqlite"),
            "plugins": { "twoFactor": {} },
            "realPasswords": true,
        }));
        let runtime = Runtime::new().unwrap();
        let url = format!("sqlite:{}", folder.join("app.sqlite").display());
        let accounts = runtime
            .block_on(store::open_accounts(&settings(&url)))
            .unwrap();
        Self {
            real,
            folder,
            runtime,
            accounts,
        }
    }

    /// A user with a password of the app and, of the old system, this much of a second factor.
    fn user(&self, name: &str, totp: Totp, sealed: Option<&[u8]>) -> String {
        Browser::sign_up(self.real.address, name);
        let user = self.account(name).user_id;
        let vault = Vault::new(&Secret::new(KEY));
        let stand_in = StandIn::new(
            &secrets::Settings::single(Secret::new(SECRET)),
            BackupCodes::Encrypted,
            &|bytes| aws_lc_rs::rand::fill(bytes).unwrap(),
        )
        .unwrap();
        let factor = OldFactor {
            sealed: sealed.map(|secret| vault.seal(Purpose::Factor, &user, secret, [3; 24])),
            digits: totp.digits,
            period: totp.period,
            algorithm: match totp.algorithm {
                vestibule::migration::second_factor::Algorithm::Sha256 => "SHA256".into(),
                _ => "SHA1".into(),
            },
            last_step: None,
            native: Some(stand_in.secret),
        };
        let kept = self
            .accounts
            .keep_factor(&user, &factor, &stand_in.backup_codes, now());
        assert!(self.runtime.block_on(kept).unwrap());
        user
    }

    fn account(&self, name: &str) -> Account {
        let by = Identifier::Email(format!("{name}@example.com"));
        let found = self.accounts.find(&by);
        self.runtime.block_on(found).unwrap().unwrap()
    }

    fn gateway(&self, migration: &str) -> Gateway {
        let url = format!("sqlite:{}", self.folder.join("app.sqlite").display());
        let settings_of_store = settings(&url);
        let settings = migration_settings(&url, migration);
        let (accounts, home) = (Arc::clone(&self.accounts), self.runtime.handle().clone());
        let app = format!("http://{}/api/auth", self.real.address);
        let app = vec![url::Url::parse(&app).unwrap()];
        let mut setup = Setup::in_front_of(self.real.address);
        setup.migration = Some(Arc::new(move || Parts {
            settings: settings.clone(),
            accounts: Arc::clone(&accounts),
            shared_limits: None,
            home: home.clone(),
            old: None,
            stores: Default::default(),
            app: app.clone(),
        }));
        let quick = store::Settings {
            timeout: PATIENCE,
            ..settings_of_store
        };
        let source = self.runtime.block_on(store::open(&quick)).unwrap();
        let gateway = setup.start_from(source);
        gateway.clock.set(now());
        gateway
    }
}

fn migration_settings(database: &str, migration: &str) -> migration::Settings {
    let text = format!(
        "public_url = \"http://app.test\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n[better_auth]\nsecret = \"{SECRET}\"\n\
         [sessions]\nsource = \"{database}\"\n[routes]\ndefault = \"signed-in\"\n\
         [migration]\nkey = \"{KEY}\"\n{migration}\n"
    );
    let loaded = config::load(&Sources {
        name: "vestibule.toml",
        text: &text,
        environment: &BTreeMap::new(),
        overrides: &[],
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        route_check: config::no_route_check,
        read_build: &config::no_build,
    });
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
    loaded.config.migration.expect("a migration")
}

/// Signs in up to the second factor.
fn waiting(gateway: &Gateway, name: &str) -> Browser {
    gateway.clock.set(now());
    let mut browser = Browser::default();
    let answer = browser.sign_in_here(gateway.address, name, true);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.text().contains("twoFactorRedirect"),
        "{}",
        answer.text()
    );
    browser
}

fn give(gateway: &Gateway, browser: &mut Browser, endpoint: &str, code: &str) -> Answer {
    let body = json!({ "code": code, "trustDevice": false });
    browser.post(gateway.address, endpoint, &body)
}

const TOTP: &str = "/two-factor/verify-totp";

#[test]
fn the_old_app_s_code_signs_in_once_and_not_again() {
    let place = Place::start();
    let totp = Totp::of("SHA256", 8, 60).unwrap();
    place.user("ann", totp, Some(&OLD_SECRET));
    let gateway = place.gateway("");
    let mut first = waiting(&gateway, "ann");
    let code = totp.code(&OLD_SECRET, totp.step(now()));
    // Better Auth itself knows nothing of this code.
    let mut directly = Browser::default();
    directly.sign_in_here(place.real.address, "ann", true);
    let body = json!({ "code": code });
    assert_eq!(directly.post(place.real.address, TOTP, &body).status, 401);

    let answer = give(&gateway, &mut first, TOTP, &code);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-vestibule-second-factor"), Some("re-enrol"));
    let device = first
        .cookies
        .keys()
        .any(|name| name.ends_with("known_device"));
    assert!(device, "{:?}", first.cookies);
    let session = first.get(gateway.address, "/api/auth/get-session");
    assert!(
        session.text().contains("ann@example.com"),
        "{}",
        session.text()
    );

    let mut second = waiting(&gateway, "ann");
    let answer = give(&gateway, &mut second, TOTP, &code);
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(answer.header("x-vestibule-second-factor"), None);
    // The next code is good again, in the same sign-in.
    let next = totp.code(&OLD_SECRET, totp.step(now()) + 1);
    let answer = give(&gateway, &mut second, TOTP, &next);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn ten_at_once_with_one_code_make_one_session() {
    let place = Place::start();
    let totp = Totp::default();
    let user = place.user("ann", totp, Some(&OLD_SECRET));
    let gateway = place.gateway("");
    let mut browsers: Vec<_> = (0..10).map(|_| waiting(&gateway, "ann")).collect();
    let count = || {
        place.real.sql(&format!(
            "SELECT count(*) AS n FROM session WHERE userId = '{user}'"
        ))[0]["n"]
            .as_u64()
            .unwrap()
    };
    let before = count();
    let code = totp.code(&OLD_SECRET, totp.step(now()));
    let passed: usize = std::thread::scope(|scope| {
        let all: Vec<_> = browsers
            .iter_mut()
            .map(|browser| {
                let (gateway, code) = (&gateway, &code);
                scope.spawn(move || give(gateway, browser, TOTP, code).status)
            })
            .collect();
        all.into_iter()
            .map(|one| usize::from(one.join().unwrap() == 200))
            .sum()
    });
    assert_eq!(passed, 1);
    assert_eq!(count(), before + 1);
}

#[test]
fn wrong_codes_count_for_the_framework_s_own_lockout() {
    let place = Place::start();
    place.user("ann", Totp::default(), Some(&OLD_SECRET));
    let gateway = place.gateway("");
    let mut browser = waiting(&gateway, "ann");
    let right = Totp::default().code(&OLD_SECRET, Totp::default().step(now()));
    let wrong = if right == "000000" {
        "000001"
    } else {
        "000000"
    };
    for _ in 0..5 {
        assert_eq!(give(&gateway, &mut browser, TOTP, wrong).status, 401);
    }
    let answer = give(&gateway, &mut browser, TOTP, wrong);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("TOO_MANY_ATTEMPTS"),
        "{}",
        answer.text()
    );
    // The sign-in is over, for a right code too.
    let answer = give(&gateway, &mut browser, TOTP, &right);
    assert_eq!(answer.status, 401, "{}", answer.text());
}

#[test]
fn after_a_new_enrolment_only_the_new_code_counts() {
    let place = Place::start();
    let totp = Totp::default();
    place.user("ann", totp, Some(&OLD_SECRET));
    let gateway = place.gateway("");
    let mut browser = waiting(&gateway, "ann");
    let code = totp.code(&OLD_SECRET, totp.step(now()) - 1);
    assert_eq!(give(&gateway, &mut browser, TOTP, &code).status, 200);

    let password = json!({ "password": PASSWORD });
    let mut enabled = browser.post(gateway.address, "/two-factor/enable", &password);
    if enabled.status == 400 {
        // Newer releases want the old one gone first.
        browser.done(gateway.address, "/two-factor/disable", &password);
        enabled = browser.post(gateway.address, "/two-factor/enable", &password);
    }
    let enabled: Value = serde_json::from_slice(&enabled.body).unwrap();
    let uri = url::Url::parse(enabled["totpURI"].as_str().expect("an address")).unwrap();
    let shown = uri.query_pairs().find(|(name, _)| name == "secret");
    let new_secret = from_base32(&shown.unwrap().1).unwrap();
    let new_code = || totp.code(&new_secret, totp.step(now()));
    let answer = give(&gateway, &mut browser, TOTP, &new_code());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(place.account("ann").factor.is_none());

    let mut again = waiting(&gateway, "ann");
    let old = totp.code(&OLD_SECRET, totp.step(now()) + 1);
    assert_eq!(give(&gateway, &mut again, TOTP, &old).status, 401);
    let answer = give(&gateway, &mut again, TOTP, &new_code());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-vestibule-second-factor"), None);
}

#[test]
fn whoever_switches_it_off_is_asked_no_more() {
    let place = Place::start();
    place.user("ann", Totp::default(), Some(&OLD_SECRET));
    let gateway = place.gateway("");
    let mut browser = waiting(&gateway, "ann");
    let code = Totp::default().code(&OLD_SECRET, Totp::default().step(now()));
    assert_eq!(give(&gateway, &mut browser, TOTP, &code).status, 200);
    let password = json!({ "password": PASSWORD });
    browser.done(gateway.address, "/two-factor/disable", &password);
    assert!(place.account("ann").factor.is_none());
    let mut again = Browser::default();
    let answer = again.sign_in_here(gateway.address, "ann", true);
    assert!(answer.text().contains("token"), "{}", answer.text());
}

#[test]
fn a_factor_that_was_not_exported_is_asked_of_the_old_system_also_for_backup_codes() {
    let old = App::scripted(|seen, stream| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let status = match body["code"].as_str() {
            Some("123456" | "old-backup-code") => 200,
            Some("500000") => 500,
            _ => 401,
        };
        reply(
            stream,
            status,
            &[("content-type", "application/json")],
            b"{}",
        );
    });
    let place = Place::start();
    let user = place.user("ann", Totp::default(), None);
    let mapped = place.accounts.map(&user, "generic", "old-1", now());
    assert!(place.runtime.block_on(mapped).unwrap());
    let keys = format!(
        "[migration.from.generic]\ncheck_url = \"http://{0}/check\"\nfactor_url = \"http://{0}/factor\"\ntoken = \"0123456789012345678901234567890123456789\"\n",
        old.address
    );
    let gateway = place.gateway(&keys);
    let mut browser = waiting(&gateway, "ann");
    assert_eq!(give(&gateway, &mut browser, TOTP, "654321").status, 401);
    let answer = give(&gateway, &mut browser, TOTP, "500000");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let answer = give(&gateway, &mut browser, TOTP, "123456");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut again = waiting(&gateway, "ann");
    assert_eq!(give(&gateway, &mut again, TOTP, "123456").status, 401);
    // A step later the old system's backup code.
    gateway
        .clock
        .set(now().plus(std::time::Duration::from_secs(31)));
    let backup = "/two-factor/verify-backup-code";
    let answer = give(&gateway, &mut again, backup, "old-backup-code");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let session = again.get(gateway.address, "/api/auth/get-session");
    assert!(session.text().contains("ann@example.com"));
}

#[test]
fn switched_off_the_app_alone_has_the_word() {
    let place = Place::start();
    place.user("ann", Totp::default(), Some(&OLD_SECRET));
    let gateway = place.gateway("disable = [\"second_factor\"]");
    let mut browser = waiting(&gateway, "ann");
    let code = Totp::default().code(&OLD_SECRET, Totp::default().step(now()));
    assert_eq!(give(&gateway, &mut browser, TOTP, &code).status, 401);
}

// ------------------------------------------------------------------------------------------------- limits, on the way of a request

fn try_password(gateway: &Gateway, browser: &mut Browser, password: &str) -> Answer {
    let body = json!({ "email": "ann@example.com", "password": password });
    browser.post(gateway.address, "/sign-in/email", &body)
}

fn admin(gateway: &Gateway, method: &str, target: &str, body: &str) -> Answer {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer admin token of the tests\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    crate::support::exchange(gateway.admin, request.as_bytes())
}

#[test]
fn a_stranger_is_held_back_a_known_device_is_not_and_the_operator_lifts_it() {
    let place = Place::start();
    Browser::sign_up(place.real.address, "ann");
    let gateway = place.gateway("[migration.sign_in]\nhold = \"100ms\"\n");
    let mut known = Browser::default();
    assert_eq!(try_password(&gateway, &mut known, PASSWORD).status, 200);
    let mut stranger = Browser::default();
    for _ in 0..5 {
        let answer = try_password(&gateway, &mut stranger, "not this one");
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    // Also with the right one: nothing is checked any more.
    for password in ["not this one", PASSWORD] {
        let answer = try_password(&gateway, &mut stranger, password);
        assert_eq!(answer.status, 429, "{}", answer.text());
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(answer.header("x-retry-after"), answer.header("retry-after"));
        assert!(answer.text().contains("Too many requests"));
    }
    let other = json!({ "email": "nobody@example.com", "password": "not this one" });
    let answer = stranger.post(gateway.address, "/sign-in/email", &other);
    assert_eq!(answer.status, 401, "another account has tries of its own");
    // The owner's own browser, from the same address.
    known
        .cookies
        .retain(|name, _| name.ends_with("known_device"));
    assert_eq!(try_password(&gateway, &mut known, PASSWORD).status, 200);

    let unasked = crate::support::exchange(
        gateway.admin,
        b"GET /bans HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    assert_eq!(unasked.status, 401);
    let listed = admin(&gateway, "GET", "/bans", "");
    assert_eq!(listed.status, 200, "{}", listed.text());
    assert!(listed.text().contains("\"scope\":\"pair\""));
    assert!(!listed.text().contains("ann@"), "{}", listed.text());
    for (body, status) in [
        ("{}", 400),
        (r#"{"all":true,"key":"x"}"#, 400),
        (r#"{"account":"Ann@example.com"}"#, 200),
    ] {
        let lifted = admin(&gateway, "POST", "/bans/lift", body);
        assert_eq!(lifted.status, status, "{body} {}", lifted.text());
    }
    assert!(admin(&gateway, "GET", "/bans", "").text().contains("[]"));
    let answer = try_password(&gateway, &mut stranger, PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
