//! Pages people are sent to, and what each route needs.

use super::*;

pub(super) fn redirects(
    file: &File,
    public_url: Option<&Url>,
    nextjs: &NextJs,
    reader: &mut Reader<'_>,
) -> policy::redirect::Settings {
    let routes = file.routes.as_ref().map(|f| &f.value);
    let sign_in = routes.and_then(|r| r.sign_in.as_ref());
    if let Some(found) = sign_in {
        let path = found.value.split('?').next().unwrap_or_default();
        let plain = !found.value.contains('#') && found.value.bytes().all(|b| b.is_ascii_graphic());
        let absolute = web_url(&found.value);
        if !(plain && (is_page_path(path) || absolute.is_some())) {
            reader.blame(
                found,
                form(
                    format!("`{}` is neither a path nor a web address", short(&found.value)),
                    "write a path that begins with one `/`, as \"/sign-in\", or an address, as \"https://accounts.example.com/sign-in\"",
                ),
            );
        } else if absolute.is_some_and(|url| url.scheme() == "http" && !is_loopback(&url)) {
            reader.blame(
                found,
                Fault::Risky {
                    what: "people would type their passwords into a page that came over plain http"
                        .into(),
                    advice: "use https",
                },
            );
        }
    }
    let return_param = routes.and_then(|r| r.return_param.as_ref());
    if let Some(found) = return_param {
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if found.value.is_empty() || !found.value.bytes().all(fine) {
            reader.blame(
                found,
                form(
                    "this is no name of a query parameter",
                    "use letters, digits, `_`, `-` and `.`, as \"callbackURL\"",
                ),
            );
        }
    }
    // A page on our own origin is a path: locations stay relative, and the page stays reachable.
    let sign_in = sign_in.map_or("/sign-in", |f| f.value.as_str());
    let own = web_url(sign_in)
        .filter(|url| public_url.is_some_and(|public| public.origin() == url.origin()))
        .and_then(|url| sign_in.split_once("://").map(|(_, rest)| (url, rest)))
        .map(|(_, rest)| {
            rest.find('/')
                .and_then(|at| rest.get(at..))
                .unwrap_or("/")
                .to_owned()
        });
    policy::redirect::Settings {
        sign_in: own.unwrap_or_else(|| sign_in.to_owned()),
        return_param: return_param.map_or_else(|| "callbackURL".to_owned(), |f| f.value.clone()),
        signed_in_home: routes
            .and_then(|r| r.signed_in_home.as_ref())
            .map_or_else(|| "/".to_owned(), |f| f.value.0.clone()),
        forbidden: routes
            .and_then(|r| r.forbidden.as_ref())
            .map(|f| f.value.0.clone()),
        base_path: nextjs.base_path.clone(),
    }
}

/// The app's build, where its folder is named.
pub(super) fn build(
    file: &File,
    read_build: BuildRead<'_>,
    reader: &mut Reader<'_>,
) -> Option<Build> {
    let table = file.nextjs.as_ref().map(|f| &f.value)?;
    let folder = table.app.as_ref()?;
    match read_build(&folder.value) {
        Ok(build) => build,
        Err(unreadable) => {
            reader.blame(folder, form(unreadable.message, unreadable.advice));
            None
        }
    }
}

/// What changes the meaning of paths: as the build says, where there is one, and then nothing else may be written.
pub(super) fn nextjs(file: &File, build: Option<&Build>, reader: &mut Reader<'_>) -> NextJs {
    let written = written_nextjs(file, reader);
    let Some(build) = build else {
        return written;
    };
    let built = &build.app.nextjs;
    let Some(table) = file.nextjs.as_ref().map(|f| &f.value) else {
        return built.clone();
    };
    let place = |at: &At, key: &str| Some((at.clone(), key.to_owned()));
    let base = table.base_path.as_ref().and_then(|f| place(&f.at, &f.key));
    let locales = table.locales.as_ref().and_then(|f| place(&f.at, &f.key));
    let default = table.default_locale.as_ref();
    let default = default.and_then(|f| place(&f.at, &f.key));
    let slash = table.trailing_slash.as_ref();
    let slash = slash.and_then(|f| place(&f.at, &f.key));
    for (place, here, there) in [
        (base, written.base_path, built.base_path.clone()),
        (
            locales,
            written.locales.join(", "),
            built.locales.join(", "),
        ),
        (
            default,
            written.default_locale.unwrap_or_default(),
            built.default_locale.clone().unwrap_or_default(),
        ),
        (
            slash,
            written.trailing_slash.to_string(),
            built.trailing_slash.to_string(),
        ),
    ] {
        let Some((at, key)) = place.filter(|_| here != there) else {
            continue;
        };
        let fault = Fault::Conflict {
            what: format!(
                "here it is `{}`, and in the app's build `{}`",
                short(&here),
                short(&there)
            ),
            advice: "leave the key out: it is read from the build; or build the app again",
        };
        reader.problems.push((fault, key, at));
    }
    built.clone()
}

