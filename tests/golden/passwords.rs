//! Hashes made and checked by the framework itself.

use vestibule::migration::password::cost::Ceilings;
use vestibule::migration::password::{self, Stored, native};
use vestibule::secret::Secret;

use super::{Tally, load};

const FILE: &str = "passwords.json";

#[test]
fn every_case() {
    let data = load(FILE);
    let cases = data["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let (hash, password) = (case["hash"].as_str(), case["password"].as_str());
        let (hash, password) = (hash.expect("a hash"), password.expect("a password"));
        let stored = Stored::plain(Secret::new(hash));
        let found = password::check(
            &stored,
            native::KIND.name,
            password.as_bytes(),
            &Ceilings::DEFAULT,
        );
        let outcome = match (found, &case["expect"]) {
            (Ok(fits), expected) if *expected == fits => Ok(()),
            (Err(_), expected) if expected["throws"].is_string() => Ok(()),
            (other, expected) => Err(format!("{other:?} in place of {expected}")),
        };
        tally.case(case["id"].as_str().expect("an id"), outcome);
    }
    tally.finish();
}

/// Our own hashes are the framework's: the salt of each of its hashes makes the same text again.
#[test]
fn a_salt_of_the_framework_s_makes_its_hash_again() {
    let data = load(FILE);
    let mut made = 0;
    for case in data["cases"].as_array().expect("cases") {
        let (hash, password) = (
            case["hash"].as_str().unwrap(),
            case["password"].as_str().unwrap(),
        );
        if case["expect"] != true || !native::is_native(hash) {
            continue;
        }
        let salt = data_encoding::HEXLOWER.decode(hash.split(':').next().unwrap().as_bytes());
        let salt: [u8; 16] = salt.unwrap().try_into().unwrap();
        assert_eq!(
            native::hash(password.as_bytes(), salt).expose(),
            hash,
            "{}",
            case["id"]
        );
        made += 1;
    }
    assert!(made > 10, "{made}");
}
