//! Second factors, through the functions that check and translate codes.

use serde_json::Value;
use vestibule::credential::{cipher, secrets};
use vestibule::migration::second_factor::{Totp, from_base32, native_code, storable_natively};
use vestibule::secret::Secret;
use vestibule::time::UnixMs;

use super::{Family, Tally, files, load};

fn run(entry: &Value, app: &secrets::Settings) -> Result<(), String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("no text");
    let number = |name: &str, default: u64| entry[name].as_u64().unwrap_or(default);
    let algorithm = entry["algorithm"].as_str().unwrap_or("SHA1");
    let digits = u8::try_from(number("digits", 6)).map_err(|_| "digits")?;
    let period = u32::try_from(number("period", 30)).map_err(|_| "period")?;
    let totp = Totp::of(algorithm, digits, period).ok_or("nobody makes such codes")?;
    let now = UnixMs(entry["at_unix"].as_i64().ok_or("no moment")? * 1000);
    let same = |what: &str, is: &str, due: &str| {
        (is == due)
            .then_some(())
            .ok_or_else(|| format!("{what}: {is}, expected {due}"))
    };

    let secret = from_base32(&text(&entry["source_secret_base32"])?).ok_or("no base32")?;
    let code = text(&entry["code"])?;
    same("code", &totp.code(&secret, totp.step(now)), &code)?;
    if totp.matches(&secret, &code, now) != Some(totp.step(now)) {
        return Err("the right code does not match".into());
    }
    let late = UnixMs(now.0 + 10 * 60 * 1000);
    if totp.matches(&secret, &code, late).is_some() {
        return Err("a code of ten minutes ago matches".into());
    }

    let native = storable_natively(&secret, totp);
    if Some(native.is_some()) != entry["storable_natively"].as_bool() {
        return Err(format!("storable natively: {}", native.is_some()));
    }
    if let (Some(native), Some(stored)) = (native, entry["native_stored"].as_str()) {
        let opened = cipher::open(app, stored).map_err(|error| error.to_string())?;
        same("stored text", opened.expose(), native)?;
        let made = native_code(app, &Secret::new(stored), totp, now);
        let made = made.map_err(|error| error.to_string())?;
        same("native code", made.expose(), &text(&entry["native_code"])?)?;
    }

    // Base32 stored as it came makes other codes: what we store is never that.
    let trap = &entry["trap_base32_text_stored_as_is"]["code_native_would_expect"];
    if let Some(trap) = trap.as_str() {
        let as_is = text(&entry["source_secret_base32"])?;
        let made = Totp::default().code(as_is.as_bytes(), Totp::default().step(now));
        same("trap", &made, trap)?;
        if trap != code && totp.matches(&secret, trap, now).is_some() {
            return Err("the code of the trap is taken".into());
        }
    }

    let enrolment = &entry["native_enrolment"];
    if let Some(stored) = enrolment["stored"].as_str() {
        let opened = cipher::open(app, stored).map_err(|error| error.to_string())?;
        same("enrolment", opened.expose(), &text(&enrolment["text"])?)?;
        let shown = from_base32(&text(&enrolment["otpauth_base32"])?).ok_or("no base32")?;
        if shown.as_slice() != opened.expose().as_bytes() {
            return Err("the enrolment shows another secret".into());
        }
        let made = native_code(app, &Secret::new(stored), Totp::default(), now);
        let made = made.map_err(|error| error.to_string())?;
        same("enrolment code", made.expose(), &text(&enrolment["code"])?)?;
    }
    if let Some(stored) = entry["backup_codes_stored_encrypted"].as_str() {
        let opened = cipher::open(app, stored).map_err(|error| error.to_string())?;
        let plain = text(&entry["backup_codes_stored_plain"])?;
        let list = |text: &str| serde_json::from_str::<Value>(text).map_err(|e| e.to_string());
        if list(opened.expose())? != entry["backup_codes"] || list(&plain)? != entry["backup_codes"]
        {
            return Err("the backup codes are others".into());
        }
    }
    Ok(())
}

#[test]
fn two_factor() {
    let files = files(Family::TwoFactor);
    assert!(!files.is_empty());
    for file in files {
        let vectors = load(&file);
        let secret = vectors["better_auth_secret"].as_str().expect("a secret");
        let app = secrets::Settings::single(Secret::new(secret));
        let entries = vectors["entries"].as_array().expect("entries");
        let mut tally = Tally::new(&file, entries.len());
        for entry in entries {
            tally.case(entry["id"].as_str().expect("an id"), run(entry, &app));
        }
        tally.finish();
    }
}
