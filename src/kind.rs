//! The only registration mechanism: every family (credentials, sources, presets) lists its members in one `KINDS` table.

/// One member of a family.
pub struct Kind<B> {
    /// The word used for it in the configuration.
    pub name: &'static str,
    /// One line for `--help` and for the "known are" message.
    pub about: &'static str,
    /// How it is built from its settings.
    pub build: B,
}

impl<B> std::fmt::Debug for Kind<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Finds the member called `name`, or says which names there are.
///
/// # Errors
/// The text names the unknown word and every known one.
pub fn find<'k, B>(family: &str, kinds: &'k [Kind<B>], name: &str) -> Result<&'k Kind<B>, String> {
    kinds.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        format!("unknown {family} `{name}`; known are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[Kind<()>] = &[
        Kind {
            name: "one",
            about: "first",
            build: (),
        },
        Kind {
            name: "two",
            about: "second",
            build: (),
        },
    ];

    #[test]
    fn a_known_name_is_found_and_an_unknown_one_lists_the_known() {
        assert_eq!(find("thing", KINDS, "two").map(|k| k.about), Ok("second"));
        let error = find("thing", KINDS, "three").map(|k| k.about).unwrap_err();
        assert_eq!(error, "unknown thing `three`; known are one, two");
    }
}
