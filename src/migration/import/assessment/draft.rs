//! Drafts of the gateway's configuration and of Better Auth's options.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::facts::Outlook;
use super::{Assessor, Plugin, per_cent};

/// Both, and the variables they read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// `vestibule.toml`.
    pub vestibule: String,
    /// The options of Better Auth, TypeScript.
    pub better_auth: String,
    /// Variables both read.
    pub environment: Vec<Variable>,
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub about: String,
}

/// Share of verified addresses above which requiring one stops nobody worth mentioning.
const VERIFIED_PER_CENT: f64 = 99.0;

/// Providers of accounts elsewhere that Better Auth has built in, with the variables of their clients by custom.
const BUILT_IN: &[&str] = &[
    "apple",
    "atlassian",
    "cognito",
    "discord",
    "dropbox",
    "facebook",
    "figma",
    "github",
    "gitlab",
    "google",
    "huggingface",
    "kakao",
    "kick",
    "line",
    "linear",
    "linkedin",
    "microsoft",
    "naver",
    "notion",
    "paypal",
    "reddit",
    "roblox",
    "salesforce",
    "slack",
    "spotify",
    "tiktok",
    "twitch",
    "twitter",
    "vk",
    "zoom",
];

pub(super) fn draft(from: &Assessor, plugins: &BTreeSet<Plugin>) -> Draft {
    let vestibule = vestibule(from);
    let (better_auth, socials) = better_auth(from, plugins);
    let mut environment = Vec::new();
    let mut add = |name: &str, about: &str| {
        environment.push(Variable {
            name: name.to_owned(),
            about: about.to_owned(),
        });
    };
    add(
        "BETTER_AUTH_SECRET",
        "the app's secret; the gateway reads the same one",
    );
    add("DATABASE_URL", "the app's database");
    add(
        "MIGRATION_KEY",
        "what old hashes are sealed under: `openssl rand -base64 32`; keep it until `finalize`",
    );
    for line in from.facts.draft {
        if let Some(name) = line
            .value
            .strip_prefix("{ env = \"")
            .and_then(|rest| rest.strip_suffix("\" }"))
        {
            add(name, line.about);
        }
    }
    for social in socials {
        let upper = social.to_uppercase();
        add(
            &format!("{upper}_CLIENT_ID"),
            "the client the old system used, if it is yours",
        );
        add(&format!("{upper}_CLIENT_SECRET"), "its secret");
    }
    Draft {
        vestibule,
        better_auth,
        environment,
    }
}

// Formatting into a string cannot fail, here and below.
fn vestibule(from: &Assessor) -> String {
    let (facts, n) = (from.facts, &from.numbers);
    let mut out = format!(
        "# A draft for the move from {}. Names in capitals, and addresses, are to be replaced.\n\
         public_url = \"https://app.example.com\"\n\n\
         [upstream]\nurl = \"http://127.0.0.1:3000\"\n\n\
         [sessions]\nsource = {{ env = \"DATABASE_URL\" }}\n\n\
         [routes]\ndefault = \"signed-in\"\nsign_in = \"/sign-in\"\n\n\
         [migration]\nkey = {{ env = \"MIGRATION_KEY\" }}\n\
         # Looks at everything and changes nothing. Take it away when the metrics look right.\nshadow = true\n\
         # closes = \"2027-03-01\"   # {} days after the switch\n",
        facts.label,
        from.settings.window.as_secs() / 86_400,
    );
    if n.reset + n.live > 0 {
        out.push_str("\n[migration.reset]\nredirect_to = \"/reset-password\"\n");
    }
    if from.asks_live() {
        out.push_str("\n# Whoever is not here yet is fetched from the old system at the first contact.\n[migration.sign_up]\nmode = \"trickle\"\n");
    }
    let Some(table) = facts.table else {
        return out;
    };
    let used = facts.draft.iter().any(|line| !line.optional);
    let used = used && (from.asks_live() || from.sessions() != Outlook::Lost);
    let comment = if used { "" } else { "# " };
    let _ = write!(out, "\n{comment}[migration.from.{table}]\n");
    for line in facts.draft {
        let comment = if used && !line.optional { "" } else { "# " };
        let _ = writeln!(
            out,
            "# {}.\n{comment}{} = {}",
            line.about, line.key, line.value
        );
    }
    out
}

