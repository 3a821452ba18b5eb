//! Base URL, secrets and cookies of Better Auth.

use super::*;

/// The base URL and where it was said.
pub(super) fn base_url(auth: &BetterAuth, reader: &mut Reader<'_>) -> Option<Found<Url>> {
    let given = auth
        .base_url
        .clone()
        .or_else(|| from_app(reader, &["BETTER_AUTH_URL"], "better_auth.base_url"))?;
    let url = web_url(&given.value);
    if url.is_none() {
        reader.blame(
            &given,
            form(
                format!("`{}` is no web address", short(&given.value)),
                "write it as in the app: \"https://app.example.com\"",
            ),
        );
    }
    Some(Found {
        value: url?,
        at: given.at,
        key: given.key,
    })
}

/// The first of the app's own variables that is set.
pub(super) fn from_app(reader: &Reader<'_>, names: &[&str], key: &str) -> Option<Found<String>> {
    names.iter().find_map(|name| {
        let value = reader
            .environment
            .get(*name)
            .filter(|text| !text.is_empty())?;
        Some(Found {
            value: value.clone(),
            at: At::Environment((*name).to_owned()),
            key: key.to_owned(),
        })
    })
}

pub(super) fn secrets(
    auth: &BetterAuth,
    tree: &Node,
    reader: &mut Reader<'_>,
) -> credential::secrets::Settings {
    let written = |key| is_written(tree, &["better_auth", key]);
    let listed = match &auth.secrets {
        Some(list) => Some(
            list.value
                .iter()
                .map(|f| {
                    (
                        f.value.version,
                        f.value.value.clone(),
                        f.at.clone(),
                        f.key.clone(),
                    )
                })
                .collect::<Vec<_>>(),
        ),
        None if written("secret") || written("secrets") => None,
        None => secrets_of_app(reader),
    };
    let single = auth
        .secret
        .as_ref()
        .map(|f| Found {
            value: f.value.0.clone(),
            at: f.at.clone(),
            key: f.key.clone(),
        })
        .or_else(|| {
            if written("secret") {
                return None;
            }
            let found = from_app(
                reader,
                &["BETTER_AUTH_SECRET", "AUTH_SECRET"],
                "better_auth.secret",
            )?;
            Some(Found {
                value: Secret::new(found.value),
                at: found.at,
                key: found.key,
            })
        });
    if written("secret")
        && !written("secrets")
        && reader.environment.contains_key("BETTER_AUTH_SECRETS")
    {
        let at = tree
            .child("better_auth")
            .and_then(|n| n.child("secret"))
            .map_or(At::Nowhere, |n| n.at.clone());
        let fault = Fault::Suspicious {
            what: "BETTER_AUTH_SECRETS is set, and Better Auth prefers it to `secret`".into(),
            advice: "remove `better_auth.secret`, or the variable, so that gateway and app sign with the same one",
        };
        reader
            .problems
            .push((fault, "better_auth.secret".into(), at));
    }
    let mut versions = BTreeSet::new();
    let mut all: Vec<Found<Secret>> = Vec::new();
    let mut numbered = Vec::new();
    for (version, value, at, key) in listed.into_iter().flatten() {
        numbered.push((version, value.clone()));
        let found = Found { value, at, key };
        if !versions.insert(version) {
            reader.blame(
                &found,
                Fault::Conflict {
                    what: format!("version {version} stands twice"),
                    advice: "give every secret a number of its own",
                },
            );
        }
        all.push(found);
    }
    // Beside a list, the single secret is the one from before there was a list.
    let legacy = single
        .as_ref()
        .filter(|_| !numbered.is_empty())
        .map(|found| found.value.clone());
    if let Some(single) = single.filter(|s| all.iter().all(|other| other.value != s.value)) {
        all.push(single);
    }
    for (index, found) in all.iter().enumerate() {
        let letters = found.value.expose().chars().count();
        if found.value.expose() == PUBLIC_SECRET {
            reader.blame(found, Fault::PublicSecret);
        } else if index == 0 && letters < SECRET_LETTERS_MIN {
            reader.blame(found, Fault::ShortSecret { letters });
        }
    }
    let mut all = all.into_iter().map(|found| found.value);
    let current = all.next().unwrap_or_else(|| {
        let told = reader.problems.iter().any(|(_, key, _)| key.starts_with("better_auth.secret"));
        if !told {
            let at = tree.child("better_auth").map_or(At::Nowhere, |n| n.at.clone());
            let fault = Fault::Missing {
                key: "better_auth.secret",
                advice: "set BETTER_AUTH_SECRET as for the app, or write `secret = { env = \"NAME\" }` or `secret = { file = \"PATH\" }` under [better_auth]",
            };
            reader.problems.push((fault, "better_auth.secret".into(), at));
        }
        // Never used: without a secret the configuration is refused.
        Secret::new("")
    });
    credential::secrets::Settings {
        current,
        older: all.collect(),
        versions: numbered,
        legacy,
    }
}

