//! The gateway's process killed in the midst of the move, again and again: nobody is lost, nothing is there twice, and no wrong password
//! ever gets in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use vestibule::migration::accounts::{Accounts, Identifier, NewUser, OldCredential};
use vestibule::migration::password::keeping::{self, Randomness};
use vestibule::migration::password::{Stored, native};
use vestibule::migration::state::State;
use vestibule::migration::vault::Vault;
use vestibule::secret::Secret;
use vestibule::store;

use crate::differential::dice::Dice;
use crate::differential::gateway::Gateway;
use crate::differential::server::Server;
use crate::moving::{KEY, now};
use crate::support::databases::{Dialect, Folder, settings, shared};
use crate::support::{Answer, PATIENCE, SECRET, exchange_on};

/// Who signs in at once.
const CLIENTS: usize = 12;

/// How often the process dies.
const DEATHS: usize = 6;

/// How long a client waits for the next start. A busy machine is slow at it.
const START: Duration = Duration::from_secs(60);

/// Somebody who was moved in.
struct Mover {
    id: String,
    email: String,
    password: String,
    /// Their old hash, as it is kept.
    sealed: Secret,
}

/// A real Better Auth with people who were moved in.
struct World {
    server: Server,
    folder: Folder,
    source: String,
    runtime: Runtime,
    accounts: Arc<dyn Accounts>,
    movers: Vec<Mover>,
    postgres: bool,
}

impl World {
    fn start(postgres: bool, people: usize, dice: &mut Dice) -> Self {
        let folder = Folder::new("crash");
        let mut configuration = json!({
            "options": { "baseURL": "http://app.test", "secret": SECRET },
            "realPasswords": true,
        });
        let source = match postgres {
            true => {
                let server = shared(Dialect::Postgres);
                let url = server.url(&server.database());
                configuration["postgres"] = url.clone().into();
                url
            }
            false => {
                let file: PathBuf = folder.join("app.sqlite");
                configuration["sqlite"] = file.display().to_string().into();
                format!("sqlite:{}", file.display())
            }
        };
        let server = Server::start(&configuration);
        let runtime = Runtime::new().unwrap();
        let accounts = runtime
            .block_on(store::open_accounts(&settings(&source)))
            .unwrap();
        let vault = Vault::new(&Secret::new(KEY));
        let movers = (0..people)
            .map(|at| runtime.block_on(moved_in(&*accounts, &vault, at, dice)))
            .collect();
        Self {
            server,
            folder,
            source,
            runtime,
            accounts,
            movers,
            postgres,
        }
    }

    fn gateway(&self) -> Gateway {
        let configuration = format!(
            "public_url = \"http://app.test\"\nhosts = [\"app.test\"]\nadmin = \"off\"\n\
             [upstream]\nurl = \"http://{}\"\n[better_auth]\nsecret = \"{SECRET}\"\n\
             [sessions]\nsource = \"{}\"\n[routes]\ndefault = \"signed-in\"\nsign_in = \"/sign-in\"\n\
             [migration]\nkey = \"{KEY}\"\nbefore = \"2026-01-01\"\n[migration.sign_in]\nhold = \"50ms\"\n\
             [migration.limits]\naddress = 10000\naccount = 10000\npair = 10000\n",
            self.server.address, self.source,
        );
        Gateway::start(&configuration, &self.folder.join("vestibule.toml"))
    }

    /// How many credential rows there are, and of how many people.
    fn credentials(&self) -> (usize, usize) {
        let rows = self.server.sql(
            r#"SELECT "userId" AS who FROM "account" WHERE "providerId" = 'credential' AND "password" IS NOT NULL"#,
        );
        let rows = rows.as_array().unwrap();
        let mut whose: Vec<&str> = rows
            .iter()
            .map(|row| row["who"].as_str().unwrap())
            .collect();
        whose.sort_unstable();
        whose.dedup();
        (rows.len(), whose.len())
    }

    /// Old hashes that are kept, by the state they are in.
    fn kept(&self) -> BTreeMap<String, usize> {
        let table = match self.postgres {
            true => "vestibule.legacy_credential",
            false => "vestibule_legacy_credential",
        };
        let rows = self.server.sql(&format!(
            "SELECT state FROM {table} WHERE sealed IS NOT NULL AND sealed <> ''"
        ));
        let mut all = BTreeMap::new();
        for row in rows.as_array().unwrap() {
            let state = row["state"].as_str().unwrap().to_owned();
            *all.entry(state).or_default() += 1;
        }
        all
    }
}

