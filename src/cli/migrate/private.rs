//! Files that hold what others must not see: made with the rights of their owner alone, and there only when they are whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file in the making. What is dropped before it is finished leaves nothing behind.
pub struct Private {
    file: File,
    part: PathBuf,
    path: PathBuf,
    done: bool,
}

impl Private {
    /// Begins one. What stands at `path` stays until this one is whole.
    ///
    /// # Errors
    /// The system's.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut part = name.to_os_string();
        part.push(".part");
        let part = path.with_file_name(part);
        // Left behind by somebody who was killed. A link is taken away, not followed.
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut how = OpenOptions::new();
        how.write(true).create_new(true).mode(0o600);
        Ok(Self {
            file: how.open(&part)?,
            part,
            path: path.to_owned(),
            done: false,
        })
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.part, &self.path)?;
        self.done = true;
        Ok(())
    }
}

impl Write for Private {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if !self.done {
            // Nothing can be done about it here.
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

/// A cell of a table that a spreadsheet takes for text: always in quotes, on one line, and never a formula.
pub fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    if text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r']) {
        out.push('\'');
    }
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\"\""),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("vestibule-private-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_is_its_owners_alone_and_there_only_when_it_is_whole() {
        let folder = folder("whole");
        let path = folder.join("a.csv");
        std::fs::write(&path, "before").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        // What a link of that name leads to is not touched.
        std::fs::write(folder.join("other"), "other").unwrap();
        std::os::unix::fs::symlink(folder.join("other"), folder.join("a.csv.part")).unwrap();
        let mut file = Private::begin(&path).unwrap();
        file.write_all(b"after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            std::fs::read_to_string(folder.join("other")).unwrap(),
            "other"
        );
        drop(Private::begin(&path).unwrap());
        assert!(!folder.join("a.csv.part").exists());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn no_cell_is_a_formula_or_a_second_line() {
        for (text, cell_is) in [
            ("a", "\"a\""),
            ("a\"b,\nc", "\"a\"\"b, c\""),
            ("=1+1", "\"'=1+1\""),
            ("  @x", "\"'  @x\""),
            ("+12025550000", "\"'+12025550000\""),
            ("\t=1", "\"' =1\""),
            ("", "\"\""),
        ] {
            assert_eq!(cell(text), cell_is);
        }
    }
}