pub(super) type Listed = Vec<(u64, Secret, At, String)>;

/// `BETTER_AUTH_SECRETS`, as the framework reads it.
pub(super) fn secrets_of_app(reader: &mut Reader<'_>) -> Option<Listed> {
    let found = from_app(reader, &["BETTER_AUTH_SECRETS"], "better_auth.secrets")?;
    let node = Node {
        value: Value::Text(found.value),
        at: found.at,
    };
    let before = reader.problems.len();
    let list = Vec::<Found<VersionedSecret>>::read(&node, reader);
    for (_, key, _) in reader.problems.iter_mut().skip(before) {
        *key = format!("better_auth.secrets{key}");
    }
    list.map(|list| {
        list.into_iter()
            .map(|f| {
                (
                    f.value.version,
                    f.value.value,
                    f.at,
                    format!("better_auth.secrets{}", f.key),
                )
            })
            .collect()
    })
}

pub(super) fn cookies(
    auth: &BetterAuth,
    base_url: Option<&Found<Url>>,
    public_url: Option<&Url>,
    keeper: Keeper,
    reader: &mut Reader<'_>,
) -> credential::names::Settings {
    const COOKIES: [&str; 4] = [
        "session_token",
        "session_data",
        "dont_remember",
        "two_factor",
    ];
    let names = auth.names.iter().flat_map(|named| named.value.iter());
    for (key, found) in names.clone() {
        cookie_name(found, reader);
        known_cookie(key, found, &COOKIES, reader);
    }
    for (key, found) in auth.attributes.iter().flat_map(|named| &named.value) {
        known_cookie(key, found, &COOKIES, reader);
    }
    if let Some(prefix) = &auth.cookie_prefix {
        cookie_name(prefix, reader);
    }
    let cross_subdomain = value(auth.cross_subdomain.as_ref(), false);
    if let Some(domain) = &auth.cookie_domain {
        if host(domain.value.trim_start_matches('.')).is_err() || domain.value.contains('*') {
            reader.blame(
                domain,
                form(
                    format!("`{}` is no domain", short(&domain.value)),
                    "write a name, as \"example.com\"",
                ),
            );
        }
        if !cross_subdomain {
            reader.blame(
                domain,
                Fault::Suspicious {
                    what: "Better Auth uses the domain only with cross-subdomain cookies".into(),
                    advice: "set `cross_subdomain = true` as in the app, or remove `cookie_domain`",
                },
            );
        }
    } else if let Some(found) = auth
        .cross_subdomain
        .as_ref()
        .filter(|f| f.value && base_url.is_none())
    {
        reader.blame(
            found,
            Fault::Missing {
                key: "better_auth.cookie_domain",
                advice: "give it or `base_url`, as in the app: else nobody knows the domain of the cookies",
            },
        );
    }
    let https = public_url.is_some_and(|url| url.scheme() == "https");
    let node_env = reader
        .environment
        .get("NODE_ENV")
        .filter(|text| !text.is_empty());
    let production = node_env.map_or(https, |mode| mode == "production");
    let age = Duration::ZERO..=COOKIE_AGE_MAX;
    let default_attributes = auth
        .default_attributes
        .as_ref()
        .map(|f| attributes(f, reader))
        .unwrap_or_default();
    let attributes: BTreeMap<_, _> = auth
        .attributes
        .iter()
        .flat_map(|named| &named.value)
        .map(|(key, found)| (key.clone(), attributes(found, reader)))
        .collect();
    credential::names::Settings {
        prefix: Some(
            auth.cookie_prefix
                .as_ref()
                .map_or_else(|| "better-auth".to_owned(), |f| f.value.clone()),
        ),
        secure_cookies: auth.secure_cookies.as_ref().map(|f| f.value),
        base_url: base_url.map(|f| f.value.to_string()),
        dynamic_protocol: auth
            .dynamic_protocol
            .as_ref()
            .map(|f| f.value.as_str().to_owned()),
        production: value(auth.production.as_ref(), production),
        names: names
            .map(|(key, f)| (key.clone(), f.value.clone()))
            .collect(),
        cross_subdomain,
        domain: auth.cookie_domain.as_ref().map(|f| f.value.clone()),
        default_attributes,
        attributes,
        expires_in: seconds(auth.expires_in.as_ref(), age.clone(), reader)
            .or(Some(7 * DAY.as_secs())),
        cache_max_age: seconds(auth.cache_max_age.as_ref(), age, reader)
            .or(Some(cache_max_age(auth, keeper).as_secs())),
    }
}

