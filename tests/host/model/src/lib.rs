// SPDX-License-Identifier: GPL-2.0

//! Ends of I/O that wake, each against everybody who may do something to that page meanwhile. A subject
//! is a machine of [`stateright`], and its file says what is assumed and bounded.

pub mod reads;
pub mod writeback;

pub use writeback::{check, proposals};

use stateright::{Checker, Model};
use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::hash::Hash;

/// What exhaustive search has found.
pub struct Found {
    pub states: usize,
    /// For each fault that can happen, the shortest way there, a line a step.
    pub lost: BTreeMap<&'static str, Vec<String>>,
}

/// Looks at every interleaving. A machine looks for one fault, or for all; `begins` is what is to be said of
/// the state that a way begins with.
fn search<M>(
    machine: impl Fn(Option<&'static str>) -> M,
    begins: impl Fn(&M::State) -> Option<String>,
) -> Found
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + Display + PartialEq,
{
    // One thread: breadth first finds the shortest way.
    let all = machine(None).checker().threads(1).spawn_bfs().join();
    let mut lost = BTreeMap::new();
    for fault in all.discoveries().into_keys() {
        // Each again by itself: of what it finds more than once the checker keeps the last.
        let search = machine(Some(fault)).checker().threads(1).spawn_bfs().join();
        let Some(path) = search.discovery(fault) else {
            continue;
        };
        let first = path.clone().into_states().into_iter().next();
        let first = first.as_ref().and_then(&begins);
        let steps = path.into_actions();
        let steps = steps.iter().map(|action| action.to_string());
        lost.insert(fault, first.into_iter().chain(steps).collect());
    }
    Found {
        states: all.unique_state_count(),
        lost,
    }
}
