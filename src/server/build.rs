//! The folder of an app's build, on disk.

use std::path::{Path, PathBuf};

use crate::app::{Files, Unreadable};

/// A manifest of a large app has a few megabytes; more is none.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Files below `public/` that are looked at.
const FILES_MAX: usize = 100_000;

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
        let path = self.0.join(path);
        match std::fs::metadata(&path) {
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(Self::unreadable(&path, &"it is too large"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Self::unreadable(&path, &error)),
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(Self::unreadable(&path, &error)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, Unreadable> {
        let root = self.0.join(folder);
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(folder) = open.pop() {
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
}
