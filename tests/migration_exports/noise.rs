//! No bytes are too odd: everything is read, refused with its place, or said to be unreadable from a line on.

use proptest::prelude::*;
use serde_json::{Value, json};
use vestibule::migration::import::read::{self, Broken, ENTRY_BYTES_MAX, Tally};
use vestibule::migration::import::record::{Oddity, Record};
use vestibule::migration::import::source::{Form, Fragment, Input, Joined, Options, Refusal};
use vestibule::migration::provider::EXPORTS;

use super::World;

type Read = (Vec<Fragment>, Vec<Refusal>, Result<Tally, Broken>);

fn read(input: &'static Input, bytes: &[u8], piece: usize) -> Read {
    let (mut fragments, mut refusals) = (Vec::new(), Vec::new());
    let mut emit = |one: Result<Fragment, Refusal>| match one {
        Ok(fragment) => fragments.push(fragment),
        Err(refusal) => refusals.push(refusal),
    };
    let tally = read::read(
        input,
        "file",
        &Options::default(),
        bytes.chunks(piece),
        &mut emit,
    );
    (fragments, refusals, tally)
}

fn input(provider: &str, name: &str) -> &'static Input {
    let kind = EXPORTS.iter().find(|kind| kind.name == provider).unwrap();
    kind.build.input(name).unwrap()
}

/// A list that takes every form.
fn any_list() -> &'static Input {
    input("generic", "users")
}

fn rows(fragments: &[Fragment]) -> Vec<u64> {
    fragments.iter().map(|one| one.place.row).collect()
}

/// Everything adds up, and every group comes to something.
fn adds_up(provider: &str, read: &Read) {
    let (fragments, refusals, tally) = read;
    if let Ok(tally) = tally {
        assert_eq!(tally.refused, refusals.len() as u64);
        assert_eq!(tally.fragments, fragments.len() as u64);
        assert!(tally.entries - tally.refused <= tally.fragments);
        let mut places: Vec<_> = fragments.iter().map(|one| &one.place).collect();
        places.dedup();
        places.sort();
        places.dedup();
        assert!(places.len() as u64 <= tally.entries - tally.refused);
    }
    let kind = EXPORTS.iter().find(|kind| kind.name == provider).unwrap();
    let mut groups = std::collections::BTreeMap::<_, Vec<Fragment>>::new();
    for fragment in fragments {
        let group = groups.entry((fragment.about, fragment.key.clone()));
        group.or_default().push(fragment.clone());
    }
    for ((about, key), fragments) in groups {
        let joined = Joined {
            about,
            key,
            fragments,
        };
        let records = (kind.build.compose)(&joined, &Options::default());
        assert!(!records.is_empty(), "{joined:?} is lost");
        for record in records {
            if let Record::User(user) = record {
                assert!(!user.source_id.is_empty());
                assert!(
                    user.email
                        .as_ref()
                        .is_none_or(|email| *email == email.to_lowercase())
                );
            }
        }
    }
}

