//! A real Better Auth whose users are moved in, and a gateway in front of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use vestibule::config::{self, Sources};
use vestibule::migration::accounts::{Account, Accounts, Identifier, OldCredential};
use vestibule::migration::password::keeping::{self, Randomness};
use vestibule::migration::password::{Stored, native};
use vestibule::migration::state::State;
use vestibule::migration::vault::Vault;
use vestibule::secret::Secret;
use vestibule::server::migration::{self, Parts};
use vestibule::store;
use vestibule::time::UnixMs;

use crate::differential::server::{Browser, Server};
use crate::support::databases::{Folder, settings};
use crate::support::{Answer, Gateway, SECRET, Setup};

pub const KEY: &str = "a key of the migration's own, for its tests";
pub const OLD_PASSWORD: &str = "Tr0ub4dor&3 from the old system";
pub const WRONG: &str = "certainly not this one";

/// How long a failed sign-in takes here: long enough for what the app does meanwhile on a busy machine.
pub const HOLD: Duration = Duration::from_millis(1_200);

pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

/// A real Better Auth with its own database, and what the gateway keeps there.
pub struct Place {
    pub real: Server,
    pub folder: Folder,
    pub runtime: Runtime,
    pub accounts: Arc<dyn Accounts>,
    pub vault: Vault,
    made: AtomicUsize,
}

impl Place {
    pub fn start() -> Self {
        Self::with(json!({}))
    }

    /// With more in the server's configuration.
    pub fn with(more: Value) -> Self {
        let folder = Folder::new("migration");
        let mut configuration = json!({
            "options": { "baseURL": "http://app.test", "secret": SECRET },
            "sqlite": folder.join("app.sqlite"),
            "realPasswords": true,
            "sendsLinks": true,
        });
        for (key, value) in more.as_object().unwrap() {
            match (key.as_str(), value) {
                ("options", Value::Object(options)) => {
                    for (key, value) in options {
                        configuration["options"][key] = value.clone();
                    }
                }
                _ => configuration[key] = value.clone(),
            }
        }
        let real = Server::start(&configuration);
        let runtime = Runtime::new().unwrap();
        let url = format!("sqlite:{}", folder.join("app.sqlite").display());
        let settings = settings(&url);
        let accounts = runtime.block_on(store::open_accounts(&settings)).unwrap();
        Self {
            real,
            folder,
            runtime,
            accounts,
            vault: Vault::new(&Secret::new(KEY)),
            made: AtomicUsize::new(0),
        }
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        let number = self.made.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        let mut bytes = [7; N];
        bytes[..number.len()].copy_from_slice(&number);
        bytes
    }

    /// A user without a password, as an import makes them.
    pub fn user(&self, name: &str) -> String {
        self.real.sql(&format!(
            "INSERT INTO user (id, name, email, emailVerified, createdAt, updatedAt) \
             VALUES ('{name}', '{name}', '{name}@example.com', 1, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')"
        ));
        name.to_owned()
    }

    /// The same with an old hash.
    pub fn imported(&self, name: &str, scheme: &str, hash: &str) -> String {
        let user = self.user(name);
        let stored = Stored {
            hash: Secret::new(hash),
            params: BTreeMap::new(),
        };
        let randomness = Randomness {
            nonce: self.random(),
            salt: self.random(),
        };
        let kept = keeping::keep(&self.vault, &user, scheme, &stored, randomness).unwrap();
        self.keep(&user, &kept.scheme, kept.sealed);
        user
    }

    pub fn keep(&self, user: &str, scheme: &str, sealed: Secret) {
        let old = OldCredential {
            scheme: scheme.into(),
            sealed,
            state: State::Pending,
            exported_at: Some(now()),
        };
        let kept = self.accounts.keep(user, &old, now());
        assert!(self.runtime.block_on(kept).unwrap());
    }

    /// A credential row.
    pub fn credential(&self, user: &str, password: &str) {
        self.real.sql(&format!(
            "INSERT INTO account (id, accountId, providerId, userId, password, createdAt, updatedAt) \
             VALUES ('c-{user}', '{user}', 'credential', '{user}', '{password}', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')"
        ));
    }