pub(super) fn known_cookie<T>(
    key: &str,
    found: &Found<T>,
    known: &[&str],
    reader: &mut Reader<'_>,
) {
    if !known.contains(&key) {
        reader.blame(
            found,
            unknown_word("cookie of Better Auth that the gateway reads", key, known),
        );
    }
}

pub(super) fn cookie_name(found: &Found<String>, reader: &mut Reader<'_>) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if found.value.is_empty() || !found.value.bytes().all(token) {
        reader.blame(
            found,
            form(
                format!(
                    "`{}` cannot be in the name of a cookie",
                    short(&found.value)
                ),
                "use letters, digits, `-`, `_` and `.`",
            ),
        );
    } else if found.value.starts_with("__") {
        reader.blame(
            found,
            form("prefixes of browsers do not belong here", "leave `__Secure-` out: Better Auth and the gateway put it in front where cookies are secure"),
        );
    }
}

/// Words of `enable` that are no kind of credential of their own: more cookies, or another form of one.
const FORMS: [&str; 2] = ["cookie_cache", "multi_session"];

/// The word for believing what the app seals into cookies.
pub(super) const COOKIE_CACHE: &str = "cookie_cache";

pub(super) fn authenticator(
    auth: &BetterAuth,
    keeper: Keeper,
    own_origin: &str,
    reader: &mut Reader<'_>,
) -> authenticator::Settings {
    let kinds = authenticator::KINDS.iter().map(|kind| kind.name);
    let known: Vec<&str> = kinds
        .filter(|name| *name != "session")
        .chain(FORMS)
        .collect();
    let mut enabled = BTreeSet::new();
    for found in auth.enable.iter().flat_map(|list| &list.value) {
        if known.contains(&found.value.as_str()) {
            enabled.insert(found.value.clone());
        } else {
            reader.blame(
                found,
                unknown_word("kind of credential", &found.value, &known),
            );
        }
    }
    let cookie_cache = cookie_cache(auth, keeper, reader);
    let is_believed = keeper == Keeper::Cookie || enabled.contains(COOKIE_CACHE);
    if let Some(table) = auth.cookie_cache.as_ref().filter(|_| !is_believed) {
        reader.blame(
            table,
            Fault::Suspicious {
                what: "the cookie cache is described, and not used".into(),
                advice: "add \"cookie_cache\" to `better_auth.enable`, or remove the table",
            },
        );
    }
    authenticator::Settings {
        enabled,
        fall_through: value(auth.fall_through.as_ref(), false),
        cookie_cache: is_believed.then_some(cookie_cache),
        guesses: guesses(auth, reader),
        bearer: bearer(auth),
        jwt: jwt(auth, own_origin, reader),
    }
}

