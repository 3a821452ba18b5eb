//! The catalogue in `docs/bypasses.md`: every id stands there once, and every test it names exists.

use std::path::{Path, PathBuf};

const CATALOGUE: &str = include_str!("../../docs/bypasses.md");

/// The last id of the catalogue.
const LAST: usize = 52;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("node_modules") {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_way_around_has_its_tests_or_a_reason_for_none() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    files(&root.join("src"), &mut sources);
    let mut next = 1;
    for row in CATALOGUE.lines().filter(|line| line.starts_with("| T")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, _, tests] = cells[..] else {
            panic!("three cells: {row}")
        };
        assert_eq!(id, format!("T{next}"));
        next += 1;
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || tests.starts_with("not ours: "),
            "{id} has neither a test nor a reason"
        );
        for name in named {
            let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
            let found = |path: &Path| {
                std::fs::read_to_string(path)
                    .is_ok_and(|text| text.contains(&format!("fn {test}(")))
            };
            let exists = match module {
                "" => sources.iter().any(|path| found(path)),
                module => found(&root.join(format!("tests/{}.rs", module.replace("::", "/")))),
            };
            assert!(exists, "{id} names `{name}`, which there is not");
        }
    }
    assert_eq!(next - 1, LAST);
}
