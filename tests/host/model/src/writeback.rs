// SPDX-License-Identifier: GPL-2.0

//! The end of writeback of one page, against everybody who may do something to that page meanwhile.
//!
//! One step is one access to what is shared, and the steps of all are interleaved in every way. A
//! proposal is a program for the end of writeback, a kind of waiter, and whether PG_writeback has a
//! reference; all else is the same for all.
//!
//! Assumed: sequential consistency. Within these bounds it is exhaustive: one end of writeback, in
//! the order of mm/filemap.c and mm/page-writeback.c (6.12, and patches/6.12); one waiter for it, who has the
//! folio locked and a reference, and truncates or unlocks; one truncation that needs not wait; reclaim, which comes by once,
//! freezes the refcount and unlocks before it frees; the page free, a tail, or another order-0 page; one second
//! writeback, of that or of the same folio, with one waiter who has it locked, and its end as one step. Or
//! one end of a read, which unlocks without a reference. A third waiter is for PG_locked, in the same queue: none, an
//! exclusive one (folio_lock()), or one that drops its reference before it sleeps (migration_entry_wait()
//! and the page cache's reads). A wake-up for PG_locked is one step: it has the queue's lock from its first
//! access to its last. PG_waiters is stale at first, or not; the mapping is one whose i_pages lock the end
//! of writeback takes, or not (the swap cache). Not modelled: several folios in a queue but for
//! what they leave behind, a stale PG_waiters; killed waiters, statistics.

use crate::{search, Found};
use stateright::{Model, Property};

/// A step of `folio_end_writeback()`, in the words of 6.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// folio_get()
    Get,
    /// folio_test_clear_writeback()
    Clear,
    /// folio_xor_flags_has_waiters(): the clear, and PG_waiters of that moment
    Xor,
    /// folio_test_waiters()
    Test,
    /// folio_test_waiters(), and folio_get() if so
    TestGet,
    /// xa_lock_irqsave(&mapping->i_pages)
    LockPages,
    UnlockPages,
    /// folio_wake_bit(), if PG_waiters was seen: takes the queue's lock
    LockIfSeen,
    /// folio_wake_bit(), always
    Lock,
    /// try_cmpxchg() while PG_waiters is not set: clears and is done; else goes on
    Cmpxchg,
    /// __wake_up_locked_key(): one waiter a step
    Wake,
    /// folio_clear_waiters()
    ClearWaiters,
    Unlock,
    /// folio_put() of the reference taken here
    PutHeld,
    /// folio_put() of PG_writeback's
    PutWriteback,
}

/// What differs from one proposal to the next.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub key: &'static str,
    pub end: Vec<Op>,
    /// Does folio_wait_writeback() look again?
    pub loops: bool,
    pub writeback_has_reference: bool,
    pub asserts: Assertion,
}

/// What the kernel warns of in folio_wake_bit().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assertion {
    None,
    /// A refcount of 0.
    Count,
    /// A refcount of 0, and the flags of a freed page.
    CountAndFlags,
}

pub fn proposals() -> Vec<Proposal> {
    use Op::*;
    let wake = [LockIfSeen, Wake, ClearWaiters, Unlock];
    let p = |key, end: &[&[Op]], loops| Proposal {
        key,
        end: end.concat(),
        loops,
        writeback_has_reference: key == "writeback-holds-ref",
        asserts: match key {
            "warn-zero-count-plain" => Assertion::Count,
            "warn-zero-count" => Assertion::CountAndFlags,
            _ => Assertion::None,
        },
    };
    vec![
        p("broken", &[&[Clear, Test], &wake], false),
        p(
            "get-if-waiters",
            &[&[LockPages, Clear, TestGet, UnlockPages], &wake, &[PutHeld]],
            false,
        ),
        p(
            "get-around",
            &[&[Get, Clear, Test], &wake, &[PutHeld]],
            false,
        ),
        p("wait-loop", &[&[Clear, Lock, Wake, Unlock]], true),
        p("wait-loop-waiter", &[&[Clear, Test], &wake], true),
        p("wait-loop-waker", &[&[Clear, Lock, Wake, Unlock]], false),
        p(
            "writeback-holds-ref",
            &[&[Clear, Test], &wake, &[PutWriteback]],
            false,
        ),
        p(
            "clear-under-lock-sketch",
            &[&[
                LockPages,
                Cmpxchg,
                Lock,
                Wake,
                ClearWaiters,
                Clear,
                Unlock,
                UnlockPages,
            ]],
            false,
        ),
        p(
            "clear-under-lock",
            &[&[LockPages, Cmpxchg, Lock, Clear, Wake, Unlock, UnlockPages]],
            false,
        ),
        // Assertions change nothing of it.
        p(
            "warn-zero-count-plain",
            &[&[Get, Xor], &wake, &[PutHeld]],
            true,
        ),
        p("warn-zero-count", &[&[Get, Xor], &wake, &[PutHeld]], true),
        p(
            "warn-unlocked-start",
            &[&[Get, Xor], &wake, &[PutHeld]],
            true,
        ),
        p("stock", &[&[Get, Xor], &wake, &[PutHeld]], true),
        p("stock-no-ref", &[&[Xor], &wake], true),
        p(
            "lost-wake",
            &[&[Get, Test, Clear], &wake, &[PutHeld]],
            false,
        ),
    ]
}

