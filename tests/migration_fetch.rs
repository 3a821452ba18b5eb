//! Old systems read as they are: their APIs page by page, by servers on loopback that speak what is documented, and Supabase's database.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::migration_import::{Ground, step};
use crate::support::databases::{Dialect, Folder, Server, shared};
use crate::support::vendors::Asked;
use crate::support::{App, await_until, reply, seeds};

/// The key of every API, which must be seen nowhere.
const KEY: &str = "sk_test_planted_Ahx7ieph0Ohy";

/// Nobody's table but this file's: no fixture is big enough for a second page of five hundred.
const CROWD: usize = 1_200;

// ------------------------------------------------------------------------------------------------------------- the servers

/// What a server says.
enum Said {
    Json(u16, Vec<(&'static str, String)>, Value),
    /// Bytes of no API, with this status.
    Page(u16, &'static str),
    /// The beginning of an answer.
    Cut,
    /// Nothing, until it is released.
    Stalls,
}

fn well(body: Value) -> Said {
    Said::Json(200, Vec::new(), body)
}

type Speaks = dyn Fn(&Asked) -> Said + Send + Sync;
/// Says something else than it would, to the request of this number.
type Instead = dyn FnMut(usize, &str) -> Option<Said> + Send;

/// An old system's API.
struct Api {
    app: App,
    /// Every request, and when it came.
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
    instead: Arc<Mutex<Box<Instead>>>,
    released: Arc<(Mutex<bool>, Condvar)>,
}

impl Api {
    fn start(speaks: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let speaks: Box<Speaks> = Box::new(speaks);
        let heard: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let instead: Arc<Mutex<Box<Instead>>> = Arc::new(Mutex::new(Box::new(|_, _| None)));
        let released: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (log, odd, release) = (heard.clone(), instead.clone(), released.clone());
        let app = App::scripted(move |seen, stream| {
            let asked = Asked::of(seen);
            let target = seen.line.split(' ').nth(1).unwrap().to_owned();
            let number = {
                let mut log = log.lock().unwrap();
                log.push((Instant::now(), target.clone()));
                log.len()
            };
            let odd = odd.lock().unwrap()(number, &target);
            // Alone, behind the name of a project, or as a password beside it.
            let basic = STANDARD.encode(format!("a-project:{KEY}"));
            let known = [KEY.to_owned(), format!("a-project:{KEY}")].contains(&asked.bearer)
                || seen.header("authorization") == Some(&format!("Basic {basic}"));
            let said = odd.unwrap_or_else(|| match known {
                true => speaks(&asked),
                false => Said::Json(401, Vec::new(), json!({ "message": "who are you" })),
            });
            match said {
                Said::Json(status, headers, body) => {
                    let mut all = vec![("content-type", "application/json")];
                    all.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
                    reply(stream, status, &all, body.to_string().as_bytes());
                }
                Said::Page(status, text) => reply(stream, status, &[], text.as_bytes()),
                Said::Cut => cut(stream),
                Said::Stalls => {
                    let released = release.0.lock().unwrap();
                    drop(release.1.wait_while(released, |released| !*released));
                    cut(stream);
                }
            }
        });
        Self {
            app,
            heard,
            instead,
            released,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.app.address)
    }

    fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|(_, target)| target.clone()).collect()
    }

    fn forget(&self) {
        self.heard.lock().unwrap().clear();
    }

    fn instead(&self, says: impl FnMut(usize, &str) -> Option<Said> + Send + 'static) {
        *self.instead.lock().unwrap() = Box::new(says);
    }

    fn release(&self) {
        *self.released.0.lock().unwrap() = true;
        self.released.1.notify_all();
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.release();
    }
}

fn cut(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"da");
    let _ = stream.shutdown(Shutdown::Both);
}

