//! Password hashes, through `password::check`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use vestibule::migration::password::cost::Ceilings;
use vestibule::migration::password::{self, Stored, Unusable};
use vestibule::secret::Secret;

use super::{Family, Tally, files, load};

/// How long a broken or hostile hash may take: nothing was worked on.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

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
                tally.case(vector["id"].as_str().expect("an id"), run(vector));
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
