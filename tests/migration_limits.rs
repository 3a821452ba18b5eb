//! Limits of sign-ins that gateways share through a real Redis, and what an operator does about them.

use std::net::IpAddr;
use std::time::Duration;

use tokio::runtime::Runtime;
use vestibule::migration::limits::{Budget, Keys, Scope, Settings, Shared, Taken, Wanted};
use vestibule::secret::Secret;
use vestibule::store;

use crate::support::redis::Redis;

fn keys() -> Keys {
    let settings = Settings::default();
    Keys::new(&Secret::new("k".repeat(32)), &settings)
}

fn of(account: &str, client: &str) -> Vec<Wanted> {
    let client: IpAddr = client.parse().unwrap();
    Settings::default().wanted(client, &keys().account(account), None)
}

fn open(redis: &Redis, runtime: &Runtime) -> std::sync::Arc<dyn Shared> {
    let _home = runtime.enter();
    let url = Secret::new(format!("redis://127.0.0.1:{}/0", redis.port));
    store::open_limits(&url, &keys().name()).unwrap()
}

fn taken(runtime: &Runtime, shared: &dyn Shared, wanted: &[Wanted]) -> usize {
    (0..1000)
        .take_while(|_| runtime.block_on(shared.take(wanted)) == Ok(Taken::All))
        .count()
}

#[test]
fn two_gateways_give_no_more_tries_than_one() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let (one, other) = (open(&redis, &runtime), open(&redis, &runtime));
    let given: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8u8)
            .map(|n| {
                let shared = if n % 2 == 0 { &one } else { &other };
                let runtime = &runtime;
                let wanted = of("ann@example.com", &format!("198.51.100.{n}"));
                scope.spawn(move || taken(runtime, &**shared, &wanted))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(given, 30);
    let stranger = of("ann@example.com", "192.0.2.1");
    let refused = runtime.block_on(other.take(&stranger)).unwrap();
    let Taken::Spent { scope, wait } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(scope, Scope::Account);
    assert!(wait > Duration::from_secs(60) && wait <= Duration::from_secs(120));
    // What was refused took nothing: another account from that address has all of its tries.
    assert_eq!(
        taken(&runtime, &*one, &of("bob@example.com", "192.0.2.1")),
        5
    );
}

#[test]
fn what_is_given_back_is_there_again_and_what_is_lifted_too() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let shared = open(&redis, &runtime);
    let wanted = of("ann@example.com", "192.0.2.1");
    for _ in 0..50 {
        assert_eq!(runtime.block_on(shared.take(&wanted)), Ok(Taken::All));
        runtime.block_on(shared.give_back(&wanted)).unwrap();
    }
    assert_eq!(runtime.block_on(shared.limited(10)).unwrap(), []);
    assert_eq!(taken(&runtime, &*shared, &wanted), 5);
    let listed = runtime.block_on(shared.limited(10)).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].key, wanted[1].key);
    assert!(!listed[0].key.as_str().contains("ann"));
    let lifted = runtime.block_on(shared.forget(&[listed[0].key.clone()]));
    assert_eq!(lifted, Ok(1));
    assert_eq!(runtime.block_on(shared.limited(10)).unwrap(), []);
    assert_eq!(runtime.block_on(shared.take(&wanted)), Ok(Taken::All));
}

#[test]
fn tries_come_back_by_the_clock_of_the_server() {
    let (redis, runtime) = (Redis::start(), Runtime::new().unwrap());
    let shared = open(&redis, &runtime);
    let mut wanted = of("ann@example.com", "192.0.2.1");
    wanted.truncate(1);
    wanted[0].budget = Budget {
        most: 2,
        within: Duration::from_millis(400),
    };
    assert!(taken(&runtime, &*shared, &wanted) >= 2);
    crate::support::await_until("a try is back", || {
        runtime.block_on(shared.take(&wanted)) == Ok(Taken::All)
    });
}

#[test]
fn a_redis_that_is_not_there_is_an_error_and_no_try() {
    let runtime = Runtime::new().unwrap();
    let _home = runtime.enter();
    let url = Secret::new("redis://127.0.0.1:1/0");
    let shared = store::open_limits(&url, "name").unwrap();
    let wanted = of("ann@example.com", "192.0.2.1");
    assert!(runtime.block_on(shared.take(&wanted)).is_err());
    assert!(store::open_limits(&Secret::new("sqlite:x"), "name").is_err());
}
