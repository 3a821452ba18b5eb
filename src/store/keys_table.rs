//! Keys of the app's JWT plugin, read from its table in the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::StoredKeys;
use crate::credential::key_ring::{KeySource, Then};
use crate::credential::key_set::{Algorithm, KeySet};
use crate::time::Clock;

/// How rows become keys.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What keys are for whose row does not say it.
    pub algorithm: Algorithm,
    /// How long a key counts after its end.
    pub grace: Duration,
}

struct KeysTable {
    rows: StoredKeys,
    settings: Settings,
    clock: Arc<dyn Clock>,
    home: Handle,
}

/// A source of keys over the rows that a store gives. It lives on the runtime `home`, whatever thread asks.
pub fn open(
    rows: StoredKeys,
    settings: Settings,
    clock: Arc<dyn Clock>,
    home: Handle,
) -> Arc<dyn KeySource> {
    Arc::new(KeysTable {
        rows,
        settings,
        clock,
        home,
    })
}

impl KeySource for KeysTable {
    fn name(&self) -> &str {
        "the table `jwks`"
    }

    fn fetch(&self, then: Then) -> BoxFuture<'static, ()> {
        let Settings { algorithm, grace } = self.settings;
        let (rows, clock) = ((self.rows)(), Arc::clone(&self.clock));
        let task = self.home.spawn(async move {
            let rows = rows.await;
            then(rows.map(|rows| KeySet::of_rows(rows, algorithm, grace, clock.now())));
        });
        Box::pin(async move {
            // `then` was told, or dropped, which says as much.
            let _ = task.await;
        })
    }
}
