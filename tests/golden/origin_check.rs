//! Where a request may come from, by the framework's own rules.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use vestibule::migration::origin::{Asked, Settings, would_pass};

use super::{Tally, load};

#[test]
fn origin_check() {
    const FILE: &str = "origin-check.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().expect("headers") {
            let name = HeaderName::try_from(name.as_str()).expect("a header name");
            let value = HeaderValue::from_str(value.as_str().expect("text"));
            headers.append(name, value.expect("a header value"));
        }
        let config = &case["config"];
        let advanced = &config["advanced"];
        let trusted = config["trustedOrigins"].as_array().into_iter().flatten();
        let settings = Settings {
            base: config["baseURL"].as_str().map(str::to_owned),
            trusted: trusted
                .filter_map(|origin| origin.as_str().map(str::to_owned))
                .collect(),
            disable_csrf_check: advanced["disableCSRFCheck"].as_bool(),
            disable_origin_check: advanced["disableOriginCheck"].as_bool() == Some(true),
            trusted_proxy_headers: advanced["trustedProxyHeaders"].as_bool() == Some(true),
        };
        let method = case["method"].as_str().expect("a method");
        let asked = Asked {
            method: &Method::from_bytes(method.as_bytes()).expect("a method"),
            endpoint: case["path"].as_str().expect("a path"),
            headers: &headers,
            callback: None,
            body: case["body"].as_object(),
            own: case["request_url_origin"].as_str().expect("an origin"),
        };
        let outcome = would_pass(&asked, &settings);
        let code = outcome.err().map(|code| code.as_str());
        let same = match case["expect"]["status"].as_u64() {
            Some(403) => code == case["expect"]["code"].as_str(),
            Some(200) => code.is_none(),
            _ => false,
        };
        tally.case(
            case["id"].as_str().expect("id"),
            same.then_some(())
                .ok_or_else(|| format!("{code:?}, expected {}", case["expect"])),
        );
    }
    tally.finish();
}