/// `session.cookieCache.maxAge`, where it is not said.
pub(super) fn cache_max_age(auth: &BetterAuth, keeper: Keeper) -> Duration {
    match keeper {
        Keeper::Store => 5 * MINUTE,
        // The framework lets such a cookie live as long as the session.
        Keeper::Cookie => value(auth.expires_in.as_ref(), 7 * DAY),
    }
}

fn cookie_cache(
    auth: &BetterAuth,
    keeper: Keeper,
    reader: &mut Reader<'_>,
) -> credential::cookie_cache::Settings {
    let fallback = CookieCache::default();
    let table = auth.cookie_cache.as_ref().map_or(&fallback, |f| &f.value);
    let strategy = match keeper {
        Keeper::Store => credential::cookie_cache::STRATEGY_BESIDE_A_STORE,
        Keeper::Cookie => credential::cookie_cache::STRATEGY_WITHOUT_A_STORE,
    };
    if let Some(found) = &table.strategy {
        let known = credential::cookie_cache::STRATEGIES.iter();
        let known: Vec<&str> = known.map(|kind| kind.name).collect();
        if !known.contains(&found.value.as_str()) {
            reader.blame(
                found,
                unknown_word("strategy of the cookie cache", &found.value, &known),
            );
        }
    }
    if let Some(found) = table.version.as_ref().filter(|f| f.value.is_empty()) {
        reader.blame(
            found,
            form(
                "an empty version is no version",
                "leave it out, or write the text that the app has",
            ),
        );
    }
    if let Some(found) = table
        .update_age
        .as_ref()
        .filter(|_| keeper == Keeper::Store)
    {
        reader.blame(
            found,
            Fault::Suspicious {
                what: "cookies are written anew only where there is no store".into(),
                advice: "remove it: Better Auth ignores `refreshCache` beside a database, too",
            },
        );
    }
    let max_age = value(auth.cache_max_age.as_ref(), cache_max_age(auth, keeper));
    let fifth = Duration::from_secs(max_age.as_secs() / 5);
    credential::cookie_cache::Settings {
        strategy: value(table.strategy.as_ref(), strategy.to_owned()),
        version: value(table.version.as_ref(), "1".to_owned()),
        max_age,
        renew_within: bounded(
            reader,
            table.update_age.as_ref(),
            fifth,
            Duration::ZERO..=COOKIE_AGE_MAX,
        ),
    }
}

fn guesses(auth: &BetterAuth, reader: &mut Reader<'_>) -> session::limit::Settings {
    let usual = session::limit::Settings::default();
    let per_minute = count(
        reader,
        auth.unknown_tokens_per_minute.as_ref(),
        usual.per_minute.into(),
        1..=10_000_000,
    );
    session::limit::Settings {
        per_minute: u32::try_from(per_minute).unwrap_or(u32::MAX),
    }
}

fn bearer(auth: &BetterAuth) -> authenticator::bearer::Settings {
    let table = auth.bearer.as_ref().map(|found| &found.value);
    let require_signature = table.and_then(|table| table.require_signature.as_ref());
    authenticator::bearer::Settings {
        require_signature: value(require_signature, false),
    }
}

