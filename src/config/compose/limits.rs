//! What the app is told, and the limits, timeouts and logs of the gateway.

use super::*;

pub(super) fn identity(file: &File, origin: &str, reader: &mut Reader<'_>) -> identity::Settings {
    let table = file.identity.as_ref().map(|f| &f.value);
    for text in table
        .iter()
        .flat_map(|t| t.issuer.iter().chain(&t.audience))
    {
        if text.value.is_empty() {
            reader.blame(
                text,
                form("it is empty", "remove it: the default is `public_url`"),
            );
        }
    }
    let key = table.and_then(|t| t.key.as_ref());
    if let Some(found) = key {
        let letters = found.value.0.expose().chars().count();
        if letters < SECRET_LETTERS_MIN {
            reader.blame(
                found,
                form(
                    format!("the key has {letters} letters; under 32 it can be guessed"),
                    "make one with `openssl rand -base64 32`",
                ),
            );
        }
    }
    let text = |found: Option<&Found<String>>| {
        found.map_or_else(|| origin.to_owned(), |f| f.value.clone())
    };
    identity::Settings {
        preset: value(table.and_then(|t| t.preset.as_ref()), Preset::Vestibule).as_str(),
        assertion: value(table.and_then(|t| t.assertion.as_ref()), true),
        issuer: text(table.and_then(|t| t.issuer.as_ref())),
        audience: text(table.and_then(|t| t.audience.as_ref())),
        lifetime: bounded(
            reader,
            table.and_then(|t| t.lifetime.as_ref()),
            MINUTE,
            SECOND..=MINUTE,
        ),
        key: key.map(|f| f.value.0.clone()),
    }
}

pub(super) fn cors(file: &File, reader: &mut Reader<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for found in file
        .cors
        .iter()
        .filter_map(|f| f.value.origins.as_ref())
        .flat_map(|list| &list.value)
    {
        match origin(&found.value) {
            Some(url) => out.push(origin_of(&url)),
            None => reader.blame(
                found,
                form(
                    format!("`{}` is no origin", short(&found.value)),
                    "write scheme and host (and port), as \"https://app.example.com\"; `*` cannot be used where cookies are sent",
                ),
            ),
        }
    }
    out
}

pub(super) fn limits(file: &File, reader: &mut Reader<'_>) -> server::Limits {
    let table = file.limits.as_ref().map(|f| &f.value);
    let mut size = |found: Option<&Found<super::super::read::Size>>, default: u64, max: u64| {
        let bytes = found.map(|f| Found {
            value: f.value.0,
            at: f.at.clone(),
            key: f.key.clone(),
        });
        usize::try_from(count(reader, bytes.as_ref(), default, 1024..=max)).unwrap_or(usize::MAX)
    };
    let header_bytes = size(
        table.and_then(|t| t.header_bytes.as_ref()),
        32 << 10,
        1 << 20,
    );
    let target_bytes = size(
        table.and_then(|t| t.target_bytes.as_ref()),
        8 << 10,
        1 << 20,
    );
    let connections_idle = count(
        reader,
        table.and_then(|t| t.connections_idle.as_ref()),
        512,
        1..=1_000_000,
    );
    server::Limits {
        header_bytes,
        target_bytes,
        body_bytes: table
            .and_then(|t| t.body_bytes.as_ref())
            .map_or(100 << 20, |f| {
                // Zero bytes means "no limit" to the server; nobody who writes it means that.
                if f.value.0 == Some(0) {
                    reader.blame(
                        f,
                        form(
                            "no body at all could be sent",
                            "write a size, or \"unlimited\"",
                        ),
                    );
                }
                f.value.0.unwrap_or(0)
            }),
        connections_idle: usize::try_from(connections_idle).unwrap_or(usize::MAX),
    }
}

pub(super) fn timeouts(file: &File, reader: &mut Reader<'_>) -> server::Timeouts {
    let table = file.timeouts.as_ref().map(|f| &f.value);
    let wait = SECOND / 10..=DAY;
    server::Timeouts {
        idle: bounded(
            reader,
            table.and_then(|t| t.idle.as_ref()),
            MINUTE,
            wait.clone(),
        ),
        body_read: bounded(
            reader,
            table.and_then(|t| t.body_read.as_ref()),
            30 * SECOND,
            wait.clone(),
        ),
        response_write: bounded(
            reader,
            table.and_then(|t| t.response_write.as_ref()),
            30 * SECOND,
            wait.clone(),
        ),
        tunnel_idle: bounded(
            reader,
            table.and_then(|t| t.tunnel_idle.as_ref()),
            HOUR,
            wait,
        ),
        stop: bounded(
            reader,
            table.and_then(|t| t.stop.as_ref()),
            25 * SECOND,
            Duration::ZERO..=DAY,
        ),
    }
}

pub(super) fn log(file: &File) -> telemetry::Settings {
    let table = file.log.as_ref().map(|f| &f.value);
    telemetry::Settings {
        level: value(table.and_then(|t| t.level.as_ref()), Level::Info)
            .as_str()
            .to_owned(),
        json: value(table.and_then(|t| t.format.as_ref()), LogFormat::Text) == LogFormat::Json,
        access: value(table.and_then(|t| t.access.as_ref()), true),
    }
}
