//! Columns in which a product keeps several formats, each of which names itself: its text is looked at as the product looks at it, and
//! nothing is tried.

use super::{Hash, Parse, Stored, Unusable};
use crate::kind::Kind;

/// Which scheme a text is of, by how it begins.
type Named = &'static [(&'static str, &'static str)];

const DJANGO_WORDS: Named = &[
    ("pbkdf2_sha256$", "django-pbkdf2-sha256"),
    ("pbkdf2_sha1$", "django-pbkdf2-sha1"),
    ("argon2$", "django-argon2"),
    ("bcrypt_sha256$", "django-bcrypt-sha256"),
    ("bcrypt$", "django-bcrypt"),
    ("scrypt$", "django-scrypt"),
    ("md5$", "django-md5"),
    ("sha1$", "django-sha1"),
];

const WORDPRESS_WORDS: Named = &[
    ("$wp$", "wordpress-6.8"),
    ("$P$", "phpass"),
    ("$2", "bcrypt"),
    ("$argon2", "argon2"),
];

const LDAP_TAGS: Named = &[
    ("{SSHA}", "ldap-ssha"),
    ("{SSHA256}", "ldap-ssha256"),
    ("{SSHA384}", "ldap-ssha384"),
    ("{SSHA512}", "ldap-ssha512"),
    ("{SMD5}", "ldap-smd5"),
    ("{SHA}", "ldap-sha"),
    ("{SHA256}", "ldap-sha256"),
    ("{SHA512}", "ldap-sha512"),
    ("{MD5}", "ldap-md5"),
    ("{PBKDF2}", "passlib-pbkdf2-sha1"),
    ("{PBKDF2-SHA256}", "passlib-pbkdf2-sha256"),
    ("{PBKDF2-SHA512}", "passlib-pbkdf2-sha512"),
    ("{PKCS5S2}", "passlib-atlassian-pbkdf2-sha1"),
];

const CRYPT_WORDS: Named = &[
    ("$1$", "md5crypt"),
    ("$apr1$", "apr1"),
    ("$2", "bcrypt"),
    ("$5$", "sha256crypt"),
    ("$6$", "sha512crypt"),
    ("$7$", "crypt-7-scrypt"),
    ("$y$", "crypt-y-yescrypt"),
    ("$sha1$", "sha1crypt"),
];

const KRATOS_WORDS: Named = &[
    ("$2", "bcrypt"),
    ("$argon2", "argon2"),
    ("$pbkdf2-", "phc-pbkdf2"),
    ("$scrypt$", "kratos-scrypt"),
    ("$firescrypt$", "kratos-firescrypt"),
    ("{SSHA", "ldap"),
    ("$md5-crypt$", "md5crypt"),
    ("$sha256-crypt$", "sha256crypt"),
    ("$sha512-crypt$", "sha512crypt"),
    ("$md5$", "kratos-md5"),
    ("$sha", "kratos-sha"),
    ("$hmac-", "kratos-hmac"),
];

const SUPABASE_WORDS: Named = &[
    ("$2", "bcrypt"),
    ("$argon2", "argon2"),
    ("$fbscrypt$", "supabase-fbscrypt"),
];

const SUPERTOKENS_WORDS: Named = &[
    ("$2", "bcrypt"),
    ("$argon2", "argon2"),
    ("$f_scrypt$", "supertokens-f-scrypt"),
];

const LARAVEL_WORDS: Named = &[("$2", "bcrypt"), ("$argon2", "argon2")];

const WERKZEUG_WORDS: Named = &[
    ("scrypt:", "werkzeug-scrypt"),
    ("pbkdf2:", "werkzeug-pbkdf2"),
];

/// Django's `auth_user.password`.
pub const DJANGO: Kind<Parse> = Kind {
    name: "django",
    about: "Django: whichever of its hashers the text names",
    build: |stored| named(stored, DJANGO_WORDS),
};

/// WordPress's `user_pass`.
pub const WORDPRESS: Kind<Parse> = Kind {
    name: "wordpress",
    about: "WordPress: $wp$, $P$, bcrypt, or MD5 in hex",
    build: |stored| {
        // What WordPress itself does with a text of at most 32 letters.
        if stored.hash.expose().len() == 32 {
            return of(stored, "md5-hex");
        }
        named(stored, WORDPRESS_WORDS)
    },
};

