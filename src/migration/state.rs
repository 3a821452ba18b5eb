//! Where each user stands on the way from the old system, and the only legal moves.

/// Where a user stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Known here, and nothing has been tried yet.
    Imported,
    /// Has an old hash that no sign-in has met yet.
    Pending,
    /// Signed in with the old password; the hash is a native one now, the old one is kept until `finalize`.
    Rehashed,
    /// The old system knew the password; a native hash was made of it.
    Jit,
    /// Nothing here can check the password: the old hash was none that anything fits, or it was erased. Whoever comes is sent a link.
    Reset,
    /// Was sent a link, because nothing here or there could check the password.
    ResetSent,
    /// Nothing is left to do: the password is Better Auth's own and the old hash is erased, or there never was one.
    Done,
    /// Must not get in this way: the identity was somebody else's, a second factor cannot be checked, or the account is parked.
    Blocked,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Imported,
        Self::Pending,
        Self::Rehashed,
        Self::Jit,
        Self::Reset,
        Self::ResetSent,
        Self::Done,
        Self::Blocked,
    ];

    /// The word in tables, metrics and the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Pending => "pending",
            Self::Rehashed => "rehashed",
            Self::Jit => "jit",
            Self::Reset => "reset",
            Self::ResetSent => "reset-sent",
            Self::Done => "done",
            Self::Blocked => "blocked",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether a user may go from here to there. Nobody ever goes back to having less than before: a native password stays one.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            // An import may be run again.
            (Self::Imported | Self::Reset | Self::ResetSent, Self::Pending)
            | (
                Self::Imported | Self::Pending | Self::Reset | Self::ResetSent,
                Self::Rehashed | Self::Jit,
            )
            | (Self::Imported | Self::Pending, Self::Reset)
            | (Self::Imported | Self::Pending | Self::Reset, Self::ResetSent)
            | (
                Self::Imported
                | Self::Pending
                | Self::Reset
                | Self::ResetSent
                | Self::Rehashed
                | Self::Jit,
                Self::Done | Self::Blocked,
            )
            // Somebody has looked into it.
            | (Self::Blocked, Self::Imported | Self::Pending) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_states_are_one_to_one() {
        for state in State::ALL {
            assert_eq!(State::named(state.as_str()), Some(state));
        }
        assert_eq!(State::named("other"), None);
    }

    #[test]
    fn nobody_with_a_native_password_goes_back_to_an_old_hash() {
        for state in [State::Rehashed, State::Jit, State::Done] {
            for before in [
                State::Imported,
                State::Pending,
                State::Reset,
                State::ResetSent,
            ] {
                assert!(!state.may_become(before), "{state:?} -> {before:?}");
            }
        }
        assert!(State::Pending.may_become(State::Rehashed));
        assert!(State::Rehashed.may_become(State::Done));
    }
}