/// Who takes a lock or sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    /// The end of the first life's writeback.
    End,
    /// Waits for the first life's writeback, with the folio locked, and may truncate then.
    A,
    /// Waits for the second writeback: of the page's next life, or of the same folio.
    B,
    /// Waits for PG_locked.
    C,
    /// Truncates without having to wait.
    Dropper,
    Reclaim,
    /// The end of a read.
    Read,
}

/// What kind of waiter the third is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Third {
    Absent,
    /// folio_lock(): EXCLUSIVE
    Exclusive,
    /// folio_put_wait_locked(): DROP
    Drops,
}

/// folio_wait_writeback().
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    NotYet,
    Test,
    TakeLock,
    SetWaiters,
    TestAgain,
    /// folio_put(), queued and before the sleep
    Put,
    Sleep,
    Returned,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    First,
    Free,
    Order0,
    Tail,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub writeback: bool,
    pub waiters: bool,
    pub life: Life,
    pub cached: bool,
    /// Without those of the page cache.
    pub refs: u8,
    pub queue_lock: Option<Who>,
    pub pages_lock: bool,
    pub folio_lock: Option<Who>,
    pub queue: Vec<Who>,
    pub woken: Vec<Who>,
    /// Of the end of writeback: the next step, what it saw, what it holds.
    pub step: u8,
    pub seen: bool,
    pub held: bool,
    pub a: Wait,
    pub b: Wait,
    pub c: Wait,
    pub third: Third,
    /// Those who have cleared PG_locked and seen PG_waiters, and have yet to wake.
    pub waking: Vec<Who>,
    /// The refcount is frozen at 0: neither cached nor free.
    pub frozen: bool,
    /// Reclaim has come by, which it does once.
    pub reclaimed: bool,
    /// The second writeback has begun, and is over.
    pub second: bool,
    pub second_over: bool,
    /// Of the last step only, or there would be a state for every set of them.
    pub faults: u16,
}

