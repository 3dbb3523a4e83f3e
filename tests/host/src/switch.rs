// SPDX-License-Identifier: GPL-2.0

//! All of what is asked for, or nothing changes.

use crate::detect::amplify::Spec;
use crate::detect::config::Config;
use crate::detect::switch::{switch_off, switch_on, On, Switch, Wanted};
use proptest::prelude::*;

struct Fake {
    on: bool,
    fails: bool,
}

impl Switch<()> for Fake {
    fn is_on(&self) -> bool {
        self.on
    }

    fn on(&mut self) -> Result<(), ()> {
        assert!(!self.on, "twice");
        self.on = !self.fails;
        if self.fails {
            Err(())
        } else {
            Ok(())
        }
    }

    fn off(&mut self) {
        assert!(self.on, "twice");
        self.on = false;
    }
}

fn with<R>(
    fakes: &mut [Fake],
    wanted: &[bool],
    f: impl Fn(&mut [(&mut dyn Switch<()>, bool)]) -> R,
) -> R {
    let mut switches: Vec<(&mut dyn Switch<()>, bool)> = fakes
        .iter_mut()
        .zip(wanted)
        .map(|(fake, &wanted)| (fake as &mut dyn Switch<()>, wanted))
        .collect();
    f(&mut switches)
}

proptest! {
    /// From any state to any other, and any of them may fail.
    #[test]
    fn all_or_nothing(states in prop::collection::vec(any::<(bool, bool, bool)>(), 1..12)) {
        let mut fakes: Vec<Fake> = states.iter().map(|&(on, _, fails)| Fake { on, fails }).collect();
        let wanted: Vec<bool> = states.iter().map(|&(_, wanted, _)| wanted).collect();
        let now = |fakes: &[Fake]| -> Vec<bool> { fakes.iter().map(|fake| fake.on).collect() };
        let before = now(&fakes);
        let can = states.iter().all(|&(on, wanted, fails)| on || !wanted || !fails);
        let result = with(&mut fakes, &wanted, switch_on);
        prop_assert_eq!(result.is_ok(), can);
        if !can {
            prop_assert_eq!(now(&fakes), before);
            return Ok(());
        }
        // In between there is no less than before.
        prop_assert!(now(&fakes).iter().zip(&before).all(|(now, before)| now >= before));
        with(&mut fakes, &wanted, |switches| switch_off(switches));
        prop_assert_eq!(now(&fakes), wanted);
    }
}

#[test]
fn what_is_on() {
    let nothing = Wanted::default();
    assert_eq!(On::from(&nothing), On::default());
    let detecting = Wanted {
        detect: true,
        ..nothing
    };
    let on = On::from(&detecting);
    assert!(on.end && on.wake && on.end_read && on.marks && !on.unlock && !on.free_watch);
    let delay = |text| Wanted {
        delay: Spec::parse(text).expect("good"),
        ..nothing
    };
    let on = On::from(&delay("where=before-wake us=5"));
    assert!(on.wake && on.free_watch && !on.end && !on.around_clear);
    let on = On::from(&delay("where=after-clear us=5"));
    assert!(on.around_clear && !on.wake && !on.after_wake);
    let on = On::from(&delay("where=after-wake us=5"));
    assert!(on.after_wake && !on.around_clear);
    // The audit is done where windows are opened, or not at all.
    let audit = Wanted {
        config: Config {
            end_read: false,
            audit_read: true,
            ..Config::default()
        },
        ..detecting
    };
    assert!(!On::from(&audit).end_read);
}
