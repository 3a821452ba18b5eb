//! The life of sessions as the framework lived it: what the door answers must be its answer, what the slider writes and sets must be
//! what it wrote and set, and what passes on must be forgotten where it ended something.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value};
use vestibule::credential::cookie_cache::{self, CookieCache, Payload};
use vestibule::credential::{names, secrets};
use vestibule::request::RequestView;
use vestibule::secret::Secret;
use vestibule::server::intercept::{self, Watch};
use vestibule::server::proxy::Gateway;
use vestibule::server::{door, slide};
use vestibule::session::resolve::{Resolution, Who};
use vestibule::session::slide::Rules;
use vestibule::store::{self, Documents, FieldKind};
use vestibule::target::Target;
use vestibule::time::{Clock as _, ManualClock, UnixMs};

use super::{Tally, load};
use crate::support::Setup;
use crate::support::databases::{Folder, settings};

/// The columns the framework's migration always makes.
const ALWAYS: [(&str, &[&str]); 2] = [
    (
        "session",
        &[
            "id",
            "token",
            "userId",
            "expiresAt",
            "createdAt",
            "updatedAt",
        ],
    ),
    (
        "user",
        &[
            "id",
            "name",
            "email",
            "emailVerified",
            "createdAt",
            "updatedAt",
        ],
    ),
];

type Connection = sqlx::SqliteConnection;

async fn connect(path: &Path) -> Connection {
    let url = format!("sqlite:{}?mode=rwc", path.display());
    <Connection as sqlx::Connection>::connect(&url)
        .await
        .unwrap()
}

async fn run(connection: &mut Connection, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(connection)
        .await
        .unwrap();
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(flag) => i32::from(*flag).to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => panic!("no column holds {other}"),
    }
}

fn rows(value: &Value) -> Vec<&Map<String, Value>> {
    let rows = value.as_array().map_or(&[][..], Vec::as_slice);
    rows.iter().map(|row| row.as_object().unwrap()).collect()
}

/// Writes tables with exactly these rows, in the types the framework's own migration uses.
async fn fill(connection: &mut Connection, table: &str, given: &[&Map<String, Value>]) {
    let always = ALWAYS.iter().find(|(name, _)| *name == table).unwrap().1;
    let mut columns: BTreeSet<&str> = always.iter().copied().collect();
    columns.extend(given.iter().flat_map(|row| row.keys().map(String::as_str)));
    let kind = |name: &str| match name {
        name if name.ends_with("At") || name == "banExpires" => "date",
        "emailVerified" | "banned" | "twoFactorEnabled" | "isAnonymous" => "integer",
        _ => "text",
    };
    let declared: Vec<String> = columns
        .iter()
        .map(|name| format!("\"{name}\" {}", kind(name)))
        .collect();
    run(
        connection,
        format!(
            "DROP TABLE IF EXISTS \"{table}\"; CREATE TABLE \"{table}\" ({})",
            declared.join(", ")
        ),
    )
    .await;
    for row in given {
        let names: Vec<String> = row.keys().map(|name| format!("\"{name}\"")).collect();
        let values: Vec<String> = row.values().map(literal).collect();
        run(
            connection,
            format!(
                "INSERT INTO \"{table}\" ({}) VALUES ({})",
                names.join(", "),
                values.join(", ")
            ),
        )
        .await;
    }
}

/// What a session row says of its life: token, end and last update.
async fn lives(connection: &mut Connection) -> Vec<(String, String, String)> {
    let sql = "SELECT token, \"expiresAt\", \"updatedAt\" FROM session ORDER BY token";
    sqlx::query_as(sql).fetch_all(connection).await.unwrap()
}

fn expected_lives(rows: &Value) -> Vec<(String, String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let mut lives: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                text(row, "token"),
                text(row, "expiresAt"),
                text(row, "updatedAt"),
            )
        })
        .collect();
    lives.sort();
    lives
}

/// The options of a case, as an operator would tell them.
struct App {
    rules: Rules,
    never: bool,
    deferred: bool,
    adds: bool,
    has_cookie_cache: bool,
    documents: Documents,
}

impl App {
    fn of(case: &Value) -> Self {
        let config = &case["config"];
        let session = &config["session"];
        let seconds =
            |key: &str, default: u64| Duration::from_secs(session[key].as_u64().unwrap_or(default));
        let deferred = session["deferSessionRefresh"] == true;
        let plugins = config["plugins"].to_string();
        let mut documents = Documents::default();
        for table in ["user", "session"] {
            let fields = config[table]["additionalFields"].as_str().unwrap_or("");
            for field in fields.split(", ").filter(|field| !field.is_empty()) {
                match field.split_once('(') {
                    Some((name, _)) => documents.hidden.push(format!("{table}.{name}")),
                    None => {
                        let name = format!("{table}.{field}");
                        documents.shown.push((name, FieldKind::Text));
                    }
                }
            }
        }
        let has_cookie_cache = session["cookieCache"]["enabled"] == true;
        Self {
            rules: Rules {
                expires_in: seconds("expiresIn", 604_800),
                update_age: seconds("updateAge", 86_400),
            },
            never: session["disableSessionRefresh"] == true,
            deferred,
            // What the operator knows of the app, and has not switched the door on for.
            adds: deferred || has_cookie_cache || plugins.contains("customSession"),
            has_cookie_cache,
            documents,
        }
    }
}

