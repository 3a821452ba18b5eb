//! What the app serves, as its build says: pages, handlers, files, rewrites, Server Actions.
//!
//! Rules are written on paths; an app serves routes. With its build at hand every route is known with all its spellings, and what maps
//! to none of them is never public by accident.

use std::sync::Arc;

pub mod actions;
pub mod next;
pub mod paths;

pub use paths::{Domain, NextJs};

/// An app as it was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// The build's own name, as in `/_next/data/<build>/`.
    pub build_id: String,
    /// The parts of its configuration that change what a path means.
    pub nextjs: NextJs,
    /// Everything it serves by itself.
    pub routes: Vec<AppRoute>,
    /// Paths that stand for others.
    pub rewrites: Rewrites,
    /// Paths it sends browsers away from. They serve nothing themselves.
    pub redirects: Vec<Redirect>,
    /// Functions of the server that browsers may call, whatever path they post to.
    pub actions: Vec<Action>,
    /// The compiled matchers of its `proxy.ts` or `middleware.ts`; `None`: it has none.
    pub matchers: Option<Vec<Matcher>>,
    /// What its image optimizer takes.
    pub images: Images,
    /// Whether sources of rewrites and redirects tell capitals from small letters. By default they do not, while pages do.
    pub case_sensitive: bool,
}

/// The image optimizer, as `images` in `next.config` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Where browsers ask it, with the base path: `/_next/image` unless said otherwise.
    pub path: String,
    /// Expressions of the paths it takes from this app; `None`: all.
    pub local: Option<Vec<String>>,
}

/// One route of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRoute {
    /// As the app's folders name it: `/dashboard/[id]`.
    pub page: String,
    /// The same as a source of a rule: `/dashboard/:id`. Without base path and locale.
    pub source: String,
    /// What it is.
    pub kind: Kind,
}

/// What a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A page of the app router.
    Page,
    /// A route handler of the app router.
    Handler,
    /// A page of the pages router, with its data route.
    PagesPage,
    /// An API route of the pages router.
    PagesApi,
    /// A file below `public/`.
    PublicFile,
}

/// `rewrites` of `next.config`, in the order Next.js tries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrites {
    /// Before files and pages are looked at.
    pub before_files: Vec<Rewrite>,
    /// After files and pages without parameters.
    pub after_files: Vec<Rewrite>,
    /// After everything.
    pub fallback: Vec<Rewrite>,
}

/// A path that stands for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The source, in the build's own spelling (base path and locale included where the build says so).
    pub source: String,
    /// Where to: a path, or an address on another host.
    pub destination: String,
    /// The expression the source was compiled to.
    pub regex: String,
    /// Whether it only holds for some requests (`has`, `missing`).
    pub is_conditional: bool,
}

impl AppRoute {
    /// Whether it has no parameters: Next.js looks for it before it rewrites by `afterFiles`.
    pub fn is_fixed(&self) -> bool {
        self.kind == Kind::PublicFile || !self.page.split('/').any(|part| part.starts_with('['))
    }
}

impl Rewrite {
    /// Whether another server answers what is rewritten.
    pub fn is_external(&self) -> bool {
        // A path may begin with two slashes nowhere else: that is a host.
        self.destination.starts_with("//")
            || (!self.destination.starts_with('/') && self.destination.contains(':'))
    }
}

/// A path browsers are sent away from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The source.
    pub source: String,
    /// The expression it was compiled to.
    pub regex: String,
    /// Whether it only holds for some requests (`has`, `missing`).
    pub is_conditional: bool,
}

/// A Server Action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Its id, as `Next-Action` brings it.
    pub id: String,
    /// The pages that own it, as [`AppRoute::page`] names them.
    pub pages: Vec<String>,
}

/// One compiled matcher of `proxy.ts` or `middleware.ts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// As it was written.
    pub source: String,
    /// The expression it was compiled to.
    pub regex: String,
    /// Whether it only holds for some requests (`has`, `missing`), as JSON of the build.
    pub conditions: Option<String>,
}

/// The folder of a build, read by an edge.
pub trait Files {
    /// One file's text; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read(&self, path: &str) -> Result<Option<String>, Unreadable>;
    /// The paths of all files below a folder, relative to it, with `/` between; empty when there is no such folder.
    ///
    /// # Errors
    /// When the folder is there and cannot be read, or holds more files than are looked at.
    fn list(&self, folder: &str) -> Result<Vec<String>, Unreadable>;
    /// The names of the folders directly in a folder; empty when there is no such folder.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    fn folders(&self, folder: &str) -> Result<Vec<String>, Unreadable> {
        let files = self.list(folder)?;
        let names = files.iter().filter_map(|path| path.split_once('/'));
        let mut names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
        names.dedup();
        Ok(names)
    }
}

/// Why a build cannot be used. The text names the file and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    /// What is wrong, with the file's name.
    pub message: String,
    /// What the operator can do about it.
    pub advice: &'static str,
}

/// An app that may be built again while we run.
pub type Shared = Arc<App>;
