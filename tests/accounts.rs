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

use crate::support::databases::{Dialect, Folder, settings, shared};

/// 2026-11-21T02:52:15.028Z.
const AT: UnixMs = UnixMs(1_795_229_535_028);

const fn later(seconds: i64) -> UnixMs {
    UnixMs(AT.0 + seconds * 1000)
}

/// A database of the app.
struct Place {
    url: String,
    _folder: Folder,
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/db")
        .join(name)
}

impl Place {
    /// Of one of the recorded layouts: a database file, a dump, or the statements that make it empty.
    async fn of(name: &str) -> Self {
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

    async fn made(dialect: Option<Dialect>, sql: &str) -> Self {
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

    async fn open(&self) -> Arc<dyn Accounts> {
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
    async fn run(&self, sql: &str) {
        let _ = self.rows(sql).await;
    }

    /// Every row of a question as text. `T(x)` in it is `x` as text.
    async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let is = |scheme: &str| self.url.starts_with(scheme);
        let cast = if is("mysql") { "CHAR" } else { "TEXT" };
        let mut text = String::new();
        let mut rest = sql;
        while let Some((before, after)) = rest.split_once("T(") {
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

    async fn one(&self, sql: &str) -> String {
        let rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows[0][0].clone().unwrap_or_else(|| "NULL".to_owned())
    }

    /// A table of ours.
    fn own(&self, table: &str) -> String {
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
            let rows = place.rows("SELECT T(password) FROM account").await;
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
            place.one("SELECT T(n) FROM (SELECT COUNT(*) AS n FROM \"user\") counted").await,
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
            "SELECT T(tries) FROM {} WHERE due_at IS NULL",
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