/// A gateway over a database with these rows.
struct Stage {
    gateway: Gateway,
    clock: Arc<ManualClock>,
    connection: Connection,
    _scratch: Folder,
}

impl Stage {
    async fn set(case: &Value, step: &Value) -> Self {
        let scratch = Folder::new("get-session");
        let path = scratch.join("app.sqlite");
        let mut connection = connect(&path).await;
        let before = &step["rows_before"];
        fill(&mut connection, "session", &rows(&before["session_rows"])).await;
        fill(&mut connection, "user", &rows(&before["user_rows"])).await;

        let app = App::of(case);
        let base_url = case["base_url"].as_str().unwrap();
        let present = |column: &String| {
            let (table, name) = column.split_once('.').unwrap();
            rows(&before[format!("{table}_rows")])
                .iter()
                .any(|row| row.contains_key(name))
        };
        let opened = store::inspect(&store::Settings {
            documents: Some(Documents {
                shown: app
                    .documents
                    .shown
                    .iter()
                    .filter(|(name, _)| present(name))
                    .cloned()
                    .collect(),
                hidden: app.documents.hidden.clone(),
            }),
            extend: true,
            ..settings(&format!("sqlite:{}", path.display()))
        })
        .await
        .unwrap_or_else(|error| panic!("{error}"));

        let mut setup = Setup::in_front_of(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        setup.secret = Secret::new(case["secret"].as_str().unwrap());
        setup.cookies = names::Settings {
            base_url: Some(base_url.into()),
            expires_in: Some(app.rules.expires_in.as_secs()),
            ..names::Settings::default()
        };
        setup.door = Some(door::Settings {
            rules: (!app.never).then_some(app.rules),
            app_adds: app.adds,
        });
        if app.has_cookie_cache {
            setup.authenticator.cookie_cache = Some(cookie_cache::Settings::default());
        }
        setup.sliding = (!app.never && !app.deferred).then(|| slide::Settings {
            rules: app.rules,
            by: slide::By::Store(opened.extend.unwrap()),
        });
        let clock = Arc::new(ManualClock::at(UnixMs(step["now_ms"].as_i64().unwrap())));
        let gateway = setup.assemble(opened.source, Arc::clone(&clock));
        Self {
            gateway,
            clock,
            connection,
            _scratch: scratch,
        }
    }
}

fn headers(step: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(cookies) = step["cookie_header"].as_str() {
        headers.insert(COOKIE, cookies.parse().unwrap());
    }
    headers
}

fn view<'r>(method: &'r Method, target: &'r str, headers: &'r HeaderMap) -> RequestView<'r> {
    RequestView {
        method,
        target: Target::parse(target.as_bytes()).unwrap(),
        host: "app.test",
        headers,
        client: Ipv4Addr::LOCALHOST.into(),
    }
}

fn set_cookies(step: &Value) -> Vec<&str> {
    let lines = step["expect"]["set_cookie"].as_array().unwrap();
    lines.iter().map(|line| line.as_str().unwrap()).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, wanted: &T) -> Result<(), String> {
    match got == wanted {
        true => Ok(()),
        false => Err(format!("{what}: {got:?}, expected {wanted:?}")),
    }
}

/// The door: whatever it answers is what the framework answered. `Ok(false)`: it leaves the answer to the app.
async fn at_the_door(case: &Value, step: &Value) -> Result<bool, String> {
    let mut stage = Stage::set(case, step).await;
    let method: Method = step["method"].as_str().unwrap().parse().unwrap();
    let target = format!("/api/auth{}", step["path"].as_str().unwrap());
    let headers = headers(step);
    let request = view(&method, &target, &headers);
    let (door, gate) = (stage.gateway.door.as_ref().unwrap(), &stage.gateway.gate);
    // From the store, and then from memory.
    for _ in 0..2 {
        let Some(answer) = door.answer(&request, gate).await else {
            return Ok(false);
        };
        let expect = &step["expect"];
        same(
            "status",
            &u64::from(answer.status.as_u16()),
            &expect["status"].as_u64().unwrap(),
        )?;
        let body: Value =
            serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        same("body", &body, &expect["body"])?;
        for (name, value) in expect["headers"].as_object().unwrap() {
            let found = answer
                .headers
                .iter()
                .find(|(found, _)| found.as_str() == name.as_str());
            let found = found.and_then(|(_, value)| value.to_str().ok());
            same(name, &found, &value.as_str())?;
        }
        let set: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == SET_COOKIE)
            .collect();
        same("cookies set", &set.len(), &set_cookies(step).len())?;
    }
    same(
        "rows",
        &lives(&mut stage.connection).await,
        &expected_lives(&step["session_rows_after"]),
    )?;
    Ok(true)
}