fn base_path(file: &File) -> String {
    let found = file
        .nextjs
        .as_ref()
        .and_then(|f| f.value.base_path.as_ref());
    found.map_or_else(String::new, |f| f.value.clone())
}

fn written_nextjs(file: &File, reader: &mut Reader<'_>) -> NextJs {
    let Some(table) = file.nextjs.as_ref().map(|f| &f.value) else {
        return NextJs::default();
    };
    if let Some(found) = table.base_path.as_ref().filter(|f| !f.value.is_empty())
        && (!is_page_path(&found.value) || found.value.ends_with('/'))
    {
        reader.blame(
            found,
            form(
                format!("`{}` is no base path", short(&found.value)),
                "write it as in next.config: \"/docs\", or \"\" for none",
            ),
        );
    }
    let locales = values(table.locales.as_ref());
    for found in table.locales.iter().flat_map(|list| &list.value) {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if found.value.is_empty() || !found.value.bytes().all(fine) {
            reader.blame(
                found,
                form(
                    format!("`{}` is no locale", short(&found.value)),
                    "write locales as in next.config: \"en\", \"de-CH\"",
                ),
            );
        }
    }
    if let Some(found) = table
        .default_locale
        .as_ref()
        .filter(|f| !locales.contains(&f.value))
    {
        let known: Vec<&str> = locales.iter().map(String::as_str).collect();
        reader.blame(
            found,
            unknown_word("locale listed in `locales`", &found.value, &known),
        );
    }
    NextJs {
        base_path: base_path(file),
        locales,
        default_locale: table.default_locale.as_ref().map(|f| f.value.clone()),
        trailing_slash: value(table.trailing_slash.as_ref(), false),
        domains: Vec::new(),
    }
}

