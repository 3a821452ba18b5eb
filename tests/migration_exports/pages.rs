//! Pages of APIs, described and not fetched.

use http::HeaderMap;
use serde_json::{Value, json};
use vestibule::migration::dialogue::Answer;
use vestibule::migration::import::pages::{Cursor, Listing, Trouble, trouble};
use vestibule::migration::import::source::Options;
use vestibule::migration::provider::EXPORTS;
use vestibule::secret::Secret;

use super::{World, files, folder, whole};

fn listings(provider: &str, options: Value) -> Result<Vec<Listing>, String> {
    let kind = EXPORTS.iter().find(|kind| kind.name == provider).unwrap();
    let mut resolve = |_: &str, _: &str| Err("none".to_owned());
    let options = Options::understand(&kind.build, &options, &mut resolve).unwrap();
    (kind.build.pages.unwrap())(&options)
}

fn listing(provider: &str, options: Value, input: &str) -> Listing {
    let all = listings(provider, options).unwrap();
    all.into_iter().find(|one| one.input == input).unwrap()
}

fn query(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn answer(status: u16) -> Answer {
    Answer {
        status,
        headers: HeaderMap::new(),
        body: Secret::default(),
    }
}

#[test]
fn workos_is_walked_by_its_cursors_and_comes_to_the_same_as_its_files() {
    let options = json!({ "api_key": "sk_test_secret" });
    let users = listing("workos", options, "users");
    assert_eq!(users.rate.most, 800, "four fifths of 1000");
    let pages = files("workos", "users_page", ".json");
    let mut cursor = Cursor::default();
    let mut walked = World::new("workos", json!({}));
    for (at, page) in pages.iter().enumerate() {
        let ask = (users.ask)(&cursor);
        assert_eq!(ask.url.path(), "/user_management/users");
        assert_eq!(query(&ask.url, "after").as_deref(), cursor.token());
        assert_eq!(query(&ask.url, "order").as_deref(), Some("asc"));
        let header = &ask.headers["authorization"];
        assert!(header.is_sensitive() && header.to_str().unwrap() == "Bearer sk_test_secret");
        assert!(!format!("{ask:?}").contains("secret"));
        let body = super::json(&folder("workos").join(page));
        let page = (users.page)(&cursor, &body, &HeaderMap::new()).unwrap();
        for (row, value) in page.entries.iter().enumerate() {
            walked.entry(
                "users",
                "/user_management/users",
                "",
                row as u64 + 1,
                value.clone(),
            );
            for each in &users.each {
                let id = (each.of)(value).unwrap();
                let ask = (each.ask)(&id, &Cursor::default());
                assert!(
                    ask.url.path().contains(&id) && ask.url.path().ends_with(each.input),
                    "{}",
                    ask.url
                );
            }
        }
        match page.next {
            Some(next) => {
                assert_ne!(next, cursor);
                cursor = next;
            }
            None => assert_eq!(at, pages.len() - 1, "the last page is the last"),
        }
    }
    // What is asked for each of them: a bare list, or one with cursors.
    let identities = super::json(&folder("workos").join("identities_by_user.json"));
    for (id, list) in identities.as_object().unwrap() {
        let page = (users.each[0].page)(&Cursor::default(), list, &HeaderMap::new()).unwrap();
        for (row, value) in page.entries.into_iter().enumerate() {
            walked.entry("identities", "identities", id, row as u64 + 1, value);
        }
    }
    let of_files = whole("workos");
    let facts = |world: &World| {
        let users = world.users().into_iter();
        let mut all: Vec<_> = users
            .map(|user| (user.source_id, user.email, user.name, user.socials.len()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(facts(&walked), facts(&of_files));
}

#[test]
fn clerk_is_walked_by_how_many_were_read_oldest_first() {
    let users = listing("clerk", json!({ "secret_key": "sk_test_x" }), "api");
    assert_eq!(users.rate.most, 80, "a test instance is given a tenth");
    let live = listing("clerk", json!({ "secret_key": "sk_live_x" }), "api");
    assert_eq!(live.rate.most, 800);
    let ask = (users.ask)(&Cursor::default());
    assert_eq!(query(&ask.url, "offset").as_deref(), Some("0"));
    assert_eq!(query(&ask.url, "order_by").as_deref(), Some("+created_at"));
    let full: Vec<Value> = (0..500).map(|id| json!({ "id": id })).collect();
    let page = (users.page)(&Cursor::default(), &Value::Array(full), &HeaderMap::new()).unwrap();
    let next = page.next.unwrap();
    assert_eq!(
        query(&(users.ask)(&next).url, "offset").as_deref(),
        Some("500")
    );
    let page = (users.page)(&next, &json!([{ "id": 1 }]), &HeaderMap::new()).unwrap();
    assert_eq!((page.entries.len(), page.next), (1, None));
    assert!((users.page)(&next, &json!({ "errors": [] }), &HeaderMap::new()).is_err());
}

#[test]
fn kratos_names_the_next_page_in_a_header_and_firebase_in_a_token() {
    let kratos = listing(
        "kratos",
        json!({ "admin_url": "http://127.0.0.1:4434" }),
        "identities",
    );
    let mut headers = HeaderMap::new();
    headers.insert("link", "</admin/identities?page_size=250&page_token=00>; rel=\"first\",</admin/identities?page_size=250&page_token=eyJ>; rel=\"next\"".parse().unwrap());
    let page = (kratos.page)(&Cursor::default(), &json!([{ "id": "a" }]), &headers).unwrap();
    let next = page.next.unwrap();
    assert_eq!(next.0, "eyJ");
    assert_eq!(
        query(&(kratos.ask)(&next).url, "page_token").as_deref(),
        Some("eyJ")
    );
    assert!(
        (kratos.page)(&next, &json!([]), &HeaderMap::new())
            .unwrap()
            .next
            .is_none()
    );

    let firebase = listing(
        "firebase",
        json!({ "project_id": "p", "access_token": "t" }),
        "users",
    );
    let page = (firebase.page)(
        &Cursor::default(),
        &json!({ "users": [{}], "nextPageToken": "n" }),
        &HeaderMap::new(),
    )
    .unwrap();
    assert_eq!(
        query(&(firebase.ask)(&page.next.unwrap()).url, "nextPageToken").as_deref(),
        Some("n")
    );
    let last = (firebase.page)(
        &Cursor::default(),
        &json!({ "kind": "x" }),
        &HeaderMap::new(),
    )
    .unwrap();
    assert!(last.entries.is_empty() && last.next.is_none());
}

#[test]
fn auth0_says_that_its_api_never_lists_more_than_a_thousand() {
    let users = listing(
        "auth0",
        json!({ "domain_url": "https://t.eu.auth0.com", "management_token": "t" }),
        "users",
    );
    let few = super::json(&folder("auth0").join("api_users_page0.json"));
    assert!((users.page)(&Cursor::default(), &few, &HeaderMap::new()).is_ok());
    let mut many = few;
    many["total"] = json!(1001);
    let said = (users.page)(&Cursor::default(), &many, &HeaderMap::new()).unwrap_err();
    assert!(said.contains("export job"), "{said}");
}

#[test]
fn keys_that_are_missing_are_named_and_answers_that_are_no_pages_are_told_apart() {
    for (provider, key) in [
        ("clerk", "secret_key"),
        ("workos", "api_key"),
        ("supabase", "url"),
        ("auth0", "domain_url"),
        ("kratos", "admin_url"),
    ] {
        let said = listings(provider, json!({})).err().unwrap();
        assert!(said.contains(key), "{provider}: {said}");
    }
    // Keys go nowhere in the clear.
    assert!(
        listings(
            "workos",
            json!({ "api_key": "k", "api_url": "http://example.com" })
        )
        .is_err()
    );
    assert_eq!(trouble(&answer(200)), None);
    assert_eq!(trouble(&answer(429)), Some(Trouble::Later));
    assert_eq!(trouble(&answer(503)), Some(Trouble::Later));
    assert_eq!(trouble(&answer(401)), Some(Trouble::Forbidden));
    assert_eq!(trouble(&answer(404)), Some(Trouble::Missing));
    assert_eq!(trouble(&answer(302)), Some(Trouble::Nonsense));
}
