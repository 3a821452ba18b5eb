//! Password hashes, through `password::check`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use vestibule::migration::password::cost::Ceilings;
use vestibule::migration::password::keeping::{self, Randomness};
use vestibule::migration::password::{self, Stored, Unusable};
use vestibule::migration::vault::Vault;
use vestibule::secret::Secret;

use super::{Family, Tally, files, load};

/// How long a broken or hostile hash may take: nothing was worked on.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

/// Schemes whose recipe nobody could tell us: what is published of it does not make these hashes. Their passwords are refused, and
/// whoever has one is sent a link.
const UNTOLD: [&str; 1] = ["devise-sha1-stretches"];

fn stored(vector: &Value) -> Stored {
    let mut params = BTreeMap::new();
    for (name, value) in vector["params"].as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        params.insert(name.clone(), Secret::new(text));
    }
    Stored {
        hash: Secret::new(vector["hash"].as_str().expect("a hash")),
        params,
    }
}

fn run(vector: &Value) -> Result<(), String> {
    let scheme = vector["scheme"].as_str().expect("a scheme");
    let password = vector["plaintext"].as_str().expect("a password");
    let expected = vector["expect"].as_bool().expect("what is expected");
    let begun = Instant::now();
    let found = password::check(
        &stored(vector),
        scheme,
        password.as_bytes(),
        &Ceilings::DEFAULT,
    );
    let took = begun.elapsed();
    let malformed = vector["malformed"].as_bool() == Some(true);
    if malformed && took > REFUSED_WITHIN {
        return Err(format!("a broken hash took {took:?}"));
    }
    match found {
        Ok(answer) if answer == expected => Ok(()),
        // Broken: an error is what it should be.
        Err(_) if malformed && !expected => Ok(()),
        Err(Unusable::Unknown) => Err(format!("`{scheme}` is no scheme")),
        other => Err(format!("{scheme}: {other:?} in place of {expected}")),
    }
}

#[test]
fn every_vector() {
    let files = files(Family::Passwords);
    std::thread::scope(|scope| {
        let run = |file: &str| {
            let data = load(file);
            let vectors = data["vectors"].as_array().expect("vectors");
            let mut tally = Tally::new(file, vectors.len());
            for vector in vectors {
                let id = vector["id"].as_str().expect("an id");
                let untold = UNTOLD.contains(&vector["scheme"].as_str().unwrap_or_default());
                match run(vector) {
                    Err(_) if untold && vector["expect"] == true => {
                        tally.left_open(id, "the recipe of its scheme is not known");
                    }
                    outcome => tally.case(id, outcome),
                }
            }
            tally.finish();
        };
        let running: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(move || run(file)))
            .collect();
        for each in running {
            each.join().unwrap();
        }
    });
}

/// Every vector of every file.
fn vectors() -> Vec<Value> {
    files(Family::Passwords)
        .iter()
        .flat_map(|file| load(file)["vectors"].as_array().expect("vectors").clone())
        .collect()
}

/// The first vector of each scheme that must fit (or must not), and is not broken.
fn first_of_each(expect: bool) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for vector in vectors() {
        if vector["expect"] == expect && vector["malformed"] != true {
            let scheme = vector["scheme"].as_str().unwrap().to_owned();
            found.entry(scheme).or_insert(vector);
        }
    }
    found
}

#[test]
fn what_is_kept_sealed_answers_as_before() {
    let vault = Vault::new(&Secret::new("a key of the migration of 32 letters"));
    let mut wrapped = 0;
    for expect in [true, false] {
        for (scheme, vector) in first_of_each(expect) {
            let randomness = Randomness {
                nonce: [7; 24],
                salt: [9; 16],
            };
            let stored = stored(&vector);
            let kept = keeping::keep(&vault, "ada", &scheme, &stored, randomness)
                .unwrap_or_else(|error| panic!("{scheme}: {error}"));
            assert!(!kept.sealed.expose().contains(stored.hash.expose()));
            let opened = keeping::open(&vault, "ada", &kept.scheme, &kept.sealed).unwrap();
            if kept.scheme.starts_with("native(") {
                wrapped += 1;
                assert_ne!(
                    opened.hash, stored.hash,
                    "{scheme}: the digest is still there"
                );
            }
            let password = vector["plaintext"].as_str().unwrap().as_bytes();
            let found = password::check(&opened, &kept.scheme, password, &Ceilings::DEFAULT);
            // Whether that is what is expected, `every_vector` says.
            let before = password::check(&stored, &scheme, password, &Ceilings::DEFAULT);
            assert_eq!(found, before, "{scheme} as {}", kept.scheme);
        }
    }
    assert!(wrapped >= 20, "{wrapped}");
}

#[test]
fn a_changed_letter_never_fits() {
    let quick = Duration::from_millis(40);
    let mut changed = 0;
    for (scheme, vector) in first_of_each(true) {
        let (whole, password) = (stored(&vector), vector["plaintext"].as_str().unwrap());
        let text = whole.hash.expose();
        // In JSON a letter may stand for nothing.
        if !text.is_ascii() || vector["hash_encoding"] == "json" {
            continue;
        }
        let check = |stored: &Stored| {
            password::check(stored, &scheme, password.as_bytes(), &Ceilings::DEFAULT)
        };
        let begun = Instant::now();
        // One that does not fit as it is fails `every_vector`.
        if check(&whole) != Ok(true) || begun.elapsed() > quick {
            continue;
        }
        for back in 1..=16.min(text.len()) {
            let at = text.len() - back;
            let other = match text.as_bytes()[at] {
                b'7' => "2",
                _ => "7",
            };
            let mut text = text.to_owned();
            text.replace_range(at..=at, other);
            let found = check(&Stored {
                hash: Secret::new(text.clone()),
                params: whole.params.clone(),
            });
            assert_ne!(found, Ok(true), "{scheme}: {at} of {text}");
            changed += 1;
        }
    }
    assert!(changed > 300, "{changed}");
}