pub(super) fn routes(
    file: &File,
    tree: &Node,
    upstreams: &[server::Upstream],
    hosts: &[String],
    sign_in: &str,
    nextjs: NextJs,
    reader: &mut Reader<'_>,
) -> route::Settings {
    let auth = file.better_auth.as_ref().map(|f| &f.value);
    let auth_base_path = auth.and_then(|a| a.base_path.as_ref());
    if let Some(found) = auth_base_path.filter(|f| f.value.0.ends_with('/')) {
        reader.blame(
            found,
            form(
                "the base path would open more than Better Auth",
                "write it without a slash at the end, as \"/api/auth\"",
            ),
        );
    }
    let auth_base_path =
        auth_base_path.map_or_else(|| "/api/auth".to_owned(), |f| f.value.0.clone());
    let sign_in_path = sign_in
        .starts_with('/')
        .then(|| sign_in.split('?').next().unwrap_or_default().to_owned());
    let given = file.routes.as_ref().and_then(|f| f.value.default.as_ref());
    if given.is_none() && !is_written(tree, &["routes", "default"]) {
        let at = tree.child("routes").map_or(At::Nowhere, |n| n.at.clone());
        let fault = Fault::Missing {
            key: "routes.default",
            advice: "say what holds for paths without a route: `default = \"signed-in\"` under [routes]; there is no silent default",
        };
        reader.problems.push((fault, "routes.default".into(), at));
    }
    let default = given.map_or(
        // Only stands in where the configuration is refused anyway.
        Rule {
            need: Need::Deny,
            freshness: Freshness::Cached,
        },
        |found| rule(found, None, reader),
    );
    let text_line = |at: &At, reader: &Reader<'_>| at.span().map(|span| reader.line(span.start));
    let mut specs = Vec::new();
    for found in file.route.iter().flat_map(|list| &list.value) {
        let table = &found.value;
        // A route without its rule is told and left out: the configuration is refused.
        let Some(given) = &table.rule else {
            incomplete(found, "rule", reader);
            continue;
        };
        let Some(path) = &table.path else {
            incomplete(found, "path", reader);
            continue;
        };
        if path.value.is_empty() {
            reader.blame(
                path,
                form(
                    "no path is listed",
                    "list at least one, as \"/admin/:path*\"",
                ),
            );
        }
        let rule = rule(given, table.freshness.as_ref(), reader);
        let sources: Vec<SourceSpec> = path
            .value
            .iter()
            .map(|p| source(p, text_line(&p.at, reader), reader))
            .collect();
        warn_of_bypasses(path, &rule, reader);
        runs_in_circles(file, path, &rule, reader);
        closes_sign_in(
            path,
            &rule,
            table,
            sign_in_path.as_deref(),
            &auth_base_path,
            reader,
        );
        specs.push(RouteSpec {
            sources,
            methods: values(table.methods.as_ref()),
            hosts: route_hosts(table, hosts, reader),
            upstream: upstream_index(table.upstream.as_ref(), upstreams, reader),
            rule,
            app_caches: table
                .cache
                .as_ref()
                .is_some_and(|f| f.value == Caching::App),
            line: text_line(&found.at, reader),
        });
        for (list, key) in [
            (
                table
                    .methods
                    .as_ref()
                    .map(|f| (f.value.is_empty(), f.at.clone(), f.key.clone())),
                "methods",
            ),
            (
                table
                    .hosts
                    .as_ref()
                    .map(|f| (f.value.is_empty(), f.at.clone(), f.key.clone())),
                "hosts",
            ),
        ] {
            if let Some((true, at, key_path)) = list {
                let what = format!("an empty `{key}` would mean all of them");
                reader.problems.push((
                    form(what, "list at least one, or remove the key"),
                    key_path,
                    at,
                ));
            }
        }
    }
    route::Settings {
        nextjs,
        routes: specs,
        default,
        default_upstream: 0,
        same_app: same_app(upstreams),
        auth_base_path,
        auth_upstream: upstream_index(auth.and_then(|a| a.upstream.as_ref()), upstreams, reader),
        sign_in_path,
        dev: false,
    }
}

/// Upstreams with an address of the first one: people name an app twice to give some routes other limits of time. It runs its Server
/// Actions and rewrites under either name.
fn same_app(upstreams: &[server::Upstream]) -> Vec<usize> {
    let Some((app, others)) = upstreams.split_first() else {
        return Vec::new();
    };
    let is_here = |host: &str| {
        let host = host.trim_matches(['[', ']']);
        let address = host.parse::<std::net::IpAddr>();
        host.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.to_canonical().is_loopback())
    };
    let is_it = |one: &server::UpstreamAddress| {
        app.addresses.iter().any(|it| {
            let same = it.host.eq_ignore_ascii_case(&one.host);
            it.port == one.port && (same || (is_here(&it.host) && is_here(&one.host)))
        })
    };
    (1..)
        .zip(others)
        .filter(|(_, other)| other.addresses.iter().any(is_it))
        .map(|(index, _)| index)
        .collect()
}

pub(super) fn incomplete(found: &Found<Route>, key: &'static str, reader: &mut Reader<'_>) {
    let prefix = format!("{}.{key}", found.key);
    if reader
        .problems
        .iter()
        .any(|(_, told, _)| told.starts_with(&prefix))
    {
        return;
    }
    let advice = if key == "rule" {
        "say what it takes: `rule = \"signed-in\"`, `rule = \"public\"` or `rule = { role = [\"admin\"] }`"
    } else {
        "say which paths: `path = \"/admin/:path*\"`, or a list of them"
    };
    reader.blame(found, Fault::Missing { key, advice });
}

pub(super) fn freshness(word: FreshnessWord) -> Freshness {
    match word {
        FreshnessWord::Optimistic => Freshness::Optimistic,
        FreshnessWord::Cached => Freshness::Cached,
        FreshnessWord::Strict => Freshness::Strict,
    }
}

