//! Old systems that are nobody's but ours: servers on loopback that speak the documented API of a vendor, and can fail in every way one
//! fails.

pub mod clerk;
pub mod workos;

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{App, Seen, reply};

/// A way in which an old system fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// None.
    #[default]
    Well,
    /// It accepts and says nothing, for longer than anybody waits.
    Stalls,
    /// It says nothing at first, and answers when nobody waits any more.
    Late(Duration),
    /// It breaks the connection in the middle of an answer.
    Cuts,
    /// A page for people, with status 200.
    Garbage,
    /// This status, without a body of the API.
    Status(u16),
    /// 429 with `Retry-After`.
    Limits,
}

/// One user of an old system.
#[derive(Clone, Debug)]
pub struct Person {
    pub id: String,
    pub email: String,
    pub verified: bool,
    pub password: Option<String>,
    /// A hash it was told, and in which form.
    pub hash: Option<(String, String)>,
    pub first_name: String,
    pub last_name: String,
    pub external_id: Option<String>,
    /// The code of the second factor that is right now.
    pub code: Option<String>,
    pub banned: bool,
}

impl Person {
    pub fn new(id: &str, email: &str, password: &str) -> Self {
        Self {
            id: id.into(),
            email: email.into(),
            verified: true,
            password: Some(password.into()),
            hash: None,
            first_name: "Ann".into(),
            last_name: "Lee".into(),
            external_id: None,
            code: None,
            banned: false,
        }
    }

    pub fn with_code(mut self, code: &str) -> Self {
        self.code = Some(code.into());
        self
    }
}

/// What an old system knows.
#[derive(Default)]
pub struct Known {
    pub people: Vec<Person>,
    /// Sessions that are alive there.
    pub sessions: Vec<String>,
    /// Sessions there ever were.
    pub made: u32,
    pub fault: Fault,
}

impl Known {
    pub fn by_email(&mut self, email: &str) -> Option<&mut Person> {
        self.people.iter_mut().find(|person| person.email == email)
    }

    pub fn by_id(&mut self, id: &str) -> Option<&mut Person> {
        self.people.iter_mut().find(|person| person.id == id)
    }
}

/// A request in parts.
pub struct Asked {
    pub method: String,
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
    pub bearer: String,
    pub body: Value,
}

impl Asked {
    pub fn of(seen: &Seen) -> Self {
        let mut line = seen.line.split(' ');
        let method = line.next().unwrap_or_default().to_owned();
        let target = line.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let bearer = seen.header("authorization").unwrap_or_default();
        Self {
            method,
            path: path.split('/').skip(1).map(str::to_owned).collect(),
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            bearer: bearer
                .strip_prefix("Bearer ")
                .unwrap_or_default()
                .to_owned(),
            body: serde_json::from_slice(&seen.body).unwrap_or(Value::Null),
        }
    }

    pub fn query(&self, name: &str) -> Option<String> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    }

    pub fn text(&self, name: &str) -> String {
        self.body[name].as_str().unwrap_or_default().to_owned()
    }
}

/// An old system.
pub struct Vendor {
    pub app: App,
    known: Arc<Mutex<Known>>,
}

type Speaks = fn(&mut Known, &Asked) -> (u16, Value);

impl Vendor {
    fn start(speaks: Speaks) -> Self {
        let known: Arc<Mutex<Known>> = Arc::default();
        let shared = Arc::clone(&known);
        let app = App::scripted(move |seen, stream| {
            let fault = shared.lock().unwrap().fault;
            let answer = || speaks(&mut shared.lock().unwrap(), &Asked::of(seen));
            match fault {
                Fault::Well => json_reply(stream, &[], answer()),
                Fault::Stalls => {
                    // Until the other side gives up.
                    let mut one = [0];
                    let _ = std::io::Read::read(stream, &mut one);
                }
                Fault::Late(by) => {
                    let answer = answer();
                    // The lateness itself is what is looked at.
                    thread::sleep(by);
                    json_reply(stream, &[], answer);
                }
                Fault::Cuts => {
                    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"ver";
                    let _ = std::io::Write::write_all(stream, head);
                    let _ = stream.shutdown(Shutdown::Both);
                }
                Fault::Garbage => reply(stream, 200, &[], b"<html>Be right back</html>"),
                Fault::Status(status) => reply(stream, status, &[], b"{}"),
                Fault::Limits => {
                    let body = json!({ "message": "Too many requests" });
                    json_reply(stream, &[("retry-after", "7")], (429, body));
                }
            }
        });
        Self { app, known }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.app.address)
    }

    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    pub fn add(&self, person: Person) {
        self.known().people.push(person);
    }

    pub fn fail(&self, fault: Fault) {
        self.known().fault = fault;
    }

    /// How many requests of this path there were.
    pub fn asked(&self, part: &str) -> usize {
        let seen = self.app.seen();
        seen.iter().filter(|seen| seen.line.contains(part)).count()
    }
}

fn json_reply(stream: &mut TcpStream, headers: &[(&str, &str)], (status, body): (u16, Value)) {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    reply(stream, status, &all, body.to_string().as_bytes());
}
