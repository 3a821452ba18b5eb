//! `vestibule bans`: who has failed to sign in too often, asked of the admin listener.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::healthcheck::from_admin;
use super::{DONE, Edges, Failure, Given, PROBLEMS, UNREACHABLE, USAGE, World};
use crate::secret::Secret;

/// How long an answer may take in all.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes: a full list.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Arguments of `bans`.
#[derive(Debug, clap::Args)]
pub struct Bans {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List who is limited, and for how long. Accounts stand there under names that only the gateway can make.
    List(List),
    /// Let somebody try again at once.
    Lift(Lift),
}

/// Arguments of `bans list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The configuration, for the admin listener and its token.
    #[command(flatten)]
    pub given: Given,
    /// Answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `bans lift`.
#[derive(Debug, clap::Args)]
pub struct Lift {
    /// The configuration, for the admin listener and its token.
    #[command(flatten)]
    pub given: Given,
    /// Answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// Whom.
    #[command(flatten)]
    pub whom: Whom,
}

/// Whom: one of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// A client address (IPv6: its whole /64), and every account tried from it.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// An account, by what its owner types: an e-mail address, a username, a phone number.
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// A key of the list, or the account in it.
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Everybody.
    #[arg(long)]
    pub all: bool,
}

#[derive(Deserialize)]
struct Listed {
    limited: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    scope: String,
    address: Option<String>,
    account: Option<String>,
    wait_ms: u64,
}

#[derive(Deserialize)]
struct Lifted {
    lifted: u64,
}

impl Bans {
    /// Lists, or lifts.
    ///
    /// # Errors
    /// When the gateway cannot be asked.
    pub fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        match self.action {
            Action::List(list) => list.run(world, edges),
            Action::Lift(lift) => lift.run(world, edges),
        }
    }
}

impl List {
    fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let Some(admin) = Admin::find(&self.given, world, edges)? else {
            return Ok(USAGE);
        };
        let text = admin.ask("GET", "/bans", "")?;
        if self.json {
            world.say(&format!("{}\n", text.trim_end()));
            return Ok(DONE);
        }
        let listed: Listed = read(&text)?;
        if listed.limited.is_empty() {
            world.say("nobody is limited\n");
            return Ok(DONE);
        }
        for entry in listed.limited {
            let seconds = entry.wait_ms.div_ceil(1000);
            let address = entry.address.as_deref().unwrap_or("-");
            let account = entry.account.as_deref().unwrap_or("-");
            world.say(&format!(
                "{:<8} {address:<39} {account:<32} {seconds} s\n",
                entry.scope
            ));
        }
        Ok(DONE)
    }
}

impl Lift {
    fn run(self, world: &mut World<'_>, edges: Edges) -> Result<u8, Failure> {
        let Some(admin) = Admin::find(&self.given, world, edges)? else {
            return Ok(USAGE);
        };
        let whom = match self.whom {
            Whom {
                address: Some(address),
                ..
            } => serde_json::json!({ "address": address }),
            Whom {
                account: Some(account),
                ..
            } => serde_json::json!({ "account": account }),
            Whom { key: Some(key), .. } => serde_json::json!({ "key": key }),
            Whom { .. } => serde_json::json!({ "all": true }),
        };
        let text = admin.ask("POST", "/bans/lift", &whom.to_string())?;
        let lifted: Lifted = read(&text)?;
        match self.json {
            true => world.say(&format!("{}\n", text.trim_end())),
            // Not whom: it may be an e-mail address, and this may end up in a log.
            false if lifted.lifted == 0 => world.say("nobody like that was counted\n"),
            false => world.say(&format!("lifted: {}\n", lifted.lifted)),
        }
        Ok(if lifted.lifted == 0 { PROBLEMS } else { DONE })
    }
}

/// The admin listener of a running gateway.
struct Admin {
    address: SocketAddr,
    host: String,
    token: Secret,
}

impl Admin {
    /// As the configuration says. `None`: it cannot be used, and that has been told.
    fn find(given: &Given, world: &mut World<'_>, edges: Edges) -> Result<Option<Self>, Failure> {
        let loaded = match given.load(world, edges)? {
            Ok(loaded) => loaded,
            Err(problems) => {
                let style = world.style();
                world.complain(&problems.render(style));
                return Ok(None);
            }
        };
        let server = loaded.config.server;
        let (address, host, _) = from_admin(server.admin)?;
        let token = server.admin_token.ok_or_else(|| Failure {
            message: "the admin listener takes no such questions without a token".into(),
            advice: "set `admin_token`, as in `admin_token = { env = \"ADMIN_TOKEN\" }`".into(),
            code: USAGE,
        })?;
        Ok(Some(Self {
            address,
            host,
            token,
        }))
    }

    /// The body of an answer that is well.
    fn ask(&self, method: &str, target: &str, body: &str) -> Result<String, Failure> {
        let failed = |message: String| Failure {
            message,
            advice: "check that the gateway runs, and that this is its configuration".into(),
            code: UNREACHABLE,
        };
        let answer = self
            .exchange(method, target, body)
            .map_err(|error| failed(format!("{} does not answer: {error}", self.address)))?;
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
        match status {
            "200" => Ok(text.to_owned()),
            "401" => Err(Failure {
                message: "the gateway does not take this token".into(),
                advice: "use the configuration, and the variables, it was started with".into(),
                code: USAGE,
            }),
            "404" => Err(Failure {
                message: text.trim_end().to_owned(),
                advice: "see `[migration.limits]` in config/vestibule.toml".into(),
                code: USAGE,
            }),
            "503" => Err(failed(text.trim_end().to_owned())),
            _ => Err(failed(format!("{} answers {status}", self.address))),
        }
    }

    fn exchange(&self, method: &str, target: &str, body: &str) -> std::io::Result<String> {
        let end = Instant::now() + DEADLINE;
        let mut stream = TcpStream::connect_timeout(&self.address, DEADLINE)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        // In one piece: formatting straight into a socket sends a packet for every part.
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.host,
            self.token.expose(),
            body.len(),
        );
        stream.write_all(request.as_bytes())?;
        let left = end.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn read<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|_| Failure {
        message: "the gateway answers what we cannot read".into(),
        advice: "use the same version of both".into(),
        code: UNREACHABLE,
    })
}
