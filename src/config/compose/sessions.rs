//! Where sessions are looked up, and what is remembered.

use super::*;

pub(super) fn sessions(
    file: &File,
    auth: &BetterAuth,
    reader: &mut Reader<'_>,
) -> session::Settings {
    let fallback = Sessions::default();
    let table = file.sessions.as_ref().map_or(&fallback, |f| &f.value);
    if let Some(found) = table
        .cache_ttl
        .as_ref()
        .filter(|f| f.value > HOUR && f.value <= DAY)
    {
        reader.blame(
            found,
            Fault::Risky {
                what: format!(
                    "someone signed out elsewhere may keep access for {}",
                    spell(found.value)
                ),
                advice: "30s answers nearly every request from memory already",
            },
        );
    }
    session::Settings {
        cache_ttl: bounded(
            reader,
            table.cache_ttl.as_ref(),
            30 * SECOND,
            Duration::ZERO..=DAY,
        ),
        negative_ttl: bounded(
            reader,
            table.negative_ttl.as_ref(),
            5 * SECOND,
            Duration::ZERO..=5 * MINUTE,
        ),
        entries_max: count(
            reader,
            table.max_cached.as_ref(),
            1_000_000,
            0..=1_000_000_000,
        ),
        bytes_max: table
            .max_cached_bytes
            .as_ref()
            .map_or(512 << 20, |f| f.value.0),
        negative_max: count(
            reader,
            table.max_negative.as_ref(),
            100_000,
            0..=100_000_000,
        ),
        enforce_bans: value(auth.enforce_bans.as_ref(), false),
    }
}

fn rules(auth: &BetterAuth, reader: &mut Reader<'_>) -> session::slide::Rules {
    session::slide::Rules {
        expires_in: auth.expires_in.as_ref().map_or(7 * DAY, |f| f.value),
        update_age: bounded(
            reader,
            auth.update_age.as_ref(),
            DAY,
            Duration::ZERO..=COOKIE_AGE_MAX,
        ),
    }
}

/// When `get-session` is answered at the door.
pub(super) fn door(
    file: &File,
    auth: &BetterAuth,
    reader: &mut Reader<'_>,
) -> Option<server::door::Settings> {
    let table = file.sessions.as_ref().map(|f| &f.value)?;
    let found = table.answer_get_session.as_ref().filter(|f| f.value)?;
    // Kinds by which the app adds something to each of its answers.
    let adds = ["cookie_cache", "jwt"];
    let enabled = auth.enable.iter().flat_map(|list| &list.value);
    let adding = enabled
        .map(|kind| kind.value.as_str())
        .find(|kind| adds.contains(kind));
    let deferred = value(auth.defer_session_refresh.as_ref(), false);
    let why = match adding {
        Some(kind) => Some(format!("with `{kind}` the app adds to each answer")),
        None => deferred.then(|| "with `defer_session_refresh` the app adds to each answer".into()),
    };
    if let Some(why) = &why {
        reader.blame(
            found,
            Fault::Suspicious {
                what: format!("{why}, so all of them are left to the app"),
                advice: "leave `answer_get_session` out",
            },
        );
    }
    let never = value(auth.disable_session_refresh.as_ref(), false);
    // What is wrong with them has been told by whoever extends sessions.
    let rules = session::slide::Rules {
        expires_in: auth.expires_in.as_ref().map_or(7 * DAY, |f| f.value),
        update_age: auth.update_age.as_ref().map_or(DAY, |f| f.value),
    };
    Some(server::door::Settings {
        rules: (!never).then_some(rules),
        app_adds: why.is_some(),
    })
}

/// Whether the gateway writes the app's cookie cache anew when it extends a session.
fn seals_sessions(table: &Sessions, auth: &BetterAuth) -> bool {
    let in_store = table
        .sliding
        .as_ref()
        .is_some_and(|f| f.value == SlidingWord::Store);
    let mut enabled = auth.enable.iter().flat_map(|list| &list.value);
    let has_cache = enabled.any(|kind| kind.value == super::auth::COOKIE_CACHE);
    in_store && has_cache && app_extends(auth)
}