/// What can be lost. The first six are the races of tests/lab/src/matrix.rs. `stray` is any access of the end of
/// writeback to the flags of memory that is free or somebody else's, `late-unlock` the same of the end
/// of a read, which no proposal is about. An alarm is an assertion that fires: on a page that is not the
/// waker's any more, or, falsely, on one that is.
pub const FAULTS: [&str; 10] = [
    "order0",
    "tail",
    "own",
    "later",
    "waits",
    "dma",
    "stray",
    "late-unlock",
    "true-alarm",
    "false-alarm",
];
const ORDER0: u16 = 1;
const TAIL: u16 = 2;
const OWN: u16 = 4;
const LATER: u16 = 8;
const DMA: u16 = 32;
const STRAY: u16 = 64;
const LATE_UNLOCK: u16 = 128;
const TRUE_ALARM: u16 = 256;
const FALSE_ALARM: u16 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    End(Op),
    Locks,
    Waits(Who, Wait),
    Truncates(Who),
    Unlocks(Who),
    Drops,
    Reclaims,
    Freezes,
    Comes,
    WakesLocked(Who),
    BecomesTail,
    BecomesOrder0,
    WrittenAgain,
    SecondEnds,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |who: &Who| match who {
            Who::A => "first waiter",
            Who::B => "second waiter",
            Who::C => "waiter for PG_locked",
            Who::Reclaim => "reclaim",
            Who::Read => "end of a read",
            Who::End | Who::Dropper => "another task",
        };
        match self {
            Self::End(op) => {
                let what = match op {
                    Op::Get => "folio_get()",
                    Op::Clear => "folio_test_clear_writeback(): PG_writeback is clear",
                    Op::Xor => "folio_xor_flags_has_waiters(): PG_writeback is clear",
                    Op::Test => "folio_test_waiters()",
                    Op::TestGet => "folio_test_waiters(), and folio_get() if they are",
                    Op::LockPages => "xa_lock_irqsave(&mapping->i_pages)",
                    Op::UnlockPages => "xa_unlock_irqrestore(&mapping->i_pages)",
                    Op::LockIfSeen => "folio_wake_bit(), if PG_waiters was seen: the queue's lock",
                    Op::Lock => "folio_wake_bit(): the queue's lock",
                    Op::Cmpxchg => "try_cmpxchg() of the flags, unless PG_waiters is set",
                    Op::Wake => "__wake_up_locked_key() wakes the next waiter, if there is one",
                    Op::ClearWaiters => "folio_clear_waiters()",
                    Op::Unlock => "the queue's lock is dropped",
                    Op::PutHeld | Op::PutWriteback => "folio_put()",
                };
                write!(f, "end of writeback: {what}")
            }
            Self::Locks => write!(f, "first waiter: folio_lock(), folio_wait_writeback()"),
            Self::Waits(who, step) => {
                let bit = if *who == Who::C {
                    "locked"
                } else {
                    "writeback"
                };
                let step = match step {
                    Wait::NotYet | Wait::Test => format!("folio_test_{bit}()"),
                    Wait::TakeLock => "folio_wait_bit_common(): the queue's lock".to_string(),
                    Wait::SetWaiters => "folio_set_waiters()".to_string(),
                    Wait::TestAgain => format!(
                        "folio_trylock_flag() looks at PG_{bit} again, and queues itself if it is set"
                    ),
                    Wait::Put => "folio_put(), and sleeps".to_string(),
                    Wait::Sleep => "has been woken, and runs".to_string(),
                    Wait::Returned | Wait::Gone => "is done".to_string(),
                };
                write!(f, "{}: {step}", of(who))
            }
            Self::Truncates(who) => {
                write!(f, "{}: truncate_inode_folio(), folio_unlock()", of(who))
            }
            Self::Unlocks(who) => write!(
                f,
                "{}: folio_unlock() clears PG_locked and looks for waiters",
                of(who)
            ),
            Self::Reclaims => write!(f, "reclaim: folio_trylock()"),
            Self::Freezes => write!(
                f,
                "reclaim: folio_ref_freeze(), __filemap_remove_folio(), if nobody has a reference"
            ),
            Self::Comes => write!(f, "waiter for PG_locked: folio_try_get()"),
            Self::WakesLocked(who) => write!(
                f,
                "{}: folio_wake_bit() for PG_locked, and its reference is dropped",
                of(who)
            ),
            Self::Drops => write!(
                f,
                "another task: truncates the folio without having to wait"
            ),
            Self::BecomesTail => write!(f, "another task: the page is a tail of a huge page"),
            Self::BecomesOrder0 => write!(
                f,
                "another task: the page is another file's, locked, and under writeback"
            ),
            Self::WrittenAgain => write!(
                f,
                "another task: the folio is locked, and under writeback again"
            ),
            Self::SecondEnds => write!(f, "the second writeback ends, and wakes"),
        }
    }
}

/// A proposal's machine.
pub struct Machine {
    proposal: Proposal,
    /// Is the mapping one whose i_pages lock is taken at the end of writeback?
    tags: bool,
    /// The one fault that is looked for, or all of them.
    only: Option<&'static str>,
}