/// How API keys are set up; `None` unless they are enabled.
pub(super) fn api_keys(
    auth: &BetterAuth,
    reader: &mut Reader<'_>,
) -> Option<(api_key::Settings, store::KeyStorage)> {
    const LETTERS_MAX: u64 = 256;
    const HEADERS_MAX: usize = 8;
    let fallback = ApiKey::default();
    let table = auth.api_key.as_ref().map_or(&fallback, |f| &f.value);
    let usual = api_key::Settings::default();
    let mut headers = Vec::new();
    for found in table.headers.iter().flat_map(|list| &list.value) {
        match found.value.parse::<http::HeaderName>() {
            Ok(name) if name != http::header::COOKIE => headers.push(name),
            _ => reader.blame(
                found,
                form(
                    format!("`{}` is no header a key could be in", short(&found.value)),
                    "write its name as in the app, as \"x-api-key\"",
                ),
            ),
        }
    }
    if let Some(list) = table
        .headers
        .as_ref()
        .filter(|list| list.value.is_empty() || list.value.len() > HEADERS_MAX)
    {
        reader.blame(
            list,
            form(
                format!("from one to {HEADERS_MAX} headers can be looked at"),
                "name those that the app looks at",
            ),
        );
    }
    let letters = count(reader, table.key_length.as_ref(), 64, 1..=LETTERS_MAX);
    if let Some(found) = table
        .config_id
        .as_ref()
        .filter(|found| found.value.is_empty() || found.value.len() > 255)
    {
        reader.blame(
            found,
            form(
                "this is no `configId`",
                "write it as in the app, or leave it out",
            ),
        );
    }
    let enabled = auth
        .enable
        .iter()
        .flat_map(|list| &list.value)
        .any(|found| found.value == api_key::keys::METHOD.as_str());
    if let Some(found) = auth.api_key.as_ref().filter(|_| !enabled) {
        reader.blame(
            found,
            Fault::Suspicious {
                what: "API keys are not accepted, so this says nothing".into(),
                advice: "write `enable = [\"api_key\"]` under [better_auth] if the app has `enableSessionForAPIKeys`, or remove the table",
            },
        );
    }
    let storage = match value(table.storage.as_ref(), KeyStorage::Database) {
        KeyStorage::Database => store::KeyStorage::Database,
        KeyStorage::Secondary => store::KeyStorage::Secondary,
    };
    let settings = api_key::Settings {
        headers: if headers.is_empty() {
            usual.headers
        } else {
            headers
        },
        key_letters_min: usize::try_from(letters).unwrap_or(usize::MAX),
        hashing: value(table.hashing.as_ref(), usual.hashing),
        config_id: value(table.config_id.as_ref(), usual.config_id),
        rate_limit: value(table.rate_limit.as_ref(), usual.rate_limit),
        usage: match value(table.usage.as_ref(), KeyUsage::Gateway) {
            KeyUsage::Gateway => api_key::Usage::Gateway,
            KeyUsage::App => api_key::Usage::App,
        },
    };
    enabled.then_some((settings, storage))
}

pub(super) fn seconds(
    found: Option<&Found<Duration>>,
    bounds: RangeInclusive<Duration>,
    reader: &mut Reader<'_>,
) -> Option<u64> {
    let found = found?;
    if found.value.subsec_millis() != 0 {
        reader.blame(
            found,
            form(
                "cookies count whole seconds",
                "write it in seconds or more, as \"300s\"",
            ),
        );
    }
    Some(bounded(reader, Some(found), Duration::ZERO, bounds).as_secs())
}

pub(super) fn attributes(
    found: &Found<Attributes>,
    reader: &mut Reader<'_>,
) -> credential::names::Attributes {
    let table = &found.value;
    for text in table.path.iter().chain(&table.domain) {
        if text
            .value
            .bytes()
            .any(|b| !b.is_ascii_graphic() || b == b';' || b == b',')
        {
            reader.blame(
                text,
                form(
                    "this cannot be in a cookie",
                    "use visible letters other than `;` and `,`",
                ),
            );
        }
    }
    credential::names::Attributes {
        secure: table.secure.as_ref().map(|f| f.value),
        same_site: table
            .same_site
            .as_ref()
            .map(|f| SameSite::as_str(f.value).to_owned()),
        path: table.path.as_ref().map(|f| f.value.clone()),
        http_only: table.http_only.as_ref().map(|f| f.value),
        partitioned: table.partitioned.as_ref().map(|f| f.value),
        domain: table.domain.as_ref().map(|f| f.value.clone()),
        max_age: seconds(
            table.max_age.as_ref(),
            Duration::ZERO..=COOKIE_AGE_MAX,
            reader,
        ),
    }
}