/// Whether the app extends sessions by itself, when it is asked about them.
fn app_extends(auth: &BetterAuth) -> bool {
    let said = [&auth.disable_session_refresh, &auth.defer_session_refresh];
    !said.into_iter().flatten().any(|f| f.value)
}

/// What the framework's answers hold, where they are answered at the door or sealed into a cookie.
fn documents(
    table: &Sessions,
    auth: &BetterAuth,
    reader: &mut Reader<'_>,
) -> Option<store::Documents> {
    const TYPES: [(&str, store::FieldKind); 5] = [
        ("string", store::FieldKind::Text),
        ("number", store::FieldKind::Number),
        ("boolean", store::FieldKind::Boolean),
        ("date", store::FieldKind::Date),
        ("json", store::FieldKind::Json),
    ];
    let is_field = |name: &str| {
        name.split_once('.')
            .is_some_and(|(of, field)| matches!(of, "session" | "user") && !field.is_empty())
    };
    let mut documents = store::Documents::default();
    for found in table.fields.iter().flat_map(|list| &list.value) {
        let (name, word) = found
            .value
            .split_once(':')
            .unwrap_or((&found.value, "string"));
        let kind = TYPES.iter().find(|(known, _)| *known == word.trim());
        match kind.filter(|_| is_field(name.trim())) {
            Some((_, kind)) => documents.shown.push((name.trim().to_owned(), *kind)),
            None => reader.blame(
                found,
                form(
                    format!("`{}` is no field with a type", short(&found.value)),
                    "write table, field and type: \"user.plan:string\"; types are string, number, boolean, date and json",
                ),
            ),
        }
    }
    for found in table.hidden_fields.iter().flat_map(|list| &list.value) {
        if is_field(&found.value) {
            documents.hidden.push(found.value.clone());
        } else {
            reader.blame(
                found,
                form(
                    format!("`{}` is no field", short(&found.value)),
                    "write table and field: \"user.note\"",
                ),
            );
        }
    }
    let wanted = value(table.answer_get_session.as_ref(), false) || seals_sessions(table, auth);
    wanted.then_some(documents)
}

/// Who extends sessions that are due. Nobody where the app does not, or has its pages do it.
pub(super) fn sliding(
    file: &File,
    auth: &BetterAuth,
    store: Option<&store::Settings>,
    reader: &mut Reader<'_>,
) -> Option<Sliding> {
    let rules = rules(auth, reader);
    let table = file.sessions.as_ref().map(|f| &f.value);
    let found = table.and_then(|table| table.sliding.as_ref());
    let asks_the_app = store.is_some_and(|store| {
        kind(&store.url).is_some_and(|build| build.address == store::Address::App)
    });
    let word = found.map_or(SlidingWord::App, |f| f.value);
    if let Some(found) = found.filter(|_| asks_the_app && word == SlidingWord::Store) {
        reader.blame(
            found,
            Fault::Conflict {
                what: "sessions are looked up by asking the app, so there is no store to write to"
                    .into(),
                advice: "leave `sliding` out: the app extends what it is asked about",
            },
        );
    }
    let strategy = auth.cookie_cache.as_ref();
    let strategy = strategy.and_then(|table| table.value.strategy.as_ref());
    let app_alone =
        strategy.is_some_and(|f| f.value == credential::cookie_cache::STRATEGY_OF_THE_APP);
    if let Some(found) = found
        && app_alone
        && table.is_some_and(|table| seals_sessions(table, auth))
    {
        reader.blame(
            found,
            Fault::Conflict {
                what: "the app signs its cookie cache with its own key pair, so the gateway could not write it anew with a session it \
                       extends"
                    .into(),
                advice: "write `sliding = \"app\"`: the app, asked to extend a session, writes both cookies",
            },
        );
    }
    if !app_extends(auth) {
        return None;
    }
    match word {
        // Whoever is asked extends the session with the answer.
        SlidingWord::App if asks_the_app => None,
        SlidingWord::App => Some(false),
        SlidingWord::Store => Some(true),
        SlidingWord::Off => None,
    }
    .map(|in_store| Sliding { rules, in_store })
}

