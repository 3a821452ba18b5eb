//! The folder of an app's build, on disk: read at start, and again whenever it changes.
//!
//! A build is taken when it is whole: nothing of it changed between two looks, nor while it was read. Until then, and whenever it
//! cannot be read, what was known stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::app::next::{self, BUILD_FOLDER, MANIFESTS};
use crate::app::{App, Files, Unreadable};
use crate::route::RouteTable;
use crate::telemetry::metrics::Metrics;

/// A manifest of a large app has a few megabytes; more is none.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files below `public/` that are looked at.
const FILES_MAX: usize = 100_000;
/// How often a build is looked at. A look asks the system for the state of about ten files; it must not change between two of them to
/// be taken, so that a new build is known within some three seconds.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An app's folder.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Unreadable {
        Unreadable {
            message: format!("`{}` cannot be read: {error}", path.display()),
            advice: "give the gateway's user the right to read the app's build",
        }
    }
}

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Option<String>, Unreadable> {
        use std::io::{ErrorKind, Read as _};

        let path = self.0.join(path);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Self::unreadable(&path, &error)),
        };
        let mut text = String::new();
        // It may grow while it is read.
        match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
            Ok(_) if text.len() as u64 > FILE_BYTES_MAX => {
                Err(Self::unreadable(&path, &"it is too large"))
            }
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(Self::unreadable(&path, &error)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, Unreadable> {
        let root = self.0.join(folder);
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        let mut entered = 0;
        while let Some(folder) = open.pop() {
            // Links may go round in circles.
            entered += 1;
            if found.len() + open.len() + entered > FILES_MAX {
                return Err(Self::unreadable(&folder, &"it holds too many files"));
            }
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Self::unreadable(&folder, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| Self::unreadable(&folder, &error))?;
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str) {
                    found.push(name.replace('\\', "/"));
                }
                if found.len() + open.len() > FILES_MAX {
                    return Err(Self::unreadable(&folder, &"it holds too many files"));
                }
            }
        }
        Ok(found)
    }

    fn folders(&self, folder: &str) -> Result<Vec<String>, Unreadable> {
        let root = self.0.join(folder);
        let entries = match std::fs::read_dir(&root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Self::unreadable(&root, &error)),
        };
        let mut found = Vec::new();
        for entry in entries.take(FILES_MAX) {
            let entry = entry.map_err(|error| Self::unreadable(&root, &error))?;
            if entry.path().is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                found.push(name);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// What tells one state of a build from another, without reading it: of each manifest its device, number, size, and when it and what
/// is said of it changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print(Vec<Option<([u64; 3], [i64; 4])>>);

impl Print {
    /// The state of every manifest now; a file that is not there has none.
    fn of(folder: &Folder, build: &str) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        let root = folder.0.join(build);
        let state = |name: &&str| {
            let found = std::fs::metadata(root.join(name)).ok()?;
            // Another file under the same name has another number, and a copy with its old date another change of state.
            let which = [found.dev(), found.ino(), found.size()];
            let when = [
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec(),
            ];
            Some((which, when))
        };
        Self(MANIFESTS.iter().map(state).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// Looks whether an app was built again.
pub struct Watch {
    folder: Folder,
    /// Below it, where the build was found.
    build: String,
    /// What was last taken, or found to be of no use.
    settled: Option<Print>,
    /// What was seen last.
    seen: Option<Print>,
    /// Whether it was told that there is no build any more.
    told_missing: bool,
}

/// What came of a look.
#[derive(Debug)]
pub enum Look {
    /// Nothing to do.
    Same,
    /// Something changes; the next look may tell.
    Changing,
    /// A new build, whole.
    New(Box<App>),
    /// A new build that cannot be used. Said once for each.
    Bad(Unreadable),
    /// The build is gone. Said once.
    Gone,
}

impl Watch {
    /// Watches the build of an app that was read just now. What changes from now on is noticed, and what changed since is too when it
    /// changes the build's name.
    pub fn new(folder: PathBuf) -> Self {
        let folder = Folder(folder);
        let build = next::build_folder(&folder).unwrap_or_else(|_| BUILD_FOLDER.to_owned());
        Self {
            folder,
            build,
            // Not what is there now: it may have changed since it was read. Reading it once more costs little.
            settled: None,
            seen: None,
            told_missing: false,
        }
    }

    /// Looks once.
    pub fn look(&mut self) -> Look {
        let mut now = Print::of(&self.folder, &self.build);
        if now.is_empty()
            && let Ok(build) = next::build_folder(&self.folder)
        {
            // Another `distDir` than before.
            self.build = build;
            now = Print::of(&self.folder, &self.build);
        }
        if now.is_empty() {
            self.seen = None;
            self.settled = None;
            return if std::mem::replace(&mut self.told_missing, true) {
                Look::Same
            } else {
                Look::Gone
            };
        }
        self.told_missing = false;
        if self.settled.as_ref() == Some(&now) {
            return Look::Same;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return Look::Changing;
        }
        let read = next::read(&self.folder);
        if Print::of(&self.folder, &self.build) != now {
            return Look::Changing;
        }
        self.settled = Some(now);
        match read {
            Ok(app) => Look::New(Box::new(app)),
            Err(unreadable) => Look::Bad(unreadable),
        }
    }
}

/// Takes what a look found. A build that changes what paths mean is not taken: the rules were made for the old meaning.
pub fn take(look: Look, routes: &RouteTable, metrics: &Metrics) {
    match look {
        Look::Same | Look::Changing => {}
        Look::Gone => {
            metrics.build_refused();
            tracing::warn!(
                "the app's build is gone: what was known of it still holds. Build the app again"
            );
        }
        Look::Bad(unreadable) => {
            metrics.build_refused();
            tracing::warn!(
                advice = unreadable.advice,
                "the app's new build cannot be used, the old one still holds: {unreadable}"
            );
        }
        Look::New(app) => {
            let known = routes.app();
            if let Some(known) = &known
                && known.nextjs != app.nextjs
            {
                metrics.build_refused();
                tracing::warn!(
                    build = app.build_id,
                    "the app's new build has another base path, trailing slash or locales, the old one still holds: restart the gateway"
                );
                return;
            }
            // The same build read again is no news.
            let is_news = known.is_none_or(|known| *known != *app);
            if is_news {
                let (build, count) = (app.build_id.clone(), app.routes.len());
                routes.know(Some(Arc::new(*app)));
                metrics.build_taken(&build);
                tracing::info!(build, routes = count, "the app was built again");
            }
        }
    }
}
