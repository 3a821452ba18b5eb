//! Sources without a sample export: small tables as their documentation shows them.

use serde_json::{Value, json};
use vestibule::migration::import::record::{ImportedUser, Oddity, Password, Record};
use vestibule::migration::password::cost::Ceilings;
use vestibule::migration::password::{self, native};
use vestibule::time::UnixMs;

use super::World;

const PASSWORD: &str = "correct horse battery";

/// A bcrypt hash of the password, with the least cost.
fn bcrypt(password: &str) -> String {
    let parts = ::bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
    parts.format_for_version(::bcrypt::Version::TwoB)
}

fn world(provider: &str, options: Value, inputs: &[(&str, Value)]) -> World {
    let mut world = World::new(provider, options);
    for (input, value) in inputs {
        world.bytes(input, input, value.to_string().as_bytes());
    }
    world
}

fn only(world: &World) -> ImportedUser {
    let mut users = world.users();
    assert_eq!(users.len(), 1, "{users:?}");
    users.remove(0)
}

fn fits(user: &ImportedUser, scheme: &str) {
    let Password::Hash {
        scheme: found,
        stored,
        ..
    } = &user.password
    else {
        panic!("{:?} {:?}", user.password, user.notes);
    };
    assert_eq!(found, scheme);
    assert_eq!(
        password::check(stored, found, PASSWORD.as_bytes(), &Ceilings::DEFAULT),
        Ok(true)
    );
    assert_eq!(
        password::check(stored, found, b"another", &Ceilings::DEFAULT),
        Ok(false)
    );
}

fn socials(user: &ImportedUser) -> Vec<(&str, Option<&str>)> {
    let list = user.socials.iter();
    list.map(|one| (one.provider.as_str(), one.account_id.as_deref()))
        .collect()
}

fn key(user: &ImportedUser) -> Option<Vec<u8>> {
    Some(user.factor.as_ref()?.key.as_ref()?.0.to_vec())
}

fn noted(user: &ImportedUser, what: Oddity) -> bool {
    user.notes.iter().any(|note| note.what == what)
}

#[test]
fn supertokens() {
    let world = world(
        "supertokens",
        json!({}),
        &[(
            "tables",
            json!({
                "emailpassword_users": [{ "user_id": "st-1", "email": "Ann@example.com", "password_hash": bcrypt(PASSWORD), "time_joined": 1_646_127_015_123_i64 }],
                "emailverification_verified_emails": [{ "user_id": "st-1", "email": "ann@example.com" }],
                "thirdparty_users": [{ "user_id": "st-1", "third_party_id": "google", "third_party_user_id": "g1", "email": "ann@example.com", "time_joined": 1_646_127_015_000_i64 }],
                "userid_mapping": [{ "supertokens_user_id": "st-1", "external_user_id": "app-1" }],
                "user_metadata": [{ "user_id": "st-1", "user_metadata": "{\"first_name\":\"Ann\",\"plan\":\"pro\"}" }],
                "user_roles": [{ "user_id": "st-1", "role": "admin" }],
                "totp_user_devices": [{ "user_id": "st-1", "secret_key": "JBSWY3DPEHPK3PXP", "period": 30 }],
                "session_info": [{ "session_handle": "x" }],
            }),
        )],
    );
    let user = only(&world);
    assert_eq!(
        (
            user.source_id.as_str(),
            user.email.as_deref(),
            user.email_verified
        ),
        ("app-1", Some("ann@example.com"), true)
    );
    assert_eq!(user.name, "Ann");
    assert_eq!(user.created_at, Some(UnixMs(1_646_127_015_123)));
    assert_eq!(socials(&user), [("google", Some("g1"))]);
    assert_eq!(
        key(&user).as_deref(),
        Some(b"Hello!\xDE\xAD\xBE\xEF".as_slice())
    );
    assert!(user.roles.is_empty() && noted(&user, Oddity::UnknownRole));
    fits(&user, "bcrypt");
}

