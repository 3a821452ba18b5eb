//! Whether the time of a failed sign-in tells anything about its account: interleaved tries of addresses nobody has, of users with a
//! native password, with an old hash, and with none, through a real gateway before a real Better Auth, compared two by two.
//! `cargo bench --bench sign_in_timing` (rounds: `VESTIBULE_ROUNDS`, 40 unless told otherwise).
//!
//! The test is that of Mann and Whitney, with the correction for ties, at one in a hundred, and shared out among the comparisons. With
//! enough rounds it finds differences that no attacker could use, so the effect counts too: how often a try of the one kind takes
//! longer than one of the other, which is a half where time says nothing.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods
)]

#[path = "../tests/differential"]
mod differential {
    pub mod server;
}
#[path = "../tests/moving.rs"]
mod moving;
#[path = "../tests/support/mod.rs"]
mod support;

use moving::{OLD_PASSWORD, Place, WRONG, bcrypt_of, sign_in, took};

/// Nobody can use an effect smaller than this: it takes thousands of tries of one address to see it, and limits allow a few.
const EFFECT: f64 = 0.147;

/// One in so many comparisons may be wrong by chance, all together.
const CHANCE: f64 = 0.01;

fn main() {
    let rounds = std::env::var("VESTIBULE_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(40);
    let place = Place::start();
    place.native("native");
    place.imported("old", "bcrypt", &bcrypt_of(OLD_PASSWORD));
    place.user("none");
    let gateway = place.gateway(
        "before = \"2026-12-01\"\n[migration.sign_in]\nhold = \"500ms\"\n[migration.reset]\nredirect_to = \"/new\"\n",
    );
    let kinds = ["unknown", "another-unknown", "native", "old", "none"];
    let mut times = vec![Vec::new(); kinds.len()];
    for round in 0..rounds + 2 {
        for step in 0..kinds.len() {
            // Another order each round: what came before must not matter.
            let at = (step * (1 + round % 4) + round) % kinds.len();
            let (answer, time) = took(|| sign_in(gateway.address, kinds[at], WRONG));
            assert_eq!(answer.status, 401, "{}", answer.text());
            // The first two rounds open connections and warm up.
            if round >= 2 {
                times[at].push(time.as_secs_f64() * 1e3);
            }
        }
    }
    for (kind, times) in kinds.iter().zip(&times) {
        println!(
            "{kind:>16}: median {:.2} ms, 95 % {:.2} ms, {} tries",
            quantile(times, 0.5),
            quantile(times, 0.95),
            times.len()
        );
    }
    let pairs: Vec<_> = (0..kinds.len())
        .flat_map(|one| (one + 1..kinds.len()).map(move |other| (one, other)))
        .collect();
    let mut told = false;
    for (one, other) in &pairs {
        let (chance, effect) = compare(&times[*one], &times[*other]);
        let differs = chance < CHANCE / pairs.len() as f64 && effect.abs() > EFFECT;
        told |= differs;
        println!(
            "{:>16} and {:<16} p = {chance:.4}, effect (Cliff's delta) = {effect:+.3}: {}",
            kinds[*one],
            kinds[*other],
            if differs { "TOLD APART" } else { "alike" }
        );
    }
    println!(
        "verdict: failed sign-ins {}",
        if told {
            "ARE TOLD APART by their time"
        } else {
            "are not told apart by their time"
        }
    );
    // The twin: this test would see a difference of a millisecond.
    let shifted: Vec<f64> = times[0].iter().map(|time| time + 1.0).collect();
    let (chance, effect) = compare(&times[0], &shifted);
    println!("a millisecond more would be seen: p = {chance:.4}, effect {effect:+.3}");
    drop(gateway);
    std::process::exit(i32::from(told));
}

fn quantile(times: &[f64], at: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at) as usize]
}

/// How likely a difference like this is where there is none (two-sided, by the normal approximation), and Cliff's delta.
fn compare(one: &[f64], other: &[f64]) -> (f64, f64) {
    let (m, n) = (one.len() as f64, other.len() as f64);
    let mut all: Vec<(f64, bool)> = one.iter().map(|time| (*time, true)).collect();
    all.extend(other.iter().map(|time| (*time, false)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let same = all[at..]
            .iter()
            .take_while(|(time, _)| *time == all[at].0)
            .count();
        let rank = at as f64 + (same as f64 + 1.0) / 2.0;
        ranks += rank
            * all[at..at + same]
                .iter()
                .filter(|(_, first)| *first)
                .count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        at += same;
    }
    let u = ranks - m * (m + 1.0) / 2.0;
    let total = m + n;
    let deviation = (m * n / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)))).sqrt();
    let z = ((u - m * n / 2.0).abs() - 0.5).max(0.0) / deviation;
    (erfc(z / std::f64::consts::SQRT_2), 2.0 * u / (m * n) - 1.0)
}

/// The complementary error function, to seven digits (Abramowitz and Stegun, 7.1.26 refined as by Numerical Recipes).
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let series = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let sum = series.iter().rev().fold(0.0, |sum, term| sum * t + term);
    t * (sum - x * x).exp()
}