/// Every input of every source, with its forms.
fn inputs() -> Vec<(&'static str, &'static Input)> {
    let all = EXPORTS.iter();
    all.flat_map(|kind| {
        kind.build
            .inputs
            .iter()
            .map(move |input| (kind.name, input))
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
        for (provider, input) in inputs() {
            adds_up(provider, &read(input, &bytes, piece));
        }
    }

    #[test]
    fn no_letters_of_these_forms_panic(
        text in r#"([\[\]{},:"\\'\n\r\t;$() ]|COPY |INSERT INTO |VALUES|FROM stdin|auth.users|users|User|id|email|null|1|\\N|--|/\*|é){0,60}"#,
        piece in 1usize..20,
    ) {
        for (provider, input) in inputs() {
            for begin in ["", "[", "{\"users\":[", "id,email\n", "-- x\nCOPY auth.users (id, email) FROM stdin;\n", "-- x\nINSERT INTO users (id,email) VALUES ("] {
                adds_up(provider, &read(input, format!("{begin}{text}").as_bytes(), piece));
            }
        }
    }

    #[test]
    fn odd_objects_are_composed_all_the_same(
        values in proptest::collection::vec(prop_oneof![
            Just(json!(null)), Just(json!(true)), Just(json!(-1)), Just(json!(1e300)), Just(json!("")), Just(json!("{")), Just(json!([])),
            Just(json!({})), Just(json!([{"provider": 1, "user_id": {}}])), Just(json!("2024-13-45")), Just(json!("$2b$10$x")), Just(json!(u64::MAX)),
        ], 40),
    ) {
        // The names of every source, with values of every kind.
        let names = ["id", "ID", "Id", "pk", "localId", "user_id", "UserId", "Username", "email", "Email", "user_email", "name", "first_name", "email_addresses",
            "primary_email_address_id", "external_accounts", "identities", "credentials", "traits", "fields", "password", "passwordHash", "salt", "encrypted_password",
            "created_at", "createdAt", "createdTimestamp", "custom_password_hash", "Attributes", "UserStatus", "verifiable_addresses", "federatedIdentities", "banned_until",
            "mfaInfo", "customAttributes", "totp_secret", "raw_user_meta_data", "_id", "emails", "user_registered"];
        let mut map: serde_json::Map<String, Value> = names.iter().map(|name| (*name).to_owned()).zip(values).collect();
        for name in ["id", "ID", "Id", "pk", "localId", "user_id", "UserId", "Username", "_id", "userId", "member_id", "model", "organization_id"] {
            map.entry(name).or_insert(json!("x"));
        }
        for id in ["id", "ID", "localId", "user_id"] {
            map.insert(id.into(), json!("somebody"));
        }
        let text = format!("[{}]", Value::Object(map));
        for (provider, input) in inputs() {
            if input.forms.contains(&Form::Json) {
                adds_up(provider, &read(input, text.as_bytes(), 64));
            }
        }
    }

    #[test]
    fn the_size_of_the_pieces_changes_nothing(
        text in r#"(a|"|,|\n|\r\n|é|\{"a":1\}|\[|\]| ){0,40}"#,
        begin in prop_oneof![Just("id,email\n"), Just("[{\"id\":1},"), Just("{\"id\":2}\n"), Just("{\"users\":[")],
        piece in 1usize..9,
    ) {
        let text = format!("{begin}{text}");
        let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), piece);
        let whole = read(any_list(), text.as_bytes(), 1_000_000);
        prop_assert_eq!((fragments, refusals, tally), whole);
    }

    /// A reader of another make says the same of whatever is no error.
    #[test]
    fn cells_are_those_of_another_reader(
        cells in proptest::collection::vec(proptest::collection::vec("[a-zé\",\n\r ;\t]{0,6}", 3), 1..6),
        crlf in any::<bool>(),
    ) {
        let mut writer = csv::WriterBuilder::new();
        if crlf {
            writer.terminator(csv::Terminator::CRLF);
        }
        let mut writer = writer.from_writer(Vec::new());
        writer.write_record(["id", "email", "name"]).unwrap();
        for row in &cells {
            writer.write_record(row).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let mut found = Vec::new();
        let mut emit = |one: Result<Fragment, Refusal>| found.push(one.unwrap());
        read::read(any_list(), "file", &Options::default(), [bytes.as_slice()], &mut emit).unwrap();
        let mut other = csv::Reader::from_reader(bytes.as_slice());
        let records: Vec<csv::StringRecord> = other.records().map(Result::unwrap).collect();
        prop_assert_eq!(found.len(), records.len());
        for (fragment, record) in found.iter().zip(&records) {
            // It counts a return and the line feed after it apart.
            if !crlf {
                prop_assert_eq!(fragment.place.row, record.position().unwrap().line());
            }
            for (name, cell) in ["id", "email", "name"].iter().zip(record.iter()) {
                prop_assert_eq!(fragment.value[*name].as_str().unwrap_or_default(), cell);
            }
        }
    }

    #[test]
    fn sample_exports_with_a_broken_byte_lose_nobody_silently(at in 0.0f64..1.0, byte in any::<u8>()) {
        let folder = super::folder("clerk");
        for (name, of) in [("users.csv", "users"), ("support_export.json", "users")] {
            let mut bytes = std::fs::read(folder.join(name)).unwrap();
            let whole = read(input("clerk", of), &bytes, 4096).2.unwrap();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let at = ((bytes.len() - 1) as f64 * at) as usize;
            bytes[at] = byte;
            let found = read(input("clerk", of), &bytes, 4096);
            adds_up("clerk", &found);
            // Fewer entries than there were are refusals with a reason, an error, or the row of names that broke.
            if let Ok(tally) = &found.2 {
                prop_assert!(tally.entries + 1 >= whole.entries || tally.refused > 0, "{at} {byte}: {tally:?}");
            }
        }
    }
}

