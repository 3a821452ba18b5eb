//! Accounts written in the app's own database, in every layout people have, and the gateway's own tables beside them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, Row as _};
use vestibule::migration::accounts::{
    Account, Accounts, AccountsError, Claimed, Identifier, NewSession, NewUser, OldCredential,
    OldFactor, OldSessionKey, Replacement,
};
use vestibule::migration::state::State;
use vestibule::secret::Secret;
use vestibule::store::{self, OpenError, SchemaError, Settings};
use vestibule::time::UnixMs;

use crate::differential::server::{Browser, Server, request};
use crate::support::databases::{Dialect, Folder, settings, shared};

/// 2026-11-21T02:52:15.028Z.
const AT: UnixMs = UnixMs(1_795_229_535_028);

const fn later(seconds: i64) -> UnixMs {
    UnixMs(AT.0 + seconds * 1000)
}

/// A database of the app.
pub struct Place {
    pub url: String,
    _folder: Folder,
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/db")
        .join(name)
}

impl Place {
    /// One that is there already.
    pub fn at(url: String) -> Self {
        Self {
            url,
            _folder: Folder::new("accounts"),
        }
    }

    /// Of one of the recorded layouts: a database file, a dump, or the statements that make it empty.
    pub async fn of(name: &str) -> Self {
        let file = golden(name);
        if name.ends_with(".sqlite") {
            let folder = Folder::new("accounts");
            let path = folder.join("app.sqlite");
            std::fs::copy(&file, &path).unwrap();
            return Self {
                url: format!("sqlite:{}", path.display()),
                _folder: folder,
            };
        }
        let sql = std::fs::read_to_string(&file).unwrap();
        match dialect(name) {
            Some(dialect) => {
                let server = shared(dialect);
                Self {
                    url: server.url(&server.load(&file)),
                    _folder: Folder::new("accounts"),
                }
            }
            None => Self::made(None, &sql).await,
        }
    }

    pub async fn made(dialect: Option<Dialect>, sql: &str) -> Self {
        let folder = Folder::new("accounts");
        let url = match dialect {
            Some(dialect) => {
                let server = shared(dialect);
                let database = server.database();
                server.sql(&database, sql);
                server.url(&database)
            }
            None => {
                let url = format!("sqlite:{}", folder.join("app.sqlite").display());
                let made = format!("{url}?mode=rwc");
                let mut app = sqlx::SqliteConnection::connect(&made).await.unwrap();
                let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
                run.execute(&mut app).await.unwrap();
                app.close().await.unwrap();
                url
            }
        };
        Self {
            url,
            _folder: folder,
        }
    }

    fn settings(&self) -> Settings {
        settings(&self.url)
    }

    pub async fn open(&self) -> Arc<dyn Accounts> {
        self.try_open(|_| {})
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.url))
    }

    async fn try_open(
        &self,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Arc<dyn Accounts>, OpenError> {
        let mut settings = self.settings();
        change(&mut settings);
        store::open_accounts(&settings).await
    }

    /// Runs a statement as the app would.
    pub async fn run(&self, sql: &str) {
        let _ = self.rows(sql).await;
    }

    /// Every row of a question as text. `@(x)` in it is `x` as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let is = |scheme: &str| self.url.starts_with(scheme);
        let cast = if is("mysql") { "CHAR" } else { "TEXT" };
        let mut text = String::new();
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once("@(") {
            let (inner, behind) = after.split_once(')').unwrap();
            text.push_str(&format!("{before}CAST({inner} AS {cast})"));
            rest = behind;
        }
        text.push_str(rest);
        let text = match is("mysql") {
            true => text.replace('"', "`"),
            false => text,
        };
        let query = sqlx::AssertSqlSafe(text);
        macro_rules! ask {
            ($connection:ty) => {{
                let mut app = <$connection>::connect(&self.url).await.unwrap();
                let rows = sqlx::query(query).fetch_all(&mut app).await.unwrap();
                let cells = rows.iter().map(|row| {
                    let cells = 0..row.len();
                    cells.map(|at| row.try_get_unchecked(at).unwrap()).collect()
                });
                let rows: Vec<Vec<Option<String>>> = cells.collect();
                app.close().await.unwrap();
                rows
            }};
        }
        if is("sqlite") {
            ask!(sqlx::SqliteConnection)
        } else if is("mysql") {
            ask!(sqlx::MySqlConnection)
        } else {
            ask!(sqlx::PgConnection)
        }
    }

    pub async fn one(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
    }

    /// A table of ours.
    pub fn own(&self, table: &str) -> String {
        match self.url.starts_with("postgres") {
            true => format!("vestibule.{table}"),
            false => format!("vestibule_{table}"),
        }
    }
}

fn dialect(name: &str) -> Option<Dialect> {
    if name.contains("postgres") {
        return Some(Dialect::Postgres);
    }
    name.contains("mysql").then_some(Dialect::MySql)
}

/// Every recorded layout, with rows and empty.
const LAYOUTS: &[&str] = &[
    "core.sqlite",
    "full.sqlite",
    "serial.sqlite",
    "snake.sqlite",
    "uuid.sqlite",
    "drizzle-sqlite.sqlite",
    "drizzle-sqlite-sec-plural.sqlite",
    "full.sqlite.ddl.sql",
    "serial.sqlite.ddl.sql",
    "core.postgres.sql",
    "full.postgres.sql",
    "serial.postgres.sql",
    "snake.postgres.sql",
    "uuid.postgres.sql",
    "drizzle-postgres.sql",
    "full.postgres.ddl.sql",
    "uuid.postgres.ddl.sql",
    "core.mysql.sql",
    "full.mysql.sql",
    "serial.mysql.sql",
    "snake.mysql.sql",
    "uuid.mysql.sql",
    "drizzle-mysql-plural.sql",
    "full.mysql.ddl.sql",
];

fn email(address: &str) -> Identifier {
    Identifier::Email(address.to_owned())
}

fn user(address: &str) -> NewUser {
    NewUser {
        email: address.to_owned(),
        email_verified: true,
        name: "Ada Ünë".to_owned(),
        created_at: Some(later(-86_400)),
        ..NewUser::default()
    }
}

fn pending(sealed: &str) -> OldCredential {
    OldCredential {
        scheme: "bcrypt".to_owned(),
        sealed: Secret::new(sealed),
        state: State::Pending,
        exported_at: Some(later(-3600)),
    }
}

fn rehash(user_id: &str, seen: Option<&str>, native: &str) -> Replacement {
    Replacement {
        user_id: user_id.to_owned(),
        seen: seen.map(Secret::new),
        native: Secret::new(native),
        state: State::Rehashed,
        keep: None,
        at: AT,
    }
}

fn session(user_id: &str, token: &str, created_at: UnixMs) -> NewSession {
    NewSession {
        id: format!("id-{token}"),
        token: Secret::new(token),
        user_id: user_id.to_owned(),
        expires_at: later(86_400),
        created_at,
        updated_at: AT,
        ip_address: "192.0.2.7".to_owned(),
        user_agent: "a test".to_owned(),
        impersonated_by: None,
        organization_id: None,
        in_database: true,
    }
}

fn old_session(digest: &str) -> OldSessionKey {
    OldSessionKey {
        provider: "clerk".to_owned(),
        digest: digest.to_owned(),
    }
}

