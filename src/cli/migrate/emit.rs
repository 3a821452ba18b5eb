//! `import --emit`: for databases the gateway has no adapter of. People are imported into a database of our own, by the same rules as
//! into any other, and its rows leave: as a file of statements, or to an endpoint of the operator's.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::ground::now;
use super::private::Private;
use crate::cli::{DONE, Failure, PROBLEMS, UNREACHABLE, USAGE, World, gateway};
use crate::migration::leaving::rows::{self, Dialect, TABLES};
use crate::secret::Secret;
use crate::store::staging::{Staging, StagingError};

/// Rows in one statement: far below what any database takes of values.
const ROWS: i64 = 100;

/// Rows in one request.
const BATCH: usize = 200;

/// How often one request is tried.
const TRIES_MAX: u32 = 6;

/// How long an endpoint may take for one.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Arguments of `import --emit`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Emit {
    /// Write no database, but what another one takes: `sql` writes a file of statements, `http` posts rows to an endpoint of yours.
    #[arg(long, value_name = "sql|http", value_parser = how)]
    pub emit: Option<How>,
    /// With sql: whose statements: sqlite (also D1, libSQL), postgres or mysql.
    #[arg(long, value_name = "NAME", value_parser = dialect, requires = "emit")]
    pub dialect: Option<Dialect>,
    /// With sql: the file. It holds password hashes, so it is its owner's alone.
    #[arg(long, value_name = "FILE", requires = "emit")]
    pub output: Option<PathBuf>,
    /// With http: where rows are posted.
    #[arg(long, value_name = "URL", requires = "emit")]
    pub url: Option<url::Url>,
    /// With http: the variable with the secret under which each request is signed.
    #[arg(long, value_name = "NAME", requires = "emit")]
    pub signing_secret_env: Option<String>,
    /// With http: the first request to send, where an earlier run was stopped.
    #[arg(long, value_name = "NUMBER", requires = "emit", default_value_t = 1)]
    pub from_batch: u64,
}

/// How rows leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As statements in a file.
    Sql,
    /// To an endpoint.
    Http,
}

fn how(text: &str) -> Result<How, String> {
    match text {
        "sql" => Ok(How::Sql),
        "http" => Ok(How::Http),
        _ => Err("sql or http".into()),
    }
}

fn dialect(text: &str) -> Result<Dialect, String> {
    let known = Dialect::ALL.map(Dialect::as_str).join(", ");
    Dialect::named(text).ok_or_else(|| format!("known are {known}"))
}

/// Where the rows go.
enum Way {
    File { dialect: Dialect, path: PathBuf },
    Endpoint { url: url::Url, secret: Secret },
}

fn usage(message: impl Into<String>, advice: &str) -> Failure {
    Failure {
        message: message.into(),
        advice: advice.into(),
        code: USAGE,
    }
}

fn broken(error: &StagingError) -> Failure {
    Failure {
        message: error.to_string(),
        advice: "name a folder with room for the export with --spool".into(),
        code: PROBLEMS,
    }
}

impl Emit {
    /// Whether rows leave at all.
    pub const fn is_asked(&self) -> bool {
        self.emit.is_some()
    }

    /// Says what is wrong with it, before anything is read.
    ///
    /// # Errors
    /// When something is missing.
    pub fn check(
        &self,
        environment: &std::collections::BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        self.way(environment, Path::new("")).map(|_| ())
    }

    fn way(
        &self,
        environment: &std::collections::BTreeMap<String, String>,
        base: &Path,
    ) -> Result<Way, Failure> {
        if self.emit == Some(How::Sql) {
            return match (self.dialect, &self.output) {
                (Some(dialect), Some(output)) => Ok(Way::File {
                    dialect,
                    path: base.join(output),
                }),
                _ => Err(usage(
                    "`--emit sql` needs --dialect and --output",
                    "as in --dialect postgres --output users.sql",
                )),
            };
        }
        let (Some(url), Some(name)) = (&self.url, &self.signing_secret_env) else {
            return Err(usage(
                "`--emit http` needs --url and --signing-secret-env",
                "as in --url https://app.example.com/import --signing-secret-env IMPORT_SECRET",
            ));
        };
        let loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
            return Err(usage("password hashes go to --url: it must be https", ""));
        }
        let secret = environment.get(name).filter(|secret| secret.len() >= 32);
        let secret = secret.ok_or_else(|| {
            usage(
                format!("the variable {name} is not set, or has less than 32 letters"),
                "make one with `openssl rand -base64 32`",
            )
        })?;
        Ok(Way::Endpoint {
            url: url.clone(),
            secret: Secret::new(secret.clone()),
        })
    }

    /// A database for the rows, below a folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage(&self, below: Option<&Path>) -> Result<Staging, Failure> {
        let below = below.map_or_else(std::env::temp_dir, Path::to_owned);
        let mut random = [0; 8];
        super::ground::random(&mut random);
        let name = data_encoding::HEXLOWER.encode(&random);
        let made = gateway::store_runtime()?.block_on(Staging::make(&below, &name, self.dialect));
        made.map_err(|error| broken(&error))
    }

    /// Everything is in the database: lets it leave.
    ///
    /// # Errors
    /// When it cannot be written, or nobody takes it.
    pub fn leave(
        &self,
        staging: &Staging,
        environment: &std::collections::BTreeMap<String, String>,
        metadata: Option<&str>,
        world: &mut World<'_>,
    ) -> Result<u8, Failure> {
        let way = self.way(environment, &world.folder)?;
        let runtime = gateway::store_runtime()?;
        let text = match &way {
            Way::File { dialect, path } => {
                let count = runtime.block_on(file(staging, *dialect, metadata, path))?;
                format!("{count} rows: {}\n", path.display())
            }
            Way::Endpoint { url, secret } => {
                let sent = runtime.block_on(post(staging, url, secret, self.from_batch))?;
                format!("{} rows in {} requests\n", sent.0, sent.1)
            }
        };
        world.complain(&text);
        Ok(DONE)
    }
}

