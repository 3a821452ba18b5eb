//! People of every old system, as their exports have them, in front of a real Better Auth: each signs in with the old password through
//! the gateway, and from then on without it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vestibule::migration::accounts::{Accounts, AccountsError, NewUser, OldCredential};
use vestibule::migration::password::keeping::{self, Randomness};
use vestibule::migration::password::{Stored, native};
use vestibule::migration::state::State;
use vestibule::migration::vault::Vault;
use vestibule::secret::Secret;
use vestibule::store;
use vestibule::time::UnixMs;

use crate::differential::gateway;
use crate::differential::server::{Server, request};
use crate::support::databases::{Dialect, Folder, settings, shared};
use crate::support::seeds::{self, Person};
use crate::support::{Answer, SECRET};

const KEY: &str = "what old hashes are sealed under, in the tests";

/// A real Better Auth with people who have not signed in here yet.
pub struct World {
    pub server: Server,
    folder: Folder,
    /// The app's database.
    pub url: String,
    /// Those who are there, with whether an old hash is kept for them.
    pub people: Vec<(Person, bool)>,
}

impl World {
    /// In SQLite.
    pub fn of(system: &str, people: Vec<Person>) -> Self {
        Self::on(None, system, people)
    }

    /// In a database of its own on the shared server; none: in SQLite.
    pub fn on(dialect: Option<Dialect>, system: &str, people: Vec<Person>) -> Self {
        let folder = Folder::new(&format!("truth-{system}"));
        let mut configuration = json!({
            "options": { "baseURL": "http://app.test", "secret": SECRET },
            "realPasswords": true,
            "sendsLinks": true,
        });
        let url = match dialect {
            Some(dialect) => {
                let server = shared(dialect);
                let database = server.database();
                let name = match dialect {
                    Dialect::Postgres => "postgres",
                    Dialect::MySql => {
                        // Where nobody says so, MariaDB before 11.6 makes tables that hold Latin letters alone.
                        let wide = format!("ALTER DATABASE {database} CHARACTER SET utf8mb4");
                        server.sql(&database, &wide);
                        "mysql"
                    }
                };
                let url = server.url(&database);
                configuration[name] = url.clone().into();
                url
            }
            None => {
                let file = folder.join("app.sqlite");
                configuration["sqlite"] = file.display().to_string().into();
                format!("sqlite:{}", file.display())
            }
        };
        let server = Server::start(&configuration);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let accounts = runtime
            .block_on(store::open_accounts(&settings(&url)))
            .unwrap();
        let vault = Vault::new(&Secret::new(KEY));
        let mut there = Vec::new();
        for (at, person) in people.into_iter().enumerate() {
            // Whoever has no address cannot be made; two with one address are one too many: an importer reports them.
            if person.email.is_empty() {
                continue;
            }
            let seeded = runtime.block_on(seed(&*accounts, &vault, &person, at));
            if let Some(kept) = seeded {
                there.push((person, kept));
            }
        }
        Self {
            server,
            folder,
            url,
            people: there,
        }
    }

    /// The file of one in SQLite.
    pub fn database(&self) -> std::path::PathBuf {
        self.folder.join("app.sqlite")
    }

    fn gateway(&self) -> gateway::Gateway {
        self.gateway_with("")
    }

    /// One with these tables in its configuration too.
    pub fn gateway_with(&self, more: &str) -> gateway::Gateway {
        let configuration = format!(
            "public_url = \"http://app.test\"\nhosts = [\"app.test\"]\nadmin = \"off\"\n\
             [upstream]\nurl = \"http://{}\"\n[better_auth]\nsecret = \"{SECRET}\"\n\
             [sessions]\nsource = \"{}\"\n[routes]\ndefault = \"signed-in\"\nsign_in = \"/sign-in\"\n\
             [migration]\nkey = \"{KEY}\"\nbefore = \"2026-01-01\"\n[migration.sign_in]\nhold = \"50ms\"\n\
             [migration.limits]\naddress = 10000\naccount = 10000\npair = 10000\n{more}",
            self.server.address, self.url,
        );
        gateway::Gateway::start(&configuration, &self.folder.join("vestibule.toml"))
    }

    pub fn password_of(&self, email: &str) -> Option<String> {
        let email = email.replace('\'', "''");
        let rows = self.server.sql(&format!(
            "SELECT a.password FROM account a JOIN user u ON u.id = a.userId WHERE u.email = '{email}' AND a.providerId = 'credential'"
        ));
        rows[0]["password"].as_str().map(str::to_owned)
    }
}

