//! Addresses of the apps.

use super::*;

pub(super) fn upstreams(
    file: &File,
    tree: &Node,
    reader: &mut Reader<'_>,
) -> Vec<server::Upstream> {
    let mut out = Vec::new();
    match &file.upstream {
        Some(found) => out.push(upstream(APP, found, reader)),
        None if is_written(tree, &["upstream"]) => {}
        None => {
            let fault = Fault::Missing {
                key: "upstream.url",
                advice: "say where the app listens: `[upstream]` with `url = \"http://127.0.0.1:3000\"`",
            };
            reader
                .problems
                .push((fault, "upstream.url".into(), tree.at.clone()));
        }
    }
    for (name, found) in file.upstreams.iter().flat_map(|named| &named.value) {
        if name == APP {
            reader.blame(
                found,
                Fault::Conflict {
                    what: "`app` is the name of `[upstream]`".into(),
                    advice: "give this one another name",
                },
            );
        }
        out.push(upstream(name, found, reader));
    }
    out
}

pub(super) fn upstream(
    name: &str,
    found: &Found<Upstream>,
    reader: &mut Reader<'_>,
) -> server::Upstream {
    let table = &found.value;
    let mut addresses = Vec::new();
    if let (Some(_), Some(urls)) = (&table.url, &table.urls) {
        reader.blame(
            urls,
            Fault::Conflict {
                what: "`url` and `urls` are both given".into(),
                advice: "keep `urls` for several addresses of one app, `url` for one",
            },
        );
    }
    let all = table
        .url
        .iter()
        .chain(table.urls.iter().flat_map(|list| &list.value));
    let mut seen = false;
    for url in all {
        seen = true;
        match upstream_address(&url.value) {
            Some(address) => addresses.push(address),
            None => reader.blame(
                url,
                form(
                    format!("`{}` is no address of an app", short(&url.value)),
                    "write scheme, host and port, without a path: \"http://127.0.0.1:3000\"; paths are forwarded as they are",
                ),
            ),
        }
    }
    let broken = reader
        .problems
        .iter()
        .any(|(_, key, _)| key.starts_with(&format!("{}.url", found.key)));
    if !seen && !broken {
        reader.blame(
            found,
            Fault::Missing {
                key: "url",
                advice: "say where the app listens: `url = \"http://127.0.0.1:3000\"`",
            },
        );
    }
    let health = table.health.as_ref();
    let health_path = health.and_then(|h| h.value.path.as_ref());
    if let Some(path) =
        health_path.filter(|p| !is_page_path(p.value.split('?').next().unwrap_or_default()))
    {
        reader.blame(
            path,
            form(
                "this is no path",
                "write one that begins with `/`, as \"/healthz\"",
            ),
        );
    }
    let wait = SECOND / 1000..=DAY;
    server::Upstream {
        name: name.to_owned(),
        addresses,
        health_path: health_path.map(|p| p.value.clone()),
        health_interval: bounded(
            reader,
            health.and_then(|h| h.value.interval.as_ref()),
            5 * SECOND,
            SECOND / 10..=HOUR,
        ),
        connect_timeout: bounded(
            reader,
            table.connect_timeout.as_ref(),
            2 * SECOND,
            SECOND / 1000..=MINUTE,
        ),
        first_byte_timeout: bounded(
            reader,
            table.first_byte_timeout.as_ref(),
            MINUTE,
            wait.clone(),
        ),
        write_timeout: bounded(
            reader,
            table.write_timeout.as_ref(),
            30 * SECOND,
            wait.clone(),
        ),
        idle_timeout: bounded(reader, table.idle_timeout.as_ref(), 4 * SECOND, wait),
    }
}

pub(super) fn upstream_address(text: &str) -> Option<server::UpstreamAddress> {
    let url = origin(text)?;
    Some(server::UpstreamAddress {
        host: match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            // Without the brackets of URLs: this is what name resolution takes.
            Host::Ipv6(ip) => ip.to_string(),
        },
        port: url.port_or_known_default()?,
        tls: url.scheme() == "https",
    })
}

/// The index of an upstream by name; `app` when none is named.
pub(super) fn upstream_index(
    named: Option<&Found<String>>,
    upstreams: &[server::Upstream],
    reader: &mut Reader<'_>,
) -> usize {
    let Some(found) = named else { return 0 };
    let index = upstreams.iter().position(|u| u.name == found.value);
    if index.is_none() {
        let known: Vec<&str> = upstreams.iter().map(|u| u.name.as_str()).collect();
        reader.blame(found, unknown_word("upstream", &found.value, &known));
    }
    index.unwrap_or(0)
}