async fn moved_in(accounts: &dyn Accounts, vault: &Vault, at: usize, dice: &mut Dice) -> Mover {
    let email = format!("mover{at}@example.com");
    let password = format!("old pass {at} {:x}", dice.below(usize::MAX));
    let user = NewUser {
        id: Some(format!("mover-{at}")),
        email: email.clone(),
        email_verified: true,
        name: format!("Mover {at}"),
        source: Some(("clerk".into(), format!("user_{at}"))),
        ..NewUser::default()
    };
    let id = accounts.create(&user, now()).await.unwrap();
    let mut salt = [3; 16];
    salt[..8].copy_from_slice(&at.to_le_bytes());
    let hash = bcrypt::hash_with_salt(&password, 4, salt)
        .unwrap()
        .format_for_version(bcrypt::Version::TwoB);
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(&at.to_le_bytes());
    let kept = keeping::keep(
        vault,
        &id,
        "bcrypt",
        &Stored::plain(Secret::new(hash)),
        Randomness { nonce, salt },
    )
    .unwrap();
    let old = OldCredential {
        scheme: kept.scheme,
        sealed: kept.sealed.clone(),
        state: State::Pending,
        exported_at: Some(now()),
    };
    assert!(accounts.keep(&id, &old, now()).await.unwrap());
    Mover {
        id,
        email,
        password,
        sealed: kept.sealed,
    }
}

/// One try to sign in. Status 0: nobody answered to the end.
fn sign_in(at: SocketAddr, email: &str, password: &str) -> Answer {
    let body = json!({ "email": email, "password": password }).to_string();
    let request = format!(
        "POST /api/auth/sign-in/email HTTP/1.1\r\nhost: app.test\r\norigin: http://app.test\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    match TcpStream::connect(at) {
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            exchange_on(&mut stream, request.as_bytes())
        }
        Err(_) => Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            rest: Vec::new(),
        },
    }
}

/// What the clients and whoever kills have in common.
struct Crowd {
    /// Whose turn it is, and with which password.
    queue: Mutex<VecDeque<Try>>,
    /// How often the gateway was started, and where it is.
    place: Mutex<(usize, SocketAddr)>,
    moved: Condvar,
    answered: AtomicUsize,
    cut: AtomicUsize,
    /// Those whose sign-in the process died in.
    hurt: Mutex<BTreeSet<usize>>,
}

#[derive(Clone, Copy)]
struct Try {
    mover: usize,
    right: bool,
}

impl Crowd {
    /// Waits until the gateway was started again since `seen`.
    fn next_place(&self, seen: usize) -> (usize, SocketAddr) {
        let place = self.place.lock().unwrap();
        let (place, waited) = self
            .moved
            .wait_timeout_while(place, START, |(number, _)| *number <= seen)
            .unwrap();
        assert!(
            !waited.timed_out(),
            "start {seen} broke off an answer and did not die"
        );
        *place
    }

    fn settle(&self, number: usize, address: SocketAddr) {
        *self.place.lock().unwrap() = (number, address);
        self.moved.notify_all();
    }

    /// One client: tries whoever is next, until there is nobody.
    fn client(&self, movers: &[Mover]) {
        let (mut number, mut at) = self.next_place(0);
        loop {
            let next = self.queue.lock().unwrap().pop_front();
            let Some(next) = next else {
                return;
            };
            let mover = &movers[next.mover];
            let password = match next.right {
                true => &mover.password,
                // Somebody else's, which is right for them.
                false => &movers[(next.mover + 1) % movers.len()].password,
            };
            let answer = sign_in(at, &mover.email, password);
            match (answer.status, next.right) {
                (200, true) | (401, false) => {
                    self.answered.fetch_add(1, Ordering::SeqCst);
                }
                // The process died.
                (0, _) => {
                    self.cut.fetch_add(1, Ordering::SeqCst);
                    self.hurt.lock().unwrap().insert(next.mover);
                    self.queue.lock().unwrap().push_back(next);
                    (number, at) = self.next_place(number);
                }
                (status, right) => panic!(
                    "{} (right password: {right}): {status} {}",
                    mover.email,
                    answer.text()
                ),
            }
        }
    }
}

