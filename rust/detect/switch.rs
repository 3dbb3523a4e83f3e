// SPDX-License-Identifier: GPL-2.0

//! What is to be on, and how to get there: all of it, or nothing changes.

use super::{
    amplify::{Place, Spec},
    config::Config,
};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Are findings looked for?
    pub(crate) detect: bool,
    pub(crate) config: Config,
    /// The delay, if there is to be one.
    pub(crate) delay: Option<Spec>,
}

/// The probes that are on for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct On {
    pub(crate) end: bool,
    pub(crate) wake: bool,
    pub(crate) start: bool,
    pub(crate) end_read: bool,
    pub(crate) private_2: bool,
    pub(crate) unlock: bool,
    pub(crate) victim: bool,
    pub(crate) past: bool,
    pub(crate) marks: bool,
    pub(crate) around_clear: bool,
    pub(crate) after_wake: bool,
    pub(crate) free_watch: bool,
}

impl From<&Wanted> for On {
    fn from(wanted: &Wanted) -> Self {
        let Wanted {
            detect,
            config,
            delay,
        } = wanted;
        let place = delay.map(|spec| spec.place);
        Self {
            end: *detect,
            wake: *detect || place == Some(Place::BeforeWake),
            start: *detect && config.start,
            end_read: *detect && config.end_read,
            private_2: *detect && config.private_2,
            unlock: *detect && config.unlock,
            victim: *detect && config.victims,
            past: *detect && config.past,
            marks: *detect && config.marks,
            around_clear: matches!(place, Some(Place::BeforeClear | Place::AfterClear)),
            after_wake: place == Some(Place::AfterWake),
            free_watch: delay.is_some(),
        }
    }
}

impl On {
    /// Is anything?
    pub(crate) fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Something that can be switched.
pub(crate) trait Switch<E> {
    fn is_on(&self) -> bool;

    /// Switches it on, which may fail. Then it is off.
    fn on(&mut self) -> Result<(), E>;

    fn off(&mut self);
}

/// Switches on what is wanted and not on yet; nothing is switched off. On an error all is as before.
pub(crate) fn switch_on<E>(switches: &mut [(&mut dyn Switch<E>, bool)]) -> Result<(), E> {
    // What was on before stays, whatever comes: a bit for each that wasn't.
    let mut new = 0u32;
    let mut result = Ok(());
    for (i, (switch, wanted)) in switches.iter_mut().enumerate() {
        if *wanted && !switch.is_on() {
            result = switch.on();
            if result.is_err() {
                break;
            }
            new |= 1 << i;
        }
    }
    if result.is_err() {
        for (i, (switch, _)) in switches.iter_mut().enumerate().rev() {
            if new & (1 << i) != 0 {
                switch.off();
            }
        }
    }
    result
}

/// Switches off what is not wanted.
pub(crate) fn switch_off<E>(switches: &mut [(&mut dyn Switch<E>, bool)]) {
    for (switch, wanted) in switches.iter_mut().rev() {
        if !*wanted && switch.is_on() {
            switch.off();
        }
    }
}