#[test]
fn stytch_users_and_members() {
    let consumer = world(
        "stytch",
        json!({}),
        &[
            (
                "users",
                json!({ "results": [{ "user_id": "user-1", "name": { "first_name": "Ann", "last_name": "Lee" },
            "emails": [{ "email": "ann@example.com", "verified": true }, { "email": "a2@example.com", "verified": false }],
            "phone_numbers": [{ "phone_number": "+12025550000", "verified": true }], "providers": [{ "provider_type": "Google", "provider_subject": "g1" }],
            "totps": [{ "totp_id": "t" }], "password": { "password_id": "p" }, "status": "active", "created_at": "2022-03-01T09:30:15Z" }] }),
            ),
            (
                "hashes",
                json!([{ "user_id": "user-1", "hash": bcrypt(PASSWORD), "hash_type": "bcrypt" }]),
            ),
        ],
    );
    let user = only(&consumer);
    assert_eq!(
        (
            user.name.as_str(),
            user.email_verified,
            user.other_emails.len()
        ),
        ("Ann Lee", true, 1)
    );
    assert_eq!(socials(&user), [("google", Some("g1"))]);
    assert!(user.factor.is_some() && noted(&user, Oddity::FactorWithoutKey));
    fits(&user, "bcrypt");

    let member = |id: &str, status: &str| {
        json!({ "member_id": id, "organization_id": "org-1", "email_address": format!("{id}@example.com"),
        "email_address_verified": true, "status": status, "name": "Some Body", "member_password_id": "p", "roles": [{ "role_id": "stytch_admin" }] })
    };
    let business = world(
        "stytch",
        json!({}),
        &[
            (
                "users",
                json!({ "members": [member("m1", "active"), member("m2", "invited"), member("m3", "deleted")] }),
            ),
            (
                "organizations",
                json!({ "organizations": [{ "organization_id": "org-1", "organization_name": "Acme, Inc.", "organization_slug": "acme" }] }),
            ),
        ],
    );
    let records = business.records();
    let count = |which: fn(&Record) -> bool| records.iter().filter(|record| which(record)).count();
    assert_eq!(count(|record| matches!(record, Record::User(_))), 3);
    assert_eq!(
        count(
            |record| matches!(record, Record::Organization(one) if one.name == "Acme, Inc." && one.slug == "acme")
        ),
        1
    );
    assert_eq!(
        count(
            |record| matches!(record, Record::Member(one) if one.user == "m1" && one.role == "admin" && one.organization == "org-1")
        ),
        1
    );
    assert_eq!(
        count(|record| matches!(record, Record::Invitation(one) if one.email == "m2@example.com")),
        1
    );
    assert_eq!(
        count(|record| matches!(record, Record::Refused { note, .. } if note.what == Oddity::Over)),
        1
    );
    assert!(
        business
            .users()
            .iter()
            .all(|user| matches!(user.password, Password::NotExported))
    );
}

#[test]
fn descope_with_tenants_and_hashes() {
    let world = world(
        "descope",
        json!({}),
        &[
            (
                "users",
                json!({ "users": [{ "userId": "U1", "email": "ann@example.com", "verifiedEmail": true, "givenName": "Ann", "familyName": "Lee", "status": "enabled",
            "password": true, "OAuth": { "github": true }, "TOTP": false, "createdTime": 1_646_127_015, "loginIds": ["ann@example.com"],
            "userTenants": [{ "tenantId": "T1", "roleNames": ["Tenant Admin"] }] }] }),
            ),
            (
                "tenants",
                json!({ "tenants": [{ "id": "T1", "name": "Acme" }] }),
            ),
        ],
    );
    let user = only(&world);
    assert_eq!(user.created_at, Some(UnixMs(1_646_127_015_000)));
    assert!(matches!(user.password, Password::NotExported));
    assert_eq!(socials(&user), [("github", None)]);
    let members = world.records().into_iter().filter(|record| matches!(record, Record::Member(one) if one.role == "admin" && one.user == "U1" && one.organization == "T1"));
    assert_eq!(members.count(), 1);
    let mut hashed = world;
    hashed.bytes(
        "hashes",
        "hashes.csv",
        format!("userId,hash\nU1,{}\n", bcrypt(PASSWORD)).as_bytes(),
    );
    fits(&only(&hashed), "bcrypt");
}