pub(super) fn rule(
    found: &Found<RuleText>,
    beside: Option<&Found<FreshnessWord>>,
    reader: &mut Reader<'_>,
) -> Rule {
    let inside = match &found.value {
        RuleText::Table(table) => table.freshness.as_ref(),
        RuleText::Word(_) => None,
    };
    if let (Some(inside), Some(beside)) = (inside, beside)
        && inside.value != beside.value
    {
        reader.blame(
            inside,
            Fault::Conflict {
                what: "`freshness` is given twice, and differently".into(),
                advice: "keep it beside the rule or in it",
            },
        );
    }
    let asked = inside.or(beside);
    let freshness = asked.map_or(Freshness::Cached, |f| freshness(f.value));
    let need = match &found.value {
        RuleText::Word(RuleWord::Public) => Need::Public,
        RuleText::Word(RuleWord::Optional) => Need::Optional,
        RuleText::Word(RuleWord::Guest) => Need::Guest,
        RuleText::Word(RuleWord::Deny) => Need::Deny,
        RuleText::Word(RuleWord::SignedIn) => Need::SignedIn(Conditions::default()),
        RuleText::Table(table) => Need::SignedIn(conditions(found, table, reader)),
    };
    if let Some(asked) = asked {
        if freshness == Freshness::Optimistic {
            for condition in needs_lookup(&need) {
                reader.blame(asked, Fault::Optimistic { condition });
            }
        }
        if matches!(need, Need::Public | Need::Deny) {
            reader.blame(
                asked,
                Fault::Suspicious {
                    what: "this rule looks nobody up, so `freshness` does nothing".into(),
                    advice: "remove it",
                },
            );
        }
    }
    Rule { need, freshness }
}

/// What cannot be known without a lookup.
pub(super) fn needs_lookup(need: &Need) -> Vec<&'static str> {
    match need {
        Need::Guest => vec!["guest"],
        Need::Public | Need::Optional | Need::Deny => Vec::new(),
        Need::SignedIn(conditions) => [
            (!conditions.role.is_empty(), "role"),
            (
                !conditions.organization_role.is_empty(),
                "organization_role",
            ),
            (conditions.email_verified, "email_verified"),
            (conditions.step_up.is_some(), "step_up"),
        ]
        .into_iter()
        .filter_map(|(asked, name)| asked.then_some(name))
        .collect(),
    }
}

/// A kind that the app does not have lets nobody pass.
pub(super) fn check_credentials(file: &File, enabled: &BTreeSet<String>, reader: &mut Reader<'_>) {
    let default = file.routes.as_ref().and_then(|f| f.value.default.as_ref());
    let routes = file.route.iter().flat_map(|list| &list.value);
    let rules = default
        .into_iter()
        .chain(routes.filter_map(|found| found.value.rule.as_ref()));
    for rule in rules {
        let RuleText::Table(table) = &rule.value else {
            continue;
        };
        for kind in table.credentials.iter().flat_map(|list| &list.value) {
            let known = authenticator::KINDS
                .iter()
                .any(|known| known.name == kind.value);
            if known && kind.value != "session" && !enabled.contains(&kind.value) {
                reader.blame(
                    kind,
                    Fault::Conflict {
                        what: format!("`{}` is not enabled, so nobody passes with it", kind.value),
                        advice: "add it to `better_auth.enable`, or take it out here",
                    },
                );
            }
        }
    }
}

