//! Places what serving runs side by side in the program.
//!
//! The program holds all commands, and what `serve` runs of it lies scattered over all of it, so that most of it is brought into memory.
//! `layout/served.ld` names those parts; `scripts/layout` writes it from a run. Names that are gone are passed over.

// A build is told what it is for by its environment.
#![allow(clippy::disallowed_methods)]

use std::env;

/// `off`: leaves the layout to the linker, for one that takes no scripts.
const SWITCH: &str = "VESTIBULE_LAYOUT";

fn main() {
    println!("cargo:rerun-if-changed=layout/served.ld");
    println!("cargo:rerun-if-env-changed={SWITCH}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let is_known = is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64");
    // Only what ships: other builds are linked often and run seldom.
    if is_known && is("PROFILE", "release") && !is(SWITCH, "off") {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // Not by `-Wl`: a comma in the path would cut it.
        println!("cargo:rustc-link-arg-bins=-T{root}/layout/served.ld");
    }
}