/// Looks at every interleaving.
pub fn check(proposal: &Proposal, tags: bool) -> Found {
    let machine = |only| Machine {
        proposal: proposal.clone(),
        tags,
        only,
    };
    search(machine, |state| {
        let stale = "PG_waiters is set, of a wait that is over";
        state.waiters.then(|| stale.to_string())
    })
}

impl Machine {
    fn init(&self, third: Third, reading: bool, stale: bool) -> State {
        let has_reference = self.proposal.writeback_has_reference && !reading;
        State {
            writeback: !reading,
            waiters: stale,
            life: Life::First,
            cached: true,
            refs: u8::from(has_reference),
            queue_lock: None,
            pages_lock: false,
            folio_lock: reading.then_some(Who::Read),
            queue: Vec::new(),
            woken: Vec::new(),
            step: if reading {
                self.proposal.end.len() as u8
            } else {
                0
            },
            seen: false,
            held: false,
            a: Wait::NotYet,
            b: Wait::NotYet,
            c: Wait::NotYet,
            third,
            waking: Vec::new(),
            frozen: false,
            reclaimed: false,
            second: false,
            second_over: false,
            faults: 0,
        }
    }
}

impl State {
    fn of(&mut self, who: Who) -> &mut Wait {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
            _ => &mut self.c,
        }
    }

    /// In the page cache, for the first time, and nobody has it locked or has written it again.
    fn lockable(&self) -> bool {
        self.life == Life::First && self.cached && self.folio_lock.is_none() && !self.second
    }

    /// The same for who has not to wait for writeback, nor for i_pages.
    fn truncatable(&self) -> bool {
        self.lockable() && !self.writeback && !self.pages_lock
    }

    /// It is under writeback again, and who has it locked looks at that.
    fn write_again(&mut self) {
        self.writeback = true;
        self.second = true;
        self.b = Wait::Test;
        self.folio_lock = Some(Who::B);
        self.refs += 1;
    }

    /// The first of those in the queue who wait for PG_writeback.
    fn next_waiter(&self) -> Option<usize> {
        self.queue.iter().position(|who| *who != Who::C)
    }
}

impl Machine {
    fn wait(&self, s: &mut State, who: Who) -> bool {
        let pc = *s.of(who);
        if who == Who::C {
            return self.wait_locked(s, pc);
        }
        let next = match pc {
            Wait::Test => {
                if s.writeback {
                    Wait::TakeLock
                } else {
                    Wait::Returned
                }
            }
            Wait::TakeLock if s.queue_lock.is_none() => {
                s.queue_lock = Some(who);
                Wait::SetWaiters
            }
            Wait::SetWaiters => {
                s.waiters = true;
                Wait::TestAgain
            }
            Wait::TestAgain => {
                s.queue_lock = None;
                if s.writeback {
                    s.queue.push(who);
                    Wait::Sleep
                } else {
                    Wait::Returned
                }
            }
            Wait::Sleep if s.woken.contains(&who) => {
                s.woken.retain(|w| *w != who);
                if self.proposal.loops {
                    Wait::Test
                } else {
                    Wait::Returned
                }
            }
            _ => return false,
        };
        if next == Wait::Returned && s.writeback {
            s.faults |= match (who, s.life) {
                (Who::B, Life::Order0) => ORDER0,
                (Who::B, _) => LATER,
                _ => OWN,
            };
        }
        *s.of(who) = next;
        true
    }

    /// folio_wait_bit_common() for PG_locked; whom it lets have the lock unlocks at once.
    fn wait_locked(&self, s: &mut State, pc: Wait) -> bool {
        let got = |s: &mut State| {
            s.refs -= 1;
            Wait::Gone
        };
        s.c = match pc {
            Wait::Test if s.folio_lock.is_none() => got(s),
            Wait::Test => Wait::TakeLock,
            Wait::TakeLock if s.queue_lock.is_none() => {
                s.queue_lock = Some(Who::C);
                Wait::SetWaiters
            }
            Wait::SetWaiters => {
                s.waiters = true;
                Wait::TestAgain
            }
            Wait::TestAgain => {
                s.queue_lock = None;
                if s.folio_lock.is_none() {
                    got(s)
                } else {
                    s.queue.push(Who::C);
                    match s.third {
                        Third::Drops => Wait::Put,
                        _ => Wait::Sleep,
                    }
                }
            }
            Wait::Put => {
                s.refs -= 1;
                Wait::Sleep
            }
            Wait::Sleep if s.woken.contains(&Who::C) => {
                s.woken.retain(|who| *who != Who::C);
                match s.third {
                    // It looks the page up again.
                    Third::Drops => Wait::Gone,
                    _ => Wait::Test,
                }
            }
            _ => return false,
        };
        true
    }