pub(super) fn store(
    file: &File,
    auth: &BetterAuth,
    tree: &Node,
    mut app: store::App,
    reader: &mut Reader<'_>,
) -> Option<store::Settings> {
    let fallback = Sessions::default();
    let table = file.sessions.as_ref().map_or(&fallback, |f| &f.value);
    let timeout = bounded(
        reader,
        table.timeout.as_ref(),
        2 * SECOND,
        SECOND / 100..=MINUTE,
    );
    let waiting_max = count(reader, table.max_waiting.as_ref(), 1_000, 0..=1_000_000);
    let zone_offset_seconds = zone(table.zone.as_ref(), reader);
    let schema = schema(table, reader);
    app.own_host = table
        .http
        .as_ref()
        .is_some_and(|http| value(http.value.own_host.as_ref(), false));
    let source = match &table.source {
        Some(found) => found.clone(),
        None if is_written(tree, &["sessions", "source"]) => return None,
        None => source_of_app(tree, reader)?,
    };
    let url = match database(source.value.0.expose()) {
        Ok(url) => url,
        Err(fault) => {
            reader.blame(&source, fault);
            return None;
        }
    };
    // Each connection to a file is a thread with a cache of its own, and reads what the system has in memory.
    let scheme = url.expose().split(':').next().unwrap_or_default();
    let is_file = store::kind_of_scheme(scheme)
        .is_some_and(|kind| matches!(kind.build.address, store::Address::File));
    let most = if is_file { 2 } else { 10 };
    let connections = count(reader, table.connections.as_ref(), most, 1..=10_000);
    let secondary = secondary(table, &url, tree, reader);
    Some(store::Settings {
        url,
        timeout,
        connections: u32::try_from(connections).unwrap_or(u32::MAX),
        waiting_max: usize::try_from(waiting_max).unwrap_or(usize::MAX),
        schema,
        zone_offset_seconds,
        app,
        documents: documents(table, auth, reader),
        extend: table
            .sliding
            .as_ref()
            .is_some_and(|f| f.value == SlidingWord::Store),
        secondary,
    })
}

/// Who keeps the sessions.
pub(super) fn keeper(file: &File) -> Keeper {
    let table = file.sessions.as_ref().map(|f| &f.value);
    let source = table.and_then(|table| table.source.as_ref());
    let build = source.and_then(|found| kind(&found.value.0));
    match build.map(|build| build.address) {
        Some(store::Address::Browser) => Keeper::Cookie,
        _ => Keeper::Store,
    }
}

/// Where the cookie is all there is, nobody can be asked for more.
pub(super) fn refuse_strict(file: &File, reader: &mut Reader<'_>) {
    let inside = |rule: Option<&Found<RuleText>>| match rule.map(|found| &found.value) {
        Some(RuleText::Table(table)) => table.freshness.clone(),
        Some(RuleText::Word(_)) | None => None,
    };
    let default = file.routes.as_ref().and_then(|f| f.value.default.as_ref());
    let mut asked: Vec<_> = inside(default).into_iter().collect();
    for found in file.route.iter().flat_map(|list| &list.value) {
        asked.extend(inside(found.value.rule.as_ref()));
        asked.extend(found.value.freshness.clone());
    }
    for found in asked
        .iter()
        .filter(|found| found.value == FreshnessWord::Strict)
    {
        reader.blame(
            found,
            Fault::Conflict {
                what: "there is no store to ask: `sessions.source` is the cookie itself".into(),
                advice: "use \"cached\", or give the app a database",
            },
        );
    }
}

