//! The client address the framework derives from forwarded headers.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use vestibule::client_ip::Settings;

use super::{Tally, load};

#[test]
fn client_ip() {
    const FILE: &str = "client-ip.json";
    let file = load(FILE);
    let cases = file["cases"].as_array().expect("cases");
    let mut tally = Tally::new(FILE, cases.len());
    for case in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().expect("headers") {
            let name = HeaderName::try_from(name.as_str()).expect("a header name");
            headers.append(
                name,
                HeaderValue::from_str(value.as_str().expect("text")).expect("a header value"),
            );
        }
        let options = &case["ip_address_options"];
        let list = |key: &str| {
            options[key].as_array().map(|all| {
                all.iter()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect::<Vec<_>>()
            })
        };
        let default = Settings::default();
        let settings = Settings {
            headers: list("ipAddressHeaders").unwrap_or(default.headers),
            trusted: list("trustedProxies")
                .unwrap_or_default()
                .iter()
                .map(|text| net(text))
                .collect(),
            ipv6_bits: options["ipv6Subnet"]
                .as_u64()
                .map_or(default.ipv6_bits, |bits| u8::try_from(bits).expect("bits")),
            disabled: options["disableIpTracking"].as_bool() == Some(true),
        };
        let read = settings
            .read(&headers)
            .map(|address| settings.write(address));
        let same = read.as_deref() == case["expect"].as_str();
        tally.case(
            case["id"].as_str().expect("id"),
            same.then_some(())
                .ok_or_else(|| format!("{read:?}, expected {}", case["expect"])),
        );
    }
    tally.finish();
}

/// A net, or a single address as the net of itself.
fn net(text: &str) -> IpNet {
    match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().expect("an address or net")),
    }
}
