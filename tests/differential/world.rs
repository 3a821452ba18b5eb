//! A real Better Auth and a gateway in front of it, both on the same store.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::gateway::Gateway;
use super::server::Server;
use crate::support::SECRET;
use crate::support::databases::{Dialect, Folder, shared};
use crate::support::redis::Redis;

/// Where the framework keeps its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    #[default]
    Sqlite,
    Postgres,
    /// In Redis, with the people in SQLite.
    Redis,
    /// Nowhere: the cookie is the session.
    Nowhere,
}

/// What a world is made of.
#[derive(Clone, Default)]
pub struct Plan {
    pub store: Store,
    /// `options`, `plugins` and so on, as `oracle/server.mjs` takes them. The secret, the base URL and the store are added.
    pub server: Value,
    /// More lines of the gateway's `[better_auth]`.
    pub better_auth: &'static str,
    /// More lines of its `[sessions]`.
    pub sessions: &'static str,
}

pub struct World {
    pub server: Server,
    pub gateway: Gateway,
    plan: Plan,
    configuration: Value,
    source: String,
    /// What `source` names, when it is a Redis.
    _redis: Option<Redis>,
    folder: Folder,
}

impl World {
    pub fn start(plan: Plan) -> Self {
        let folder = Folder::new("differential");
        let redis = (plan.store == Store::Redis).then(Redis::start);
        let (configuration, source) = configured(&plan, folder.join("app.db"), redis.as_ref());
        let server = Server::start(&configuration);
        let text = gateway_configuration(&plan, &server, &source);
        let gateway = Gateway::start(&text, &folder.join("vestibule.toml"));
        Self {
            server,
            gateway,
            plan,
            configuration,
            source,
            _redis: redis,
            folder,
        }
    }

    /// Starts the server again, on the same store, with another option; the gateway is told nothing but where it is.
    pub fn restart(&mut self, option: &str, value: Value) {
        self.configuration["options"][option] = value;
        self.server = Server::start(&self.configuration);
        let text = gateway_configuration(&self.plan, &self.server, &self.source);
        self.gateway = Gateway::start(&text, &self.folder.join("vestibule.toml"));
    }

    /// The same again, on a store of its own.
    pub fn plan_again(&self) -> Plan {
        self.plan.clone()
    }

    /// Whether the operator of this gateway has chosen that a credential which does not count leaves the word to the next.
    pub fn falls_through(&self) -> bool {
        self.plan.better_auth.contains("fall_through = true")
    }

    /// Whether the server keeps anything but cookies.
    pub fn has_database(&self) -> bool {
        self.plan.store != Store::Nowhere
    }

    /// Whether the gateway believes the server's session cache.
    pub fn reads_caches(&self) -> bool {
        !self.has_database() || self.plan.better_auth.contains("cookie_cache")
    }

    /// Whether the gateway reads JWTs in requests.
    pub fn reads_jwts(&self) -> bool {
        let mut lines = self.plan.better_auth.lines();
        lines.any(|line| line.starts_with("enable") && line.contains("\"jwt\""))
    }

    /// How the server seals its session cache, if it does.
    pub fn cache(&self) -> Option<&str> {
        if self.configuration["plugins"]["jwt"]["jwt"]["sessionCookieCache"] == true
            || self.configuration["plugins"]["jwt"]["sessionCookieCache"] == true
        {
            return Some("jwks");
        }
        if !self.has_database() {
            return Some("jwe");
        }
        let cache = &self.configuration["options"]["session"]["cookieCache"];
        (cache["enabled"] == true).then(|| cache["strategy"].as_str().unwrap_or("compact"))
    }

    /// Whether the server has a plugin.
    pub fn has(&self, plugin: &str) -> bool {
        !self.configuration["plugins"][plugin].is_null()
    }

    /// Ends a session behind everybody's back: it is gone from the store.
    pub fn delete(&self, token: &str) {
        match self.plan.store {
            Store::Redis => {
                self.redis(json!(["DEL", key(token)]));
            }
            Store::Sqlite | Store::Postgres | Store::Nowhere => {
                let sql = format!(r#"DELETE FROM "session" WHERE "token" = '{token}'"#);
                self.server.sql(&sql);
            }
        }
    }

    /// Lets a session's time be over.
    pub fn expire(&self, token: &str) {
        const PAST: &str = "2026-01-02T03:04:05.678Z";
        match self.plan.store {
            Store::Redis => {
                let text = self.redis(json!(["GET", key(token)]));
                let mut value: Value =
                    serde_json::from_str(text.as_str().expect("a session")).expect("JSON");
                value["session"]["expiresAt"] = PAST.into();
                self.redis(json!(["SET", key(token), value.to_string()]));
            }
            Store::Sqlite | Store::Postgres | Store::Nowhere => {
                let sql = format!(
                    r#"UPDATE "session" SET "expiresAt" = '{PAST}' WHERE "token" = '{token}'"#
                );
                self.server.sql(&sql);
            }
        }
    }

    fn redis(&self, command: Value) -> Value {
        self.server.ask("redis", json!({ "command": command }))
    }
}

/// Where the framework's Redis package keeps a session.
fn key(token: &str) -> String {
    format!("better-auth:{token}")
}

/// The server's whole configuration, and where the gateway finds the same store.
fn configured(plan: &Plan, file: PathBuf, redis: Option<&Redis>) -> (Value, String) {
    let mut configuration = plan.server.clone();
    if configuration.is_null() {
        configuration = json!({});
    }
    let mut options = configuration["options"].take();
    if options.is_null() {
        options = json!({});
    }
    options["baseURL"] = "http://app.test".into();
    if options["secret"].is_null() && options["secrets"].is_null() {
        options["secret"] = SECRET.into();
    }
    configuration["options"] = options;
    let source = match plan.store {
        Store::Sqlite => {
            configuration["sqlite"] = file.display().to_string().into();
            format!("sqlite:{}", file.display())
        }
        Store::Postgres => {
            let server = shared(Dialect::Postgres);
            let url = server.url(&server.database());
            configuration["postgres"] = url.clone().into();
            url
        }
        Store::Redis => {
            configuration["sqlite"] = file.display().to_string().into();
            let url = redis.expect("a Redis").url(0);
            configuration["redis"] = url.clone().into();
            url
        }
        Store::Nowhere => "cookie:".into(),
    };
    (configuration, source)
}

fn gateway_configuration(plan: &Plan, server: &Server, source: &str) -> String {
    let secret = match plan.better_auth.contains("secret") {
        true => String::new(),
        false => format!("secret = \"{SECRET}\""),
    };
    // Without a store there is nobody to ask.
    let strict = match plan.store {
        Store::Nowhere => "",
        Store::Sqlite | Store::Postgres | Store::Redis => {
            "[[route]]\npath = \"/strict/:path*\"\nrule = \"signed-in\"\nfreshness = \"strict\""
        }
    };
    format!(
        r#"
        admin = "off"
        public_url = "http://app.test"
        threads = 1
        # Every case comes from an address of its own: nobody is held back for the others' guesses.
        trusted_proxies = ["127.0.0.1"]
        [upstream]
        url = "http://{}"
        [better_auth]
        base_url = "http://app.test"
        {secret}
        {}
        [sessions]
        source = "{source}"
        timeout = "10s"
        {}
        [routes]
        default = "signed-in"
        [[route]]
        path = "/public/:path*"
        rule = "public"
        [[route]]
        path = "/cached/:path*"
        rule = "signed-in"
        {strict}
        [log]
        access = false
        "#,
        server.address, plan.better_auth, plan.sessions
    )
}