/// Everybody signs in while the process dies again and again; then what is left is looked at.
fn storm(postgres: bool, people: usize, seed: u64) {
    println!("crash seed {seed}, PostgreSQL: {postgres}");
    let mut dice = Dice::new(seed);
    let began = Instant::now();
    let world = World::start(postgres, people, &mut dice);
    println!("crash {people} people made after {:?}", began.elapsed());

    let mut tries = Vec::new();
    for mover in 0..people {
        tries.push(Try { mover, right: true });
        if dice.once_in(12) {
            // In another tab at the same moment, as near as it gets.
            tries.push(Try { mover, right: true });
        }
        if dice.once_in(12) {
            tries.push(Try {
                mover,
                right: false,
            });
        }
    }
    let all = tries.len();
    let crowd = Crowd {
        queue: Mutex::new(tries.into()),
        place: Mutex::new((0, world.server.address)),
        moved: Condvar::new(),
        answered: AtomicUsize::new(0),
        cut: AtomicUsize::new(0),
        hurt: Mutex::default(),
    };
    let unsaid = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| crowd.client(&world.movers)))
            .collect();
        let mut unsaid = 0;
        for life in 1..=DEATHS {
            let gateway = world.gateway();
            crowd.settle(life, gateway.address);
            // Somewhere in this life's share of the sign-ins, and then somewhere in the midst of one.
            let share = all / (DEATHS + 1);
            let after = (life - 1) * share + 1 + dice.below(share);
            while crowd.answered.load(Ordering::SeqCst) < after {
                assert!(
                    !clients.iter().all(|client| client.is_finished()),
                    "nobody is left before death {life}"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(
                u64::try_from(dice.below(90_000)).unwrap(),
            ));
            gateway.kill();
            let (rows, whose) = world.credentials();
            assert_eq!(rows, whose, "after death {life} (seed {seed})");
            let kept: usize = world.kept().values().sum();
            assert_eq!(kept, people, "after death {life} (seed {seed})");
            let answered = crowd.answered.load(Ordering::SeqCst);
            println!(
                "crash death {life}: {answered} answered, {whose} rehashed, {} cut so far",
                crowd.cut.load(Ordering::SeqCst)
            );
            unsaid = unsaid.max(whose.saturating_sub(answered));
        }
        let last = world.gateway();
        crowd.settle(DEATHS + 1, last.address);
        for client in clients {
            client.join().unwrap();
        }
        last.kill();
        unsaid
    });
    println!(
        "crash {all} tries after {:?}, {} cut; {unsaid} or more were written and not told",
        began.elapsed(),
        crowd.cut.load(Ordering::SeqCst)
    );
    assert_eq!(crowd.answered.load(Ordering::SeqCst), all);
    assert!(
        crowd.cut.load(Ordering::SeqCst) >= DEATHS,
        "it died while people signed in"
    );

    assert_eq!(world.credentials(), (people, people), "seed {seed}");
    assert_eq!(
        world.kept(),
        BTreeMap::from([("rehashed".to_owned(), people)]),
        "seed {seed}"
    );
    for mover in &world.movers {
        let by = Identifier::UserId(mover.id.clone());
        let found = world.runtime.block_on(world.accounts.find(&by));
        let account = found.unwrap().expect("nobody is lost");
        let password = account.password.expect("a password");
        assert!(native::is_native(password.expose()), "{}", mover.id);
        let old = account.old.expect("the old hash is kept until `finalize`");
        assert_eq!(old.sealed, mover.sealed, "{}", mover.id);
        assert_eq!(old.state, State::Rehashed, "{}", mover.id);
        assert_eq!(account.sources.len(), 1, "{}", mover.id);
    }
    // With the gateway taken away: whoever was hurt, and every fourth. All of them were answered through the gateway by now.
    let hurt = crowd.hurt.into_inner().unwrap();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    let Some(mover) = world.movers.get(at) else {
                        return;
                    };
                    if !hurt.contains(&at) && !at.is_multiple_of(4) {
                        continue;
                    }
                    let alone = sign_in(world.server.address, &mover.email, &mover.password);
                    assert_eq!(alone.status, 200, "{}: {}", mover.email, alone.text());
                    if at.is_multiple_of(20) {
                        let others = &world.movers[(at + 1) % people].password;
                        let wrong = sign_in(world.server.address, &mover.email, others);
                        assert_eq!(wrong.status, 401, "{}", mover.email);
                    }
                }
            });
        }
    });
    println!("crash all over after {:?}", began.elapsed());
}

#[test]
fn five_hundred_people_move_in_while_the_process_is_killed_again_and_again() {
    storm(false, 500, seed());
}

#[test]
fn on_postgresql_too_nobody_is_lost_when_the_process_is_killed() {
    storm(true, 150, seed());
}

/// Another one each time; `VESTIBULE_CRASH_SEED` plays one again.
fn seed() -> u64 {
    let given = std::env::var("VESTIBULE_CRASH_SEED").ok();
    given.map_or_else(
        || u64::try_from(now().0).unwrap(),
        |given| given.parse().expect("a number"),
    )
}