/// The options, and the providers of accounts elsewhere among them.
fn better_auth(from: &Assessor, plugins: &BTreeSet<Plugin>) -> (String, Vec<String>) {
    let n = &from.numbers;
    let mut imports = Vec::new();
    let mut calls = Vec::new();
    for plugin in plugins {
        let (name, call) = match plugin {
            Plugin::Admin => ("admin", "admin()".to_owned()),
            Plugin::Anonymous => ("anonymous", "anonymous()".to_owned()),
            Plugin::Organization => ("organization", "organization()".to_owned()),
            Plugin::PhoneNumber => ("phoneNumber", "phoneNumber({ sendOTP: async ({ phoneNumber, code }) => { /* your text messages */ } })".to_owned()),
            Plugin::TwoFactor => ("twoFactor", "twoFactor()".to_owned()),
            Plugin::Username => ("username", "username()".to_owned()),
            // Packages of their own.
            Plugin::Passkey | Plugin::Sso => continue,
        };
        imports.push(name);
        calls.push(call);
    }
    let mut out = String::from("import { betterAuth } from \"better-auth\";\n");
    if !imports.is_empty() {
        let _ = writeln!(
            out,
            "import {{ {} }} from \"better-auth/plugins\";",
            imports.join(", ")
        );
    }
    if plugins.contains(&Plugin::Passkey) {
        out.push_str("import { passkey } from \"@better-auth/passkey\"; // before 1.4: better-auth/plugins/passkey\n");
        calls.push("passkey()".to_owned());
    }
    if plugins.contains(&Plugin::Sso) {
        out.push_str("import { sso } from \"@better-auth/sso\";\n");
        calls.push("sso()".to_owned());
    }
    out.push_str(
        "\nexport const auth = betterAuth({\n  database, // the one the users are imported into\n",
    );
    let passwords = n.native + n.hashed + n.live + n.reset > 0;
    let verified = per_cent(n.verified, n.users);
    if passwords {
        let all = verified >= VERIFIED_PER_CENT;
        let _ = write!(
            out,
            "  emailAndPassword: {{\n    enabled: true,\n    // {verified} % of the addresses are verified{}\n    requireEmailVerification: {all},\n    sendResetPassword: async ({{ user, url }}) => {{ /* your mail */ }},\n  }},\n",
            if all {
                "."
            } else {
                ": whoever is not could not sign in. Switch it on once they had a mail."
            },
        );
    }
    let mut built_in = Vec::new();
    let mut others = Vec::new();
    for provider in n.by_provider.keys() {
        if BUILT_IN.contains(&provider.as_str()) {
            built_in.push(provider.clone());
        } else if provider != "(others)" {
            others.push(provider.clone());
        }
    }
    if !built_in.is_empty() {
        out.push_str("  socialProviders: {\n");
        for provider in &built_in {
            let upper = provider.to_uppercase();
            let _ = writeln!(
                out,
                "    {provider}: {{ clientId: process.env.{upper}_CLIENT_ID!, clientSecret: process.env.{upper}_CLIENT_SECRET! }},"
            );
        }
        out.push_str("  },\n");
    }
    if !others.is_empty() {
        let told: Vec<String> = others.iter().map(|name| plain(name)).collect();
        let _ = writeln!(
            out,
            "  // With the genericOAuth plugin, under the same ids: {}",
            told.join(", ")
        );
    }
    if n.with_social > 0 {
        // Rows are imported, so nothing is left to matching by address.
        out.push_str("  account: {\n    accountLinking: {\n      enabled: true,\n      // Accounts come over as rows. Name nobody here whose addresses are not proven.\n      trustedProviders: [],\n    },\n  },\n");
    }
    out.push_str(
        "  user: {\n    additionalFields: {\n      // Everything else the old system kept, nested; JSON text, never sent by a client.\n      metadata: { type: \"string\", required: false, input: false, returned: false },\n    },\n  },\n",
    );
    if !calls.is_empty() {
        let _ = writeln!(out, "  plugins: [\n    {},\n  ],", calls.join(",\n    "));
    }
    out.push_str("});\n");
    (out, built_in)
}

/// A name from an export, fit for a comment.
fn plain(name: &str) -> String {
    let kept = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_.:".contains(*c));
    kept.take(64).collect()
}
