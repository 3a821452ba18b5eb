//! Signed cookies, cookie names and the endpoint parser.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header::COOKIE};
use serde_json::Value;
use vestibule::credential::names::{Attributes, CookieSpec, Settings};
use vestibule::credential::signature::Signer;
use vestibule::credential::{Presented, Proof, cookies, session_cookie};
use vestibule::secret::Secret;

use super::{Tally, load};

fn headers(cookie: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        COOKIE,
        HeaderValue::from_bytes(cookie.as_bytes()).expect("a header value"),
    );
    headers
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

#[test]
fn signed_cookies() {
    const FILE: &str = "signed-cookies.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let issue = file["issue"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut tally = Tally::new(FILE, cases.len() + issue.len());
    for case in cases {
        let headers = headers(text(case, "cookie_header"));
        let signer = Signer::new(&Secret::new(text(case, "secret")));
        let (status, value) = match session_cookie::read(&headers, text(case, "cookie_name")) {
            Presented::Absent | Presented::Malformed => ("absent", None),
            Presented::Found(found) => match found.proof {
                Proof::Signed(signed) if signer.verify(&signed).is_some() => {
                    ("ok", Some(signed.value.into_owned()))
                }
                _ => ("bad_signature", None),
            },
        };
        let expect = &case["expect"];
        let same = status == text(expect, "status") && value.as_deref() == expect["value"].as_str();
        tally.case(
            text(case, "id"),
            same.then_some(())
                .ok_or_else(|| format!("{status} {value:?}, expected {expect}")),
        );
    }
    for case in issue {
        let spec = CookieSpec {
            name: text(case, "name").into(),
            attributes: attributes(&case["attributes"]),
        };
        let signer = Signer::new(&Secret::new(text(case, "secret")));
        let made = spec.set_cookie(&signer.issue(text(case, "value")));
        let expect = text(case, "expect_set_cookie");
        tally.case(
            text(case, "id"),
            (made == expect)
                .then_some(())
                .ok_or_else(|| format!("{made}\n  expected {expect}")),
        );
    }
    tally.finish();
}

fn attributes(value: &Value) -> Attributes {
    Attributes {
        secure: value["secure"].as_bool(),
        same_site: value["sameSite"].as_str().map(str::to_owned),
        path: value["path"].as_str().map(str::to_owned),
        http_only: value["httpOnly"].as_bool(),
        partitioned: value["partitioned"].as_bool(),
        domain: value["domain"].as_str().map(str::to_owned),
        max_age: value["maxAge"].as_u64(),
    }
}

fn settings(options: &Value, production: bool) -> Settings {
    let advanced = &options["advanced"];
    let cookies = advanced["cookies"].as_object().cloned().unwrap_or_default();
    let own = |pick: &dyn Fn(&Value) -> Option<(String, Value)>| -> BTreeMap<String, Value> {
        cookies
            .iter()
            .filter_map(|(key, value)| pick(value).map(|(_, found)| (key.clone(), found)))
            .collect()
    };
    Settings {
        prefix: advanced["cookiePrefix"].as_str().map(str::to_owned),
        secure_cookies: advanced["useSecureCookies"].as_bool(),
        base_url: options["baseURL"].as_str().map(str::to_owned),
        dynamic_protocol: options["baseURL"]["protocol"].as_str().map(str::to_owned),
        production,
        names: own(&|v| v["name"].as_str().map(|n| (String::new(), n.into())))
            .into_iter()
            .filter_map(|(key, name)| Some((key, name.as_str()?.to_owned())))
            .collect(),
        cross_subdomain: advanced["crossSubDomainCookies"]["enabled"].as_bool() == Some(true),
        domain: advanced["crossSubDomainCookies"]["domain"]
            .as_str()
            .map(str::to_owned),
        default_attributes: attributes(&advanced["defaultCookieAttributes"]),
        attributes: own(&|v| v.get("attributes").map(|a| (String::new(), a.clone())))
            .into_iter()
            .map(|(key, found)| (key, attributes(&found)))
            .collect(),
        expires_in: options["session"]["expiresIn"].as_u64(),
        cache_max_age: options["session"]["cookieCache"]["maxAge"].as_u64(),
    }
}

#[test]
fn cookie_names() {
    const FILE: &str = "cookie-names.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let settings = settings(&case["options"], text(case, "node_env") == "production");
        let mut wrong = Vec::new();
        for (which, expect) in case["expect"].as_object().expect("expect") {
            let key = match which.as_str() {
                "sessionToken" => "session_token",
                "sessionData" => "session_data",
                "dontRememberToken" => "dont_remember",
                "accountData" => "account_data",
                plugin => plugin.trim_start_matches("plugin:"),
            };
            let made = settings.cookie(key);
            if made.name != text(expect, "name")
                || made.attributes != attributes(&expect["attributes"])
            {
                wrong.push(format!("{which}: {made:?}, expected {expect}"));
            }
        }
        tally.case(
            text(case, "id"),
            wrong
                .is_empty()
                .then_some(())
                .ok_or_else(|| wrong.join("; ")),
        );
    }
    tally.finish();
}

#[test]
fn the_endpoint_parser() {
    const FILE: &str = "get-session-cookie.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let headers = headers(text(case, "cookie_header"));
        let mut wrong = Vec::new();
        for (name, expect) in case["expect"]["parser_endpoint"]
            .as_object()
            .expect("parser_endpoint")
        {
            // The framework's reader hands out the value; an empty one is what it later treats as absent.
            let found =
                cookies::find(&headers, name).map(|v| String::from_utf8_lossy(&v).into_owned());
            if found.as_deref() != expect.as_str() {
                wrong.push(format!("{name}: {found:?}, expected {expect}"));
            }
        }
        tally.case(
            text(case, "id"),
            wrong
                .is_empty()
                .then_some(())
                .ok_or_else(|| wrong.join("; ")),
        );
    }
    tally.finish();
}