pub(super) fn conditions(
    found: &Found<RuleText>,
    table: &RuleTable,
    reader: &mut Reader<'_>,
) -> Conditions {
    for roles in table.role.iter().chain(&table.organization_role) {
        if roles.value.is_empty() {
            reader.blame(roles, form("an empty list of roles would ask for none", "list the roles that may pass, as [\"admin\"]; for nobody, the rule is \"deny\""));
        }
        for role in &roles.value {
            if role.value.trim().is_empty() || role.value.contains(',') {
                reader.blame(
                    role,
                    form(
                        "this is no role",
                        "write one role for each entry, without commas",
                    ),
                );
            }
        }
    }
    if let Some(no) = table.email_verified.as_ref().filter(|f| !f.value) {
        reader.blame(
            no,
            form(
                "`false` asks for nothing",
                "write `email_verified = true`, or remove it",
            ),
        );
    }
    for kind in table.credentials.iter().flat_map(|list| &list.value) {
        let known: Vec<&str> = authenticator::KINDS.iter().map(|kind| kind.name).collect();
        if !known.contains(&kind.value.as_str()) {
            reader.blame(
                kind,
                unknown_word("kind of credential", &kind.value, &known),
            );
        }
    }
    if let Some(kinds) = table.credentials.as_ref().filter(|f| f.value.is_empty()) {
        reader.blame(
            kinds,
            form(
                "an empty list would accept every kind",
                "list the kinds that count, as [\"session\"]",
            ),
        );
    }
    let says_nothing = table.role.is_none()
        && table.organization_role.is_none()
        && table.email_verified.is_none()
        && table.step_up.is_none()
        && table.credentials.is_none()
        && table.freshness.is_none();
    let told = || {
        reader
            .problems
            .iter()
            .any(|(_, key, _)| key.starts_with(&found.key) && *key != found.key)
    };
    if says_nothing && !told() {
        reader.blame(
            found,
            form(
                "the table holds no condition",
                "write `rule = \"signed-in\"` for everyone who is signed in",
            ),
        );
    }
    Conditions {
        role: values(table.role.as_ref()),
        organization_role: values(table.organization_role.as_ref()),
        email_verified: value(table.email_verified.as_ref(), false),
        step_up: table
            .step_up
            .as_ref()
            .map(|f| bounded(reader, Some(f), HOUR, SECOND..=COOKIE_AGE_MAX)),
        credentials: values(table.credentials.as_ref()),
    }
}

pub(super) fn source(
    found: &Found<Path>,
    line: Option<usize>,
    reader: &mut Reader<'_>,
) -> SourceSpec {
    match &found.value {
        Path::Plain(source) => {
            begins_with_slash(found, source, reader);
            SourceSpec {
                source: source.clone(),
                line,
                has: Vec::new(),
                missing: Vec::new(),
                locale: true,
            }
        }
        Path::Table(table) => {
            let source = table
                .source
                .as_ref()
                .map(|f| f.value.clone())
                .unwrap_or_default();
            begins_with_slash(found, &source, reader);
            SourceSpec {
                source,
                line,
                has: conditions_of(table.has.as_ref(), reader),
                missing: conditions_of(table.missing.as_ref(), reader),
                locale: value(table.locale.as_ref(), true),
            }
        }
    }
}

pub(super) fn begins_with_slash(found: &Found<Path>, source: &str, reader: &mut Reader<'_>) {
    if !source.starts_with('/') {
        reader.blame(
            found,
            form(
                format!("`{}` does not begin with `/`", short(source)),
                "write sources as Next.js does: \"/admin\", \"/admin/:path*\", \"/:locale/admin\"",
            ),
        );
    }
}

pub(super) fn conditions_of(
    list: Option<&Found<Vec<Found<super::super::file::Condition>>>>,
    reader: &mut Reader<'_>,
) -> Vec<ConditionSpec> {
    let mut out = Vec::new();
    for found in list.iter().flat_map(|list| &list.value) {
        let table = &found.value;
        let key = table.key.as_ref().map(|f| f.value.clone());
        let Some(kind) = &table.r#type else {
            let told = reader
                .problems
                .iter()
                .any(|(_, key, _)| *key == format!("{}.type", found.key));
            if !told {
                reader.blame(
                    found,
                    Fault::Missing {
                        key: "type",
                        advice: "write `type = \"header\"`, \"cookie\", \"query\" or \"host\"",
                    },
                );
            }
            continue;
        };
        let on = match (kind.value, key) {
            (ConditionWord::Host, None) => ConditionOn::Host,
            (ConditionWord::Header, Some(name)) => ConditionOn::Header(name.to_ascii_lowercase()),
            (ConditionWord::Cookie, Some(name)) => ConditionOn::Cookie(name),
            (ConditionWord::Query, Some(name)) => ConditionOn::Query(name),
            (ConditionWord::Host, Some(_)) => {
                reader.blame(
                    found,
                    form(
                        "a condition on the host has no key",
                        "write `{ type = \"host\", value = \"app.example.com\" }`",
                    ),
                );
                continue;
            }
            (ConditionWord::Header | ConditionWord::Cookie | ConditionWord::Query, None) => {
                reader.blame(
                    found,
                    Fault::Missing {
                        key: "key",
                        advice: "name the header, cookie or query parameter",
                    },
                );
                continue;
            }
        };
        if on == ConditionOn::Host && table.value.is_none() {
            reader.blame(
                found,
                Fault::Missing {
                    key: "value",
                    advice: "say which host",
                },
            );
        }
        out.push(ConditionSpec {
            on,
            value: table.value.as_ref().map(|f| f.value.clone()),
        });
    }
    out
}

