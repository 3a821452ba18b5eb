//! The way of a request, once through.

use crate::support::{App, Gateway, cookie, record};

#[test]
fn a_stranger_is_sent_to_sign_in_and_somebody_signed_in_gets_through() {
    let app = App::start();
    let gateway = Gateway::in_front_of(&app);

    let refused = gateway.document("/dashboard?tab=2&_rsc=abc", &[]);
    assert_eq!(refused.status, 302);
    assert_eq!(
        refused.header("location"),
        Some("/sign-in?callbackURL=%2Fdashboard%3Ftab%3D2")
    );
    assert_eq!(refused.header("cache-control"), Some("private, no-store"));
    assert!(app.seen().is_empty());

    gateway.store.put(record("token-of-ada", "ada"));
    let through = gateway.document(
        "/dashboard",
        &[
            ("cookie", &cookie("token-of-ada")),
            ("x-auth-user-id", "root"),
        ],
    );
    assert_eq!((through.status, through.text().as_str()), (200, "app"));
    assert_eq!(through.header("cache-control"), Some("private, no-store"));
    let seen = app.last();
    assert_eq!(seen.all("x-auth-user-id"), ["ada"]);
    assert_eq!(seen.all("x-auth-user-email"), ["ada@example.com"]);
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-host"), ["app.test"]);
    assert!(seen.header("x-auth-assertion").is_some());
    assert_eq!(seen.header("cookie"), Some(cookie("token-of-ada").as_str()));
}