/// LDAP's `userPassword`.
pub const LDAP: Kind<Parse> = Kind {
    name: "ldap",
    about: "LDAP: whatever the tag in braces names, {CRYPT} too",
    build: |stored| {
        let text = stored.hash.expose();
        let (tag, rest) = text.split_at_checked(7).unwrap_or((text, ""));
        if tag.eq_ignore_ascii_case("{CRYPT}") {
            let crypt = Stored {
                hash: crate::secret::Secret::new(rest),
                params: stored.params.clone(),
            };
            return named(&crypt, CRYPT_WORDS);
        }
        named(stored, LDAP_TAGS)
    },
};

/// crypt's.
pub const CRYPT: Kind<Parse> = Kind {
    name: "crypt",
    about: "crypt: whatever its first letters name",
    build: |stored| named(stored, CRYPT_WORDS),
};

/// Kratos's `hashed_password`.
pub const KRATOS: Kind<Parse> = Kind {
    name: "kratos",
    about: "Kratos: whatever its first letters name",
    build: |stored| named(stored, KRATOS_WORDS),
};

/// Supabase's `encrypted_password`.
pub const SUPABASE: Kind<Parse> = Kind {
    name: "supabase",
    about: "Supabase: bcrypt, argon2 or $fbscrypt$",
    build: |stored| named(stored, SUPABASE_WORDS),
};

/// SuperTokens's `password_hash`.
pub const SUPERTOKENS: Kind<Parse> = Kind {
    name: "supertokens",
    about: "SuperTokens: bcrypt, argon2 or $f_scrypt$",
    build: |stored| named(stored, SUPERTOKENS_WORDS),
};

/// Laravel's `password`.
pub const LARAVEL: Kind<Parse> = Kind {
    name: "laravel",
    about: "Laravel: bcrypt or argon2",
    build: |stored| named(stored, LARAVEL_WORDS),
};

/// Flask's.
pub const WERKZEUG: Kind<Parse> = Kind {
    name: "werkzeug",
    about: "Werkzeug (Flask): scrypt: or pbkdf2:",
    build: |stored| named(stored, WERKZEUG_WORDS),
};

/// Keycloak's.
pub const KEYCLOAK: Kind<Parse> = Kind {
    name: "keycloak",
    about: "Keycloak: the credential as JSON, pbkdf2 or argon2",
    build: |stored| {
        let scheme = if stored.hash.expose().contains("argon2") {
            "keycloak-argon2"
        } else {
            "keycloak-pbkdf2"
        };
        of(stored, scheme)
    },
};

/// ASP.NET Identity's `PasswordHash`.
pub const ASPNET: Kind<Parse> = Kind {
    name: "aspnet-identity",
    about: "ASP.NET Identity, version 2 or 3 by its first byte",
    build: |stored| {
        // Base64 of a first byte of 0 begins with an A and one of A to P; that of 1 likewise with Q to f.
        let second = stored.hash.expose().as_bytes().get(1);
        let scheme = match second {
            Some(b'A'..=b'P') => "aspnet-identity-v2",
            _ => "aspnet-identity-v3",
        };
        of(stored, scheme)
    },
};

fn of(stored: &Stored, scheme: &str) -> Result<Box<dyn Hash>, Unusable> {
    (super::find(scheme).ok_or(Unusable::Unknown)?.build)(stored)
}

fn named(stored: &Stored, words: Named) -> Result<Box<dyn Hash>, Unusable> {
    let text = stored.hash.expose();
    let begins = |word: &str| {
        let head = text.get(..word.len());
        // Tags of LDAP are in either case; everything else is as it is.
        head.is_some_and(|head| {
            head == word || (word.starts_with('{') && head.eq_ignore_ascii_case(word))
        })
    };
    let found = words.iter().find(|(word, _)| begins(word));
    let (_, scheme) = found.ok_or(Unusable::Malformed("nobody knows how it begins"))?;
    of(stored, scheme)
}