/// A cookie that is set: the same letter for letter, but for the order of what is sealed.
fn same_cookie(case: &Value, ours: &str, theirs: &str, now: UnixMs) -> Result<(), String> {
    let opened = |line: &str| {
        let (pair, attributes) = line.split_once(';')?;
        let (name, value) = pair.split_once('=')?;
        let token = theirs_token(case)?;
        let cache = cache_of(case);
        let payload = cache.open_value(value.as_bytes(), token, now).ok()?;
        Some((name.to_owned(), attributes.to_owned(), payload))
    };
    match (opened(ours), opened(theirs)) {
        (Some(ours), Some(theirs)) => {
            let what = |opened: &(String, String, Payload)| {
                let (name, attributes, said) = opened;
                let sealed = serde_json::json!({ "session": said.session, "user": said.user });
                let ends = (said.expires_at, said.session_expires_at, said.updated_at);
                let version = said.version.clone();
                (name.clone(), attributes.clone(), sealed, ends, version)
            };
            same("cookie cache", &what(&ours), &what(&theirs))
        }
        _ => same("cookie set", &ours, &theirs),
    }
}

/// The token that the steps of a case are about.
fn theirs_token(case: &Value) -> Option<&str> {
    let steps = case["steps"].as_array()?;
    let cookies = steps
        .iter()
        .find_map(|step| step["cookie_header"].as_str())?;
    let (_, rest) = cookies.split_once("session_token=")?;
    rest.split('.').next()
}

/// The cookie cache as the app of a case reads it.
fn cache_of(case: &Value) -> CookieCache {
    let secrets = secrets::Settings::single(Secret::new(case["secret"].as_str().unwrap()));
    let names = names::Settings {
        base_url: Some(case["base_url"].as_str().unwrap().into()),
        ..names::Settings::default()
    };
    let context = cookie_cache::Context {
        secrets: &secrets,
        published: None,
    };
    CookieCache::new(&cookie_cache::Settings::default(), &names, &context).unwrap()
}

/// Any page, with the same cookies at the same time: who it is, whether the session is extended, and which cookies go out. `Ok(true)`: it
/// was extended, and they are all that the framework set.
async fn on_a_page(case: &Value, step: &Value) -> Result<bool, String> {
    let mut stage = Stage::set(case, step).await;
    let expect = &step["expect"];
    let before = lives(&mut stage.connection).await;
    let headers = headers(step);
    let request = view(&Method::GET, "/dashboard", &headers);
    let gate = &stage.gateway.gate;
    let who = gate.who(&request).await;
    let Resolution::Verified(Who::Known(entry)) = who else {
        // The framework removes what has expired; the gateway only reads it.
        same("rows", &lives(&mut stage.connection).await, &before)?;
        let hidden = case["config"]["session"]["cookieCache"]["enabled"] == true;
        return match (&expect["body"], hidden) {
            // Its own cookie cache hides the revocation from the framework, and not from us: stricter.
            (Value::Null, _) | (_, true) => Ok(false),
            (body, false) => Err(format!("{who:?}, expected {body}")),
        };
    };
    same(
        "user",
        &entry.user_id(),
        &expect["body"]["user"]["id"].as_str().unwrap(),
    )?;
    let Some(slider) = &stage.gateway.slider else {
        return Ok(false);
    };
    slider.begin(&entry, &request, &gate.sessions, stage.clock.now());
    while slider.under_way() > 0 {
        tokio::task::yield_now().await;
    }
    let wanted = expected_lives(&step["session_rows_after"]);
    same("rows", &lives(&mut stage.connection).await, &wanted)?;
    let theirs = set_cookies(step).into_iter();
    // A cookie cache that is merely over is the app's to refill, and it does so when it is next asked. One whose session was extended
    // is written anew with it.
    let extended = before != wanted;
    let theirs: Vec<&str> = theirs
        .filter(|line| extended || !line.contains("session_data"))
        .collect();
    let owed = entry.take_owed().unwrap_or_default();
    let ours: Vec<&str> = owed.iter().map(|line| line.to_str().unwrap()).collect();
    same("number of cookies set", &ours.len(), &theirs.len())?;
    for (ours, theirs) in ours.iter().zip(&theirs) {
        same_cookie(case, ours, theirs, stage.clock.now())?;
    }
    // What is remembered shows the new end.
    let Resolution::Verified(Who::Known(entry)) = gate.who(&request).await else {
        return Err("forgotten".to_owned());
    };
    let ends = vestibule::session::document::iso(entry.expires_at());
    let token = entry.expose_token();
    let row = wanted.iter().find(|(found, ..)| found == token);
    same(
        "remembered end",
        &ends.as_ref(),
        &row.map(|(_, ends, _)| ends),
    )?;
    Ok(extended)
}

