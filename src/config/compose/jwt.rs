//! Whose signed tokens count.

use super::*;
use crate::authenticator::jwt;
use crate::credential::key_set::Algorithm;

/// `own`: the origin the framework takes for `iss` and `aud` where the app says nothing else.
pub(super) fn jwt(auth: &BetterAuth, own: &str, reader: &mut Reader<'_>) -> jwt::Settings {
    let fallback = Jwt::default();
    let table = auth.jwt.as_ref().map_or(&fallback, |f| &f.value);
    let grace = bounded(
        reader,
        table.grace.as_ref(),
        30 * DAY,
        Duration::ZERO..=COOKIE_AGE_MAX,
    );
    let keys = match value(table.keys.as_ref(), KeysWord::App) {
        KeysWord::App => jwt::Keys::App {
            path: table
                .jwks_path
                .as_ref()
                .map_or_else(|| "/jwks".to_owned(), |f| f.value.0.clone()),
        },
        KeysWord::Store => jwt::Keys::Store { grace },
    };
    let audience = values(table.audience.as_ref());
    let app = jwt::Issuer {
        issuer: value(table.issuer.as_ref(), own.to_owned()),
        audience: match audience.is_empty() {
            true => vec![own.to_owned()],
            false => audience,
        },
        keys,
        algorithm: Some(algorithm(table.algorithm.as_ref()).unwrap_or(Algorithm::EdDsa)),
        claims: jwt::Claims::default(),
    };
    let usual = jwt::Settings::default();
    jwt::Settings {
        token_bytes_max: table
            .max_token_bytes
            .as_ref()
            .map_or(usual.token_bytes_max, |f| {
                usize::try_from(f.value.0).unwrap_or(usize::MAX)
            }),
        refetch: bounded(
            reader,
            table.refetch_interval.as_ref(),
            usual.refetch,
            SECOND..=5 * MINUTE,
        ),
        issuers: issuers(auth, table, &app, reader),
        app,
    }
}

fn issuers(
    auth: &BetterAuth,
    table: &Jwt,
    app: &jwt::Issuer,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, jwt::Issuer> {
    let enabled = auth
        .enable
        .iter()
        .flat_map(|list| &list.value)
        .any(|kind| kind.value == "jwt");
    let mut taken = BTreeSet::from([app.issuer.clone()]);
    let mut out = BTreeMap::new();
    for (name, found) in table.issuers.iter().flat_map(|named| &named.value) {
        if !enabled {
            reader.blame(
                found,
                Fault::Suspicious {
                    what: "tokens are not looked at, so this issuer counts for nothing".into(),
                    advice: "add \"jwt\" to `better_auth.enable`, or remove the issuer",
                },
            );
        }
        let Some(issuer) = issuer(found, reader) else {
            continue;
        };
        if !taken.insert(issuer.issuer.clone()) {
            reader.blame(
                found,
                Fault::Conflict {
                    what: "two issuers have the same `issuer`".into(),
                    advice: "give each its own: a token is checked by the keys of the one it names",
                },
            );
        }
        out.insert(name.clone(), issuer);
    }
    out
}

fn issuer(found: &Found<Issuer>, reader: &mut Reader<'_>) -> Option<jwt::Issuer> {
    let table = &found.value;
    let mut need = |there: bool, key, advice| {
        if !there {
            reader.blame(found, Fault::Missing { key, advice });
        }
    };
    let audience = values(table.audience.as_ref());
    need(
        table.issuer.is_some(),
        "issuer",
        "give the `iss` of its tokens, letter by letter",
    );
    // Without it, a token that somebody got for another app would open this one.
    need(
        !audience.is_empty(),
        "audience",
        "give the `aud` of the tokens that are meant for this app",
    );
    need(
        table.jwks_url.is_some(),
        "jwks_url",
        "give the address of its key set, as \"https://id.example.com/.well-known/jwks.json\"",
    );
    let (issuer, address) = (table.issuer.as_ref()?, table.jwks_url.as_ref()?);
    let url = web_url(&address.value);
    let safe = url
        .as_ref()
        .is_some_and(|url| url.scheme() == "https" || is_loopback(url));
    if !safe {
        reader.blame(
            address,
            form(
                "keys that anybody on the way can replace prove nothing",
                "write an https address; http is for this machine only",
            ),
        );
    }
    let usual = jwt::Claims::of_others();
    let no_claims = Claims::default();
    let claims = table.claims.as_ref().map_or(&no_claims, |f| &f.value);
    Some(jwt::Issuer {
        issuer: issuer.value.clone(),
        audience,
        keys: jwt::Keys::At(url?.to_string()),
        algorithm: algorithm(table.algorithm.as_ref()),
        claims: jwt::Claims {
            subject: value(claims.sub.as_ref(), usual.subject),
            email: value(claims.email.as_ref(), usual.email),
            email_verified: value(claims.email_verified.as_ref(), usual.email_verified),
            name: value(claims.name.as_ref(), usual.name),
            role: claims.role.as_ref().map(|f| f.value.clone()),
            banned: usual.banned,
        },
    })
}

fn algorithm(found: Option<&Found<AlgorithmWord>>) -> Option<Algorithm> {
    Algorithm::named(found?.value.as_str())
}