#[test]
fn lucia_of_both_versions_brings_native_hashes() {
    let native = native::hash(PASSWORD.as_bytes(), [9; 16]);
    let native = native.expose().to_owned();
    let third = world(
        "lucia",
        json!({}),
        &[(
            "tables",
            json!({
                "user": [{ "id": "l1", "email": "ann@example.com", "email_verified": 1, "password_hash": native, "theme": "dark" }],
                "session": [{ "id": "s", "user_id": "l1" }],
                "oauth_account": [{ "provider_id": "github", "provider_user_id": "42", "user_id": "l1" }],
            }),
        )],
    );
    let user = only(&third);
    assert!(user.email_verified);
    assert_eq!(socials(&user), [("github", Some("42"))]);
    assert_eq!(user.metadata["fields"]["theme"], "dark");
    fits(&user, "oslo-scrypt");

    let second = world(
        "lucia",
        json!({}),
        &[
            ("users", json!([{ "id": "l2", "username": "ann_lee" }])),
            (
                "keys",
                json!([{ "id": "email:Ann@example.com", "user_id": "l2", "hashed_password": format!("s2:{native}") }, { "id": "google:g1", "user_id": "l2", "hashed_password": null }]),
            ),
        ],
    );
    let user = only(&second);
    assert_eq!(user.email.as_deref(), Some("ann@example.com"));
    assert_eq!(socials(&user), [("google", Some("g1"))]);
    let Password::Hash { scheme, .. } = &user.password else {
        panic!("{:?}", user.notes);
    };
    assert_eq!(scheme, "lucia-v2-s2");
}

#[test]
fn devise_with_a_pepper() {
    let row = |hash: String| {
        json!([{ "id": 7, "email": "ann@example.com", "encrypted_password": hash, "confirmed_at": "2022-03-01 09:30:15.123456", "created_at": "2022-03-01 09:30:15",
        "provider": "google_oauth2", "uid": "g1", "locked_at": "2022-03-01 09:30:15", "otp_required_for_login": true, "otp_secret": "{\"p\":\"x\"}", "plan": "pro" }])
    };
    let peppered = bcrypt(&format!("{PASSWORD}pepper"));
    let user = only(&world(
        "devise",
        json!({ "pepper": "pepper" }),
        &[("users", row(peppered))],
    ));
    assert_eq!((user.source_id.as_str(), user.email_verified), ("7", true));
    assert!(
        noted(&user, Oddity::Locked)
            && noted(&user, Oddity::FactorWithoutKey)
            && user.ban.is_none()
    );
    assert_eq!(user.metadata["fields"]["plan"], "pro");
    fits(&user, "bcrypt-pepper-suffix");
    fits(
        &only(&world(
            "devise",
            json!({}),
            &[("users", row(bcrypt(PASSWORD)))],
        )),
        "bcrypt",
    );
}

#[test]
fn laravel() {
    let row = json!([{ "id": 3, "name": "Ann", "email": "ann@example.com", "email_verified_at": null, "password": bcrypt(PASSWORD).replace("$2b$", "$2y$"),
        "created_at": "2022-03-01 09:30:15", "two_factor_secret": "eyJpdiI6", "deleted_at": "2023-01-01 00:00:00" }]);
    let user = only(&world("laravel", json!({}), &[("users", row)]));
    assert!(
        !user.email_verified
            && noted(&user, Oddity::Deleted)
            && noted(&user, Oddity::FactorWithoutKey)
    );
    fits(&user, "bcrypt");
}

#[test]
fn aspnet_with_keys_and_recovery_codes() {
    let tables = |end: &str| {
        json!({
            "AspNetUsers": [{ "Id": "g-1", "UserName": "ann_lee", "Email": "ann@example.com", "EmailConfirmed": true, "PasswordHash": "AQAA", "TwoFactorEnabled": true, "LockoutEnd": end }],
            "AspNetUserLogins": [{ "LoginProvider": "Microsoft", "ProviderKey": "m1", "UserId": "g-1" }],
            "AspNetUserTokens": [{ "UserId": "g-1", "LoginProvider": "[AspNetUserStore]", "Name": "AuthenticatorKey", "Value": "JBSWY3DPEHPK3PXP" },
                { "UserId": "g-1", "LoginProvider": "[AspNetUserStore]", "Name": "RecoveryCodes", "Value": "a-b;c-d" }],
        })
    };
    let user = only(&world(
        "aspnet",
        json!({}),
        &[("tables", tables("9999-12-31T23:59:59+00:00"))],
    ));
    assert_eq!(user.username.as_deref(), Some("ann_lee"));
    assert_eq!(socials(&user), [("microsoft", Some("m1"))]);
    assert!(user.ban.is_some(), "for good");
    assert!(matches!(user.password, Password::Unusable) && noted(&user, Oddity::InvalidHash));
    assert_eq!(key(&user).map(|key| key.len()), Some(10));
    assert_eq!(user.factor.unwrap().backup_codes.len(), 2);
    let user = only(&world(
        "aspnet",
        json!({}),
        &[("tables", tables("2022-01-01T00:00:00+00:00"))],
    ));
    assert!(user.ban.is_none(), "over");
}