/// How the app uses Redis, where sessions are looked up there.
fn secondary(
    table: &Sessions,
    source: &Secret,
    tree: &Node,
    reader: &mut Reader<'_>,
) -> store::SecondaryStorage {
    let fallback = store::SecondaryStorage::default();
    if !is_redis(source) {
        /// A found key, whatever its value.
        fn bare<T>(found: Option<&Found<T>>) -> Option<Found<()>> {
            found.map(|found| Found {
                value: (),
                at: found.at.clone(),
                key: found.key.clone(),
            })
        }

        let prefix = table.key_prefix.as_ref();
        let unused = bare(prefix.filter(|f| f.value != fallback.key_prefix))
            .or(bare(table.database.as_ref()))
            .or(bare(table.store_in_database.as_ref().filter(|f| f.value)))
            .or(bare(
                table.preserve_in_database.as_ref().filter(|f| f.value),
            ));
        if let Some(found) = unused {
            let fault = Fault::Suspicious {
                what: format!(
                    "`{}` is for sessions in Redis, and `source` is none",
                    found.key
                ),
                advice: "write `source = { env = \"REDIS_URL\" }` when the app has Redis as its secondary storage, else remove this",
            };
            reader.blame(&found, fault);
        }
        return fallback;
    }
    let store_in_database = value(table.store_in_database.as_ref(), false);
    let found = match &table.database {
        Some(found) => Some(found.clone()),
        None if is_written(tree, &["sessions", "database"]) => None,
        None if store_in_database => {
            let found = from_app(reader, &["DATABASE_URL"], "sessions.database");
            if found.is_none()
                && let Some(flag) = &table.store_in_database
            {
                let fault = Fault::Missing {
                    key: "sessions.database",
                    advice: "set DATABASE_URL as for the app, or write `database = { env = \"NAME\" }` under [sessions]",
                };
                reader.blame(flag, fault);
            }
            found.map(|found| Found {
                value: SecretText(Secret::new(found.value)),
                at: found.at,
                key: found.key,
            })
        }
        None => None,
    };
    let database = found.and_then(|found| match database(found.value.0.expose()) {
        Ok(url) if !is_redis(&url) => Some(url),
        Ok(_) => {
            let advice =
                "name the app's database: \"sqlite:PATH\", \"postgres://…\" or \"mysql://…\"";
            reader.blame(&found, form("this is a Redis, and no database", advice));
            None
        }
        Err(fault) => {
            reader.blame(&found, fault);
            None
        }
    });
    store::SecondaryStorage {
        key_prefix: value(table.key_prefix.as_ref(), fallback.key_prefix),
        database,
        store_in_database,
        preserve_in_database: value(table.preserve_in_database.as_ref(), false),
    }
}

fn is_redis(url: &Secret) -> bool {
    kind(url).is_some_and(store::Build::is_secondary_storage)
}

/// What kind of source a URL names.
fn kind(url: &Secret) -> Option<&'static store::Build> {
    let (scheme, _) = url.expose().split_once(':')?;
    store::kind_of_scheme(scheme).map(|kind| &kind.build)
}

/// Where the app's own variables say the sessions are.
pub(super) fn source_of_app(tree: &Node, reader: &mut Reader<'_>) -> Option<Found<SecretText>> {
    let database = from_app(reader, &["DATABASE_URL"], "sessions.source");
    let redis = from_app(reader, &["REDIS_URL"], "sessions.source");
    let at = tree.child("sessions").map_or(At::Nowhere, |n| n.at.clone());
    let (fault, found) = match (database, redis) {
        (Some(_), Some(_)) => (Fault::TwoSources, None),
        (Some(found), None) | (None, Some(found)) => {
            return Some(Found {
                value: SecretText(Secret::new(found.value)),
                at: found.at,
                key: found.key,
            });
        }
        (None, None) => (
            Fault::Missing {
                key: "sessions.source",
                advice: "set DATABASE_URL or REDIS_URL as for the app, or write `source = \"sqlite:app.db\"` or `source = { env = \"NAME\" }` under [sessions]",
            },
            None,
        ),
    };
    reader.problems.push((fault, "sessions.source".into(), at));
    found
}

