//! Doubt about the secret: no database tells whether it is the app's own, but the cookies do.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::gate::Decision;
use crate::session::Rejection;
use crate::session::resolve::Tier;

/// So many wrong signatures, and not one right one, since the start. A stranger can send these too: the operator is asked to look,
/// nothing else happens.
const WRONG_IN_A_ROW: u32 = 20;

/// Watches the signatures until one is right.
#[derive(Debug, Default)]
pub struct Doubt {
    settled: AtomicBool,
    wrong: AtomicU32,
}

impl Doubt {
    /// Takes note of a decision. `true`, once: it is time to say something.
    pub fn arises(&self, decision: &Decision) -> bool {
        if self.settled.load(Ordering::Relaxed) {
            return false;
        }
        match (decision.rejection, decision.tier) {
            (Some(Rejection::BadSignature), _) => {
                self.wrong.fetch_add(1, Ordering::Relaxed) + 1 == WRONG_IN_A_ROW
            }
            (_, Tier::None | Tier::Forged) => false,
            (_, Tier::Signature | Tier::Memory | Tier::Negative | Tier::Cookie | Tier::Store) => {
                self.settled.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Reason, Verdict};
    use crate::request::Form;
    use crate::route::RouteId;

    fn decision(rejection: Option<Rejection>, tier: Tier) -> Decision {
        Decision {
            at: crate::time::UnixMs(0),
            verdict: Verdict::Forbidden,
            reason: Reason::Denied,
            route: RouteId(0),
            destination: RouteId(0),
            form: Form::Program,
            tier,
            rejection,
            protected: true,
        }
    }

    #[test]
    fn it_arises_once_after_many_wrong_signatures_and_never_after_a_right_one() {
        let wrong = decision(Some(Rejection::BadSignature), Tier::Forged);
        let told = |doubt: &Doubt| (0..100).filter(|_| doubt.arises(&wrong)).count();
        assert_eq!(told(&Doubt::default()), 1);
        let settled = Doubt::default();
        settled.arises(&decision(None, Tier::Memory));
        assert_eq!(told(&settled), 0);
        // Nothing presented says nothing about the secret.
        let strangers = Doubt::default();
        strangers.arises(&decision(None, Tier::None));
        assert_eq!(told(&strangers), 1);
    }
}