    /// The assertion at the entry of folio_wake_bit().
    fn asserts(&self, s: &mut State) {
        let counted = s.refs > 0 || s.cached;
        let fires = match self.proposal.asserts {
            Assertion::None => false,
            // A tail has no refcount of its own.
            Assertion::Count => s.life == Life::Tail || !counted,
            Assertion::CountAndFlags => s.life == Life::Free,
        };
        if fires {
            s.faults |= if s.life == Life::First {
                FALSE_ALARM
            } else {
                TRUE_ALARM
            };
        }
    }

    /// folio_unlock() of who has a reference until the wake-up is over, the end of a read excepted.
    fn unlock(&self, s: &mut State, who: Who) {
        s.folio_lock = None;
        if s.waiters {
            s.waking.push(who);
        } else {
            self.unlocked(s, who);
        }
    }

    fn unlocked(&self, s: &mut State, who: Who) {
        match who {
            Who::Read => {}
            Who::Reclaim if s.frozen => s.frozen = false,
            _ => s.refs -= 1,
        }
    }

    fn end(&self, s: &mut State, op: Op) -> bool {
        let touch = |s: &mut State| match s.life {
            Life::First => {}
            Life::Tail => s.faults |= TAIL | STRAY,
            _ => s.faults |= STRAY,
        };
        let pages = self.tags;
        // To the next of these steps, or to the end.
        let skip = |s: &mut State, to: &[Op]| {
            let at = self.proposal.end.iter().position(|op| to.contains(op));
            s.step = at.unwrap_or(self.proposal.end.len()) as u8;
        };
        match op {
            Op::Get => {
                touch(s);
                s.refs += 1;
                s.held = true;
            }
            Op::Clear => {
                touch(s);
                s.writeback = false;
            }
            Op::Xor => {
                touch(s);
                s.writeback = false;
                s.seen = s.waiters;
            }
            Op::Test => {
                touch(s);
                s.seen = s.waiters;
            }
            Op::TestGet => {
                touch(s);
                s.seen = s.waiters;
                if s.seen {
                    s.refs += 1;
                    s.held = true;
                }
            }
            Op::LockPages => s.pages_lock = pages,
            Op::UnlockPages => s.pages_lock = false,
            Op::LockIfSeen if !s.seen => {
                skip(s, &[Op::PutHeld, Op::PutWriteback]);
                return true;
            }
            Op::LockIfSeen | Op::Lock => {
                if s.queue_lock.is_some() {
                    return false;
                }
                s.queue_lock = Some(Who::End);
                self.asserts(s);
            }
            Op::Cmpxchg => {
                touch(s);
                if !s.waiters {
                    s.writeback = false;
                    skip(s, &[Op::UnlockPages]);
                    return true;
                }
            }
            Op::Wake => {
                if let Some(n) = s.next_waiter() {
                    let who = s.queue.remove(n);
                    s.woken.push(who);
                    return true;
                }
            }
            Op::ClearWaiters => {
                // The queue tells: who waits for PG_locked goes on to do so.
                if s.queue.is_empty() {
                    touch(s);
                    s.waiters = false;
                }
            }
            Op::Unlock => s.queue_lock = None,
            Op::PutHeld => {
                if s.held {
                    s.held = false;
                    s.refs -= 1;
                }
            }
            Op::PutWriteback => s.refs -= 1,
        }
        s.step += 1;
        true
    }
}