async fn seed(accounts: &dyn Accounts, vault: &Vault, person: &Person, at: usize) -> Option<bool> {
    let id = format!("{}-{at}", person.system);
    let name = match person.name.trim() {
        "" => person.email.clone(),
        name => name.to_owned(),
    };
    let new = NewUser {
        id: Some(id),
        email: person.email.clone(),
        email_verified: person.verified,
        name,
        source: Some((person.system.clone(), person.id.clone())),
        ..NewUser::default()
    };
    let user_id = match accounts.create(&new, now()).await {
        Ok(user_id) => user_id,
        Err(AccountsError::Taken(_)) => return None,
        Err(error) => panic!("{}: {error}", person.id),
    };
    let Some(exported) = &person.exported else {
        return Some(false);
    };
    let stored = Stored {
        hash: Secret::new(exported.hash.clone()),
        params: exported
            .params
            .iter()
            .map(|(key, value)| (key.clone(), Secret::new(value.clone())))
            .collect(),
    };
    let randomness = Randomness {
        nonce: rand(at, 1),
        salt: rand(at, 2),
    };
    let kept = keeping::keep(vault, &user_id, &exported.scheme, &stored, randomness);
    let Ok(kept) = kept else {
        assert!(
            person.plaintext.is_none(),
            "{} {}: {:?}",
            person.system,
            exported.scheme,
            kept.err()
        );
        return Some(false);
    };
    let old = OldCredential {
        scheme: kept.scheme,
        sealed: kept.sealed,
        state: State::Pending,
        exported_at: None,
    };
    assert!(accounts.keep(&user_id, &old, now()).await.unwrap());
    Some(true)
}

/// Different for every person; nobody guesses in a test.
fn rand<const N: usize>(at: usize, what: u8) -> [u8; N] {
    let mut bytes = [what; N];
    bytes[0] = u8::try_from(at % 256).unwrap();
    bytes
}

fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMs(i64::try_from(since.as_millis()).unwrap())
}

pub fn sign_in(at: std::net::SocketAddr, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password });
    request(at, "POST", "/api/auth/sign-in/email", &[], Some(&body))
}

/// Whether the framework takes an address for one at all.
pub fn is_taken(server: &Server, email: &str) -> bool {
    !sign_in(server.address, email, "whatever")
        .text()
        .contains("INVALID_EMAIL\"")
}

pub fn told_user(answer: &Answer) -> Option<String> {
    let said: Value = serde_json::from_slice(&answer.body).ok()?;
    said["user"]["email"].as_str().map(str::to_owned)
}

#[test]
fn everybody_signs_in_with_the_old_password_once_slow_and_then_without_us() {
    let systems: Vec<_> = seeds::all()
        .into_iter()
        .filter(|(_, people)| people.iter().any(|person| person.exported.is_some()))
        .collect();
    assert!(!systems.is_empty(), "no system exports a hash");
    // Two at a time: what takes long is hashing, on either side.
    let (left, right) = systems.split_at(systems.len() / 2);
    let signed_in = std::thread::scope(|scope| {
        let other = scope.spawn(|| everybody_of(right));
        everybody_of(left) + other.join().unwrap()
    });
    assert!(signed_in > 0);
}

fn everybody_of(systems: &[(String, Vec<Person>)]) -> usize {
    let mut signed_in = 0;
    for (system, people) in systems.iter().cloned() {
        let world = World::of(&system, people);
        let gateway = world.gateway();
        let (mut fine, mut resets) = (0, 0);
        let mut untaken = std::collections::BTreeSet::new();
        for (at, (person, kept)) in world.people.iter().enumerate() {
            let who = format!(
                "{system} {} ({:?})",
                person.id,
                person.exported.as_ref().map(|e| &e.scheme)
            );
            // Each costs a hash on both sides: of some it is enough.
            if at % 8 == 0 {
                let wrong = sign_in(gateway.address, &person.email, "not the password");
                assert!(matches!(wrong.status, 400 | 401), "{who}: {}", wrong.text());
            }
            let (Some(password), true) = (&person.plaintext, kept) else {
                resets += usize::from(person.exported.is_some());
                continue;
            };
            assert_eq!(world.password_of(&person.email), None, "{who}");
            let first = sign_in(gateway.address, &person.email, password);
            if first.status == 400 {
                // The framework takes no such address, with or without us.
                assert!(!is_taken(&world.server, &person.email), "{who}");
                untaken.insert(person.id.clone());
                continue;
            }
            assert_eq!(first.status, 200, "{who}: {}", first.text());
            assert_eq!(
                told_user(&first).as_deref(),
                Some(person.email.as_str()),
                "{who}"
            );
            let stored = world.password_of(&person.email).unwrap_or_default();
            assert!(native::is_native(&stored), "{who}: {stored}");
            let second = sign_in(gateway.address, &person.email, password);
            assert_eq!(second.status, 200, "{who}");
            assert_eq!(
                world.password_of(&person.email).as_deref(),
                Some(stored.as_str()),
                "{who}: written once"
            );
            fine += 1;
        }
        drop(gateway);
        for (person, _) in world.people.iter().filter(|(_, kept)| *kept) {
            let Some(password) = &person.plaintext else {
                continue;
            };
            if untaken.contains(&person.id) {
                continue;
            }
            let alone = sign_in(world.server.address, &person.email, password);
            assert_eq!(
                alone.status,
                200,
                "{system} {}: {}",
                person.id,
                alone.text()
            );
        }
        println!(
            "truth {system}: {} people there, {fine} signed in with the old password, {resets} with a hash nobody can use",
            world.people.len()
        );
        let due = world.people.iter();
        let due = due.filter(|(person, kept)| *kept && person.plaintext.is_some());
        assert_eq!(fine + untaken.len(), due.count(), "{system}");
        assert!(fine > 0, "{system}");
        signed_in += fine;
    }
    signed_in
}
