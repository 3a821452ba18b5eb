//! Amazon Cognito user pools, with the server's side of SRP written from RFC 5054 and RFC 2945 and the vendor's own client: it knows a
//! salt and a verifier of each password, and no password.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use num_bigint::{BigInt, BigUint};
use serde_json::json as value;
use sha2::{Digest, Sha256};

use super::*;

pub const POOL: &str = "eu-west-1_AbCdEfGhI";
const CLIENT: &str = "client-1";
const SECRET: &str = "s3cret&";

/// A pool with the people whom every stand-in knows.
pub fn start() -> Vendor {
    let people = [&GOOD, &FACTOR, &BLOCKED, &LIMITED, &UNFINISHED];
    with_people(people.map(|person| (person, PASSWORD.to_owned())).into())
}

/// A pool with people of the test's own, and what they type.
pub fn with_people(people: Vec<(&'static Person, String)>) -> Vendor {
    let pool = Pool {
        people,
        begun: Mutex::default(),
    };
    Vendor::start(&["RevokeToken"], move |asked, sessions| {
        answer(asked, sessions, &pool)
    })
}

struct Pool {
    people: Vec<(&'static Person, String)>,
    /// Its secret, by session of a sign-in under way.
    begun: Mutex<BTreeMap<String, (BigUint, BigUint, String)>>,
}

impl Pool {
    fn by_email(&self, email: &str) -> Option<&(&'static Person, String)> {
        self.people.iter().find(|(person, _)| person.email == email)
    }
}

fn error(kind: &str, said: &str) -> Reply {
    json(400, value!({ "__type": kind, "message": said }))
}

fn refused() -> Reply {
    error("NotAuthorizedException", "Incorrect username or password.")
}

/// What the client's secret makes of a name; clients without one send nothing.
fn hash(name: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{name}{CLIENT}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

/// The group of RFC 3526, number 15, computed and not copied: 2^3072 - 2^3008 - 1 + 2^64 * (floor(2^2942 pi) + 1690314).
fn prime() -> BigUint {
    let one = BigUint::from(1_u32);
    let pi = pi(2942 + 64) >> 64_u32;
    (&one << 3072_u32) - (&one << 3008_u32) - &one + ((pi + 1_690_314_u32) << 64_u32)
}

/// 2^bits times pi, by Machin's formula.
fn pi(bits: u32) -> BigUint {
    let arctan = |inverse: u32| {
        let square = BigInt::from(inverse) * inverse;
        let mut term = (BigInt::from(1) << bits) / inverse;
        let (mut sum, mut odd, mut sign) = (BigInt::from(0), 1_u32, 1_i32);
        while term != BigInt::from(0) {
            sum += &term / odd * sign;
            (term, odd, sign) = (term / &square, odd + 2, -sign);
        }
        sum
    };
    let pi: BigInt = (arctan(5) * 4 - arctan(239)) * 4;
    pi.to_biguint().unwrap()
}

/// As Java writes a big integer: two's complement, big end first.
fn bytes(number: &BigUint) -> Vec<u8> {
    BigInt::from(number.clone()).to_signed_bytes_be()
}

fn digest(parts: &[&[u8]]) -> BigUint {
    BigUint::from_bytes_be(&Sha256::digest(parts.concat()))
}

fn verifier(person: &Person, password: &str, salt: &BigUint, prime: &BigUint) -> BigUint {
    let inner = Sha256::digest(format!("AbCdEfGhI{}:{password}", person.id));
    BigUint::from(2_u32).modpow(&digest(&[&bytes(salt), &inner]), prime)
}

fn tokens(person: &Person, sessions: &Sessions) -> Reply {
    let claims = value!({ "sub": person.id, "email": person.email, "email_verified": true, "cognito:username": person.id,
        "given_name": "Grace", "family_name": "Hopper", "exp": 4_000_000_000_u64, "iat": 1, "auth_time": 1 });
    let refresh = sessions.open(person.id);
    json(
        200,
        value!({ "ChallengeParameters": {}, "AuthenticationResult": {
        "IdToken": token(&claims), "AccessToken": token(&claims), "RefreshToken": refresh, "ExpiresIn": 3600 } }),
    )
}

fn proved(person: &'static Person, sessions: &Sessions) -> Reply {
    let challenge = |name: &str| {
        json(
            200,
            value!({ "ChallengeName": name, "Session": "tok-session-of-a-challenge",
            "ChallengeParameters": { "USER_ID_FOR_SRP": person.id, "FRIENDLY_DEVICE_NAME": "x" } }),
        )
    };
    match person.id {
        id if id == BLOCKED.id => error("NotAuthorizedException", "User is disabled."),
        id if id == FACTOR.id => challenge("SOFTWARE_TOKEN_MFA"),
        id if id == UNFINISHED.id => challenge("NEW_PASSWORD_REQUIRED"),
        _ => tokens(person, sessions),
    }
}

fn answer(asked: &Asked, sessions: &Sessions, pool: &Pool) -> Reply {
    let what = asked
        .header("x-amz-target")
        .trim_start_matches("AWSCognitoIdentityProviderService.");
    assert!(
        asked
            .header("content-type")
            .starts_with("application/x-amz-json-1.1")
    );
    if asked.text("/ClientId") == "public-client" {
        // One without a secret: the vendor's own client in a browser has none.
    } else if asked.text("/ClientId") != CLIENT {
        return error(
            "ResourceNotFoundException",
            "User pool client does not exist.",
        );
    }
    let is_public = asked.text("/ClientId") == "public-client";
    match what {
        "RevokeToken" => {
            sessions.end(asked.text("/Token"));
            json(200, value!({}))
        }
        "InitiateAuth" => {
            let name = asked.text("/AuthParameters/USERNAME");
            if !is_public && asked.text("/AuthParameters/SECRET_HASH") != hash(name) {
                return error(
                    "NotAuthorizedException",
                    "Unable to verify secret hash for client client-1",
                );
            }
            match (asked.text("/AuthFlow"), pool.by_email(name)) {
                (_, Some((person, _))) if person.id == LIMITED.id => {
                    error("NotAuthorizedException", "Password attempts exceeded")
                }
                ("USER_PASSWORD_AUTH", Some((person, password)))
                    if asked.text("/AuthParameters/PASSWORD") == password =>
                {
                    proved(person, sessions)
                }
                ("USER_PASSWORD_AUTH", _) => refused(),
                ("USER_SRP_AUTH", person) => srp_a(asked, person, pool),
                _ => error(
                    "InvalidParameterException",
                    "flow not enabled for this client",
                ),
            }
        }
        "RespondToAuthChallenge" => {
            let name = asked.text("/ChallengeResponses/USERNAME");
            if !is_public && asked.text("/ChallengeResponses/SECRET_HASH") != hash(name) {
                return error(
                    "NotAuthorizedException",
                    "Unable to verify secret hash for client client-1",
                );
            }
            match asked.text("/ChallengeName") {
                "PASSWORD_VERIFIER" => srp_proof(asked, sessions, pool),
                "SOFTWARE_TOKEN_MFA" => {
                    let right = asked.text("/Session") == "tok-session-of-a-challenge"
                        && asked.text("/ChallengeResponses/SOFTWARE_TOKEN_MFA_CODE") == CODE;
                    match right {
                        true => tokens(&FACTOR, sessions),
                        false => error("CodeMismatchException", "Invalid code received for user"),
                    }
                }
                _ => error("InvalidParameterException", "no such challenge"),
            }
        }
        _ => error("UnknownOperationException", ""),
    }
}

fn srp_a(asked: &Asked, person: Option<&(&'static Person, String)>, pool: &Pool) -> Reply {
    // Nobody learns that there is no such user: they get a challenge that no proof meets.
    let nobody = Person {
        email: "",
        id: "99999999-9999-4999-8999-999999999999",
    };
    let known = person.map_or(&nobody, |(person, _)| person);
    let prime = prime();
    let salt = digest(&[known.id.as_bytes()]) >> 128_u32;
    let verifier = match person {
        Some((person, password)) => verifier(person, password, &salt, &prime),
        None => BigUint::from(12_345_u32),
    };
    let client = asked.text("/AuthParameters/SRP_A");
    let client = BigUint::parse_bytes(client.as_bytes(), 16).expect("a number");
    let secret = digest(&[&bytes(&client), b"secret of the server"]);
    let multiplier = digest(&[&bytes(&prime), &bytes(&BigUint::from(2_u32))]);
    let public = (multiplier * &verifier + BigUint::from(2_u32).modpow(&secret, &prime)) % &prime;
    let scramble = digest(&[&bytes(&client), &bytes(&public)]);
    let shared = (client * verifier.modpow(&scramble, &prime)).modpow(&secret, &prime);
    let mut begun = pool.begun.lock().expect("not poisoned");
    let session = format!("session-{}", begun.len());
    begun.insert(session.clone(), (shared, scramble, known.id.to_owned()));
    let block = base64::engine::general_purpose::STANDARD.encode(&session);
    json(
        200,
        value!({ "ChallengeName": "PASSWORD_VERIFIER", "ChallengeParameters": {
        "SALT": salt.to_str_radix(16), "SECRET_BLOCK": block, "SRP_B": public.to_str_radix(16),
        "USERNAME": known.id, "USER_ID_FOR_SRP": known.id } }),
    )
}

fn srp_proof(asked: &Asked, sessions: &Sessions, pool: &Pool) -> Reply {
    let standard = base64::engine::general_purpose::STANDARD;
    let block = standard
        .decode(asked.text("/ChallengeResponses/PASSWORD_CLAIM_SECRET_BLOCK"))
        .expect("base64");
    let session = String::from_utf8(block.clone()).expect("ours");
    let Some((shared, scramble, user)) = pool.begun.lock().expect("not poisoned").remove(&session)
    else {
        return refused();
    };
    let timestamp = asked.text("/ChallengeResponses/TIMESTAMP");
    // The day stands without a zero before it.
    let form = "%a %b %e %H:%M:%S UTC %Y";
    assert!(
        chrono::NaiveDateTime::parse_from_str(timestamp, form).is_ok(),
        "{timestamp}"
    );
    assert!(
        !timestamp.contains("  ") && !timestamp[8..].starts_with('0'),
        "{timestamp}"
    );
    let mut key = [0; 16];
    Hkdf::<Sha256>::new(Some(&bytes(&scramble)), &bytes(&shared))
        .expand(b"Caldera Derived Key", &mut key)
        .expect("short");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    for part in [
        b"AbCdEfGhI".as_slice(),
        user.as_bytes(),
        &block,
        timestamp.as_bytes(),
    ] {
        mac.update(part);
    }
    let wanted = standard.encode(mac.finalize().into_bytes());
    let known = pool.people.iter().find(|(person, _)| person.id == user);
    match known {
        Some((person, _))
            if asked.text("/ChallengeResponses/PASSWORD_CLAIM_SIGNATURE") == wanted =>
        {
            proved(person, sessions)
        }
        _ => refused(),
    }
}

#[test]
fn the_prime_is_the_published_one() {
    let digits = prime().to_str_radix(16);
    assert_eq!(digits.len(), 768);
    assert!(digits.starts_with("ffffffffffffffffc90fdaa22168c234"));
    assert!(digits.ends_with("4b82d120a93ad2caffffffffffffffff"));
}