/// The address of a database in the spelling the store takes. Never quotes it: it may hold a password.
pub(super) fn database(text: &str) -> Result<Secret, Fault> {
    let wrong = |what: &str| {
        let forms: Vec<&str> = store::KINDS.iter().map(|kind| kind.about).collect();
        form(what, &format!("write one of: {}", forms.join("; ")))
    };
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    let Some(kind) = store::kind_of_scheme(scheme) else {
        return Err(wrong("this is no source of sessions"));
    };
    let scheme = kind.build.scheme(scheme).unwrap_or(kind.name);
    match kind.build.address {
        store::Address::File => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let name = path.split('?').next().unwrap_or_default();
            if name.is_empty() {
                return Err(wrong("the path of the database is missing"));
            }
            if name == ":memory:" {
                return Err(wrong("a database in memory is not the app's"));
            }
            Ok(Secret::new(format!("{scheme}:{path}")))
        }
        store::Address::Server if rest.strip_prefix("//").is_some_and(|r| !r.is_empty()) => {
            Ok(Secret::new(format!("{scheme}:{rest}")))
        }
        store::Address::Server => Err(wrong("this is no address of a database")),
        store::Address::Browser if rest.is_empty() => Ok(Secret::new(format!("{scheme}:"))),
        store::Address::Browser => Err(form(
            "the cookie has no address",
            "write \"cookie:\" and nothing after it",
        )),
        // Never quoted either: somebody may have put a password into it.
        store::Address::App => match web_url(text) {
            Some(url) if url.query().is_none() && url.fragment().is_none() => Ok(Secret::new(text)),
            _ => Err(wrong("this is no address of a Better Auth")),
        },
    }
}

pub(super) fn schema(table: &Sessions, reader: &mut Reader<'_>) -> store::SchemaOverrides {
    const TABLES: [&str; 5] = ["session", "user", "member", "jwks", "apikey"];
    let Some(schema) = &table.schema else {
        return store::SchemaOverrides::default();
    };
    let schema = &schema.value;
    for (key, found) in schema.tables.iter().flat_map(|named| &named.value) {
        if !TABLES.contains(&key.as_str()) {
            reader.blame(
                found,
                unknown_word("table of Better Auth that the gateway reads", key, &TABLES),
            );
        }
    }
    for (key, found) in schema.columns.iter().flat_map(|named| &named.value) {
        let fine = key
            .split_once('.')
            .is_some_and(|(table, column)| TABLES.contains(&table) && !column.is_empty());
        if !fine {
            reader.blame(
                found,
                form(
                    format!("`{}` is no column of Better Auth", short(key)),
                    "write table and field in quotes: `\"session.userId\" = \"user_id\"`",
                ),
            );
        }
    }
    let names = schema.schema.iter();
    let names = names.chain(schema.tables.iter().flat_map(|n| n.value.values()));
    for found in names.chain(schema.columns.iter().flat_map(|n| n.value.values())) {
        if found.value.is_empty()
            || found.value.len() > 128
            || found.value.contains(['\0', '"', '`'])
        {
            reader.blame(
                found,
                form(
                    "this cannot be the name of a table or column",
                    "write the name as the database has it, without quotes",
                ),
            );
        }
    }
    let map = |named: Option<&Found<BTreeMap<String, Found<String>>>>| {
        named
            .into_iter()
            .flat_map(|n| &n.value)
            .map(|(key, f)| (key.clone(), f.value.clone()))
            .collect()
    };
    store::SchemaOverrides {
        schema: schema.schema.as_ref().map(|f| f.value.clone()),
        tables: map(schema.tables.as_ref()),
        columns: map(schema.columns.as_ref()),
    }
}

/// `UTC`, `Z`, `+02:00`, `-0530`.
pub(super) fn zone(found: Option<&Found<String>>, reader: &mut Reader<'_>) -> i32 {
    let Some(found) = found else { return 0 };
    let offset = zone_offset(&found.value);
    if offset.is_none() {
        reader.blame(
            found,
            form(format!("`{}` is no offset from UTC", short(&found.value)), "write \"UTC\" or an offset as \"+02:00\"; a zone with summer time cannot be told apart in stored dates"),
        );
    }
    offset.unwrap_or(0)
}

pub(super) fn zone_offset(text: &str) -> Option<i32> {
    const HOURS_MAX: i32 = 14;
    if text == "UTC" || text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let digits: String = rest.chars().filter(|c| *c != ':').collect();
    let well_formed = rest.len() == 4 || (rest.len() == 5 && rest.as_bytes().get(2) == Some(&b':'));
    if !well_formed || digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..)?.parse().ok()?;
    (hours <= HOURS_MAX && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}