#[test]
fn a_wide_or_narrow_row_is_refused_by_its_line_and_the_next_one_read() {
    let text = "id,email,name\n1,a@example.com,\"two\nlines\"\n2,b@example.com\n3,c@example.com,C,too much\n4,d@example.com,D\n";
    let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), 7);
    assert_eq!(rows(&fragments), [2, 6]);
    let found: Vec<_> = refusals
        .iter()
        .map(|one| (one.place.row, one.note.what))
        .collect();
    assert_eq!(found, [(4, Oddity::WrongWidth), (5, Oddity::WrongWidth)]);
    assert_eq!(tally.unwrap().entries, 4);
}

#[test]
fn a_quote_that_is_never_closed_is_an_error_and_not_a_long_cell() {
    let text = "id,email\n1,a@example.com\n2,\"b@example.com\n3,c@example.com\n4,d@example.com\n";
    let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), 7);
    assert_eq!(fragments.len(), 1);
    assert_eq!(refusals[0].place.row, 3);
    let Err(Broken::CutOff { line, .. }) = tally else {
        panic!("{tally:?}");
    };
    assert_eq!(line, 3);
}

#[test]
fn something_after_a_closing_quote_is_refused() {
    let text = "id,email\n1,\"a@example.com\"x\n2,b@example.com\n";
    let (fragments, refusals, _) = read(any_list(), text.as_bytes(), 3);
    assert_eq!((fragments.len(), refusals.len()), (1, 1));
    assert_eq!(refusals[0].note.what, Oddity::Unreadable);
}

#[test]
fn a_broken_object_of_a_list_is_refused_and_the_next_one_read() {
    let text = r#"{"users":[{"id":1},{"id":},{"id":3},nonsense,{"id":5,"email":"x"}]}"#;
    let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), 5);
    assert_eq!(rows(&fragments), [1, 3, 5]);
    assert_eq!(
        refusals.iter().map(|one| one.place.row).collect::<Vec<_>>(),
        [2, 4]
    );
    assert_eq!(tally.unwrap().entries, 5);
}

#[test]
fn a_list_that_is_cut_off_or_lost_says_so() {
    for text in [
        r#"[{"id":1},{"id":2"#,
        r#"[{"id":1},{"id":2}"#,
        r#"{"users":[{"id":1},{"id":2}]"#,
        r#"[{"id":1},{"id":"2}]"#,
    ] {
        let (fragments, _, tally) = read(any_list(), text.as_bytes(), 4);
        assert!(!fragments.is_empty(), "{text}");
        assert!(
            matches!(tally, Err(Broken::CutOff { .. })),
            "{text}: {tally:?}"
        );
    }
    let text = "[{\"id\":1},\n{\"id\":[2},{\"id\":3}]";
    let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), 4);
    assert_eq!((fragments.len(), refusals.len()), (1, 1));
    assert!(
        matches!(tally, Err(Broken::Lost { line: 2, .. })),
        "{tally:?}"
    );
}

#[test]
fn a_broken_line_is_refused_and_the_next_one_read() {
    let text = "{\"id\":1}\n{\"id\":\n\n[1]\n{\"id\":5}";
    let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), 4);
    assert_eq!(rows(&fragments), [1, 5]);
    assert_eq!(
        refusals.iter().map(|one| one.place.row).collect::<Vec<_>>(),
        [2, 4]
    );
    assert_eq!(tally.unwrap().entries, 4);
}

#[test]
fn what_is_not_utf8_is_refused_by_row() {
    let csv = b"id,email\n1,a\xFF@example.com\n2,b@example.com\n";
    let (fragments, refusals, _) = read(any_list(), csv, 4);
    assert_eq!((rows(&fragments), refusals.len()), (vec![3], 1));
    let json = b"[{\"id\":\"\xFF\"},{\"id\":2}]";
    let (fragments, refusals, _) = read(any_list(), json, 4);
    assert_eq!((rows(&fragments), refusals.len()), (vec![2], 1));
    let utf16 = b"\xFF\xFEi\0d\0";
    assert!(matches!(
        read(any_list(), utf16, 4).2,
        Err(Broken::Form(..))
    ));
}

