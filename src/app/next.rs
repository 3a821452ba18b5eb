//! Reads the manifests of a Next.js build. They are Next's own and undocumented: versions 15 and 16 are read, whatever builds them.

use std::collections::BTreeMap;

use super::{App, AppRoute, Files, Kind, Unreadable, actions};

/// The folder of the build below the app's, unless `distDir` says otherwise.
pub const BUILD_FOLDER: &str = ".next";

/// Reads an app's build. Paths are relative to the app's folder.
///
/// # Errors
/// When it was never built, or a manifest is none.
pub fn read(files: &dyn Files) -> Result<App, Unreadable> {
    let Some(build_id) = files.read(".next/BUILD_ID")? else {
        return Err(Unreadable {
            message: "there is no build: `.next/BUILD_ID` is missing".to_owned(),
            advice: "build the app first (`next build`), or name the folder that holds `.next`",
        });
    };
    let mut app = App {
        build_id: build_id.trim().to_owned(),
        ..App::default()
    };
    let served: BTreeMap<String, String> = json(files, ".next/app-path-routes-manifest.json")?;
    for (file, page) in served {
        let kind = if file.ends_with("/route") {
            Kind::Handler
        } else {
            Kind::Page
        };
        if !page.starts_with("/_") {
            app.routes.push(AppRoute {
                source: source_of(&page),
                page,
                kind,
            });
        }
    }
    let pages: BTreeMap<String, String> = json(files, ".next/server/pages-manifest.json")?;
    for page in pages.into_keys() {
        let kind = if page.starts_with("/api/") || page == "/api" {
            Kind::PagesApi
        } else {
            Kind::PagesPage
        };
        if !page.starts_with("/_") && page != "/404" && page != "/500" {
            app.routes.push(AppRoute {
                source: source_of(&page),
                page,
                kind,
            });
        }
    }
    if let Some(text) = files.read(actions::MANIFEST)? {
        app.actions = actions::parse(&text).map_err(|error| unknown(actions::MANIFEST, &error))?;
    }
    Ok(app)
}

/// `/docs/[...path]` as a source: `/docs/:path+`.
pub fn source_of(page: &str) -> String {
    let parts = page.split('/').map(|part| {
        let inside = |open: &str, close: &str| part.strip_prefix(open)?.strip_suffix(close);
        if let Some(name) = inside("[[...", "]]") {
            format!(":{name}*")
        } else if let Some(name) = inside("[...", "]") {
            format!(":{name}+")
        } else if let Some(name) = inside("[", "]") {
            format!(":{name}")
        } else {
            part.to_owned()
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

fn json<T: serde::de::DeserializeOwned + Default>(
    files: &dyn Files,
    path: &str,
) -> Result<T, Unreadable> {
    match files.read(path)? {
        Some(text) => parse(path, &text),
        None => Ok(T::default()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, text: &str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|error| unknown(path, &error))
}

fn unknown(path: &str, error: &serde_json::Error) -> Unreadable {
    Unreadable {
        message: format!("`{path}` is no manifest we know: {error}"),
        advice: "build the app again; if it stays, this version of Next.js is not known yet",
    }
}