impl Model for Machine {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut states = Vec::new();
        // The checker begins with the last.
        for third in [Third::Drops, Third::Exclusive, Third::Absent] {
            for reading in [true, false] {
                for stale in [true, false] {
                    states.push(self.init(third, reading, stale));
                }
            }
        }
        states
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let mut candidates = vec![
            Action::Locks,
            Action::Waits(Who::A, s.a),
            Action::Waits(Who::B, s.b),
            Action::Waits(Who::C, s.c),
            Action::Truncates(Who::A),
            Action::Truncates(Who::B),
            Action::Unlocks(Who::A),
            Action::Unlocks(Who::B),
            Action::Unlocks(Who::Reclaim),
            Action::Unlocks(Who::Read),
            Action::Drops,
            Action::Reclaims,
            Action::Freezes,
            Action::Comes,
            Action::BecomesTail,
            Action::BecomesOrder0,
            Action::WrittenAgain,
            Action::SecondEnds,
        ];
        if let Some(op) = self.proposal.end.get(s.step as usize) {
            candidates.push(Action::End(*op));
        }
        candidates.extend(s.waking.iter().map(|who| Action::WakesLocked(*who)));
        actions.extend(
            candidates
                .into_iter()
                .filter(|a| self.next_state(s, *a).is_some()),
        );
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let s = &mut state;
        s.faults = 0;
        let possible = match action {
            Action::End(op) => self.end(s, op),
            Action::Locks => {
                let ok = s.lockable() && s.a == Wait::NotYet;
                s.a = Wait::Test;
                s.folio_lock = Some(Who::A);
                s.refs += 1;
                ok
            }
            Action::Waits(who, _) => self.wait(s, who),
            Action::Truncates(who) => {
                let ok = *s.of(who) == Wait::Returned && !s.pages_lock && s.cached;
                if ok {
                    if s.writeback {
                        s.faults |= DMA;
                    }
                    s.cached = false;
                    *s.of(who) = Wait::Gone;
                    self.unlock(s, who);
                }
                ok
            }
            Action::Unlocks(who) => {
                let ok = match who {
                    Who::Reclaim => s.frozen && s.folio_lock == Some(who),
                    Who::Read => s.folio_lock == Some(who),
                    _ => *s.of(who) == Wait::Returned,
                };
                if ok {
                    if matches!(who, Who::A | Who::B) {
                        *s.of(who) = Wait::Gone;
                    }
                    self.unlock(s, who);
                }
                ok
            }
            Action::WakesLocked(who) => {
                let ok = s.queue_lock.is_none();
                if ok {
                    s.waking.retain(|waking| *waking != who);
                    self.asserts(s);
                    if s.life != Life::First && who == Who::Read {
                        s.faults |= LATE_UNLOCK;
                    }
                    if let Some(n) = s.queue.iter().position(|who| *who == Who::C) {
                        s.queue.remove(n);
                        s.woken.push(Who::C);
                    }
                    if s.queue.is_empty() {
                        s.waiters = false;
                    }
                    self.unlocked(s, who);
                }
                ok
            }
            Action::Comes => {
                let first = s.life == Life::First && s.cached;
                let ok = first && s.third != Third::Absent && s.c == Wait::NotYet;
                s.refs += 1;
                s.c = Wait::Test;
                ok
            }
            Action::Reclaims => {
                let ok = s.lockable() && !s.writeback && !s.reclaimed;
                s.reclaimed = true;
                s.folio_lock = Some(Who::Reclaim);
                ok
            }
            Action::Freezes => {
                let ok = s.folio_lock == Some(Who::Reclaim) && !s.frozen && !s.pages_lock;
                if ok && s.refs == 0 {
                    s.frozen = true;
                    s.cached = false;
                } else if ok {
                    // It gives up; its own reference is from the LRU.
                    s.refs += 1;
                    self.unlock(s, Who::Reclaim);
                }
                ok
            }
            // Without having to wait.
            Action::Drops => {
                let ok = s.truncatable();
                if ok {
                    s.cached = false;
                    s.refs += 1;
                    self.unlock(s, Who::Dropper);
                }
                ok
            }
            Action::BecomesTail => {
                let ok = s.life == Life::Free && !s.second;
                s.life = Life::Tail;
                ok
            }
            Action::BecomesOrder0 => {
                let ok = s.life == Life::Free && !s.second;
                s.life = Life::Order0;
                s.cached = true;
                s.waiters = false;
                s.write_again();
                ok
            }
            Action::WrittenAgain => {
                let ok = s.truncatable();
                s.write_again();
                ok
            }
            Action::SecondEnds => {
                let ok = s.second && !s.second_over && s.queue_lock.is_none() && !s.pages_lock;
                s.second_over = true;
                s.writeback = false;
                let queue = std::mem::take(&mut s.queue);
                s.woken.extend(queue);
                ok
            }
        };
        if !possible {
            return None;
        }
        if s.life == Life::First && !s.cached && !s.frozen && s.refs == 0 {
            // free_pages_prepare() clears the flags.
            s.life = Life::Free;
            s.waiters = false;
            if s.writeback {
                s.faults |= DMA;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("order0", |_, s: &State| s.faults & ORDER0 == 0),
            Property::always("tail", |_, s: &State| s.faults & TAIL == 0),
            Property::always("own", |_, s: &State| s.faults & OWN == 0),
            Property::always("later", |_, s: &State| s.faults & LATER == 0),
            Property::always("waits", |m: &Self, s: &State| {
                let mut actions = Vec::new();
                m.actions(s, &mut actions);
                !actions.is_empty() || ![s.a, s.b, s.c].contains(&Wait::Sleep)
            }),
            Property::always("dma", |_, s: &State| s.faults & DMA == 0),
            Property::always("stray", |_, s: &State| s.faults & STRAY == 0),
            Property::always("late-unlock", |_, s: &State| s.faults & LATE_UNLOCK == 0),
            Property::always("true-alarm", |_, s: &State| s.faults & TRUE_ALARM == 0),
            Property::always("false-alarm", |_, s: &State| s.faults & FALSE_ALARM == 0),
        ];
        all.retain(|property| self.only.is_none_or(|only| only == property.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(key: &str, tags: bool) -> String {
        let all = proposals();
        let proposal = all.iter().find(|proposal| proposal.key == key).unwrap();
        let found = check(proposal, tags);
        // The read race is on every kernel.
        assert!(found.lost.contains_key("late-unlock"), "{key}");
        let lost: Vec<&str> = FAULTS
            .into_iter()
            .filter(|f| found.lost.contains_key(f) && *f != "late-unlock")
            .collect();
        lost.join(" ")
    }

    /// Every cell, with a page cache's mapping.
    #[test]
    fn page_cache() {
        let mut wrong = Vec::new();
        for (key, want) in [
            ("broken", "order0 tail later dma stray"),
            ("get-if-waiters", "later dma"),
            ("get-around", "later dma"),
            ("wait-loop", ""),
            ("wait-loop-waiter", "tail stray"),
            ("wait-loop-waker", "order0 later dma"),
            ("writeback-holds-ref", "later dma"),
            ("clear-under-lock-sketch", "own"),
            ("clear-under-lock", ""),
            ("warn-zero-count-plain", "true-alarm false-alarm"),
            ("warn-zero-count", "true-alarm"),
            ("warn-unlocked-start", ""),
            ("stock", ""),
            ("stock-no-ref", "tail stray"),
            ("lost-wake", "later waits dma"),
        ] {
            let found = lost(key, true);
            if found != want {
                wrong.push(format!("{key}: {found}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(proposals().len(), 15, "none is left out");
    }

    /// Where no i_pages lock is taken, as in the swap cache, these lose more.
    #[test]
    fn swap_cache() {
        assert_eq!(lost("get-if-waiters", false), "order0 tail later dma stray");
        assert_eq!(lost("clear-under-lock-sketch", false), "tail own dma stray");
        assert_eq!(lost("clear-under-lock", false), "");
    }

    #[test]
    fn a_read_that_ends_late() {
        let found = check(&proposals()[0], true);
        let want = [
            "PG_waiters is set, of a wait that is over",
            "end of a read: folio_unlock() clears PG_locked and looks for waiters",
        ];
        assert_eq!(found.lost["late-unlock"][..2], want);
    }

    #[test]
    fn the_bug_as_a_story() {
        let found = check(&proposals()[0], true);
        let want = [
            "end of writeback: folio_test_clear_writeback(): PG_writeback is clear",
            "another task: truncates the folio without having to wait",
            "another task: the page is a tail of a huge page",
            "end of writeback: folio_test_waiters()",
        ];
        assert_eq!(found.lost["tail"], want);
    }
}
