//! How revocations made elsewhere are heard of.

use super::*;
use crate::config::{Feed, Revocation};

/// Looking more often than this only asks the store what it has just said.
const RECHECK_MIN: Duration = SECOND;

pub(super) fn revocation(file: &File, reader: &mut Reader<'_>) -> Revocation {
    let fallback = super::super::file::Revocation::default();
    let table = file.revocation.as_ref().map_or(&fallback, |f| &f.value);
    let word = table.feed.as_ref().map_or(FeedWord::Auto, |f| f.value);
    let url = table.url.as_ref().and_then(|found| {
        if word == FeedWord::Off {
            reader.blame(
                found,
                Fault::Conflict {
                    what: "`feed` is \"off\", so nobody listens there".into(),
                    advice: "remove `url`, or the word \"off\"",
                },
            );
            return None;
        }
        let is_redis = ["redis:", "rediss:"]
            .iter()
            .any(|scheme| found.value.0.expose().starts_with(scheme));
        if word == FeedWord::Redis && !is_redis {
            reader.blame(
                found,
                form(
                    "this is no Redis",
                    "write \"redis://HOST:6379\", or another word for `feed`",
                ),
            );
            return None;
        }
        match database(found.value.0.expose()) {
            Ok(url) => Some(url),
            Err(fault) => {
                reader.blame(found, fault);
                None
            }
        }
    });
    Revocation {
        promised: table.url.is_some() || matches!(word, FeedWord::Store | FeedWord::Redis),
        feed: match (word, url) {
            (FeedWord::Off, _) => Feed::Off,
            (FeedWord::Auto | FeedWord::Store | FeedWord::Redis, Some(url)) => Feed::At(url),
            (FeedWord::Redis, None) => Feed::Source(Some("redis")),
            (FeedWord::Auto | FeedWord::Store, None) => Feed::Source(None),
        },
        recheck: match table.recheck.as_ref() {
            // Asked for by name: only when told.
            Some(found) if found.value.is_zero() => Duration::ZERO,
            found => bounded(reader, found, MINUTE, RECHECK_MIN..=DAY),
        },
    }
}