/// Writes a file of statements. Gives how many rows.
async fn file(
    staging: &Staging,
    dialect: Dialect,
    metadata: Option<&str>,
    path: &Path,
) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure {
        message: format!("{} cannot be written: {error}", path.display()),
        advice: "name a file in a folder that may be written".into(),
        code: PROBLEMS,
    };
    let mut out = std::io::BufWriter::new(Private::begin(path).map_err(failed)?);
    out.write_all(
        b"-- Users with password hashes: keep it to yourself, and destroy it afterwards.\n",
    )
    .map_err(failed)?;
    out.write_all(dialect.begin().as_bytes()).map_err(failed)?;
    let mut reading = staging.read().await.map_err(|error| broken(&error))?;
    let mut count = 0;
    for table in TABLES {
        let used = reading.used(table).await.map_err(|error| broken(&error))?;
        // The app's own column for what else is known of users, where it has one.
        let named = used.iter().filter_map(|at| {
            let (name, _) = table.columns.get(*at)?;
            match (table.name, *name) {
                ("user", "metadata") => Some((*at, metadata?)),
                (_, name) => Some((*at, name)),
            }
        });
        let used: Vec<(usize, &str)> = named.collect();
        let mut after = 0;
        loop {
            let page = reading.rows(table, after, ROWS).await;
            let (rows, last) = page.map_err(|error| broken(&error))?;
            if rows.is_empty() {
                break;
            }
            after = last;
            count += u64::try_from(rows.len()).unwrap_or(0);
            let statement = dialect.insert(table, &used, &rows);
            out.write_all(statement.as_bytes()).map_err(failed)?;
        }
    }
    out.write_all(b"COMMIT;\n").map_err(failed)?;
    let file = out
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error);
    file.and_then(Private::finish).map_err(failed)?;
    Ok(count)
}

/// Posts rows. Gives how many, in how many requests.
async fn post(
    staging: &Staging,
    url: &url::Url,
    secret: &Secret,
    from: u64,
) -> Result<(u64, u64), Failure> {
    // Somebody else may have chosen one already; any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WITHIN)
        .build();
    let client = client.map_err(|error| Failure {
        message: format!("no connection can be prepared: {error}"),
        advice: String::new(),
        code: PROBLEMS,
    })?;
    let mut reading = staging.read().await.map_err(|error| broken(&error))?;
    let (mut held, mut number, mut count, mut sent) = (Vec::with_capacity(BATCH), 0_u64, 0, 0);
    for table in TABLES {
        let mut after = 0;
        loop {
            let page = reading.rows(table, after, ROWS).await;
            let (rows, last) = page.map_err(|error| broken(&error))?;
            let over = rows.is_empty();
            after = last;
            for row in &rows {
                held.push(rows::json(table, row).to_string());
            }
            // A request never holds rows of two tables only half of which arrive: the end of a table ends a request.
            while held.len() >= BATCH || (over && !held.is_empty()) {
                let batch: Vec<String> = held.drain(..held.len().min(BATCH)).collect();
                number += 1;
                if number >= from {
                    one(&client, url, secret, number, &batch).await?;
                    sent += 1;
                    count += u64::try_from(batch.len()).unwrap_or(0);
                }
            }
            if over {
                break;
            }
        }
    }
    Ok((count, sent))
}

/// One request, tried until it is taken.
async fn one(
    client: &reqwest::Client,
    url: &url::Url,
    secret: &Secret,
    number: u64,
    batch: &[String],
) -> Result<(), Failure> {
    let body = batch.join("\n") + "\n";
    let mut wait = Duration::from_secs(1);
    let mut said = String::new();
    for tried in 0..TRIES_MAX {
        if tried > 0 {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
        let at = now().0 / 1000;
        let request = client
            .post(url.clone())
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", format!("vestibule-{number}"))
            .header("x-vestibule-batch", number.to_string())
            .header(
                "x-vestibule-signature",
                format!("t={at},v1={}", signature(secret, at, number, &body)),
            )
            .body(body.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                said = format!("it answers {status}");
                // What is wrong with a request does not get right by asking again.
                if status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429) {
                    break;
                }
                let told = answer.headers().get("retry-after");
                if let Some(seconds) = told.and_then(|value| value.to_str().ok()?.parse().ok()) {
                    wait = Duration::from_secs(seconds).min(WAIT_MAX);
                }
            }
            Err(error) => said = error.without_url().to_string(),
        }
    }
    Err(Failure {
        message: format!("the endpoint does not take request {number}: {said}"),
        advice: format!(
            "run it again with --from-batch {number}: the same export makes the same requests"
        ),
        code: UNREACHABLE,
    })
}

/// HMAC-SHA256 over `seconds.number.body`, in hex.
fn signature(secret: &Secret, at: i64, number: u64, body: &str) -> String {
    // Keys of any length are taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{at}.{number}.").as_bytes());
    mac.update(body.as_bytes());
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}
