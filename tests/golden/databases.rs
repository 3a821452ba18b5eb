//! Databases written by the framework through its own adapters, read by the session sources.

use serde_json::{Value, json};
use vestibule::session::Record;
use vestibule::store;
use vestibule::time::UnixMs;

use super::{Tally, folder, load};
use crate::support::databases::{Dialect, Folder, settings, shared};

/// 2026-11-21T12:00:00Z: after every row was written, before the live sessions end (2036), after the expired one did.
const NOW: UnixMs = UnixMs(1_795_262_400_000);

/// Brings a case's data up and gives the URLs to ask: where there are roles, the second is one that may only read.
fn bring_up(case: &Value, scratch: &Folder) -> Vec<String> {
    let file = folder().join(case["files"][0].as_str().unwrap());
    let dialect = match case["dialect"].as_str().unwrap() {
        "sqlite" => {
            // A copy, so that the vectors stay as they are whatever SQLite puts beside its file.
            let copy = scratch.join("app.sqlite");
            std::fs::copy(&file, &copy)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            return vec![format!("sqlite:{}", copy.display())];
        }
        "postgres" => Dialect::Postgres,
        "mysql" => Dialect::MySql,
        other => panic!("no server for dialect {other}"),
    };
    let server = shared(dialect);
    let database = server.load(&file);
    vec![server.url(&database), server.reader_url(&database)]
}

fn iso(at: UnixMs) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at.0).unwrap();
    at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// What the framework's answer would say of this record, in the framework's own names.
pub(super) fn shown(record: &Record) -> Value {
    json!({
        "session": {
            "id": record.session_id, "token": record.token.expose(), "userId": record.user_id,
            "expiresAt": iso(record.expires_at), "createdAt": record.created_at.map(iso), "updatedAt": record.updated_at.map(iso),
            "impersonatedBy": record.impersonated_by, "activeOrganizationId": record.organization_id,
        },
        "user": {
            "id": record.user_id, "email": record.email, "emailVerified": record.email_verified, "name": record.name,
            "role": record.role, "banned": record.banned, "banExpires": record.ban_expires.map(iso),
        },
    })
}

/// Holds every field a record has against the framework's answer. What a plugin would add is null where the plugin is off.
fn compare(record: Option<Record>, expected: &Value) -> Result<(), String> {
    let Some(record) = record.filter(|record| record.expires_at > NOW) else {
        return if expected.is_null() {
            Ok(())
        } else {
            Err("no live session".into())
        };
    };
    if expected.is_null() {
        return Err(format!(
            "a live session, expiring {}",
            iso(record.expires_at)
        ));
    }
    for (part, fields) in shown(&record).as_object().unwrap() {
        for (field, got) in fields.as_object().unwrap() {
            let mut want = expected[part][field].clone();
            if field == "banned" && want.is_null() {
                want = json!(false);
            }
            if *got != want {
                return Err(format!("{part}.{field} is {got}, expected {want}"));
            }
        }
    }
    Ok(())
}

/// The role the case's organization gives its user, if the case says so.
fn organization_role<'c>(case: &'c Value, record: &Record) -> Option<&'c str> {
    let organization = &case["extra"]["organization"];
    if organization["id"].as_str() != record.organization_id.as_deref() {
        return None;
    }
    let members = organization["members"].as_array()?;
    let mine = |member: &&Value| member["userId"].as_str() == Some(&*record.user_id);
    members.iter().find(mine)?["role"].as_str()
}

async fn check(case: &Value, url: &str) -> Result<(), String> {
    let store::Opened {
        source, detected, ..
    } = store::inspect(&store::Settings {
        documents: Some(store::Documents::default()),
        ..settings(url)
    })
    .await
    .map_err(|error| error.to_string())?;
    let warned: Vec<&String> = detected
        .warnings
        .iter()
        .filter(|w| w.contains("no index"))
        .collect();
    if case["id"]
        .as_str()
        .is_some_and(|id| !id.contains("drizzle"))
        && !warned.is_empty()
    {
        return Err(format!("warned about indexes: {warned:?}"));
    }
    let checks = case["checks"].as_array().unwrap();
    for one in checks {
        let token = one["token"].as_str().unwrap();
        let who = one["who"].as_str().unwrap_or("");
        let record = source
            .find(token)
            .await
            .map_err(|error| format!("{who}: {error}"))?;
        if let Some(record) = &record {
            let role = organization_role(case, record);
            if record.organization_role.as_deref() != role {
                return Err(format!(
                    "{who}: organization role {:?}, expected {role:?}",
                    record.organization_role
                ));
            }
        }
        let body = &one["expect"]["body"];
        let document = record.as_ref().and_then(|record| record.document.clone());
        compare(record, body).map_err(|wrong| format!("{who}: {wrong}"))?;
        // The whole answer, field by field, as the framework gave it.
        if !body.is_null() {
            let document: Value = document
                .and_then(|document| serde_json::from_str(&document).ok())
                .ok_or_else(|| format!("{who}: no document"))?;
            if document != *body {
                return Err(format!(
                    "{who}: the document is {document}, expected {body}"
                ));
            }
        }

        // No database may take a neighbour for it: other capitals, spaces at the end, a part of it.
        let flipped: String = token
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() {
                    c.to_ascii_uppercase()
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect();
        for near in [
            flipped,
            format!("{token} "),
            format!("{token}\0"),
            token[1..].to_owned(),
            String::new(),
            "'; --".to_owned(),
        ] {
            match source.find(&near).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    return Err(format!("{who}: a token that only resembles it was found"));
                }
                Err(error) => return Err(format!("{who}: {error}")),
            }
        }
    }
    if checks.is_empty() {
        Err("nothing to check".into())
    } else {
        Ok(())
    }
}

