//! What every step stands on: the configuration, the database, and a name for whoever is at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::gateway::{cannot_open, store_runtime};
use super::super::{Edges, Failure, PROBLEMS, UNREACHABLE, USAGE, World};
use super::Manner;
use crate::migration::accounts::AccountsError;
use crate::migration::import::target::{Begin, Begun, Run, Seal, Target};
use crate::migration::second_factor::{BackupCodes, Totp};
use crate::migration::vault::{Purpose, Vault};
use crate::secret::Secret;
use crate::server::clock::SystemClock;
use crate::store;
use crate::time::{Clock as _, UnixMs};

/// How long a holder of the lock may be silent. Only somebody on another machine waits that long: here it is seen that a process is gone.
pub const LEASE_MS: i64 = 120_000;

/// Seals under `migration.key`.
pub struct Sealer(pub Vault);

/// Fills a buffer with bytes nobody can guess.
pub fn random(bytes: &mut [u8]) {
    // The system's generator fails only before it was ever seeded; whoever goes on then would make guessable keys.
    if aws_lc_rs::rand::fill(bytes).is_err() {
        std::process::abort();
    }
}

/// So many bytes nobody can guess.
pub fn drawn<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}

impl Seal for Sealer {
    fn hash(&self, user_id: &str, text: &[u8]) -> Secret {
        self.0.seal(Purpose::Hash, user_id, text, drawn())
    }

    fn factor(&self, user_id: &str, key: &[u8]) -> Secret {
        self.0.seal(Purpose::Factor, user_id, key, drawn())
    }
}

/// How the app keeps second factors.
pub struct App {
    /// Its secrets.
    pub secrets: crate::credential::secrets::Settings,
    /// How it stores backup codes.
    pub backup_codes: BackupCodes,
    /// How it makes codes.
    pub totp: Totp,
}

/// A database that does not do what it is asked.
pub fn failed(error: &AccountsError) -> Failure {
    Failure {
        message: error.to_string(),
        advice: error.advice().to_owned(),
        code: match error {
            AccountsError::Timeout | AccountsError::Unreachable(_) => UNREACHABLE,
            AccountsError::Schema(_) => USAGE,
            AccountsError::Denied(_) | AccountsError::Taken(_) | AccountsError::Unfit(_) => {
                PROBLEMS
            }
        },
    }
}

/// What a step stands on.
pub struct Ground {
    /// Where connections live.
    pub runtime: tokio::runtime::Runtime,
    /// The database.
    pub target: Arc<dyn Target>,
    /// Seals what is kept.
    pub sealer: Sealer,
    /// How the app keeps second factors.
    pub app: App,
    /// The environment, with the files of variables.
    pub environment: BTreeMap<String, String>,
}

/// The present.
pub fn now() -> UnixMs {
    SystemClock.now()
}

/// The configuration without what it would warn of in a gateway. `None`: it cannot be used, and that has been told.
///
/// # Errors
/// When it cannot be read, or has no `[migration]`.
pub fn open(
    manner: &Manner,
    metadata_column: Option<&str>,
    world: &mut World<'_>,
    edges: Edges,
) -> Result<Result<Ground, u8>, Failure> {
    let loaded = match manner.given.load(world, edges)? {
        Ok(loaded) => loaded,
        Err(problems) => {
            let style = world.style();
            world.complain(&problems.render(style));
            return Ok(Err(USAGE));
        }
    };
    let secrets = loaded.config.secrets.clone();
    let migration = loaded.config.migration.as_ref().ok_or_else(|| Failure {
        message: "the configuration has no `[migration]`".into(),
        advice: "add it, with a `key` of its own: old hashes are sealed under it".into(),
        code: USAGE,
    })?;
    let mut settings = migration.database.clone();
    if let Some(path) = &manner.staging {
        settings.url = Secret::new(format!("sqlite:{}", path.display()));
        settings.schema = store::SchemaOverrides::default();
        settings.zone_offset_seconds = 0;
    }
    if let Some(column) = metadata_column
        && manner.staging.is_none()
    {
        settings
            .schema
            .columns
            .insert("user.metadata".to_owned(), column.to_owned());
    }
    let runtime = store_runtime()?;
    let target = runtime
        .block_on(store::open_target(&settings))
        .map_err(|error| cannot_open(&error))?;
    Ok(Ok(Ground {
        runtime,
        target,
        sealer: Sealer(Vault::new(&migration.key)),
        app: App {
            secrets,
            backup_codes: migration.second_factor.backup_codes,
            totp: migration.second_factor.totp,
        },
        environment: manner.given.environment(world)?,
    }))
}

/// Who we are: this machine, this process, and when it was started.
pub fn holder() -> String {
    let id = std::process::id();
    let random: [u8; 8] = drawn();
    format!(
        "{}/{id}/{}/{}",
        machine(),
        started(&id.to_string()).unwrap_or_default(),
        data_encoding::HEXLOWER.encode(&random)
    )
}

fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let plain = |text: &str| -> String {
        text.trim()
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric() || "-._".contains(*letter))
            .take(64)
            .collect()
    };
    format!("{}+{}", plain(&name), plain(&boot))
}

/// When a process of this machine was started, in its own words: numbers of processes are used again.
fn started(process: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program is in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

/// Whether a holder was a process of this machine and has ended.
fn is_gone(holder: &str) -> bool {
    let mut parts = holder.split('/');
    let (Some(machine_then), Some(process), Some(started_then)) =
        (parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let here = machine();
    here.len() > 1
        && machine_then == here
        && !started_then.is_empty()
        && started(process).as_deref() != Some(started_then)
}

/// Begins a run, or goes on with one.
///
/// # Errors
/// When somebody else is at it.
pub async fn begin(
    target: &dyn Target,
    provider: &str,
    fingerprint: &str,
    holder: &str,
) -> Result<Run, Failure> {
    let mut begin = Begin {
        provider: provider.to_owned(),
        fingerprint: fingerprint.to_owned(),
        holder: holder.to_owned(),
        holder_is_gone: false,
        lease_until: UnixMs(now().0.saturating_add(LEASE_MS)),
        at: now(),
    };
    loop {
        let begun = target.begin(&begin).await;
        match begun.map_err(|error| failed(&error))? {
            Begun::Run(run) => return Ok(run),
            Begun::Held { holder, .. } if !begin.holder_is_gone && is_gone(&holder) => {
                begin.holder_is_gone = true;
            }
            Begun::Held { holder, until } => {
                let mut parts = holder.split('/');
                let machine = parts.next().and_then(|machine| machine.split('+').next());
                let wait = (until.0 - begin.at.0).max(0) / 1000;
                return Err(Failure {
                    message: format!(
                        "another import is at it: process {} on {}",
                        parts.next().unwrap_or("?"),
                        machine.unwrap_or("?")
                    ),
                    advice: format!(
                        "one at a time; if that process is gone, its lock is free in {wait} s"
                    ),
                    code: super::super::PROBLEMS,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_is_not_gone_and_one_that_never_was_is() {
        let me = holder();
        assert!(!is_gone(&me), "{me}");
        let mut parts: Vec<&str> = me.split('/').collect();
        parts[2] = "1";
        assert!(is_gone(&parts.join("/")), "started at another moment");
        parts[0] = "elsewhere+1";
        assert!(!is_gone(&parts.join("/")), "nobody sees from here");
        for noise in ["", "a", "a/b", "a/b/c/d"] {
            assert!(!is_gone(noise), "{noise}");
        }
    }
}
