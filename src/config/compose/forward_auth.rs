//! Which proxies may ask about requests.

use super::*;

/// Networks wider than this hold more than proxies.
const PREFIX_MIN_V4: u8 = 16;
/// The same for IPv6.
const PREFIX_MIN_V6: u8 = 48;

pub(super) fn forward_auth(
    file: &File,
    reader: &mut Reader<'_>,
) -> Option<server::verify::Settings> {
    let table = file.forward_auth.as_ref()?;
    let Some(peers) = &table.value.peers else {
        reader.blame(
            table,
            Fault::Missing {
                key: "forward_auth.peers",
                advice: "list their addresses, as `peers = [\"127.0.0.1\"]`, or remove the table",
            },
        );
        return None;
    };
    if peers.value.is_empty() {
        reader.blame(
            peers,
            form(
                "no proxy is listed, so nobody may ask",
                "list its address, as \"127.0.0.1\", or remove the table",
            ),
        );
    }
    let trusted = values(file.trusted_proxies.as_ref());
    for peer in &peers.value {
        let network = peer.value;
        let narrow = match network.network() {
            std::net::IpAddr::V4(_) => PREFIX_MIN_V4,
            std::net::IpAddr::V6(_) => PREFIX_MIN_V6,
        };
        if network.prefix_len() < narrow {
            reader.blame(
                peer,
                Fault::Risky {
                    what: "whoever reaches the gateway from here chooses which request is judged, and is told who is calling"
                        .into(),
                    advice: "list the addresses of your proxies only",
                },
            );
        }
        if !trusted.iter().any(|known| known.contains(&network)) {
            reader.blame(
                peer,
                Fault::Suspicious {
                    what: "its word on the client's address does not count: all clients share its own, and one who guesses tokens uses up everybody's tries"
                        .into(),
                    advice: "list it in `trusted_proxies` too, and have it set X-Forwarded-For",
                },
            );
        }
    }
    Some(server::verify::Settings {
        peers: values(Some(peers)),
    })
}
