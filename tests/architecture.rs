//! The direction of the modules and the purity of the core, held by reading the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use vestibule::telemetry::metrics::NAMES;

/// What decides. It touches nothing: no socket, file, environment, clock, driver or edge.
const CORE: &[&str] = &[
    "app/",
    "route/",
    "api_key/",
    "authenticator/",
    "bench/",
    "migration/",
    "credential/",
    "session/",
    "policy/",
    "identity/",
    "request.rs",
    "target.rs",
    "percent.rs",
    "gate.rs",
    "client_ip.rs",
    "kind.rs",
    "time.rs",
    "secret.rs",
    "selftest/",
    "telemetry/metrics.rs",
];

/// One rule: who may not say what.
struct Ban {
    /// Files it holds for; all when empty.
    within: &'static [&'static str],
    /// Files it does not hold for.
    except: &'static [&'static str],
    /// Paths that may not be named.
    paths: &'static [&'static str],
}

const BANS: &[Ban] = &[
    Ban {
        within: CORE,
        except: &[],
        paths: &[
            "pingora",
            "pingora_load_balancing",
            "sqlx",
            "tokio",
            "rustls",
            "clap",
            "toml",
            "tracing",
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "std::io",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::net::ToSocketAddrs",
            "std::os",
            "std::time::SystemTime",
            "std::time::Instant",
            "chrono::Utc",
            "chrono::Local",
            "crate::server",
            "crate::store",
            "crate::cli",
            "crate::config",
        ],
    },
    // Settings are handed down: nobody reaches up for them.
    Ban {
        within: &[],
        except: &["config/", "cli/", "main.rs"],
        paths: &["crate::config"],
    },
    // `config` composes the settings each module owns.
    Ban {
        within: &[],
        except: &["store/", "server/", "cli/", "config/", "main.rs"],
        paths: &["crate::store"],
    },
    Ban {
        within: &[],
        except: &["server/", "cli/", "config/", "main.rs"],
        paths: &["crate::server"],
    },
    Ban {
        within: &[],
        except: &["cli/", "main.rs"],
        paths: &["crate::cli"],
    },
    // Swapping the proxy touches one folder, a new database another.
    Ban {
        within: &[],
        except: &["server/"],
        paths: &["pingora", "pingora_load_balancing"],
    },
    Ban {
        within: &[],
        except: &["store/"],
        paths: &["sqlx"],
    },
];

impl Ban {
    fn holds_for(&self, file: &str) -> bool {
        let among = |list: &[&str]| {
            list.iter()
                .any(|entry| file == *entry || (entry.ends_with('/') && file.starts_with(entry)))
        };
        (self.within.is_empty() || among(self.within)) && !among(self.except)
    }
}

/// What a file (named from `src/`) says and may not.
fn violations(file: &str, source: &str) -> Vec<String> {
    let named = paths(source);
    BANS.iter()
        .filter(|ban| ban.holds_for(file))
        .flat_map(|ban| ban.paths)
        .filter(|banned| {
            named.iter().any(|path| {
                path == *banned
                    || path
                        .strip_prefix(**banned)
                        .is_some_and(|rest| rest.starts_with("::"))
            })
        })
        .map(|banned| format!("src/{file} names `{banned}`"))
        .collect()
}

/// Code without comments, texts and test modules.
fn code(source: &str) -> String {
    let source = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    let mut out = String::new();
    let mut rest = source.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '/' if rest.peek() == Some(&'/') => {
                for skipped in rest.by_ref() {
                    if skipped == '\n' {
                        break;
                    }
                }
                out.push('\n');
            }
            '"' => {
                while let Some(skipped) = rest.next() {
                    match skipped {
                        '\\' => drop(rest.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                out.push_str("\"\"");
            }
            // The letter '"' is no text.
            '\'' if rest.peek() == Some(&'"') => drop((rest.next(), rest.next())),
            _ => out.push(letter),
        }
    }
    out
}

/// Every path a source names, grouped imports written out.
fn paths(source: &str) -> BTreeSet<String> {
    let code = code(source);
    let mut tokens = Vec::new();
    let mut word = String::new();
    for letter in code.chars() {
        if letter.is_alphanumeric() || letter == '_' {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            tokens.push(std::mem::take(&mut word));
        }
        if !letter.is_whitespace() {
            tokens.push(letter.to_string());
        }
    }
    let mut found = BTreeSet::new();
    // A brace behind `::` is a group, and what stands before it belongs to each of its members.
    let mut groups: Vec<Option<String>> = Vec::new();
    let mut path = String::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at].as_str();
        let follows = |offset: usize| tokens.get(at + offset).map(String::as_str);
        let is_word = token
            .chars()
            .all(|letter| letter.is_alphanumeric() || letter == '_');
        if is_word {
            let prefix = groups
                .iter()
                .flatten()
                .next_back()
                .cloned()
                .unwrap_or_default();
            if path.is_empty() {
                path = prefix;
            }
            path.push_str(token);
            found.insert(path.clone());
            if follows(1) == Some(":") && follows(2) == Some(":") {
                path.push_str("::");
                at += 3;
                if tokens.get(at).map(String::as_str) == Some("{") {
                    groups.push(Some(std::mem::take(&mut path)));
                    at += 1;
                }
                continue;
            }
            path.clear();
        } else {
            path.clear();
            match token {
                "{" => groups.push(None),
                "}" => drop(groups.pop()),
                _ => {}
            }
        }
        at += 1;
    }
    found
}

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below src");
            let text = std::fs::read_to_string(&path).expect("a source");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}

