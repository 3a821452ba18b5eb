//! `vestibule hash`, as somebody runs it: hash and password come from standard input.

use std::io::Write as _;
use std::process::{Command, Stdio};

fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .arg("hash")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    // A command that needs no input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

const BCRYPT: &str = "$2b$04$fOZRXqpgcnvxfD3/VzxkguUaOqcsJX/DgKwy28fpeaC5vyj0tZHaW";
const PASSWORD: &str = "correct horse battery staple";

#[test]
fn a_password_fits_or_does_not_and_a_broken_hash_is_neither() {
    let verify = |scheme: &str, input: String| run(&["verify", "--scheme", scheme], &input);
    let (code, out, err) = verify("bcrypt", format!("{BCRYPT}\n{PASSWORD}\n"));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "it fits\n", ""));
    let (code, out, _) = verify("bcrypt", format!("{BCRYPT}\r\n{PASSWORD}x\r\n"));
    assert_eq!((code, out.as_str()), (1, "it does not fit\n"));
    let (code, out, err) = verify("bcrypt", format!("{BCRYPT}x\n{PASSWORD}\n"));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("not in the form of its scheme"), "{err}");
    let (code, _, err) = verify("bcrypt", BCRYPT.to_owned());
    assert_eq!(code, 2);
    assert!(err.contains("there is no password"), "{err}");
    let (code, _, err) = verify("nonsense", String::new());
    assert_eq!(code, 2);
    assert!(err.contains("vestibule hash schemes"), "{err}");
    let (code, _, _) = run(&["verify", "--scheme", "bcrypt", BCRYPT], "");
    assert_eq!(code, 2, "hashes are no arguments");
}

#[test]
fn what_stands_beside_a_hash_comes_after_the_password() {
    let hash = "c0381d1fcebb6b67b1c5b1bd854062f4";
    let verify = |beside: &str| {
        let input = format!("{hash}\n{PASSWORD}\n{beside}");
        run(&["verify", "--scheme", "md5-hex-salted"], &input)
    };
    let (code, out, err) = verify("salt=3271e26c19\nsalt_position=prefix\n");
    assert_eq!((code, out.as_str()), (0, "it fits\n"), "{err}");
    let (code, _, _) = verify("salt=3271e26c19\nsalt_position=suffix\n");
    assert_eq!(code, 1);
    let (code, _, err) = verify("");
    assert_eq!(code, 2);
    assert!(err.contains("`salt` is missing"), "{err}");
}

#[test]
fn a_hash_is_told_with_all_that_look_like_it() {
    let (code, out, err) = run(&["identify"], BCRYPT);
    assert_eq!(code, 0);
    for scheme in [
        "bcrypt ",
        "bcrypt-over-sha256hex ",
        "bcrypt-pepper-suffix ",
        "laravel ",
    ] {
        assert!(out.lines().any(|line| line.starts_with(scheme)), "{out}");
    }
    assert!(!out.contains("argon2id "), "{out}");
    assert!(out.contains("needs `pepper` beside it"), "{out}");
    assert!(err.contains("look like this"), "{err}");
    let native = format!("{}:{}", "ab".repeat(16), "cd".repeat(64));
    let (_, out, _) = run(&["identify"], &native);
    for scheme in [
        "better-auth-scrypt ",
        "node-scrypt-salt-key-hex ",
        "lucia-v1-r8 ",
    ] {
        assert!(out.lines().any(|line| line.starts_with(scheme)), "{out}");
    }
    let (code, out, err) = run(
        &["identify"],
        "$wp$2y$10$4FFdZ8/NPYKh0UlL6LSlROWxuU0Mz3fSfXF8wMe5jMJYxOSWEw73y",
    );
    assert_eq!(code, 0);
    assert!(out.starts_with("wordpress-6.8 "), "{out}{err}");
    let (code, out, err) = run(&["identify"], "hunter2\n");
    assert_eq!((code, out.as_str()), (1, ""), "{out}");
    assert!(err.contains("no scheme reads it"));
    let (code, _, err) = run(&["identify"], "!\n");
    assert_eq!(code, 1);
    assert!(err.contains("switched off"));
    assert!(!err.contains("hunter2"));
}

#[test]
fn schemes_are_listed_and_help_has_an_example() {
    let (code, out, _) = run(&["schemes"], "");
    assert_eq!(code, 0);
    assert!(out.lines().count() > 100 && out.contains("firebase-scrypt"));
    for command in [
        &["--help"][..],
        &["identify", "--help"],
        &["verify", "--help"],
    ] {
        let (code, out, _) = run(command, "");
        assert_eq!(code, 0);
        assert!(out.contains("Example:"), "{out}");
    }
}
