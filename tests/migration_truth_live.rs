//! People of old systems that hand over no hash, in front of a real Better Auth: each signs in with the old password through the gateway,
//! for which the old system is asked once, and from then on without it, and without us.

use crate::differential::server::Server;
use crate::migration_truth::{World, is_taken, sign_in, told_user};
use crate::moving::shape;
use crate::support::App;
use crate::support::await_until;
use crate::support::protocols::{self, cognito};
use crate::support::seeds::{self, Person};
use crate::support::vendors::{self, clerk, workos};
use vestibule::migration::password::native;

/// An old system that runs.
struct Old<'o> {
    system: &'static str,
    /// The gateway's tables for it.
    tables: String,
    app: &'o App,
    /// What a request holds that hands it a password.
    asks: &'static str,
}

impl Old<'_> {
    /// How often it was asked about a password.
    fn asked(&self) -> usize {
        let holds = |seen: &&crate::support::Seen| {
            seen.line.contains(self.asks)
                || seen
                    .header("x-amz-target")
                    .is_some_and(|target| target.ends_with(self.asks))
        };
        self.app.seen().iter().filter(holds).count()
    }
}

/// Those of a system whom the framework can take, without their hashes, here.
fn moved_in(system: &str) -> World {
    let people = seeds::of(system).into_iter().map(|person| Person {
        exported: None,
        ..person
    });
    let mut world = World::of(&format!("{system}-live"), people.collect());
    let server: &Server = &world.server;
    let mut there = std::mem::take(&mut world.people);
    there.retain(|(person, kept)| {
        assert!(!kept);
        is_taken(server, &person.email)
    });
    world.people = there;
    world
}

/// Everybody, once slow and then not; gives how many signed in.
fn everybody_moves(world: &World, old: &Old<'_>) -> usize {
    let gateway = world.gateway_with(&old.tables);
    let nobody = sign_in(gateway.address, "nobody@example.com", "not the password");
    let (mut fine, mut without) = (0, 0);
    for (person, _) in &world.people {
        let who = format!("{} {}", old.system, person.id);
        let wrong = sign_in(gateway.address, &person.email, "not the password");
        assert_eq!(shape(&wrong), shape(&nobody), "{who}: refused alike");
        assert_eq!(world.password_of(&person.email), None, "{who}");
        let Some(password) = &person.plaintext else {
            without += 1;
            continue;
        };
        let before = old.asked();
        let first = sign_in(gateway.address, &person.email, password);
        assert_eq!(first.status, 200, "{who}: {}", first.text());
        assert_eq!(told_user(&first).as_ref(), Some(&person.email), "{who}");
        assert_eq!(old.asked(), before + 1, "{who}: asked once");
        let stored = world.password_of(&person.email).unwrap_or_default();
        assert!(native::is_native(&stored), "{who}: {stored}");

        let second = sign_in(gateway.address, &person.email, password);
        assert_eq!(second.status, 200, "{who}: {}", second.text());
        let wrong = sign_in(gateway.address, &person.email, "not the password");
        assert_eq!(shape(&wrong), shape(&nobody), "{who}: refused alike after");
        assert_eq!(old.asked(), before + 1, "{who}: not asked again");
        assert_eq!(
            world.password_of(&person.email).as_ref(),
            Some(&stored),
            "{who}: written once"
        );
        fine += 1;
    }
    drop(gateway);
    for (person, _) in &world.people {
        let Some(password) = &person.plaintext else {
            continue;
        };
        let alone = sign_in(world.server.address, &person.email, password);
        assert_eq!(
            alone.status,
            200,
            "{} {}: {}",
            old.system,
            person.id,
            alone.text()
        );
    }
    println!(
        "live {}: {} people there, {fine} signed in with the old password, {without} have none",
        old.system,
        world.people.len()
    );
    fine
}

fn remote(person: &Person) -> vendors::Person {
    vendors::Person {
        verified: person.verified,
        password: person.plaintext.clone(),
        ..vendors::Person::new(&person.id, &person.email, "")
    }
}

#[test]
fn everybody_of_workos_signs_in_with_the_old_password_and_leaves_no_session_there() {
    let world = moved_in("workos");
    let vendor = workos::start();
    for (person, _) in &world.people {
        vendor.add(remote(person));
    }
    let old = Old {
        system: "workos",
        tables: format!(
            "[migration.from.workos]\napi_key = \"{}\"\nclient_id = \"{}\"\napi_url = \"{}\"\n",
            workos::KEY,
            workos::CLIENT,
            vendor.url()
        ),
        app: &vendor.app,
        asks: "/user_management/authenticate",
    };
    let fine = everybody_moves(&world, &old);
    assert!(fine > 0, "nobody has a password");
    assert!(vendor.known().made > 0);
    await_until("the sessions there to end", || {
        vendor.known().sessions.is_empty()
    });
}

#[test]
fn everybody_of_clerk_signs_in_with_the_old_password_where_no_hash_was_exported() {
    let world = moved_in("clerk");
    let vendor = clerk::start();
    for (person, _) in &world.people {
        vendor.add(remote(person));
    }
    let old = Old {
        system: "clerk",
        tables: format!(
            "[migration.from.clerk]\nsecret_key = \"{}\"\napi_url = \"{}\"\n",
            clerk::KEY,
            vendor.url()
        ),
        app: &vendor.app,
        asks: "/verify_password",
    };
    let fine = everybody_moves(&world, &old);
    assert!(fine > 0, "nobody has a password");
}

#[test]
fn everybody_of_cognito_signs_in_with_the_old_password_and_leaves_no_session_there() {
    let world = moved_in("cognito");
    let there = world.people.iter().filter_map(|(person, _)| {
        // The stand-in's people live as long as the program.
        let known: &'static protocols::Person = Box::leak(Box::new(protocols::Person {
            email: person.email.clone().leak(),
            id: person.id.clone().leak(),
        }));
        Some((known, person.plaintext.clone()?))
    });
    let vendor = cognito::with_people(there.collect());
    let old = Old {
        system: "cognito",
        tables: format!(
            "[migration.from.cognito]\nendpoint = \"{}\"\nuser_pool_id = \"{}\"\nclient_id = \"client-1\"\nclient_secret = \"s3cret&\"\n",
            vendor.url(),
            cognito::POOL
        ),
        app: &vendor.app,
        asks: "InitiateAuth",
    };
    let fine = everybody_moves(&world, &old);
    assert!(fine > 0, "nobody has a password");
    assert_eq!(vendor.sessions.made(), fine);
    await_until("the sessions there to end", || vendor.sessions.count() == 0);
}