#[test]
fn nobody_names_what_lies_in_the_wrong_direction() {
    let sources = sources();
    for core in CORE {
        let there = sources
            .iter()
            .any(|(file, _)| file == core || (core.ends_with('/') && file.starts_with(core)));
        assert!(there, "{core} is gone: take it off the list");
    }
    let found: Vec<String> = sources
        .iter()
        .flat_map(|(file, source)| violations(file, source))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_check_finds_every_ban_however_it_is_written() {
    for ban in BANS {
        let file = ban.within.first().copied().unwrap_or("route/");
        let file = if file.ends_with('/') {
            format!("{file}sample.rs")
        } else {
            file.to_owned()
        };
        for banned in ban.paths {
            let (parent, last) = banned.rsplit_once("::").unwrap_or(("", banned));
            let mut spellings = vec![
                format!("use {banned};"),
                format!("use {banned}::something;"),
                format!("fn f() {{ {banned}::call() }}"),
                format!("fn f(x: &{banned}) {{}}"),
            ];
            if !parent.is_empty() {
                spellings.push(format!("use {parent}::{{a, {last}}};"));
                spellings.push(format!("use {parent}::{{a::{{b, c}}, {last}::d}};"));
            }
            for sample in spellings {
                let wanted = format!("src/{file} names `{banned}`");
                assert!(violations(&file, &sample).contains(&wanted), "{sample}");
            }
            for innocent in [
                format!("// {banned} is said in a comment"),
                format!("const X: &str = \"{banned}\";"),
                format!("fn f() {{ my_{}() }}", last.to_lowercase()),
                format!("#[cfg(test)]\nmod tests {{ use {banned}; }}"),
            ] {
                assert!(violations(&file, &innocent).is_empty(), "{innocent}");
            }
        }
    }
    // What is banned in one place is at home in another.
    assert!(violations("server/proxy.rs", "use pingora::Error;").is_empty());
    assert!(violations("store/sqlite.rs", "use sqlx::Row;").is_empty());
    assert!(violations("route/mod.rs", "use std::net::IpAddr;").is_empty());
    assert!(violations("gate.rs", "use std::time::Duration;").is_empty());
}

/// Names of ours that are no metrics: a channel and a trigger of the database.
const NO_METRICS: &[&str] = &["vestibule_ended", "vestibule_truncate"];

/// Texts of a source that look like the name of a metric.
fn metric_names(source: &str) -> Vec<&str> {
    source
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| {
            text.strip_prefix("vestibule_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            })
        })
        .filter(|text| !NO_METRICS.contains(text))
        .collect()
}

#[test]
fn every_metric_stands_in_the_table_once_with_unit_and_meaning() {
    let mut seen = BTreeSet::new();
    for (name, help) in NAMES {
        assert!(seen.insert(name), "{name} stands there twice");
        assert!(help.ends_with('.'), "{name}: {help}");
        let tail = name.rsplit('_').next().unwrap_or_default();
        let units = [
            "total", "seconds", "bytes", "entries", "flight", "up", "ratio", "info",
        ];
        assert!(units.contains(&tail), "{name} ends in no unit");
    }
    let known: BTreeSet<&str> = NAMES.iter().map(|(name, _)| *name).collect();
    for (file, source) in sources() {
        for name in metric_names(&source) {
            assert!(
                known.contains(name),
                "src/{file}: {name} is not in the table"
            );
        }
    }
    // And it would find one.
    assert_eq!(
        metric_names("f(\"vestibule_new_total\", 1)"),
        ["vestibule_new_total"]
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    for (file, source) in sources() {
        assert!(
            source.starts_with("//! "),
            "src/{file} begins without a word"
        );
    }
}