/// Extends every live session, and reads what was written: by us, and as the layout it was found in writes it.
async fn extend(case: &Value, url: &str) -> Result<(), String> {
    let writing = store::Settings {
        extend: true,
        ..settings(url)
    };
    let opened = store::inspect(&writing)
        .await
        .map_err(|error| error.to_string())?;
    let extend = opened.extend.ok_or("it cannot extend")?;
    let source = opened.source;
    for one in case["checks"].as_array().unwrap() {
        if one["expect"]["body"].is_null() {
            continue;
        }
        let token = one["token"].as_str().unwrap();
        let find = || async { source.find(token).await.map_err(|error| error.to_string()) };
        let before = find().await?.ok_or("it is gone")?;
        let seen = before.expires_at;
        // Other milliseconds than before, so that a cut-off shows; whole seconds where seconds are stored.
        let whole = case["id"].as_str().is_some_and(|id| id.contains("-sec-"));
        let odd = if whole { 0 } else { 123 };
        let until = UnixMs((seen.0 / 1000 + 3600) * 1000 + odd);
        let now = UnixMs(NOW.0 + odd);
        let move_it = |seen| extend.extend(token, seen, until, now);
        let told = |error: vestibule::session::SourceError| error.to_string();
        if move_it(UnixMs(seen.0 + 1)).await.map_err(told)? {
            return Err("written over what was not seen".into());
        }
        if find().await?.as_ref() != Some(&before) {
            return Err("changed".into());
        }
        if !move_it(seen).await.map_err(told)? {
            return Err("not written".into());
        }
        let after = find().await?.ok_or("it is gone")?;
        if (after.expires_at, after.updated_at) != (until, Some(now)) {
            return Err(format!(
                "reads {:?} and {:?}, expected {until:?} and {now:?}",
                after.expires_at, after.updated_at
            ));
        }
        // Whoever comes second changes nothing.
        if move_it(seen).await.map_err(told)? {
            return Err("written twice".into());
        }
        let rest = Record {
            expires_at: before.expires_at,
            updated_at: before.updated_at,
            ..after
        };
        if rest != before {
            return Err("something else was changed".into());
        }
    }
    for token in ["nobody has this", "", "'; --"] {
        let extended = extend.extend(token, NOW, UnixMs(NOW.0 + 1), NOW).await;
        if extended.map_err(|error| error.to_string())? {
            return Err(format!("extended {token}"));
        }
    }
    Ok(())
}

/// A role that may only read is told at the start that it will not do.
async fn refuse(url: &str) -> Result<(), String> {
    let writing = store::Settings {
        extend: true,
        ..settings(url)
    };
    match store::inspect(&writing).await {
        Err(error) if error.is_configuration() && error.to_string().contains("sliding") => Ok(()),
        Err(error) => Err(format!("told otherwise: {error}")),
        Ok(_) => Err("a reader may write".into()),
    }
}

fn run(file: &'static str) {
    let vectors = load(file);
    let cases = vectors["cases"].as_array().unwrap();
    let mut tally = Tally::new(file, cases.len());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for case in cases {
        let scratch = Folder::new("golden");
        let urls = bring_up(case, &scratch);
        let outcome = urls
            .iter()
            .try_for_each(|url| runtime.block_on(check(case, url)));
        let outcome = outcome.and_then(|()| {
            let mut urls = urls.iter();
            urls.next()
                .map_or(Ok(()), |url| runtime.block_on(extend(case, url)))?;
            urls.next()
                .map_or(Ok(()), |url| runtime.block_on(refuse(url)))
        });
        tally.case(case["id"].as_str().unwrap(), outcome);
    }
    tally.finish();
}

#[test]
fn the_frameworks_own_adapter() {
    run("databases.json");
}

#[test]
fn drizzle() {
    run("databases-drizzle.json");
}