/// Whoever sends the header, cookie or query chooses the rule.
pub(super) fn warn_of_bypasses(
    path: &Found<Vec<Found<Path>>>,
    rule: &Rule,
    reader: &mut Reader<'_>,
) {
    if !matches!(rule.need, Need::Public | Need::Optional | Need::Guest) {
        return;
    }
    for found in &path.value {
        let Path::Table(table) = &found.value else {
            continue;
        };
        let chosen = table
            .has
            .iter()
            .chain(&table.missing)
            .flat_map(|list| &list.value)
            .any(|condition| {
                condition
                    .value
                    .r#type
                    .as_ref()
                    .is_some_and(|kind| kind.value != ConditionWord::Host)
            });
        if chosen {
            reader.blame(
                found,
                Fault::Risky {
                    what: "anyone can send what this condition asks for, and so make these paths public".into(),
                    advice: "let conditions on headers, cookies and queries only make rules stricter",
                },
            );
        }
    }
}

/// The plain cases; the table of routes finds those behind patterns.
pub(super) fn closes_sign_in(
    path: &Found<Vec<Found<Path>>>,
    rule: &Rule,
    table: &Route,
    sign_in: Option<&str>,
    auth_base_path: &str,
    reader: &mut Reader<'_>,
) {
    if !matches!(rule.need, Need::SignedIn(_) | Need::Deny) {
        return;
    }
    // Narrowed to some methods or hosts, or under conditions, it may well be what is wanted.
    if table.methods.is_some() || table.hosts.is_some() {
        return;
    }
    for found in &path.value {
        let Path::Plain(source) = &found.value else {
            continue;
        };
        let page = if sign_in == Some(source.as_str()) {
            "the sign-in page"
        } else if ["/:path*", "/:path+", "/(.*)"]
            .iter()
            .any(|rest| source.strip_suffix(rest) == Some(auth_base_path))
        {
            "Better Auth's endpoints"
        } else {
            continue;
        };
        reader.blame(found, Fault::NobodyCouldSignIn { page });
    }
}

/// Whoever is signed in is sent home from a page for guests, so home cannot be one.
fn runs_in_circles(
    file: &File,
    path: &Found<Vec<Found<Path>>>,
    rule: &Rule,
    reader: &mut Reader<'_>,
) {
    let pages = file.routes.as_ref().map(|f| &f.value);
    let home = pages
        .and_then(|r| r.signed_in_home.as_ref())
        .map_or("/", |f| f.value.0.as_str());
    for found in &path.value {
        if matches!(&found.value, Path::Plain(source) if source == home) && rule.need == Need::Guest
        {
            reader.blame(
                found,
                Fault::Conflict {
                    what: "this is `routes.signed_in_home`: those who are signed in would be sent from here to here, without end".into(),
                    advice: "name another page in `signed_in_home`, or make this route `optional`",
                },
            );
        }
    }
}

pub(super) fn route_hosts(table: &Route, hosts: &[String], reader: &mut Reader<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for found in table.hosts.iter().flat_map(|list| &list.value) {
        match host(&found.value) {
            Ok(name) => {
                let answered = hosts.is_empty()
                    || hosts
                        .iter()
                        .any(|pattern| covers(pattern, &name) || pattern == &name)
                    || name.starts_with('*');
                if !answered {
                    reader.blame(
                        found,
                        Fault::Suspicious {
                            what: format!("`{name}` is not among `hosts`, so this never matches"),
                            advice: "add it to `hosts`, or remove it here",
                        },
                    );
                }
                out.push(name);
            }
            Err(what) => reader.blame(
                found,
                form(
                    what,
                    "write names only, without scheme, port or path: \"app.example.com\"",
                ),
            ),
        }
    }
    out
}