/// A step that passes on and may end something: what was remembered before is not believed after.
async fn passing_on(case: &Value, step: &Value) -> Result<(), String> {
    let mut stage = Stage::set(case, step).await;
    let headers = headers(step);
    let page = view(&Method::GET, "/dashboard", &headers);
    let gate = &stage.gateway.gate;
    let known = |resolution: &Resolution| matches!(resolution, Resolution::Verified(_));
    let was_known = known(&gate.who(&page).await);
    let method: Method = step["method"].as_str().unwrap().parse().unwrap();
    let target = format!("/api/auth{}", step["path"].as_str().unwrap());
    let request = view(&method, &target, &headers);
    let watch = Watch::begin(&request, "/api/auth", gate).await;

    // The app does what it did, and answers what it answered.
    fill(
        &mut stage.connection,
        "session",
        &rows(&step["session_rows_after"]),
    )
    .await;
    let status = step["expect"]["status"].as_u64().unwrap();
    let status = StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
    let mut response = HeaderMap::new();
    for line in set_cookies(step) {
        response.append(SET_COOKIE, line.parse().unwrap());
    }
    if let Some(watch) = watch {
        let _ = watch.finish(status, &stage.gateway.line);
    }
    intercept::learn(
        &response,
        &headers,
        &stage.gateway.responder.session_cookies,
        &stage.gateway.line,
    );

    let token = step["cookie_header"].as_str().and_then(|cookies| {
        let (_, rest) = cookies.split_once("session_token=")?;
        Some(rest.split('.').next()?.to_owned())
    });
    let lives_on = expected_lives(&step["session_rows_after"])
        .iter()
        .any(|(found, ..)| Some(found) == token.as_ref());
    let users = &step["rows_before"]["user_rows"];
    let lives_on = lives_on && users.as_array().is_some_and(|users| !users.is_empty());
    let is_known = known(&gate.who(&page).await);
    match (was_known, is_known, lives_on) {
        (_, true, false) => Err("still remembered, and gone".to_owned()),
        (true, false, true) => Err("forgotten, and still there".to_owned()),
        _ => Ok(()),
    }
}

/// Why a step is left to the app.
fn reason(step: &Value) -> &'static str {
    let (body, status) = (&step["expect"]["body"], &step["expect"]["status"]);
    match (step["method"].as_str(), step["path"].as_str()) {
        (Some("POST"), _) => "not a GET",
        (_, Some(path)) if path != "/get-session" => "another endpoint, or a query",
        _ if body.is_null() || *status != 200 => "no live session: the app clears its cookies",
        _ if !set_cookies(step).is_empty() => "the app sets or expires a cookie",
        _ => "the app adds to the answer (customSession, deferSessionRefresh, cookie cache)",
    }
}

#[test]
fn the_life_of_sessions() {
    let vectors = load("get-session.json");
    let cases = vectors["cases"].as_array().unwrap();
    let steps = || {
        cases.iter().flat_map(|case| {
            let steps = case["steps"].as_array().unwrap().iter().enumerate();
            steps.map(move |(at, step)| (case, at, step))
        })
    };
    let mut tally = Tally::new("get-session.json", steps().count());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut answered, mut held, mut left) = (0, 0, String::new());
    for (case, at, step) in steps() {
        let id = format!("{}/{at}", case["id"].as_str().unwrap());
        let outcome = runtime.block_on(async {
            let door = at_the_door(case, step)
                .await
                .map_err(|wrong| format!("at the door: {wrong}"))?;
            let mut extended = false;
            if step["method"] == "GET" && step["path"] == "/get-session" {
                extended = on_a_page(case, step)
                    .await
                    .map_err(|wrong| format!("on a page: {wrong}"))?;
            }
            match (door, extended) {
                (true, _) => answered += 1,
                // The app answers it; on any other page the gateway has extended the session and set the same cookies.
                (false, true) => held += 1,
                (false, false) => left.push_str(&format!("  {id}: {}\n", reason(step))),
            }
            // What the framework reads with a time-out in between is not over when it was answered.
            passing_on(case, step)
                .await
                .map_err(|wrong| format!("passing on: {wrong}"))
        });
        tally.case(&id, outcome);
    }
    let line = format!(
        "golden get-session.json: {answered} answered at the door, {held} extended with the same cookies; left to the app:\n{left}"
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
    assert!(answered > 10, "the door answers nothing");
    assert!(held > 5, "nothing is extended");
    tally.finish();
}