async fn found(accounts: &dyn Accounts, by: &Identifier) -> Account {
    let found = accounts.find(by).await.unwrap();
    found.unwrap_or_else(|| panic!("{by:?} is not found"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_every_layout_a_user_is_made_signs_in_with_the_old_hash_once_and_keeps_the_native_one() {
    for name in LAYOUTS {
        let place = Place::of(name).await;
        let (accounts, other) = (place.open().await, place.open().await);
        let made = NewUser {
            id: Some("user_2abc".to_owned()),
            source: Some(("clerk".to_owned(), "user_2abc".to_owned())),
            ..user("mover@example.com")
        };
        let id = accounts.create(&made, AT).await;
        let id = id.unwrap_or_else(|error| panic!("{name}: {error}"));
        let wanted_kept = !name.contains("serial") && !name.starts_with("uuid.postgres");
        assert_eq!(id == "user_2abc", wanted_kept, "{name}: {id}");

        // By every name they have, in the other gateway.
        for by in [
            email("mover@example.com"),
            Identifier::UserId(id.clone()),
            Identifier::Source("clerk".into(), "user_2abc".into()),
        ] {
            let ada = found(&*other, &by).await;
            assert_eq!(ada.user_id, id, "{name}");
            assert_eq!(ada.email, "mover@example.com");
            assert!(ada.email_verified && !ada.banned && !ada.two_factor && !ada.anonymous);
            assert!(!ada.has_credential && ada.password.is_none() && ada.old.is_none());
            assert_eq!(ada.sources.len(), 1);
            assert_eq!(ada.sources[0].state, State::Imported);
        }
        for nobody in [
            email("MOVER@example.com"),
            email("mover@example.com "),
            email("a\0"),
            Identifier::UserId("0".into()),
            Identifier::UserId("no id of any kind".into()),
            Identifier::Source("workos".into(), "user_2abc".into()),
            Identifier::Source("clerk".into(), "USER_2ABC".into()),
            Identifier::Username("nobody".into()),
            Identifier::Phone("+1".into()),
        ] {
            assert!(
                other.find(&nobody).await.unwrap().is_none(),
                "{name} {nobody:?}"
            );
        }

        assert!(accounts.keep(&id, &pending("sealed-1"), AT).await.unwrap());
        let ada = found(&*other, &email("mover@example.com")).await;
        assert_eq!(ada.old, Some(pending("sealed-1")), "{name}");
        assert_eq!(ada.sources[0].state, State::Pending);

        // Somebody else's view of the row is not this one's.
        let wrong = rehash(&id, Some("other"), "native-0");
        assert!(!accounts.replace_password(&wrong).await.unwrap(), "{name}");
        let first = rehash(&id, None, "native-1");
        assert!(accounts.replace_password(&first).await.unwrap(), "{name}");
        let ada = found(&*other, &email("mover@example.com")).await;
        assert!(ada.has_credential, "{name}");
        assert_eq!(ada.password, Some(Secret::new("native-1")), "{name}");
        let changed = ada.password_changed_at.unwrap();
        let exact = !name.contains("sec-plural");
        assert_eq!(
            changed.0,
            if exact { AT.0 } else { AT.0 / 1000 * 1000 },
            "{name}"
        );
        assert_eq!(ada.old.unwrap().state, State::Rehashed);
        assert_eq!(ada.sources[0].state, State::Rehashed);
        // What we wrote is no change by the user.
        assert_eq!(
            other.sessions_count_from(&id).await.unwrap(),
            None,
            "{name}"
        );

        // Never back, and never twice.
        let again = rehash(&id, Some("native-1"), "native-2");
        assert!(!accounts.replace_password(&again).await.unwrap(), "{name}");
        assert!(!accounts.keep(&id, &pending("sealed-2"), AT).await.unwrap());
        assert!(!accounts.move_state(&id, State::Pending, AT).await.unwrap());
        assert!(accounts.move_state(&id, State::Done, AT).await.unwrap());
        let ada = found(&*other, &email("mover@example.com")).await;
        assert_eq!(ada.old, None, "{name}: the old hash is erased");
        assert_eq!(ada.sources[0].state, State::Done);
        assert_eq!(ada.password, Some(Secret::new("native-1")));
        assert_eq!(
            accounts.count().await.unwrap(),
            [(State::Done, 1)],
            "{name}"
        );

        // Somebody else has it already.
        for (taken, what) in [
            (user("mover@example.com"), "address"),
            (
                NewUser {
                    source: Some(("clerk".into(), "user_2abc".into())),
                    ..user("eve@example.com")
                },
                "id",
            ),
        ] {
            let error = other.create(&taken, AT).await.unwrap_err();
            assert_eq!(error, AccountsError::Taken(what), "{name}");
        }
        assert!(
            other
                .find(&email("eve@example.com"))
                .await
                .unwrap()
                .is_none()
        );

        // A session of the old system.
        let key = old_session("d1");
        let claim = |token: &'static str, at: UnixMs| {
            let (accounts, id, key) = (Arc::clone(&accounts), id.clone(), key.clone());
            async move {
                let sealed = Secret::new(format!("sealed-{token}"));
                let session = session(&id, token, at);
                accounts.claim(&key, &session, &sealed).await.unwrap()
            }
        };
        assert!(
            matches!(claim("tok1", later(-60)).await, Claimed::Made),
            "{name}"
        );
        let source = store::open(&place.settings()).await.unwrap();
        let record = source.find("tok1").await.unwrap().unwrap();
        assert_eq!(&*record.user_id, id, "{name}");
        let whole = |at: UnixMs| {
            if exact {
                at
            } else {
                UnixMs(at.0 / 1000 * 1000)
            }
        };
        assert_eq!(record.expires_at, whole(later(86_400)), "{name}");
        assert_eq!(record.created_at, Some(whole(later(-60))), "{name}");
        match claim("tok2", later(-60)).await {
            Claimed::Before {
                sealed_token,
                expires_at,
            } => {
                assert_eq!(sealed_token.expose(), "sealed-tok1");
                assert_eq!(expires_at, later(86_400));
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(source.find("tok2").await.unwrap().is_none(), "{name}");
        other.bury(&key, AT).await.unwrap();
        assert!(
            matches!(claim("tok3", later(-60)).await, Claimed::Dead),
            "{name}"
        );
    }
}

/// One database of each kind, with every plugin's columns.
const FULL: [&str; 3] = [
    "full.sqlite.ddl.sql",
    "full.postgres.ddl.sql",
    "full.mysql.ddl.sql",
];

async fn made(accounts: &dyn Accounts, address: &str) -> String {
    accounts.create(&user(address), AT).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_sign_ins_at_once_one_writes_and_the_old_hash_is_there_afterwards() {
    for name in FULL {
        let place = Place::of(name).await;
        let gateways = [place.open().await, place.open().await];
        let id = made(&*gateways[0], "ada@move.example").await;
        // An old hash that somebody's script put into the app's own column.
        let seen = format!("$2b$10$Upper{id}");
        let first = rehash(&id, None, &seen);
        assert!(gateways[0].replace_password(&first).await.unwrap());
        for attempt in 0..2 {
            let tasks = (0..20).map(|number| {
                let accounts = Arc::clone(&gateways[number % 2]);
                let replacement = Replacement {
                    keep: Some(("bcrypt".into(), Secret::new(format!("sealed-{number}")))),
                    ..rehash(&id, Some(&seen), &format!("native-{number}"))
                };
                tokio::spawn(async move { accounts.replace_password(&replacement).await })
            });
            let tasks: Vec<_> = tasks.collect();
            let mut first = None;
            for (number, task) in tasks.into_iter().enumerate() {
                if task.await.unwrap().unwrap() {
                    assert_eq!(first.replace(number), None, "{name}: two were first");
                }
            }
            let ada = found(&*gateways[0], &email("ada@move.example")).await;
            match attempt {
                0 => {
                    let first = first.unwrap_or_else(|| panic!("{name}: nobody was first"));
                    let native = format!("native-{first}");
                    assert_eq!(ada.password, Some(Secret::new(native)), "{name}");
                    let kept = ada.old.unwrap().sealed;
                    assert_eq!(kept, Secret::new(format!("sealed-{first}")), "{name}");
                }
                _ => assert_eq!(first, None, "{name}: what was seen is no more"),
            }
            let rows = place.rows("SELECT @(password) FROM account").await;
            assert_eq!(rows.len(), 1, "{name}: {rows:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_in_other_capitals_is_another_hash() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let id = made(&*accounts, "ada@move.example").await;
        assert!(
            accounts
                .replace_password(&rehash(&id, None, "Hash"))
                .await
                .unwrap()
        );
        for other in [Some("hash"), Some("Hash "), Some(""), None] {
            let replacement = rehash(&id, other, "never");
            assert!(
                !accounts.replace_password(&replacement).await.unwrap(),
                "{name} {other:?}"
            );
        }
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert_eq!(ada.password, Some(Secret::new("Hash")), "{name}");
        assert!(
            accounts
                .replace_password(&rehash(&id, Some("Hash"), "next"))
                .await
                .unwrap()
        );
        // Nobody is there at all.
        let nobody = rehash("nobody", None, "never");
        assert!(!accounts.replace_password(&nobody).await.unwrap(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_first_contacts_one_makes_the_session_and_all_learn_its_token() {
    for name in FULL {
        let place = Place::of(name).await;
        let gateways = [place.open().await, place.open().await];
        let id = made(&*gateways[0], "ada@move.example").await;
        let tasks = (0..20).map(|number| {
            let accounts = Arc::clone(&gateways[number % 2]);
            let id = id.clone();
            tokio::spawn(async move {
                let session = session(&id, &format!("tok{number}"), later(-60));
                let sealed = Secret::new(format!("sealed-{number}"));
                let key = old_session("d");
                (
                    number,
                    accounts.claim(&key, &session, &sealed).await.unwrap(),
                )
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let (mut made, mut before) = (None, Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                (number, Claimed::Made) => assert_eq!(made.replace(number), None, "{name}"),
                (_, Claimed::Before { sealed_token, .. }) => before.push(sealed_token),
                (_, Claimed::Dead) => panic!("{name}: nobody signed out"),
            }
        }
        let made = made.unwrap();
        assert_eq!(before.len(), 19, "{name}");
        let sealed = Secret::new(format!("sealed-{made}"));
        assert!(before.iter().all(|token| *token == sealed), "{name}");
        let tokens = place.rows("SELECT token FROM session").await;
        assert_eq!(tokens, [[Some(format!("tok{made}"))]], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_signed_out_here_never_comes_back() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let id = made(&*accounts, "ada@move.example").await;
        let claim = async |digest: &str, token: &str, began: UnixMs, user_id: &str| {
            let session = session(user_id, token, began);
            let sealed = Secret::new("sealed");
            let key = old_session(digest);
            accounts.claim(&key, &session, &sealed).await.unwrap()
        };
        // Signed out before it was ever seen.
        accounts.bury(&old_session("a"), AT).await.unwrap();
        accounts.bury(&old_session("a"), later(5)).await.unwrap();
        assert!(matches!(
            claim("a", "t1", later(-9), &id).await,
            Claimed::Dead
        ));
        // Everywhere, at once.
        accounts.bury_all(&id, later(-5)).await.unwrap();
        accounts.bury_all(&id, later(-7)).await.unwrap();
        assert_eq!(
            accounts.sessions_count_from(&id).await.unwrap(),
            Some(later(-5))
        );
        assert!(
            matches!(claim("b", "t2", later(-6), &id).await, Claimed::Dead),
            "{name}"
        );
        assert!(
            matches!(claim("b", "t3", later(-5), &id).await, Claimed::Made),
            "{name}"
        );
        assert!(matches!(
            claim("b", "t4", later(-5), &id).await,
            Claimed::Before { .. }
        ));
        accounts.bury_all(&id, later(-4)).await.unwrap();
        assert!(
            matches!(claim("b", "t5", later(-5), &id).await, Claimed::Dead),
            "{name}"
        );
        // Another user's, and nobody's.
        let eve = made_other(&*accounts).await;
        assert!(matches!(
            claim("c", "t6", later(-1), &id).await,
            Claimed::Made
        ));
        assert!(
            matches!(claim("c", "t7", later(-1), &eve).await, Claimed::Dead),
            "{name}"
        );
        assert!(
            matches!(claim("d", "t8", later(-1), "gone").await, Claimed::Dead),
            "{name}"
        );
        // The password was changed here, by the user.
        let first = rehash(&id, None, "native");
        assert!(accounts.replace_password(&first).await.unwrap());
        assert_eq!(
            accounts.sessions_count_from(&id).await.unwrap(),
            Some(later(-4))
        );
        place
            .run("UPDATE account SET password = 'other', \"updatedAt\" = '2036-05-06 07:08:09.123'")
            .await;
        let changed = accounts.sessions_count_from(&id).await.unwrap().unwrap();
        assert!(changed > later(86_400), "{name}: {changed:?}");
        assert!(
            matches!(claim("e", "t9", later(600), &id).await, Claimed::Dead),
            "{name}"
        );
        // Where sessions are elsewhere, the claim alone is noted.
        let elsewhere = NewSession {
            in_database: false,
            ..session(&eve, "t10", later(-1))
        };
        let sealed = Secret::new("s");
        let claimed = accounts.claim(&old_session("f"), &elsewhere, &sealed).await;
        assert!(matches!(claimed.unwrap(), Claimed::Made));
        let tokens = place.rows("SELECT token FROM session ORDER BY token").await;
        assert_eq!(
            tokens,
            [[Some("t3".to_owned())], [Some("t6".to_owned())]],
            "{name}"
        );
    }
}

async fn made_other(accounts: &dyn Accounts) -> String {
    made(accounts, "eve@move.example").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_one_users_and_a_user_has_one_per_provider() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let (ada, eve) = (
            made(&*accounts, "ada@move.example").await,
            made_other(&*accounts).await,
        );
        let map = async |user: &str, provider: &str, id: &str| {
            accounts.map(user, provider, id, AT).await.unwrap()
        };
        assert!(map(&ada, "clerk", "u1").await, "{name}");
        assert!(map(&ada, "clerk", "u1").await, "{name}: again");
        assert!(!map(&eve, "clerk", "u1").await, "{name}: somebody else's");
        assert!(!map(&ada, "clerk", "u2").await, "{name}: has another there");
        assert!(
            map(&eve, "clerk", "U1").await,
            "{name}: other capitals are another id"
        );
        assert!(map(&ada, "workos", "u1").await, "{name}: another provider");
        assert!(!map("nobody", "clerk", "u9").await, "{name}");
        let long = "x".repeat(256);
        let refused = accounts.map(&ada, "auth0", &long, AT).await;
        assert!(matches!(refused, Err(AccountsError::Schema(_))), "{name}");
        assert!(
            accounts
                .find(&Identifier::Source("auth0".into(), long))
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(
            accounts.count().await.unwrap(),
            [(State::Imported, 2)],
            "{name}"
        );
        // Moves go for everything that is kept of the user.
        assert!(
            accounts
                .move_state(&ada, State::ResetSent, AT)
                .await
                .unwrap()
        );
        assert!(
            !accounts
                .move_state(&ada, State::Imported, AT)
                .await
                .unwrap()
        );
        assert!(
            !accounts
                .move_state("nobody", State::Done, AT)
                .await
                .unwrap()
        );
        let standing = found(&*accounts, &Identifier::UserId(ada)).await.sources;
        assert!(
            standing
                .iter()
                .all(|source| source.state == State::ResetSent),
            "{name}"
        );
        assert_eq!(standing.len(), 2);
        let counted = accounts.count().await.unwrap();
        assert_eq!(
            counted,
            [(State::Imported, 1), (State::ResetSent, 1)],
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_columns_are_filled_where_they_are_and_names_are_nobodys_twice() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let ada = NewUser {
            username: Some("AdaL".into()),
            phone: Some(("+4912345".into(), true)),
            image: Some("https://app.example/a.png".into()),
            password: Some(Secret::new("native")),
            source: Some(("clerk".into(), "u1".into())),
            ..user("ada@move.example")
        };
        let id = accounts.create(&ada, AT).await.unwrap();
        assert!(
            id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{id}"
        );
        for by in [
            Identifier::Username("adal".into()),
            Identifier::Phone("+4912345".into()),
        ] {
            let ada = found(&*accounts, &by).await;
            assert_eq!(
                (ada.user_id, ada.password),
                (id.clone(), Some(Secret::new("native")))
            );
            assert_eq!(ada.sources[0].state, State::Jit);
        }
        let shown = place.one("SELECT \"displayUsername\" FROM \"user\"").await;
        assert_eq!(shown, "AdaL", "{name}");
        let account = "SELECT \"accountId\" FROM account WHERE \"providerId\" = 'credential'";
        assert_eq!(place.one(account).await, id, "{name}");
        for (taken, what) in [
            (
                NewUser {
                    username: Some("adal".into()),
                    ..user("b@move.example")
                },
                "username",
            ),
            (
                NewUser {
                    phone: Some(("+4912345".into(), false)),
                    ..user("b@move.example")
                },
                "phone number",
            ),
            (
                NewUser {
                    id: Some(id.clone()),
                    ..user("b@move.example")
                },
                "id",
            ),
        ] {
            let error = accounts.create(&taken, AT).await.unwrap_err();
            assert_eq!(error, AccountsError::Taken(what), "{name}");
        }
        assert!(
            accounts
                .find(&email("b@move.example"))
                .await
                .unwrap()
                .is_none(),
            "{name}"
        );
        // A ban counts as long as it lasts.
        place.run("UPDATE \"user\" SET banned = TRUE").await;
        assert!(
            found(&*accounts, &email("ada@move.example")).await.banned,
            "{name}"
        );
        place
            .run("UPDATE \"user\" SET \"banExpires\" = '2020-01-01 00:00:00.000'")
            .await;
        assert!(
            !found(&*accounts, &email("ada@move.example")).await.banned,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_sign_ups_of_one_address_make_one_user() {
    for name in FULL {
        let place = Place::of(name).await;
        let gateways = [place.open().await, place.open().await];
        let tasks = (0..20).map(|number| {
            let accounts = Arc::clone(&gateways[number % 2]);
            let new = NewUser {
                source: Some(("clerk".into(), "u1".into())),
                ..user("ada@move.example")
            };
            tokio::spawn(async move { accounts.create(&new, AT).await })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut made = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => made += 1,
                Err(AccountsError::Taken("address" | "id")) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert_eq!(made, 1, "{name}");
        assert_eq!(
            place
                .one("SELECT @(n) FROM (SELECT COUNT(*) AS n FROM \"user\") counted")
                .await,
            "1",
            "{name}"
        );
    }
}

fn factor(native: Option<&str>) -> OldFactor {
    OldFactor {
        sealed: Some(Secret::new("sealed-totp")),
        digits: 8,
        period: 60,
        algorithm: "SHA256".to_owned(),
        last_step: None,
        native: native.map(Secret::new),
    }
}

async fn keep_factor(accounts: &dyn Accounts, id: &str, native: Option<&str>) -> bool {
    let (factor, codes) = (factor(native), Secret::new("[]"));
    accounts.keep_factor(id, &factor, &codes, AT).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_second_factor_is_kept_and_each_of_its_codes_works_once() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let had = NewUser {
            had_second_factor: true,
            ..user("ada@move.example")
        };
        let id = accounts.create(&had, AT).await.unwrap();
        // Known from the first moment, before anything else is done for it.
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert!(ada.two_factor, "{name}");
        assert_eq!(ada.factor.unwrap().sealed, None);
        let kept = keep_factor(&*accounts, &id, Some("native")).await;
        assert!(kept, "{name}");
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert_eq!(ada.factor, Some(factor(Some("native"))), "{name}");
        // Once each, also for twenty at once.
        let tasks = (0..20).map(|_| {
            let (accounts, id) = (Arc::clone(&accounts), id.clone());
            tokio::spawn(async move { accounts.use_step(&id, 100).await.unwrap() })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut used = 0;
        for task in tasks {
            used += usize::from(task.await.unwrap());
        }
        assert_eq!(used, 1, "{name}");
        assert!(
            !accounts.use_step(&id, 99).await.unwrap(),
            "{name}: an earlier one"
        );
        assert!(accounts.use_step(&id, 101).await.unwrap(), "{name}");
        assert!(!accounts.use_step("nobody", 101).await.unwrap());
        // An import that is run again makes no second row, and no used code fresh.
        let kept = keep_factor(&*accounts, &id, Some("another")).await;
        assert!(kept);
        let ada = found(&*accounts, &email("ada@move.example"))
            .await
            .factor
            .unwrap();
        assert_eq!(
            (ada.native, ada.last_step),
            (Some(Secret::new("native")), Some(101))
        );
        assert_eq!(
            place.one("SELECT secret FROM \"twoFactor\"").await,
            "native",
            "{name}"
        );
        // The user enrols anew: what they have now stands in for nothing.
        place
            .run("UPDATE \"twoFactor\" SET secret = 'their own'")
            .await;
        let ada = found(&*accounts, &email("ada@move.example"))
            .await
            .factor
            .unwrap();
        assert_eq!(ada.native, None, "{name}");
        assert!(accounts.forget_factor(&id).await.unwrap());
        assert!(!accounts.forget_factor(&id).await.unwrap());
        assert_eq!(
            found(&*accounts, &email("ada@move.example")).await.factor,
            None
        );
        // And no import takes it from them.
        let kept = keep_factor(&*accounts, &id, Some("third")).await;
        assert!(kept);
        assert_eq!(
            place.one("SELECT secret FROM \"twoFactor\"").await,
            "their own",
            "{name}"
        );
        assert_eq!(
            found(&*accounts, &email("ada@move.example")).await.factor,
            None
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_plugin_a_second_factor_is_kept_all_the_same() {
    for name in ["core.sqlite", "core.postgres.sql", "core.mysql.sql"] {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let id = made(&*accounts, "ada@move.example").await;
        let kept = keep_factor(&*accounts, &id, Some("native")).await;
        assert!(!kept, "{name}");
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert_eq!(ada.factor, Some(factor(None)), "{name}");
        assert!(!ada.two_factor);
        let named = Identifier::Username("ada".into());
        assert!(accounts.find(&named).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_arrive_is_told_when_it_is_due_until_it_is_settled() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        for (user, operation, due) in [
            ("u1", "email", 20),
            ("u2", "password", 10),
            ("u3", "delete", 90),
        ] {
            accounts.defer(user, operation, later(due)).await.unwrap();
        }
        assert!(
            accounts.due(later(5), 10).await.unwrap().is_empty(),
            "{name}"
        );
        let due = accounts.due(later(30), 10).await.unwrap();
        let told: Vec<_> = due
            .iter()
            .map(|one| (&*one.user_id, &*one.operation, one.tries))
            .collect();
        assert_eq!(told, [("u2", "password", 0), ("u1", "email", 0)], "{name}");
        assert_eq!(due[0].due, Some(later(10)));
        assert_eq!(
            accounts.due(later(30), 1).await.unwrap(),
            due[..1],
            "{name}"
        );
        accounts.settle(due[0].id, None).await.unwrap();
        accounts
            .settle(due[1].id, Some(Some(later(60))))
            .await
            .unwrap();
        assert!(
            accounts.due(later(30), 10).await.unwrap().is_empty(),
            "{name}"
        );
        let again = accounts.due(later(60), 10).await.unwrap();
        assert_eq!((again.len(), again[0].tries), (1, 1), "{name}");
        // Somebody must look.
        accounts.settle(again[0].id, Some(None)).await.unwrap();
        let left = accounts.due(later(99_999), 10).await.unwrap();
        assert_eq!(left.len(), 1, "{name}");
        assert_eq!(left[0].user_id, "u3");
        let dead = format!(
            "SELECT @(tries) FROM {} WHERE due_at IS NULL",
            place.own("deferred")
        );
        assert_eq!(place.one(&dead).await, "2", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_is_read_until_it_expires() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        place
            .run(
                "INSERT INTO verification (id, identifier, value, \"expiresAt\", \"createdAt\", \"updatedAt\") VALUES \
                 ('v1', 'Reset-1', 'value', '2026-11-21 02:52:20.000', '2026-11-21 02:52:00', '2026-11-21 02:52:00')",
            )
            .await;
        let read = async |identifier: &str, now: UnixMs| {
            let value = accounts.verification(identifier, now).await.unwrap();
            value.map(|value| value.expose().to_owned())
        };
        assert_eq!(
            read("Reset-1", AT).await.as_deref(),
            Some("value"),
            "{name}"
        );
        assert_eq!(read("reset-1", AT).await, None, "{name}");
        assert_eq!(read("Reset-2", AT).await, None);
        assert_eq!(read("Reset-1", later(6)).await, None, "{name}: over");
    }
}

/// A native hash, as the framework writes it.
fn native(password: &str) -> Secret {
    let salt = "00112233445566778899aabbccddeeff";
    let parameters = scrypt::Params::new(14, 16, 1).unwrap();
    let mut key = [0u8; 64];
    scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &parameters, &mut key).unwrap();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::new(format!("{salt}:{hex}"))
}

/// The framework itself, over a database of its own making.
fn framework(dialect: Option<Dialect>, folder: &Folder, generate_id: &str) -> (Server, Place) {
    let mut configuration = serde_json::json!({
        "options": {
            "secret": crate::support::SECRET,
            "baseURL": "http://app.test",
            "trustedOrigins": ["http://app.test"],
            "advanced": if generate_id.is_empty() {
                serde_json::json!({})
            } else {
                serde_json::json!({ "database": { "generateId": generate_id } })
            },
        },
        "plugins": { "twoFactor": {}, "admin": {} },
        "realPasswords": true,
    });
    let url = match dialect {
        Some(dialect) => {
            let server = shared(dialect);
            let url = server.url(&server.database());
            configuration["postgres"] = url.as_str().into();
            url
        }
        None => {
            let path = folder.join("app.sqlite").display().to_string();
            configuration["sqlite"] = path.as_str().into();
            format!("sqlite:{path}")
        }
    };
    let place = Place {
        url,
        _folder: Folder::new("accounts"),
    };
    (Server::start(&configuration), place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_framework_takes_what_we_wrote_for_its_own() {
    for (dialect, generate_id) in [
        (None, ""),
        (None, "serial"),
        (Some(Dialect::Postgres), ""),
        (Some(Dialect::Postgres), "serial"),
        (Some(Dialect::Postgres), "uuid"),
    ] {
        let name = format!("{dialect:?} {generate_id}");
        let folder = Folder::new("framework");
        let (app, place) = framework(dialect, &folder, generate_id);
        let accounts = place.open().await;
        let id = accounts
            .create(
                &NewUser {
                    password: Some(native("correct horse")),
                    source: Some(("clerk".into(), "u1".into())),
                    ..user("ada@move.example")
                },
                AT,
            )
            .await
            .unwrap();
        let sign_in = |address: &str, password: &str| {
            let body = serde_json::json!({ "email": address, "password": password });
            let mut browser = Browser::default();
            let answer = browser.post(app.address, "/sign-in/email", &body);
            let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            (answer.status, said, browser)
        };
        let (status, said, _) = sign_in("ada@move.example", "correct horse");
        assert_eq!(
            (status, said["user"]["id"].as_str()),
            (200, Some(&*id)),
            "{name}: {said}"
        );
        assert_eq!(
            said["user"]["createdAt"], "2026-11-20T02:52:15.028Z",
            "{name}"
        );
        assert_eq!(sign_in("ada@move.example", "wrong horse").0, 401, "{name}");

        // One who came without a password, and whose old one was just checked.
        let eve = made_other(&*accounts).await;
        assert_eq!(
            sign_in("eve@move.example", "battery staple").0,
            401,
            "{name}"
        );
        let replacement = rehash(&eve, None, native("battery staple").expose());
        assert!(accounts.replace_password(&replacement).await.unwrap());
        assert_eq!(
            sign_in("eve@move.example", "battery staple").0,
            200,
            "{name}"
        );

        // A session taken over. The framework's clock is the real one.
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let now = UnixMs(i64::try_from(now).unwrap());
        let token = "abcdefghijklmnopqrstuvwxyz012345";
        let bridged = NewSession {
            expires_at: now.plus(Duration::from_secs(3600)),
            updated_at: now,
            ..session(&eve, token, UnixMs(now.0 - 60_000))
        };
        let (key, sealed) = (old_session("d"), Secret::new("sealed"));
        let claimed = accounts.claim(&key, &bridged, &sealed).await;
        assert!(matches!(claimed.unwrap(), Claimed::Made), "{name}");
        let get = |token: &str| {
            let cookie = crate::support::cookie(token);
            let headers = [("cookie", cookie.as_str())];
            let answer = request(app.address, "GET", "/api/auth/get-session", &headers, None);
            let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            said
        };
        let said = get(token);
        assert_eq!(said["user"]["id"].as_str(), Some(&*eve), "{name}: {said}");
        assert_eq!(said["session"]["ipAddress"], "192.0.2.7", "{name}");
        assert!(get("another token").is_null(), "{name}");

        // A second factor of the old system.
        let (factor, codes) = (factor(Some("secret")), Secret::new("[]"));
        assert!(
            accounts
                .keep_factor(&eve, &factor, &codes, AT)
                .await
                .unwrap()
        );
        let (status, said, _) = sign_in("eve@move.example", "battery staple");
        assert_eq!(
            (status, &said["twoFactorRedirect"]),
            (200, &true.into()),
            "{name}: {said}"
        );
        let (_, said, _) = sign_in("ada@move.example", "correct horse");
        assert!(said["twoFactorRedirect"].is_null(), "{name}: {said}");

        // What the user changes here ends the old sessions, and what we wrote did not.
        assert_eq!(
            accounts.sessions_count_from(&id).await.unwrap(),
            None,
            "{name}"
        );
        let (_, _, mut browser) = sign_in("ada@move.example", "correct horse");
        let body = serde_json::json!({ "currentPassword": "correct horse", "newPassword": "another horse" });
        browser.done(app.address, "/change-password", &body);
        let since = accounts.sessions_count_from(&id).await.unwrap().unwrap();
        assert!(since >= now, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_start_at_once_make_the_tables_together() {
    for name in FULL {
        let place = Arc::new(Place::of(name).await);
        let tasks = (0..6).map(|_| {
            let place = Arc::clone(&place);
            tokio::spawn(async move { place.try_open(|_| {}).await.map(drop) })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            task.await
                .unwrap()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let version = format!("SELECT @(number) FROM {}", place.own("version"));
        assert_eq!(place.one(&version).await, "2", "{name}");
        // Tables of a later gateway are not touched.
        place
            .run(&format!("UPDATE {} SET number = 3", place.own("version")))
            .await;
        let refused = place.try_open(|_| {}).await.err().unwrap();
        assert!(
            refused.to_string().contains("version 3"),
            "{name}: {refused}"
        );
        assert!(refused.is_configuration());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_an_older_gateway_are_brought_up_to_date_with_all_they_hold() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let id = made(&*accounts, "ada@move.example").await;
        assert!(accounts.map(&id, "clerk", "u1", AT).await.unwrap());
        drop(accounts);
        let identity = place.own("legacy_identity");
        // As version 1 had them: one identity of a user in one old system.
        let is = |scheme: &str| place.url.starts_with(scheme);
        let first: &[&str] = match (is("postgres"), is("mysql")) {
            (true, _) => &[
                "DROP INDEX vestibule.legacy_identity_user_id",
                "ALTER TABLE vestibule.legacy_identity ADD UNIQUE (user_id, provider)",
            ],
            (_, true) => &[
                "ALTER TABLE vestibule_legacy_identity DROP INDEX legacy_identity_user_id, ADD UNIQUE (user_id, provider)",
            ],
            _ => &[
                "DROP INDEX vestibule_legacy_identity_user_id",
                "CREATE UNIQUE INDEX first ON vestibule_legacy_identity (user_id, provider)",
            ],
        };
        for statement in first {
            place.run(statement).await;
        }
        place
            .run(&format!("UPDATE {} SET number = 1", place.own("version")))
            .await;
        let second = format!(
            "INSERT INTO {identity} (provider, source_user_id, user_id, state, imported_at, moved_at) \
             VALUES ('clerk', 'u2', '{id}', 'imported', 1, 1)"
        );
        let place = Arc::new(place);
        // Several gateways at once.
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let place = Arc::clone(&place);
                tokio::spawn(async move { place.try_open(|_| {}).await.map(drop) })
            })
            .collect();
        for task in tasks {
            let done = task.await.unwrap();
            done.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let version = format!("SELECT @(number) FROM {}", place.own("version"));
        assert_eq!(place.one(&version).await, "2", "{name}");
        place.run(&second).await;
        let accounts = place.open().await;
        for source in ["u1", "u2"] {
            let by = Identifier::Source("clerk".into(), source.into());
            assert_eq!(found(&*accounts, &by).await.user_id, id, "{name}");
        }
        // Whoever has one there gets no other by a sign-in.
        assert!(!accounts.map(&id, "clerk", "u3", AT).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_make_the_tables_is_told_what_to_run_and_one_with_the_grants_suffices()
{
    for (dialect, ddl) in [
        (Dialect::Postgres, "full.postgres.ddl.sql"),
        (Dialect::MySql, "full.mysql.ddl.sql"),
    ] {
        let server = shared(dialect);
        let database = server.load(&golden(ddl));
        let open = async |url: String| store::open_accounts(&settings(&url)).await.map(drop);
        let error = open(server.reader_url(&database)).await.unwrap_err();
        assert!(
            error.advice().contains("vestibule db tables"),
            "{error}: {}",
            error.advice()
        );
        assert!(error.is_configuration());
        // Somebody who may has run the statements.
        let url = Secret::new(server.url(&database));
        let statements = store::table_statements(&url).unwrap();
        for _ in 0..2 {
            server.sql(&database, &statements.join(";"));
        }
        let error = open(server.reader_url(&database)).await.unwrap_err();
        assert!(matches!(error, OpenError::Denied { .. }), "{error}");
        // What docs/migration/tables.md lists.
        let role = format!("mover_{database}");
        let grants = match dialect {
            Dialect::Postgres => format!(
                "CREATE ROLE {role} LOGIN PASSWORD 'correct-horse'; \
                 GRANT SELECT, INSERT, UPDATE ON \"user\", account, session, verification, \"twoFactor\" TO {role}; \
                 GRANT USAGE ON SCHEMA vestibule TO {role}; \
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vestibule TO {role}; \
                 GRANT USAGE ON ALL SEQUENCES IN SCHEMA vestibule TO {role}"
            ),
            Dialect::MySql => {
                let whom = format!("{role}@'127.0.0.1'");
                let app = ["user", "account", "session", "verification", "twoFactor"];
                let own = [
                    "legacy_identity",
                    "legacy_credential",
                    "legacy_factor",
                    "legacy_session",
                    "sessions_floor",
                    "deferred",
                    "version",
                ];
                let mut grants = format!("CREATE USER {whom} IDENTIFIED BY 'correct-horse'");
                for table in app {
                    grants.push_str(&format!(
                        "; GRANT SELECT, INSERT, UPDATE ON {database}.{table} TO {whom}"
                    ));
                }
                for table in own {
                    grants.push_str(&format!(
                        "; GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.vestibule_{table} TO {whom}"
                    ));
                }
                grants
            }
        };
        server.sql(&database, &grants);
        let url = server
            .reader_url(&database)
            .replace("vestibule_reader", &role);
        let accounts = store::open_accounts(&settings(&url)).await;
        let accounts = accounts.unwrap_or_else(|error| panic!("{error}"));
        let id = made(&*accounts, "ada@move.example").await;
        assert!(accounts.map(&id, "clerk", "u1", AT).await.unwrap());
        assert!(accounts.keep(&id, &pending("sealed"), AT).await.unwrap());
        assert!(
            accounts
                .replace_password(&rehash(&id, None, "native"))
                .await
                .unwrap()
        );
        assert!(keep_factor(&*accounts, &id, Some("native")).await);
        assert!(accounts.forget_factor(&id).await.unwrap());
        accounts.bury_all(&id, AT).await.unwrap();
        accounts.defer(&id, "email", AT).await.unwrap();
        let due = accounts.due(AT, 1).await.unwrap();
        accounts.settle(due[0].id, None).await.unwrap();
        let (key, sealed) = (old_session("d"), Secret::new("s"));
        let claimed = accounts
            .claim(&key, &session(&id, "tok", AT), &sealed)
            .await
            .unwrap();
        assert!(matches!(claimed, Claimed::Made));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_nobody_can_fill_is_told_at_start_and_not_at_the_first_sign_in() {
    for name in FULL {
        let ddl = std::fs::read_to_string(golden(name)).unwrap();
        let quote = if name.contains("mysql") { '`' } else { '"' };
        let with = |column: &str| {
            let image = format!("{quote}image{quote} text,");
            assert!(ddl.contains(&image), "{name}");
            ddl.replace(&image, &format!("{image} {quote}tenant{quote} {column},"))
        };
        let place = Place::made(dialect(name), &with("varchar(20) not null")).await;
        match place.try_open(|_| {}).await.err() {
            Some(OpenError::Schema {
                cause: SchemaError::Unfillable { table, columns },
                ..
            }) => assert_eq!((&*table, &*columns), ("user", "`tenant`"), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        for fillable in ["varchar(20)", "varchar(20) default 'x' not null"] {
            let place = Place::made(dialect(name), &with(fillable)).await;
            let accounts = place.open().await;
            made(&*accounts, "ada@move.example").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_tables_and_columns_and_an_issuer_are_met() {
    for name in FULL {
        let ddl = std::fs::read_to_string(golden(name)).unwrap();
        let quote = if name.contains("mysql") { '`' } else { '"' };
        let quoted = |word: &str| format!("{quote}{word}{quote}");
        let ddl = ddl
            .replace(&quoted("account"), &quoted("logins"))
            .replace(
                &format!("{} text,", quoted("password")),
                &format!(
                    "{} text, {} varchar(99) not null,",
                    quoted("pass_word_hash"),
                    quoted("issuer")
                ),
            )
            .replace(&quoted("providerId"), &quoted("via"));
        let place = Place::made(dialect(name), &ddl).await;
        assert!(
            place.try_open(|_| {}).await.is_err(),
            "{name}: nobody said so"
        );
        let accounts = place
            .try_open(|settings| {
                let tables = &mut settings.schema.tables;
                tables.insert("account".into(), "logins".into());
                let columns = &mut settings.schema.columns;
                columns.insert("account.password".into(), "pass_word_hash".into());
                columns.insert("account.providerId".into(), "via".into());
            })
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let id = made(&*accounts, "ada@move.example").await;
        assert!(
            accounts
                .replace_password(&rehash(&id, None, "native"))
                .await
                .unwrap()
        );
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert_eq!(ada.password, Some(Secret::new("native")), "{name}");
        assert_eq!(
            place.one("SELECT issuer FROM logins").await,
            "local:credential",
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prismas_dates_are_written_as_prisma_writes_them() {
    for (dialect, date, value, written) in [
        (None, "DATETIME", "1795000000000", "1795229535028"),
        (
            None,
            "DATETIME",
            "'2026-01-01T00:00:00.000+00:00'",
            "2026-11-21T02:52:15.028+00:00",
        ),
        (None, "DATETIME", "", "2026-11-21T02:52:15.028Z"),
        (None, "INTEGER", "", "1795229535028"),
        (
            Some(Dialect::Postgres),
            "timestamp(3)",
            "",
            "2026-11-21 02:52:15.028",
        ),
        (
            Some(Dialect::MySql),
            "datetime(3)",
            "",
            "2026-11-21 02:52:15.028",
        ),
    ] {
        let q = if dialect == Some(Dialect::MySql) {
            "`"
        } else {
            "\""
        };
        let mut sql = format!(
            "CREATE TABLE \"user\" (id varchar(36) PRIMARY KEY, name varchar(99) NOT NULL, email varchar(99) NOT NULL UNIQUE,
               \"emailVerified\" boolean NOT NULL, \"createdAt\" {date} NOT NULL, \"updatedAt\" {date} NOT NULL);
             CREATE TABLE account (id varchar(36) PRIMARY KEY, \"accountId\" varchar(99) NOT NULL, \"providerId\" varchar(99) NOT NULL,
               \"userId\" varchar(36) NOT NULL, password varchar(200), \"createdAt\" {date} NOT NULL, \"updatedAt\" {date} NOT NULL)"
        );
        if !value.is_empty() {
            sql.push_str(&format!(
                "; INSERT INTO \"user\" VALUES ('u', 'U', 'u@move.example', true, {value}, {value})"
            ));
        }
        let place = Place::made(dialect, &sql.replace('"', q)).await;
        let accounts = place.open().await;
        let id = made(&*accounts, "ada@move.example").await;
        assert!(
            accounts
                .replace_password(&rehash(&id, None, "native"))
                .await
                .unwrap()
        );
        let got = place
            .one("SELECT @(\"updatedAt\") FROM \"user\" WHERE email = 'ada@move.example'")
            .await;
        assert_eq!(got, written, "{dialect:?} {date} {value}");
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert_eq!(
            ada.password_changed_at,
            Some(AT),
            "{dialect:?} {date} {value}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_is_waited_for_until_the_deadline_and_then_nothing_is_written() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let hasty = place.try_open(|settings| settings.timeout = Duration::from_secs(1));
        let hasty = hasty.await.unwrap();
        let id = made(&*accounts, "ada@move.example").await;
        let replacement = rehash(&id, None, "native");
        macro_rules! hold {
            ($connection:ty, $begin:expr) => {{
                let mut app = <$connection>::connect(&place.url).await.unwrap();
                for statement in $begin {
                    let run = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()));
                    run.execute(&mut app).await.unwrap();
                }
                let began = std::time::Instant::now();
                let refused = hasty.replace_password(&replacement).await;
                assert_eq!(refused, Err(AccountsError::Timeout), "{name}");
                assert!(began.elapsed() < Duration::from_secs(4), "{name}");
                sqlx::raw_sql("ROLLBACK").execute(&mut app).await.unwrap();
                app.close().await.unwrap();
            }};
        }
        if name.contains("sqlite") {
            hold!(sqlx::SqliteConnection, ["BEGIN IMMEDIATE"]);
        } else if name.contains("postgres") {
            hold!(
                sqlx::PgConnection,
                ["BEGIN", "SELECT 1 FROM \"user\" FOR UPDATE"]
            );
        } else {
            hold!(
                sqlx::MySqlConnection,
                ["BEGIN", "SELECT 1 FROM user FOR UPDATE"]
            );
        }
        let ada = found(&*accounts, &email("ada@move.example")).await;
        assert_eq!(ada.password, None, "{name}");
        assert!(
            hasty.replace_password(&replacement).await.unwrap(),
            "{name}"
        );
    }
}

/// Users with a foreign hash in the app's own column.
async fn many(accounts: &dyn Accounts, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        let new = NewUser {
            password: Some(Secret::new(format!("old-{number}"))),
            ..user(&format!("user{number}@move.example"))
        };
        ids.push(accounts.create(&new, AT).await.unwrap());
    }
    ids
}

fn moved(id: &str, number: usize) -> Replacement {
    Replacement {
        keep: Some(("bcrypt".into(), Secret::new(format!("sealed-{number}")))),
        ..rehash(
            id,
            Some(&format!("old-{number}")),
            &format!("native-{number}"),
        )
    }
}

/// Whether a user was moved; half a move is none.
async fn is_moved(accounts: &dyn Accounts, id: &str, number: usize) -> bool {
    let user = found(accounts, &Identifier::UserId(id.to_owned())).await;
    let password = user.password.unwrap().expose().to_owned();
    match user.old {
        Some(old) => {
            assert_eq!(password, format!("native-{number}"));
            assert_eq!(old.sealed, Secret::new(format!("sealed-{number}")));
            assert_eq!(old.state, State::Rehashed);
            true
        }
        None => {
            assert_eq!(password, format!("old-{number}"));
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_cut_at_any_moment_leave_every_user_with_the_old_hash_or_both() {
    let place = Place::of("full.postgres.ddl.sql").await;
    let accounts = place.open().await;
    let ids = many(&*accounts, 60).await;
    let url = place.url.clone();
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (ready, begun) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let cutter = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let mut admin = sqlx::PgConnection::connect(&url).await.unwrap();
            let mut cut = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND application_name = 'vestibule'";
                cut += sqlx::query(sql).fetch_all(&mut admin).await.unwrap().len();
                if let Some(ready) = ready.take() {
                    ready.send(()).unwrap();
                }
                tokio::task::yield_now().await;
            }
            cut
        }
    });
    // The connections at rest are cut before anything begins.
    begun.await.unwrap();
    let tasks = ids.iter().enumerate().map(|(number, id)| {
        let (accounts, replacement) = (Arc::clone(&accounts), moved(id, number));
        tokio::spawn(async move { accounts.replace_password(&replacement).await })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut told = Vec::new();
    for task in tasks {
        told.push(task.await.unwrap());
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(cutter.await.unwrap() > 0, "nothing was cut");
    assert!(told.iter().any(Result::is_err), "nobody noticed");
    for (number, (id, told)) in ids.iter().zip(told).enumerate() {
        let moved_already = is_moved(&*accounts, id, number).await;
        // Who was told so, is; who was told an error, may be.
        assert!(told != Ok(true) || moved_already, "{number}");
        let again = accounts.replace_password(&moved(id, number)).await.unwrap();
        assert_eq!(again, !moved_already, "{number}");
        assert!(is_moved(&*accounts, id, number).await);
    }
    let rows = place
        .one("SELECT @(n) FROM (SELECT COUNT(*) AS n FROM account) counted")
        .await;
    assert_eq!(rows, "60");
}

/// What [`a_gateway_killed_at_any_moment_loses_and_doubles_nothing`] runs as a process of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn a_process_that_moves_users_until_it_is_killed() {
    let Ok(url) = std::env::var("VESTIBULE_TEST_MOVES") else {
        return;
    };
    let accounts = store::open_accounts(&settings(&url)).await.unwrap();
    let until: usize = std::env::var("VESTIBULE_TEST_MOVES_UNTIL")
        .unwrap()
        .parse()
        .unwrap();
    for number in 0..until {
        let by = email(&format!("user{number}@move.example"));
        let Some(user) = accounts.find(&by).await.unwrap() else {
            return;
        };
        let _ = accounts
            .replace_password(&moved(&user.user_id, number))
            .await;
    }
    // Somebody ends it.
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_at_any_moment_loses_and_doubles_nothing() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let ids = many(&*accounts, 60).await;
        let table = place.own("legacy_credential");
        let counted = format!("SELECT @(n) FROM (SELECT COUNT(*) AS n FROM {table}) counted");
        for enough in [1, 9, 25] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["accounts::a_process_that_moves_users_until_it_is_killed"])
                .args(["--exact", "--ignored"])
                .env("VESTIBULE_TEST_MOVES", &place.url)
                // So that some are left however late the end comes.
                .env("VESTIBULE_TEST_MOVES_UNTIL", (enough + 20).to_string())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            while place.one(&counted).await.parse::<usize>().unwrap() < enough {
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "{name}: it ended by itself"
                );
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut left = 0;
        for (number, id) in ids.iter().enumerate() {
            let moved_already = is_moved(&*accounts, id, number).await;
            left += usize::from(!moved_already);
            let again = accounts.replace_password(&moved(id, number)).await.unwrap();
            assert_eq!(again, !moved_already, "{name} {number}");
            assert!(is_moved(&*accounts, id, number).await);
        }
        assert!(left > 0, "{name}: it was not killed in the middle");
        let rows = place
            .one("SELECT @(n) FROM (SELECT COUNT(*) AS n FROM account) counted")
            .await;
        assert_eq!(rows, "60", "{name}");
    }
}

#[test]
fn the_command_prints_and_makes_the_tables() {
    use vestibule::cli::{self, World};
    let server = shared(Dialect::Postgres);
    let database = server.load(&golden("core.postgres.ddl.sql"));
    let folder = Folder::new("tables");
    let config = |migration: &str| {
        format!(
            "[upstream]\nurl = \"http://127.0.0.1:3000\"\n[better_auth]\nsecret = {{ env = \"SECRET\" }}\n\
             [sessions]\nsource = \"{}\"\n[routes]\ndefault = \"signed-in\"\n{migration}",
            server.reader_url(&database)
        )
    };
    let migration = "[migration]\nkey = { env = \"KEY\" }\n";
    std::fs::write(folder.join("vestibule.toml"), config(migration)).unwrap();
    std::fs::write(folder.join("plain.toml"), config("")).unwrap();
    let command = |arguments: &[&str]| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut world = World {
            environment: [
                ("SECRET".to_owned(), crate::support::SECRET.to_owned()),
                ("KEY".to_owned(), "k".repeat(44)),
                ("ADMIN_URL".to_owned(), server.url(&database)),
            ]
            .into(),
            folder: folder.join("."),
            out: &mut out,
            err: &mut err,
            terminal: false,
        };
        let words = ["vestibule", "db", "tables"].iter().chain(arguments);
        let code = cli::run(words.map(Into::into), &mut world, cli::edges());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    };
    let (code, printed, err) = command(&["print"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        printed.starts_with("CREATE SCHEMA IF NOT EXISTS vestibule;"),
        "{printed}"
    );
    // The role of the gateway may only read.
    let (code, _, err) = command(&["install"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("vestibule db tables print"), "{err}");
    let (code, out, err) = command(&["install", "--database-url-env", "ADMIN_URL"]);
    assert_eq!((code, out.as_str()), (0, "the tables are there\n"), "{err}");
    let (code, _, err) = command(&["install"]);
    assert_eq!(code, 0, "they are there: {err}");
    let (code, _, err) = command(&["print", "--config", "plain.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("[migration]"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_nobody_can_have_is_nobodys_and_no_outage() {
    let long = "x".repeat(20_000);
    let hostile = [
        "",
        "\0",
        "a\0b",
        "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
        "{550e8400-e29b-41d4-a716-446655440000}",
        "550e8400e29b41d4a716446655440000",
        "550e8400-e29b-41d4-a716-44665544000g",
        "+5",
        " 5",
        "5abc",
        "99999999999999999999",
        "-9223372036854775808",
        "'; DROP TABLE \"user\"; --",
        "\\' OR 1=1 -- ",
        &long,
    ];
    for name in LAYOUTS {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        made(&*accounts, "bystander@example.com").await;
        for text in hostile {
            let shown: String = text.chars().take(40).collect();
            for by in [
                email(text),
                Identifier::Username(text.into()),
                Identifier::Phone(text.into()),
                Identifier::UserId(text.into()),
                Identifier::Source("clerk".into(), text.into()),
                Identifier::Source(text.into(), "u".into()),
            ] {
                let met = accounts.find(&by).await;
                assert!(matches!(met, Ok(None)), "{name}: {shown:?}: {met:?}");
            }
            let moved = accounts.move_state(text, State::Done, AT).await;
            assert!(matches!(moved, Ok(false)), "{name}: {shown:?}: {moved:?}");
            let since = accounts.sessions_count_from(text).await;
            assert!(matches!(since, Ok(None)), "{name}: {shown:?}: {since:?}");
            let read = accounts.verification(text, AT).await;
            assert!(matches!(read, Ok(None)), "{name}: {shown:?}: {read:?}");
            let written = accounts.replace_password(&rehash(text, None, "n")).await;
            assert!(
                matches!(written, Ok(false)),
                "{name}: {shown:?}: {written:?}"
            );
        }
        found(&*accounts, &email("bystander@example.com")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_with_too_long_a_name_or_picture_is_adopted_all_the_same() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let odd = NewUser {
            name: format!("Ann\0{}", "é".repeat(70_000)),
            image: Some(format!("https://img.example/{}", "x".repeat(70_000))),
            ..user("long@example.com")
        };
        let made = accounts.create(&odd, AT).await;
        assert!(made.is_ok(), "{name}: {made:?}");
        let shown = place.one("SELECT \"name\" FROM \"user\" WHERE email = 'long@example.com'");
        assert!(shown.await.starts_with("Anné"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_username_in_other_capitals_is_taken_too() {
    for name in FULL {
        let place = Place::of(name).await;
        let accounts = place.open().await;
        let named = |username: &str, address: &str| NewUser {
            username: Some(username.into()),
            ..user(address)
        };
        accounts
            .create(&named("ada", "a@move.example"), AT)
            .await
            .unwrap();
        let again = accounts.create(&named("ADA", "b@move.example"), AT).await;
        assert!(
            matches!(again, Err(AccountsError::Taken("username"))),
            "{name}: {again:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_somebody_was_is_found_without_reading_everybody() {
    let place = Place::of("core.sqlite").await;
    let _accounts = place.open().await;
    let asked = "EXPLAIN QUERY PLAN SELECT user_id FROM vestibule_legacy_identity WHERE source_user_id = 'u'";
    let mut link = sqlx::SqliteConnection::connect(&place.url).await.unwrap();
    let row = sqlx::query(asked).fetch_one(&mut link).await.unwrap();
    let plan: String = row.get("detail");
    assert!(plan.starts_with("SEARCH"), "{plan}");
}