#[test]
fn an_entry_longer_than_any_is_refused_in_bounded_memory() {
    let long = "x".repeat(ENTRY_BYTES_MAX + 10);
    for text in [
        format!("id,email\n1,{long}\n2,b@example.com\n"),
        format!("id,email\n1,\"{long}\"\n2,b@example.com\n"),
        format!("[{{\"id\":\"{long}\"}},\n{{\"id\":2}}]"),
        format!("{{\"id\":1}}\n{{\"id\":\"{long}\"}}\n"),
        format!("-- dump\nCOPY users (id, email) FROM stdin;\n1\t{long}\n2\tb@example.com\n\\.\n"),
        format!(
            "-- dump\nINSERT INTO users (id, email) VALUES (1, '{long}'), (2, 'b@example.com');\n"
        ),
    ] {
        let (fragments, refusals, tally) = read(any_list(), text.as_bytes(), 65_536);
        assert_eq!((fragments.len(), refusals.len()), (1, 1), "{}", &text[..20]);
        assert!(
            refusals[0].note.detail.contains("longer"),
            "{:?}",
            refusals[0]
        );
        assert_eq!(tally.unwrap().entries, 2);
    }
}

#[test]
fn dumps_that_are_cut_off_say_so() {
    for text in [
        "-- dump\nCOPY users (id, email) FROM stdin;\n1\ta@example.com\n2\tb@exam",
        "-- dump\nINSERT INTO users (id, email) VALUES (1, 'a@example.com'), (2, 'b@exam",
        "-- dump\nINSERT INTO users (id, email) VALUES (1, 'a@example.com'), (2,",
    ] {
        let (fragments, _, tally) = read(any_list(), text.as_bytes(), 5);
        assert!(!fragments.is_empty(), "{text}");
        assert!(
            matches!(tally, Err(Broken::CutOff { .. })),
            "{text}: {tally:?}"
        );
    }
}

#[test]
fn nothing_of_an_entry_is_shown_by_what_is_printed() {
    let mut world = World::new("clerk", json!({}));
    world.bytes("users", "x.csv", b"id,email_addresses,password_digest,password_hasher\nu1,a@example.com,hunter2hash,bcrypt\n");
    let printed = format!("{:?} {:?}", world.records(), world.refusals);
    assert!(!printed.contains("hunter2hash"), "{printed}");
}

#[test]
fn options_name_everything_that_is_wrong_with_them() {
    let kind = EXPORTS.iter().find(|kind| kind.name == "clerk").unwrap();
    let mut resolve = |how: &str, name: &str| Err(format!("no {how} {name}"));
    let said = Options::understand(
        &kind.build,
        &json!({ "secret": "x", "secret_key": { "env": "KEY" }, "assume_verified": "yes", "roles": { "a": 1 } }),
        &mut resolve,
    );
    let wrong = said.unwrap_err();
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    assert!(
        wrong
            .iter()
            .any(|what| what.contains("unknown option `secret`") && what.contains("secret_key"))
    );
    let mut resolve = |_: &str, _: &str| Ok(vestibule::secret::Secret::new("sk_live_x"));
    let fine = Options::understand(
        &kind.build,
        &json!({ "secret_key": { "env": "KEY" }, "roles": { "org:boss": "owner" } }),
        &mut resolve,
    )
    .unwrap();
    assert_eq!(
        fine.fields.text("secret_key").unwrap().expose(),
        "sk_live_x"
    );
    assert_eq!(fine.role("org:boss"), Some("owner"));
}

#[test]
fn every_source_stands_once_and_says_what_it_takes() {
    let mut names: Vec<&str> = EXPORTS.iter().map(|kind| kind.name).collect();
    for kind in EXPORTS {
        assert!(!kind.build.inputs.is_empty(), "{}", kind.name);
        for input in kind.build.inputs {
            assert!(
                !input.forms.is_empty() && !input.about.is_empty(),
                "{} {}",
                kind.name,
                input.name
            );
        }
        for query in kind.build.queries {
            assert!(
                kind.build.input(query.input).is_some(),
                "{} {}",
                kind.name,
                query.input
            );
        }
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    let sampled = super::sampled();
    for kind in EXPORTS {
        assert_eq!(
            kind.build.experimental,
            !sampled.contains(&kind.name.to_owned()),
            "{}",
            kind.name
        );
    }
}