    /// One with a native password.
    pub fn native(&self, name: &str) -> String {
        let user = self.user(name);
        let hash = native::hash(OLD_PASSWORD.as_bytes(), self.random());
        self.credential(&user, hash.expose());
        user
    }

    pub fn account(&self, user: &str) -> Account {
        let by = Identifier::UserId(user.into());
        let found = self.accounts.find(&by);
        self.runtime.block_on(found).unwrap().unwrap()
    }

    pub fn state(&self, user: &str) -> Option<State> {
        self.account(user).old.map(|old| old.state)
    }

    /// `account.password` of the credential row.
    pub fn password(&self, user: &str) -> Option<String> {
        let password = self.account(user).password;
        password.map(|password| password.expose().to_owned())
    }

    /// Links to a new password that this user found in the mail.
    pub fn links(&self, user: &str) -> Vec<Value> {
        let all = self.real.ask("links", json!({}));
        let address = format!("{user}@example.com");
        let theirs = |link: &&Value| link["email"] == address.as_str();
        all.as_array()
            .unwrap()
            .iter()
            .filter(theirs)
            .cloned()
            .collect()
    }

    /// A gateway in front of it, with this in its `[migration]`.
    pub fn gateway(&self, migration: &str) -> Gateway {
        self.gateway_before(self.real.address, migration, &[])
    }

    /// The same in front of another app, with other origins whose pages may read what it answers.
    pub fn gateway_before(&self, app: SocketAddr, migration: &str, origins: &[&str]) -> Gateway {
        let origins = origins.iter().map(|origin| (*origin).to_owned());
        let url = format!("sqlite:{}", self.folder.join("app.sqlite").display());
        let settings = migration_settings(&url, migration);
        let (accounts, home) = (Arc::clone(&self.accounts), self.runtime.handle().clone());
        let asked = format!("http://{}/api/auth", self.real.address);
        let asked = vec![url::Url::parse(&asked).unwrap()];
        let mut setup = Setup::in_front_of(app);
        setup.server.cors_origins = origins.collect();
        setup.migration = Some(Arc::new(move || Parts {
            settings: settings.clone(),
            accounts: Arc::clone(&accounts),
            shared_limits: None,
            home: home.clone(),
            old: None,
            stores: Default::default(),
            app: asked.clone(),
        }));
        let gateway = setup.start();
        gateway.clock.set(now());
        gateway
    }
}

/// The settings an operator's file makes.
pub fn migration_settings(database: &str, migration: &str) -> migration::Settings {
    // Many try to sign in at once, from one address.
    let limits = match migration.contains("[migration.limits]") {
        true => "",
        false => "[migration.limits]\naddress = 10000\naccount = 10000\npair = 10000\n",
    };
    let text = format!(
        "public_url = \"http://app.test\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n[better_auth]\nsecret = \"{SECRET}\"\n\
         trusted_origins = [\"https://front.test\"]\n\
         [sessions]\nsource = \"{database}\"\n[routes]\ndefault = \"signed-in\"\n\
         [migration]\nkey = \"{KEY}\"\n{migration}\n{limits}"
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

pub const USUAL: &str = r#"
before = "2026-12-01"
[migration.sign_in]
hold = "1200ms"
[migration.reset]
redirect_to = "/new-password"
"#;

pub fn sign_in(at: SocketAddr, user: &str, password: &str) -> Answer {
    let body = json!({ "email": format!("{user}@example.com"), "password": password });
    Browser::default().post(at, "/sign-in/email", &body)
}

pub fn took<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let made = work();
    (made, began.elapsed())
}

/// An answer without what differs from any answer to the next: its id, and when it was given.
pub fn shape(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .filter(|(name, _)| name != "x-request-id" && name != "date")
        .collect();
    headers.sort();
    (answer.status, headers, answer.text())
}

pub fn bcrypt_of(password: &str) -> String {
    bcrypt::hash_with_salt(password, 4, [5; 16])
        .unwrap()
        .format_for_version(bcrypt::Version::TwoB)
}

pub fn sha1_of(password: &str) -> String {
    use sha1::Digest as _;
    let digest = sha1::Sha1::digest(password.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