fn sample(system: &str, name: &str) -> Value {
    let path = seeds::folder().join(system).join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn list(value: &Value, member: &str) -> Vec<Value> {
    let list = if member.is_empty() {
        value
    } else {
        &value[member]
    };
    list.as_array().unwrap().clone()
}

fn number(asked: &Asked, name: &str, default: usize) -> usize {
    asked
        .query(name)
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn part(all: &[Value], from: usize, most: usize) -> Vec<Value> {
    all.iter().skip(from).take(most).cloned().collect()
}

/// The users of Clerk's sample, each once as its newest page has them.
fn clerk_users() -> Vec<Value> {
    let mut users = BTreeMap::new();
    for page in 1.. {
        let name = format!("api_users_page{page}.json");
        if !seeds::folder().join("clerk").join(&name).exists() {
            break;
        }
        for user in list(&sample("clerk", &name), "") {
            users.insert(user["id"].as_str().unwrap().to_owned(), user);
        }
    }
    users.into_values().collect()
}

/// Somebody like the first one of the sample, and nobody else.
fn another(like: &Value, number: usize) -> Value {
    let mut user = like.clone();
    user["id"] = format!("user_of_the_crowd_{number:05}").into();
    user["username"] = Value::Null;
    user["phone_numbers"] = json!([]);
    user["external_accounts"] = json!([]);
    user["created_at"] = json!(1_650_000_000_000_u64 + number as u64 * 1000);
    user["email_addresses"][0]["email_address"] = format!("crowd{number}@example.com").into();
    user
}

fn crowd() -> Vec<Value> {
    let like = &clerk_users()[0];
    (0..CROWD).map(|number| another(like, number)).collect()
}

/// Source: the Backend API's specification. `GET /users` gives a bare list, newest first unless `order_by` says otherwise.
fn clerk(users: Arc<Mutex<Vec<Value>>>, knows_order: bool) -> Api {
    Api::start(move |asked| {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        let (limit, offset) = (
            number(asked, "limit", 10).min(500),
            number(asked, "offset", 0),
        );
        let of_file = |name: &str| {
            let all = list(&sample("clerk", name), "data");
            json!({ "data": part(&all, offset, limit), "total_count": all.len() })
        };
        match path.as_slice() {
            ["users"] => {
                let mut all = users.lock().unwrap().clone();
                all.sort_by_key(|user| {
                    let created = user["created_at"].as_i64().unwrap_or(0);
                    (created, user["id"].as_str().unwrap().to_owned())
                });
                let oldest = asked.query("order_by").as_deref() == Some("+created_at");
                if !(oldest && knows_order) {
                    all.reverse();
                }
                well(part(&all, offset, limit).into())
            }
            ["organizations"] => well(of_file("api_organizations.json")),
            ["organization_memberships"] => well(of_file("api_memberships.json")),
            ["organizations", id, "invitations"] => {
                let all = list(&sample("clerk", "api_invitations.json"), "data");
                let all: Vec<Value> = all
                    .into_iter()
                    .filter(|one| one["organization_id"] == *id)
                    .collect();
                well(json!({ "data": part(&all, offset, limit), "total_count": all.len() }))
            }
            _ => Said::Json(404, Vec::new(), json!({ "errors": [] })),
        }
    })
}

/// Source: the API reference of User Management. Cursors are ids; identities come as a bare list.
fn workos() -> Api {
    let pages: Vec<Value> = (1..)
        .map(|page| format!("users_page{page}.json"))
        .take_while(|name| seeds::folder().join("workos").join(name).exists())
        .map(|name| sample("workos", &name))
        .collect();
    let identities = sample("workos", "identities_by_user.json");
    let factors = sample("workos", "auth_factors_by_user.json");
    let listed = |data: Vec<Value>| {
        well(
            json!({ "object": "list", "data": data, "list_metadata": { "before": null, "after": null } }),
        )
    };
    Api::start(move |asked| {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["user_management", "users"] => {
                let after = asked.query("after");
                let at = pages.iter().position(|page| {
                    after.is_some() && page["list_metadata"]["after"].as_str() == after.as_deref()
                });
                well(pages[at.map_or(0, |at| at + 1)].clone())
            }
            ["user_management", "users", id, "identities"] => {
                well(identities.get(*id).cloned().unwrap_or(json!([])))
            }
            ["user_management", "users", id, "auth_factors"] => {
                listed(factors.get(*id).map_or_else(Vec::new, |all| list(all, "")))
            }
            ["organizations"] => listed(list(&sample("workos", "organizations.json"), "data")),
            ["user_management", "organization_memberships"] => {
                let of = asked.query("organization_id").expect("an organization");
                let all = list(&sample("workos", "organization_memberships.json"), "data");
                let all = all.into_iter().filter(|one| one["organization_id"] == of);
                listed(all.collect())
            }
            ["user_management", "invitations"] => listed(Vec::new()),
            _ => Said::Json(404, Vec::new(), json!({})),
        }
    })
}

/// The users of Auth0's sample, and more of them than stand on a page.
fn auth0_users() -> Vec<Value> {
    let mut users = list(&sample("auth0", "api_users_page0.json"), "users");
    for number in 0..230 {
        let mut user = users[0].clone();
        user["user_id"] = format!("auth0|{number:024}").into();
        user["email"] = format!("crowd{number}@example.com").into();
        user["username"] = Value::Null;
        user["phone_number"] = Value::Null;
        user["identities"] = json!([{ "user_id": format!("{number:024}"), "provider": "auth0",
            "connection": "Username-Password-Authentication", "isSocial": false }]);
        users.push(user);
    }
    users
}

fn auth0_organization() -> (Value, Value) {
    let organization = json!({ "id": "org_a", "name": "acme", "display_name": "Acme" });
    let member = &auth0_users()[0]["user_id"];
    (
        organization,
        json!({ "user_id": member, "roles": [{ "name": "admin" }] }),
    )
}

/// Source: the Management API v2. Pages are numbered from 0; a thousand users at most.
fn auth0() -> Api {
    let users = auth0_users();
    Api::start(move |asked| {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        let each = number(asked, "per_page", 50).min(100);
        let from = number(asked, "page", 0) * each;
        let listed = |name: &str, all: &[Value]| {
            let some = part(all, from, each);
            well(
                json!({ "start": from, "limit": each, "length": some.len(), "total": all.len(), name: some }),
            )
        };
        let (organization, member) = auth0_organization();
        match path.as_slice() {
            ["api", "v2", "users"] => listed("users", &users),
            ["api", "v2", "organizations"] => listed("organizations", &[organization]),
            ["api", "v2", "organizations", "org_a", "members"] => listed("members", &[member]),
            _ => Said::Json(404, Vec::new(), json!({})),
        }
    })
}

/// Source: `accounts:batchGet` of Identity Toolkit. The last page has no token, and may have no users.
fn firebase() -> Api {
    let users = list(&sample("firebase", "users.json"), "users");
    Api::start(move |asked| {
        assert_eq!(
            asked.path,
            ["v1", "projects", "a-project", "accounts:batchGet"]
        );
        let from: usize = asked
            .query("nextPageToken")
            .map_or(0, |token| token.trim_start_matches("t/+").parse().unwrap());
        let some = part(&users, from, 15);
        well(match some.is_empty() {
            true => json!({ "kind": "identitytoolkit#DownloadAccountResponse" }),
            false => json!({ "users": some, "nextPageToken": format!("t/+{}", from + 15) }),
        })
    })
}

/// Source: Ory's admin API. The next page stands in a header.
fn kratos() -> Api {
    let all = list(&sample("kratos", "identities.json"), "");
    Api::start(move |asked| {
        assert_eq!(asked.path, ["admin", "identities"]);
        let from = number(asked, "page_token", 0);
        let some = part(&all, from, 10);
        let mut links = "</admin/identities?page_size=250&page_token=0>; rel=\"first\"".to_owned();
        if from + some.len() < all.len() {
            links.push_str(&format!(
                ",</admin/identities?page_size=250&page_token={}>; rel=\"next\"",
                from + some.len()
            ));
        }
        Said::Json(200, vec![("link", links)], some.into())
    })
}

/// Source: supabase/auth, `internal/api/admin.go`. Gives fewer than it is asked for, and says that there are more.
fn supabase() -> Api {
    let all = list(&sample("supabase", "admin_api_users_page1.json"), "users");
    Api::start(move |asked| {
        assert_eq!(asked.path, ["auth", "v1", "admin", "users"]);
        let page = number(asked, "page", 1);
        let some = part(&all, (page - 1) * 4, 4);
        let mut headers = vec![("x-total-count", all.len().to_string())];
        if page * 4 < all.len() {
            let next = page + 1;
            headers.push((
                "link",
                format!("<http://x/admin/users?page={next}&per_page=4>; rel=\"next\""),
            ));
        }
        Said::Json(
            200,
            headers,
            json!({ "aud": "authenticated", "users": some }),
        )
    })
}

/// Users as Stytch's search answers them.
fn stytch_users() -> Vec<Value> {
    let user = |number: usize| {
        json!({ "user_id": format!("user-live-{number:03}"), "name": { "first_name": "Ann", "last_name": format!("Lee {number}") },
            "emails": [{ "email": format!("ann{number}@example.com"), "verified": true }], "password": { "password_id": "p" },
            "providers": [{ "provider_type": "Google", "provider_subject": format!("g{number}") }],
            "status": "active", "created_at": "2022-03-01T09:30:15Z" })
    };
    (0..25).map(user).collect()
}

/// Source: the consumer API's reference. The cursor goes into the body; the last page has a null one.
fn stytch() -> Api {
    Api::start(|asked| {
        assert_eq!(asked.path, ["v1", "users", "search"]);
        assert_eq!(
            (asked.method.as_str(), &asked.body["limit"]),
            ("POST", &json!(1000))
        );
        let from = asked.body["cursor"]
            .as_str()
            .map_or(0, |cursor| cursor.parse().unwrap());
        let all = stytch_users();
        let some = part(&all, from, 10);
        let next = (from + 10 < all.len()).then(|| (from + 10).to_string());
        well(
            json!({ "results": some, "results_metadata": { "next_cursor": next, "total": all.len() } }),
        )
    })
}

/// Users as Descope's search answers them.
fn descope_users() -> Vec<Value> {
    let user = |number: usize| {
        json!({ "userId": format!("U{number:03}"), "email": format!("ann{number}@example.com"), "verifiedEmail": true, "givenName": "Ann",
            "familyName": "Lee", "status": "enabled", "password": true, "createdTime": 1_646_127_015, "loginIds": [],
            "userTenants": [{ "tenantId": "T1", "roleNames": ["Tenant Admin"] }] })
    };
    (0..120).map(user).collect()
}

fn descope_tenants() -> Value {
    json!({ "tenants": [{ "id": "T1", "name": "Acme" }] })
}

/// Source: the management API's reference, and the paths of its own client for Python.
fn descope() -> Api {
    Api::start(|asked| {
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["v2", "mgmt", "user", "search"] => {
                let [limit, page] =
                    ["limit", "page"].map(|name| asked.body[name].as_u64().unwrap());
                let all = descope_users();
                let some = part(&all, usize::try_from(limit * page).unwrap(), 100);
                well(json!({ "users": some, "total": all.len() }))
            }
            ["v1", "mgmt", "tenant", "all"] => well(descope_tenants()),
            _ => Said::Json(404, Vec::new(), json!({})),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------------- the steps

/// Where a test keeps its files: the key of the API, and the options that name it.
struct Scratch(Folder);

impl Scratch {
    fn new() -> Self {
        let scratch = Self(Folder::new("fetch"));
        scratch.write("key", KEY);
        scratch
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn key(&self, name: &str) -> String {
        format!(
            "{name} = {{ file = \"{}\" }}\n",
            self.0.join("key").display()
        )
    }

    /// The arguments that read this system from its API.
    fn whence(&self, system: &str, options: &str) -> Vec<String> {
        let options = self.write(&format!("{system}.toml"), options);
        ["--from", system, "--fetch", "api", "--options", &options]
            .map(str::to_owned)
            .to_vec()
    }

    fn clerk(&self, api: &Api) -> Vec<String> {
        let options = format!("{}api_url = \"{}\"\n", self.key("secret_key"), api.url());
        self.whence("clerk", &options)
    }

    fn workos(&self, api: &Api) -> Vec<String> {
        let options = format!("{}api_url = \"{}\"\n", self.key("api_key"), api.url());
        self.whence("workos", &options)
    }
}

fn files(system: &str, inputs: &[(&str, String)]) -> Vec<String> {
    let mut words = vec!["--from".to_owned(), system.to_owned()];
    for (input, path) in inputs {
        words.extend(["--input".to_owned(), format!("{input}={path}")]);
    }
    words
}

/// What was written, but for ids and moments of our own.
async fn written(ground: &Ground) -> Vec<Vec<Vec<Option<String>>>> {
    let mut all = Vec::new();
    for sql in [
        "SELECT @(\"id\"), @(\"email\"), @(\"emailVerified\"), @(\"name\"), @(\"image\"), @(\"username\"), @(\"banned\") FROM \"user\" ORDER BY 1",
        "SELECT @(\"userId\"), @(\"providerId\"), @(\"accountId\"), @(\"scope\") FROM \"account\" ORDER BY 1, 2, 3",
        "SELECT @(\"organizationId\"), @(\"userId\"), @(\"role\") FROM \"member\" ORDER BY 1, 2",
        "SELECT @(\"organizationId\"), @(\"email\"), @(\"role\") FROM \"invitation\" ORDER BY 1, 2",
        "SELECT @(user_id), @(scheme), @(state) FROM vestibule_legacy_credential ORDER BY 1",
        "SELECT @(source_user_id), @(reason) FROM vestibule_migration_parked ORDER BY 1",
    ] {
        all.push(ground.place.rows(sql).await);
    }
    all
}

/// Folders of what is fetched and of spools.
fn left(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("vestibule-fetch-") || name.starts_with("vestibule-import-")
    };
    paths.filter(ours).collect()
}

/// Every id a dry run tells of.
async fn told(ground: &Ground, whence: &[String]) -> BTreeSet<String> {
    let diff = ground.path("diff.ndjson");
    let more = ["--diff", diff.as_str()];
    ground.told(&step("import", whence, &more), &[0, 1]).await;
    let text = std::fs::read_to_string(&diff).unwrap();
    let rows = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ids: Vec<String> = rows
        .filter(|row| row["kind"] == "user")
        .map(|row| row["source_id"].as_str().unwrap().to_owned())
        .collect();
    let set: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(set.len(), ids.len(), "nobody is told of twice");
    set
}

// ---------------------------------------------------------------------------------------------------------------- the tests

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_api_comes_to_the_same_as_the_files_of_its_pages() {
    let scratch = Scratch::new();
    let of = |system: &str, name: &str| {
        seeds::folder()
            .join(system)
            .join(name)
            .display()
            .to_string()
    };
    let file = |name: &str, value: &Value| scratch.write(name, &value.to_string());
    let paged = |system: &str, name: &str| -> Vec<(&'static str, String)> {
        (1..)
            .map(|page| {
                seeds::folder()
                    .join(system)
                    .join(format!("{name}{page}.json"))
            })
            .take_while(|path| path.exists())
            .map(|path| ("users", path.display().to_string()))
            .collect()
    };
    let (organization, member) = auth0_organization();
    let clerk_csv = of("clerk", "users.csv");

    let clerk_api = clerk(Arc::new(Mutex::new(clerk_users())), true);
    let mut clerk_live = scratch.clerk(&clerk_api);
    clerk_live.extend(["--input".to_owned(), format!("users={clerk_csv}")]);
    let clerk_files = files(
        "clerk",
        &[
            ("users", clerk_csv),
            ("api", file("clerk.json", &clerk_users().into())),
            ("organizations", of("clerk", "api_organizations.json")),
            ("memberships", of("clerk", "api_memberships.json")),
            ("invitations", of("clerk", "api_invitations.json")),
        ],
    );

    let workos_api = workos();
    let mut workos_inputs = paged("workos", "users_page");
    workos_inputs.extend([
        ("identities", of("workos", "identities_by_user.json")),
        ("auth_factors", of("workos", "auth_factors_by_user.json")),
        ("organizations", of("workos", "organizations.json")),
        ("memberships", of("workos", "organization_memberships.json")),
    ]);

    let auth0_api = auth0();
    let auth0_live = scratch.whence(
        "auth0",
        &format!(
            "{}domain_url = \"{}\"\n",
            scratch.key("management_token"),
            auth0_api.url()
        ),
    );
    let auth0_files = files(
        "auth0",
        &[
            ("users", file("auth0.json", &auth0_users().into())),
            (
                "organizations",
                file("organizations.json", &json!([organization])),
            ),
            (
                "members",
                file("members.json", &json!({ "org_a": [member] })),
            ),
        ],
    );

    let firebase_api = firebase();
    let hash_config = format!(
        "hash_config = {{ file = \"{}\" }}\n",
        of("firebase", "hash_config.json")
    );
    let firebase_live = scratch.whence(
        "firebase",
        &format!(
            "{hash_config}{}project_id = \"a-project\"\napi_url = \"{}\"\n",
            scratch.key("access_token"),
            firebase_api.url()
        ),
    );
    let mut firebase_files = files("firebase", &[("users", of("firebase", "users.json"))]);
    firebase_files.extend([
        "--options".to_owned(),
        scratch.write("hashes.toml", &hash_config),
    ]);

    let kratos_api = kratos();
    let kratos_live = scratch.whence(
        "kratos",
        &format!(
            "{}admin_url = \"{}\"\n",
            scratch.key("admin_token"),
            kratos_api.url()
        ),
    );

    let supabase_api = supabase();
    let supabase_live = scratch.whence(
        "supabase",
        &format!(
            "{}url = \"{}\"\n",
            scratch.key("service_role_key"),
            supabase_api.url()
        ),
    );

    let stytch_api = stytch();
    let stytch_live = scratch.whence(
        "stytch",
        &format!(
            "{}project_id = \"a-project\"\napi_url = \"{}\"\n",
            scratch.key("secret"),
            stytch_api.url()
        ),
    );
    let stytch_files = files(
        "stytch",
        &[("users", file("stytch.json", &stytch_users().into()))],
    );

    let descope_api = descope();
    let descope_live = scratch.whence(
        "descope",
        &format!(
            "{}project_id = \"a-project\"\napi_url = \"{}\"\n",
            scratch.key("management_key"),
            descope_api.url()
        ),
    );
    let descope_files = files(
        "descope",
        &[
            ("users", file("descope.json", &descope_users().into())),
            ("tenants", file("tenants.json", &descope_tenants())),
        ],
    );

    for (system, live, of_files, api) in [
        ("stytch", stytch_live, stytch_files, &stytch_api),
        ("descope", descope_live, descope_files, &descope_api),
        ("clerk", clerk_live, clerk_files, &clerk_api),
        (
            "workos",
            scratch.workos(&workos_api),
            files("workos", &workos_inputs),
            &workos_api,
        ),
        ("auth0", auth0_live, auth0_files, &auth0_api),
        ("firebase", firebase_live, firebase_files, &firebase_api),
        (
            "kratos",
            kratos_live,
            files("kratos", &[("identities", of("kratos", "identities.json"))]),
            &kratos_api,
        ),
        (
            "supabase",
            supabase_live,
            files(
                "supabase",
                &[("users", of("supabase", "admin_api_users_page1.json"))],
            ),
            &supabase_api,
        ),
    ] {
        let (fetched, read) = (
            Ground::of("full.sqlite").await,
            Ground::of("full.sqlite").await,
        );
        let told_live = fetched
            .told(&step("import", &live, &["--apply"]), &[0, 1])
            .await;
        let told_files = read
            .told(&step("import", &of_files, &["--apply"]), &[0, 1])
            .await;
        assert_eq!(told_live["outcomes"], told_files["outcomes"], "{system}");
        assert_eq!(told_live["rows"], told_files["rows"], "{system}");
        let (of_api, of_file) = (written(&fetched).await, written(&read).await);
        assert_eq!(of_api, of_file, "{system}");
        assert!(of_api[0].len() > 10, "{system}: {}", of_api[0].len());
        assert!(!api.heard().is_empty(), "{system}");
        assert_eq!(
            left(Path::new(&fetched.path(""))),
            [] as [PathBuf; 0],
            "{system}"
        );
        // Held against what is there now.
        fetched.told(&step("verify", &live, &[]), &[0]).await;
    }
    // As they are documented to be asked.
    let first = |api: &Api| api.heard()[0].clone();
    assert_eq!(
        first(&clerk_api),
        "/users?limit=500&offset=0&order_by=%2Bcreated_at"
    );
    assert_eq!(
        first(&workos_api),
        "/user_management/users?limit=100&order=asc"
    );
    let asked = workos_api.heard();
    let identities = asked.iter().filter(|one| one.contains("/identities"));
    let each: BTreeSet<&String> = identities.clone().collect();
    let mut users = 0;
    for (_, path) in paged("workos", "users_page") {
        let page: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        users += list(&page, "data").len();
    }
    assert_eq!(each.len(), users);
    assert_eq!(identities.count(), 2 * users, "once in each step");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_or_goes_while_pages_are_counted_off_hides_nobody() {
    let everybody = crowd();
    let ids = |users: &[Value]| -> BTreeSet<String> {
        users
            .iter()
            .map(|user| user["id"].as_str().unwrap().to_owned())
            .collect()
    };
    // Oldest first, as it is asked for; newest first, as an older API would. Somebody comes, or goes, behind the first page.
    for (knows_order, comes) in [(true, true), (true, false), (false, true), (false, false)] {
        let case = format!("order {knows_order}, comes {comes}");
        let ground = Ground::of("full.sqlite").await;
        let scratch = Scratch::new();
        let users = Arc::new(Mutex::new(everybody.clone()));
        let api = clerk(users.clone(), knows_order);
        let behind = users.clone();
        let mut changed = false;
        api.instead(move |_, target| {
            if target.contains("/users?") && target.contains("offset=500") && !changed {
                changed = true;
                let mut users = behind.lock().unwrap();
                match (comes, knows_order) {
                    (true, _) => {
                        let like = users[0].clone();
                        users.push(another(&like, CROWD));
                    }
                    // Of the page that was read.
                    (false, true) => drop(users.remove(7)),
                    (false, false) => drop(users.remove(CROWD - 7)),
                }
            }
            None
        });
        let mut whence = scratch.clerk(&api);
        for name in ["organizations", "memberships"] {
            whence.extend(["--without".to_owned(), name.to_owned()]);
        }
        let told = told(&ground, &whence).await;
        let there = ids(&users.lock().unwrap());
        let missed: Vec<&String> = there.difference(&told).collect();
        assert_eq!(missed, [] as [&String; 0], "{case}");
        // Whoever has gone was there when they were read.
        assert_eq!(told.len(), CROWD + usize::from(comes), "{case}");
        let asked = api.heard();
        assert!(
            asked.iter().all(|one| one.starts_with("/users?")),
            "{case}: {asked:?}"
        );
        assert!(asked.len() <= 9, "{case}: three walks at most: {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_wants_to_be_left_alone_is_and_one_that_stumbles_is_asked_again() {
    let ground = Ground::of("full.sqlite").await;
    let scratch = Scratch::new();
    let users = crowd();
    let api = clerk(Arc::new(Mutex::new(users.clone())), true);
    api.instead(|number, _| match number {
        // Something for people, and a broken line.
        1 => Some(Said::Page(200, "<html>Be right back</html>")),
        3 => Some(Said::Cut),
        // 429, and a while of nothing.
        5 => Some(Said::Json(
            429,
            vec![("retry-after", "2".into())],
            json!({}),
        )),
        7 => Some(Said::Json(
            503,
            vec![("retry-after", "0".into())],
            json!({}),
        )),
        _ => None,
    });
    let mut whence = scratch.clerk(&api);
    for name in ["organizations", "memberships"] {
        whence.extend(["--without".to_owned(), name.to_owned()]);
    }
    let (code, out, err) = ground.migrate(&step("import", &whence, &["--json"])).await;
    assert!(code < 2, "{code} {out} {err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["rows"], users.len());
    assert!(
        err.contains("/users: too many requests, it goes on in 2 s"),
        "{err}"
    );
    let heard = api.heard.lock().unwrap();
    let waited = heard[5].0 - heard[4].0;
    assert!(waited >= Duration::from_millis(1_990), "{waited:?}");
    // Three pages twice, and four answers that were none.
    assert_eq!(heard.len(), 10, "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_does_not_come_back_or_has_no_end_ends_the_run_with_its_name() {
    let ground = Ground::of("full.sqlite").await;
    let scratch = Scratch::new();
    let api = workos();
    let whence = scratch.workos(&api);
    let import = step("import", &whence, &[]);

    let at_once = || vec![("retry-after", "0".to_owned())];
    api.instead(move |_, _| Some(Said::Json(503, at_once(), json!({}))));
    let (code, out, err) = ground.migrate(&import).await;
    assert_eq!(code, 3, "{out} {err}");
    assert!(
        err.contains("/user_management/users: it answers 503, 8 times in a row"),
        "{err}"
    );
    assert_eq!(api.heard().len(), 8);

    api.forget();
    api.instead(|_, _| {
        Some(Said::Json(
            429,
            vec![("retry-after", "86400".into())],
            json!({}),
        ))
    });
    let (code, _, err) = ground.migrate(&import).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("left alone for 86400 s"), "{err}");
    assert_eq!(api.heard().len(), 1, "it is left alone");

    let page = |after: &str| {
        let data = vec![json!({ "object": "user", "id": "user_x", "email": "x@example.com" })];
        well(json!({ "data": data, "list_metadata": { "after": after } }))
    };
    for (name, says) in [
        (
            "itself",
            Box::new(move |_: usize| page("a")) as Box<dyn Fn(usize) -> Said + Send>,
        ),
        (
            "come round",
            Box::new(move |number| page(["a", "b", "c"][number % 3])),
        ),
        (
            "too long",
            Box::new(|_| {
                well(json!({ "data": vec![json!({ "id": "user_y" }); 2001], "list_metadata": {} }))
            }),
        ),
        ("no list", Box::new(|_| well(json!({ "message": "hello" })))),
        ("302", Box::new(|_| Said::Page(302, ""))),
    ] {
        api.forget();
        let mut listed = 0;
        api.instead(move |_, target| {
            if target.contains("/users?") {
                listed += 1;
                return Some(says(listed));
            }
            Some(well(json!([])))
        });
        let (code, _, err) = ground.migrate(&import).await;
        assert_eq!(code, 1, "{name}: {err}");
        assert!(err.contains(name), "{name}: {err}");
        // What was fetched before does not matter to the next of these.
        for folder in left(Path::new(&ground.path(""))) {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_refused_stops_at_once_and_what_was_fetched_is_gone_on_with() {
    let ground = Ground::of("full.sqlite").await;
    let scratch = Scratch::new();
    let api = clerk(Arc::new(Mutex::new(clerk_users())), true);
    let whence = scratch.clerk(&api);
    let import = step("import", &whence, &[]);

    // Somebody else's key.
    scratch.write("key", "sk_test_planted_another_key");
    let (code, out, err) = ground.migrate(&import).await;
    assert_eq!(code, 2, "{out} {err}");
    assert!(
        err.contains("/users: it does not accept the key (401)"),
        "{err}"
    );
    assert_eq!(api.heard().len(), 1, "nobody knocks twice");
    assert!(!format!("{out}{err}").contains("planted"), "{out} {err}");

    // The right one, which may not read organizations.
    scratch.write("key", KEY);
    api.forget();
    api.instead(|_, target| {
        let refused = target.starts_with("/organizations?");
        refused.then(|| {
            Said::Json(
                403,
                Vec::new(),
                json!({ "errors": [{ "code": "organization_not_enabled" }] }),
            )
        })
    });
    let (code, out, err) = ground.migrate(&import).await;
    assert_eq!(code, 2, "{out} {err}");
    assert!(
        err.contains("/organizations: it does not accept the key (403)"),
        "{err}"
    );
    assert!(
        err.contains("--without organizations") && err.contains("goes on there"),
        "{err}"
    );
    assert_eq!(api.heard().len(), 2);
    let kept = left(Path::new(&ground.path("")));
    assert_eq!(kept.len(), 1);
    nothing_can_be_read(&kept[0]);

    // It may now: nobody is asked for twice.
    api.forget();
    api.instead(|_, _| None);
    let (code, _, err) = ground.migrate(&import).await;
    assert!(code < 2, "{err}");
    assert!(
        err.contains("it goes on there; to begin anew, remove"),
        "{err}"
    );
    let asked = api.heard();
    assert!(
        !asked.iter().any(|one| one.starts_with("/users")),
        "{asked:?}"
    );
    assert_eq!(left(Path::new(&ground.path(""))), [] as [PathBuf; 0]);

    // Or they are left out.
    api.forget();
    let mut without = whence.clone();
    for name in ["organizations", "memberships"] {
        without.extend(["--without".to_owned(), name.to_owned()]);
    }
    let (code, _, err) = ground.migrate(&step("import", &without, &[])).await;
    assert!(code < 2, "{err}");
    let asked = api.heard();
    assert!(
        asked.iter().all(|one| one.starts_with("/users")),
        "{asked:?}"
    );
}

/// Neither the key nor anybody's address stands in a folder, and it is its owner's alone.
fn nothing_can_be_read(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let mut bytes = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let content = std::fs::read(&path).unwrap();
        bytes += content.len();
        for secret in [KEY, "planted", "example.com"] {
            let found = content
                .windows(secret.len())
                .any(|some| some == secret.as_bytes());
            assert!(!found, "{secret} stands in {}", path.display());
        }
    }
    assert!(bytes > 0);
}

/// The command as a process of its own, with the key in the environment.
fn process(ground: &Ground, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command
        .arg("migrate")
        .args(words)
        .args([
            "--config",
            &ground.path("vestibule.toml"),
            "--spool",
            &ground.path(""),
        ])
        .env("WORKOS_API_KEY", KEY)
        .stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_was_killed_goes_on_where_it_was_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let api = workos();
    let options = format!(
        "api_key = {{ env = \"WORKOS_API_KEY\" }}\napi_url = \"{}\"\n",
        api.url()
    );
    let whence = scratch.whence("workos", &options);
    let (ground, twin) = (
        Ground::of("full.sqlite").await,
        Ground::of("full.sqlite").await,
    );
    // Makes the gateway's own tables, which takes its time.
    ground.told(&["status"], &[0]).await;

    // Behind the second page of users, everything that is asked for one of them hangs.
    let first_page = sample("workos", "users_page1.json");
    let first_ids: BTreeSet<String> = list(&first_page, "data")
        .iter()
        .map(|user| user["id"].as_str().unwrap().to_owned())
        .collect();
    let known = first_ids.clone();
    api.instead(move |_, target| {
        let id = target.split('/').nth(3)?;
        let hangs = target.contains("/identities") && !known.contains(id);
        hangs.then_some(Said::Stalls)
    });
    let words = step("import", &whence, &["--apply"]);
    let mut child: Child = process(&ground, &words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hanging = |api: &Api| {
        let heard = api.heard();
        let ids = heard.iter().filter(|one| one.contains("/identities"));
        ids.filter(|one| !first_ids.contains(one.split('/').nth(3).unwrap()))
            .count()
    };
    await_until("the walk hangs", || hanging(&api) > 0);
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", child.id())).unwrap();
    assert!(!arguments.contains(KEY));
    // As `kill -9` does.
    child.kill().unwrap();
    child.wait().unwrap();
    api.release();
    let kept = left(Path::new(&ground.path("")));
    // What was fetched, and a spool that nobody can read any more.
    assert_eq!(kept.len(), 2, "{kept:?}");
    kept.iter().for_each(|folder| nothing_can_be_read(folder));

    api.forget();
    api.instead(|_, _| None);
    let output = process(&ground, &words).output().unwrap();
    let text = said(&output);
    assert!(output.status.code().is_some_and(|code| code < 2), "{text}");
    assert!(text.contains("it goes on there"), "{text}");
    assert!(!text.contains(KEY), "{text}");
    let asked = api.heard();
    assert!(
        asked[0].contains("/users?") && asked[0].contains("after="),
        "{asked:?}"
    );
    for target in &asked {
        let id = target.split('/').nth(3).unwrap_or_default();
        assert!(!first_ids.contains(id), "{target} was answered before");
    }
    assert_eq!(left(Path::new(&ground.path(""))), [] as [PathBuf; 0]);

    // As if nothing had been.
    let output = process(&twin, &words).output().unwrap();
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{}",
        said(&output)
    );
    assert_eq!(written(&ground).await, written(&twin).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_kept_serves_the_next_steps_and_goes_with_the_last() {
    let ground = Ground::of("full.sqlite").await;
    let scratch = Scratch::new();
    let api = workos();
    let whence = scratch.workos(&api);
    let keep = step("import", &whence, &["--keep-fetched"]);
    let (code, _, err) = ground.migrate(&keep).await;
    assert!(code < 2, "{err}");
    let asked = api.heard().len();
    let kept = left(Path::new(&ground.path("")));
    assert_eq!(kept.len(), 1);
    nothing_can_be_read(&kept[0]);
    let (code, _, err) = ground
        .migrate(&step("import", &whence, &["--apply", "--keep-fetched"]))
        .await;
    assert!(code < 2 && err.contains("were fetched before"), "{err}");
    let (code, _, err) = ground.migrate(&step("verify", &whence, &[])).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(api.heard().len(), asked, "nothing is asked again");
    assert_eq!(left(Path::new(&ground.path(""))), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_fetched_is_said_before_anything_is_asked() {
    let ground = Ground::of("full.sqlite").await;
    let scratch = Scratch::new();
    let none = scratch.write("none.toml", "");
    let plain = scratch.write(
        "plain.toml",
        &format!(
            "{}api_url = \"http://example.com\"\n",
            scratch.key("secret_key")
        ),
    );
    let keyed = scratch.write("keyed.toml", &scratch.key("secret_key"));
    for (words, what) in [
        (
            vec!["--from", "generic", "--fetch", "api"],
            "no API of generic is read",
        ),
        (
            vec!["--from", "clerk", "--fetch", "database"],
            "no database of clerk is read",
        ),
        (
            vec!["--from", "clerk", "--fetch", "api", "--options", &none],
            "`secret_key` is missing",
        ),
        (
            vec!["--from", "clerk", "--fetch", "api", "--options", &plain],
            "must be https",
        ),
        (
            vec![
                "--from",
                "clerk",
                "--fetch",
                "api",
                "--options",
                &keyed,
                "--without",
                "users",
            ],
            "`--without users`",
        ),
        (
            vec!["--from", "supabase", "--fetch", "database"],
            "`database_url` is missing",
        ),
        (
            vec!["--from", "clerk", "--fetch", "everything"],
            "api or database",
        ),
        (vec!["--from", "clerk"], "or read its API by `--fetch api`"),
    ] {
        let mut all = vec!["import"];
        all.extend(&words);
        let (code, out, err) = ground.migrate(&all).await;
        assert_eq!(code, 2, "{words:?}: {out} {err}");
        assert!(err.contains(what), "{words:?}: {err}");
        assert!(!err.contains(KEY), "{err}");
    }
    assert_eq!(left(Path::new(&ground.path(""))), [] as [PathBuf; 0]);
}

// ------------------------------------------------------------------------------------------------------- Supabase's database

const AUTH_TABLES: &str = "
CREATE SCHEMA auth;
CREATE TABLE auth.users (instance_id uuid, id uuid PRIMARY KEY, aud varchar(255), role varchar(255), email varchar(255),
  encrypted_password varchar(255), email_confirmed_at timestamptz, invited_at timestamptz, confirmation_token varchar(255),
  confirmation_sent_at timestamptz, recovery_token varchar(255), recovery_sent_at timestamptz, email_change_token_new varchar(255),
  email_change varchar(255), email_change_sent_at timestamptz, last_sign_in_at timestamptz, raw_app_meta_data jsonb,
  raw_user_meta_data jsonb, is_super_admin boolean, created_at timestamptz, updated_at timestamptz, phone text,
  phone_confirmed_at timestamptz, phone_change text, phone_change_token varchar(255), phone_change_sent_at timestamptz,
  confirmed_at timestamptz, email_change_token_current varchar(255), email_change_confirm_status smallint, banned_until timestamptz,
  reauthentication_token varchar(255), reauthentication_sent_at timestamptz, is_sso_user boolean NOT NULL DEFAULT false,
  deleted_at timestamptz, is_anonymous boolean NOT NULL DEFAULT false);
CREATE TABLE auth.identities (provider_id text, user_id uuid, identity_data jsonb, provider text, last_sign_in_at timestamptz,
  created_at timestamptz, updated_at timestamptz, email text, id uuid PRIMARY KEY);
CREATE TABLE auth.mfa_factors (id uuid PRIMARY KEY, user_id uuid, friendly_name text, factor_type text, status text,
  created_at timestamptz, updated_at timestamptz, secret text, phone text, last_challenged_at timestamptz, web_authn_credential jsonb,
  web_authn_aaguid uuid);
";

/// A project's database with the people of the sample. Source: supabase/auth, `migrations/`.
fn project(server: &Server, scratch: &Scratch) -> String {
    let database = server.database();
    server.sql(&database, AUTH_TABLES);
    for (table, name) in [
        ("users", "auth_users.json"),
        ("identities", "auth_identities.json"),
        ("mfa_factors", "auth_mfa_factors.json"),
    ] {
        let rows = sample("supabase", name).to_string();
        assert!(!rows.contains("$sample$"));
        let sql = format!(
            "INSERT INTO auth.{table} SELECT * FROM jsonb_populate_recordset(NULL::auth.{table}, $sample${rows}$sample$);\n"
        );
        let file = scratch.write("fill.sql", &sql);
        server.run_file(&database, Path::new(&file));
    }
    database
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_read_directly_with_its_hashes_and_comes_to_the_same_as_its_files() {
    let server = shared(Dialect::Postgres);
    let scratch = Scratch::new();
    let database = project(server, &scratch);
    // Whoever may read and do nothing else, as it should be.
    let reader = format!("mover_of_{database}");
    server.sql(
        &database,
        &format!(
            "CREATE ROLE {reader} LOGIN PASSWORD '{KEY}'; GRANT USAGE ON SCHEMA auth TO {reader}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA auth TO {reader}"
        ),
    );
    let url = url::Url::parse(&server.url(&database)).unwrap();
    let at = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let read = |scratch: &Scratch, url: &str| {
        scratch.write("database", url);
        let name = scratch.0.join("database").display().to_string();
        let options = format!("database_url = {{ file = \"{name}\" }}\n");
        let options = scratch.write("database.toml", &options);
        [
            "--from",
            "supabase",
            "--fetch",
            "database",
            "--options",
            &options,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let of = |name: &str| {
        seeds::folder()
            .join("supabase")
            .join(name)
            .display()
            .to_string()
    };
    let of_files = files(
        "supabase",
        &[
            ("users", of("auth_users.json")),
            ("identities", of("auth_identities.json")),
            ("factors", of("auth_mfa_factors.json")),
        ],
    );
    let (live, from_files) = (
        Ground::of("full.sqlite").await,
        Ground::of("full.sqlite").await,
    );
    // Of a pooler's port: nothing is prepared.
    let whence = read(
        &scratch,
        &format!("postgresql://{reader}:{KEY}@{at}/{database}?pgbouncer=true"),
    );
    let told_live = live
        .told(&step("import", &whence, &["--apply"]), &[0, 1])
        .await;
    let told_files = from_files
        .told(&step("import", &of_files, &["--apply"]), &[0, 1])
        .await;
    assert_eq!(told_live["outcomes"], told_files["outcomes"]);
    let (of_database, of_file) = (written(&live).await, written(&from_files).await);
    assert_eq!(of_database, of_file);
    assert!(
        of_database[4].len() > 10,
        "hashes came along: {}",
        of_database[4].len()
    );
    live.told(&step("verify", &whence, &[]), &[0]).await;

    // A second run changes nothing.
    let again = live
        .told(&step("import", &whence, &["--apply"]), &[0, 1])
        .await;
    assert_eq!(
        again["outcomes"]["user"]["created"].as_u64().unwrap_or(0),
        0,
        "{again}"
    );
    assert_eq!(of_database, written(&live).await);

    // What goes wrong is told without the password.
    server.sql(
        &database,
        &format!("REVOKE SELECT ON auth.identities FROM {reader}"),
    );
    let (code, out, err) = live.migrate(&step("import", &whence, &[])).await;
    assert_eq!(code, 3, "{out} {err}");
    assert!(
        err.contains("permission denied for table identities"),
        "{err}"
    );
    assert!(!err.contains(KEY), "{err}");
    for (url, code_is, what) in [
        (
            format!("postgres://{reader}:{KEY}x@{at}/{database}"),
            3,
            "refuses",
        ),
        (
            format!("postgres://{reader}:{KEY}@127.0.0.1:1/{database}"),
            3,
            "cannot be reached",
        ),
        (
            format!("mysql://{reader}:{KEY}@{at}/{database}"),
            2,
            "no address of a PostgreSQL database",
        ),
        (server.url(&server.database()), 2, "has no table auth.users"),
    ] {
        let whence = read(&scratch, &url);
        let (code, out, err) = live.migrate(&step("import", &whence, &[])).await;
        assert_eq!(code, code_is, "{out} {err}");
        assert!(err.contains(what) && !err.contains(KEY), "{err}");
    }
    assert_eq!(left(Path::new(&live.path(""))), [] as [PathBuf; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_only_in_the_file_or_only_in_the_old_system_is_listed() {
    let server = shared(Dialect::Postgres);
    let scratch = Scratch::new();
    let database = project(server, &scratch);
    let users = list(&sample("supabase", "auth_users.json"), "");
    let id = |at: usize| users[at]["id"].as_str().unwrap().to_owned();
    let (came, went) = (id(0), id(1));
    server.sql(&database, &format!(
        "DELETE FROM auth.users WHERE id = '{went}'; DELETE FROM auth.identities WHERE user_id = '{went}'; \
         DELETE FROM auth.mfa_factors WHERE user_id = '{went}'; \
         UPDATE auth.users SET encrypted_password = '', updated_at = now() WHERE id = '{}'", id(2)
    ));
    let file = scratch.write("users.json", &Value::from(users[1..].to_vec()).to_string());
    scratch.write("database", &server.url(&database));
    let options = format!(
        "database_url = {{ file = \"{}\" }}\n",
        scratch.0.join("database").display()
    );
    let options = scratch.write("database.toml", &options);
    let whence: Vec<String> = [
        "--from",
        "supabase",
        "--fetch",
        "database",
        "--options",
        &options,
        "--input",
        &format!("users={file}"),
    ]
    .map(str::to_owned)
    .to_vec();
    let ground = Ground::of("full.sqlite").await;
    let report = ground.path("report.ndjson");
    ground
        .told(
            &step("import", &whence, &["--apply", "--report", &report]),
            &[0, 1],
        )
        .await;
    let text = std::fs::read_to_string(&report).unwrap();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let only: BTreeMap<&str, String> = rows
        .iter()
        .filter(|row| row.to_string().contains("only-in-one"))
        .map(|row| (row["source_id"].as_str().unwrap(), row.to_string()))
        .collect();
    let whom: BTreeSet<&str> = only.keys().copied().collect();
    assert_eq!(
        whom,
        BTreeSet::from([came.as_str(), went.as_str()]),
        "{only:?}"
    );
    assert!(only[came.as_str()].contains("not in the file"), "{only:?}");
    assert!(
        only[went.as_str()].contains("not in the old system"),
        "{only:?}"
    );
    // Of whom both have, the file counts.
    let sql = format!(
        "SELECT @(scheme) FROM vestibule_legacy_credential WHERE user_id = '{}'",
        id(2)
    );
    assert!(!ground.place.rows(&sql).await.is_empty());
}
