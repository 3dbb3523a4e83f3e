// SPDX-License-Identifier: GPL-2.0

//! Every interleaving of a few threads, by loom, and in each of them every value that the C11 memory
//! model lets a load see.
//!
//! Threads are contexts: a task on another CPU, or an interrupt that came in between. The geometry is
//! the module's, but for a table of one bucket, so that all pages meet in it, and a ring of one
//! or two slots.
//!
//! What loom leaves out: loads that see what is stored later (load buffering), and, in the models that
//! say [`up_to`], schedules with more preemptions than that. To allow more for a night, set
//! LOOM_MAX_PREEMPTIONS.

mod clear;
mod marks;
mod owners;
mod range;
mod ring;
mod rows;

use crate::detect::window::{Bit, Bucket, Event, Fate, Mark, Marked, Opened, Table, Trace, Window};
use loom::{
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
    thread::{self, JoinHandle},
};
use std::{ops::Deref, sync::Arc};

const WRITEBACK: Bit = Bit::Writeback;

/// Tries all schedules of `model`.
fn all(model: impl Fn() + Sync + Send + 'static) {
    loom::model::Builder::new().check(model);
}

/// Tries those in which threads are interrupted up to that many times, for models of which all would
/// take minutes.
fn up_to(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(model);
}

/// Something that several threads use. The counting of its owners is not part of a model.
struct Shared<T>(Arc<T>);

impl<T: 'static> Shared<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(value))
    }

    /// Runs `f` in a thread.
    fn spawn<R: 'static>(&self, f: impl FnOnce(&T) -> R + 'static) -> JoinHandle<R> {
        let this = self.0.clone();
        thread::spawn(move || f(&this))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// That something happened before what is done by who sees it.
struct Flag(AtomicBool);

impl Flag {
    fn new() -> Shared<Self> {
        Shared::new(Self(AtomicBool::new(false)))
    }

    fn raise(&self) {
        self.0.store(true, Release);
    }

    fn is_up(&self) -> bool {
        self.0.load(Acquire)
    }
}

type Windows = Table<Box<[Bucket; 1]>, 1>;

fn windows() -> Shared<Windows> {
    Shared::new(Table::new(Box::new([Bucket::new()])))
}

/// Opens the window number `id`, which is its time as well, and must succeed.
fn open(table: &Windows, pfn: u64, context: u64, id: u64) {
    assert!(
        table.open(pfn, WRITEBACK, context, opened(id)).fate != Fate::Dropped,
        "dropped"
    );
}

/// Closes a window, and says all that is known of it.
fn wake(table: &Windows, pfn: u64, bit: Bit, context: u64) -> Option<Window> {
    let closed = table.wake(pfn, bit, context)?;
    Some(closed.window())
}

/// All fields are from `id`.
fn opened(id: u64) -> Opened {
    Opened {
        when_ns: id,
        caller: id,
        epoch: id,
        slot: id as u32,
        row: id as u8,
        function: id as u8,
        cpu: id as u16,
    }
}

/// The number of a window that was found.
fn id(window: &Window) -> u64 {
    let id = window.opened.when_ns;
    assert_eq!(window.opened, opened(id), "torn");
    id
}

/// All fields are from `id`.
fn event(id: u32) -> Event {
    Event {
        when_ns: id.into(),
        pid: id as i32,
        cpu: id as u16,
        context: id as u16,
        comm: [id as u8; 16],
        stack: [id as usize; crate::sync::STACK],
    }
}

fn mark(table: &Windows, pfn: u64, mark: Mark, id: u32) -> Marked {
    table.mark(pfn, mark, || event(id))
}

/// Who left the mark, 0 if that isn't known; `None` without a mark.
fn marker(window: &Window, mark: Mark) -> Option<u32> {
    match window.mark(mark) {
        Trace::None => None,
        Trace::Unknown => Some(0),
        Trace::Known(by) => {
            assert_eq!(by, event(by.pid as u32), "torn");
            Some(by.pid as u32)
        }
    }
}
