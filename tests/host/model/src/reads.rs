// SPDX-License-Identifier: GPL-2.0

//! The end of a read of one page, against everybody who may do something to that page meanwhile.
//!
//! One step is one access to what is shared, and the steps of all are interleaved in every way. A kernel is
//! a program for the end of a read, a way to unlock for all others, and how waiters wait and are woken; all
//! else is the same for all.
//!
//! Assumed: sequential consistency. Within these bounds it is exhaustive: one end of a read ([`Source`]), in the
//! order of mm/filemap.c (6.12: folio_end_read() or folio_unlock(), folio_wake_bit(), wake_page_function()). At
//! most two waiters, of different kinds ([`Kind`]), as folio_wait_bit_common() has them. Somebody who takes
//! the folio out of its cache, once: truncation without having to wait (truncate_inode_folio()), eviction if nobody
//! else has a reference (mapping_evict_folio()), or reclaim, which freezes the refcount and unlocks before it
//! frees (shrink_folio_list()). All of them have the folio locked, and unlock it and wake before they drop their
//! reference. Then the page free, and a tail, or order-0 of another file that is being read, with one waiter who has
//! a reference, and the end of that read. PG_waiters is stale at first, or not.
//!
//! hugetlb_fault() has no reference to the folio it waits for, which may have been freed before it looks: so here it
//! comes at any time, in any life of the page. io_uring's reads (__folio_lock_async()) are as a reader that drops its
//! reference. A reader comes only if the folio is locked. Who takes the queue's lock to wait sets PG_waiters in the same
//! step; a wake-up by who has a reference is one step, since it has the queue's lock from its first access to its last.
//!
//! Not modelled: reads that fail, lock handoff (an exclusive waiter's WQ_FLAG_CUSTOM), other folios in the queue, how
//! long somebody waits who is woken at last; and killed waiters but for the stale PG_waiters that they leave, and for
//! filemap_read_folio() where it is an exclusive one (a fault's folio_lock_killable() is that on every kernel).

use crate::{search, Found};
use stateright::{Model, Property};

/// A step of the end of a read, in the words of 6.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// folio_get()
    Get,
    /// folio_test_waiters(), and folio_get() if so
    TestGet,
    /// READ_ONCE() of the flags
    Read,
    /// folio_get(), if PG_waiters was in what was read, and once
    GetIfRead,
    /// try_cmpxchg_release() of what was read; if PG_waiters has changed, back to GetIfRead
    CmpxchgRead,
    /// folio_xor_flags_has_waiters(): PG_locked is clear, PG_uptodate set; and PG_waiters of that moment
    Xor,
    /// try_cmpxchg_release() while PG_waiters is not set: unlocks and is done; else goes on
    Cmpxchg,
    /// folio_test_waiters(): goes on if so, else with Xor
    TestOrXor,
    /// folio_wake_bit(), if PG_waiters was seen: takes the queue's lock
    LockIfSeen,
    /// The queue's lock
    Lock,
    /// try_cmpxchg_release() under the queue's lock: unlocks, and clears PG_waiters if nobody may stay in the queue
    UnlockAndWaiters,
    /// __wake_up_locked_key(): one waiter a step
    Wake,
    /// folio_clear_waiters() if the queue is empty, and the queue's lock is dropped
    ClearWaiters,
    /// The queue's lock is dropped
    Release,
    /// That was all
    Done,
    /// folio_put() of the reference that it has
    Put,
}

/// Who has begun the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Readahead: readahead_folio() has dropped the reference.
    Readahead,
    /// swap_cluster_readahead(): as readahead, but it ends in folio_unlock(), as reads of btrfs, f2fs and netfs do.
    Swap,
    /// read_folio: filemap_read_folio() has a reference, and waits.
    ReadFolio,
    /// None: who unlocks has a reference until it has woken, as hugetlb_fault()'s own do.
    Held,
}

/// What folio_unlock() does, for all but the end of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlock {
    Xor,
    /// Under the queue's lock, if PG_waiters is set.
    UnderLock,
    /// folio_get() before, always.
    Get,
    /// folio_get() before, if PG_waiters is set.
    GetIfWaiters,
}

/// How filemap_read_folio() waits for the end of the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadWait {
    /// folio_wait_locked_killable(), an `if`
    Once,
    /// while it is locked and not uptodate; and folio_wait_locked() is a `while`
    Loops,
    /// folio_lock_killable()
    Locks,
}

/// Whom wake_page_function() leaves in the queue if the bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Exclusive waiters.
    Exclusive,
    /// And shared ones, but for those that have been queued by who drops its reference.
    NotDrops,
    /// All.
    All,
}

/// What differs from one kernel to the next.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub key: &'static str,
    pub end: Vec<Op>,
    /// The reads that end so. Others end as stock's.
    pub covers: &'static [Source],
    pub unlock: Unlock,
    pub waits: ReadWait,
    pub looks: Looks,
    /// Has hugetlb_fault() a reference until it is in the queue?
    pub hugetlb_has_reference: bool,
    /// Does the read have a reference from its beginning?
    pub read_has_reference: bool,
    /// Do the page cache's readers keep their reference while they wait?
    pub readers_keep: bool,
}

const ALL: &[Source] = &[Source::Readahead, Source::Swap, Source::ReadFolio];

/// Those that are proposed, and below them what is wrong in a way of its own.
pub fn kernels() -> Vec<Kernel> {
    use Op::*;
    const WAKE: [Op; 3] = [LockIfSeen, Wake, ClearWaiters];
    let k = |key, end: &[&[Op]]| Kernel {
        key,
        end: end.concat(),
        covers: ALL,
        unlock: Unlock::Xor,
        waits: ReadWait::Once,
        looks: Looks::Exclusive,
        hugetlb_has_reference: false,
        read_has_reference: false,
        readers_keep: false,
    };
    let stock = |key| k(key, &[&[Xor], &WAKE]);
    let get = |key| k(key, &[&[Get, Xor], &WAKE, &[Put]]);
    let cmpxchg = |key| k(key, &[&[Read, GetIfRead, CmpxchgRead], &WAKE, &[Put]]);
    let under_lock = [Lock, UnlockAndWaiters, Wake, Release];
    vec![
        stock("stock"),
        Kernel {
            waits: ReadWait::Loops,
            ..stock("read-wait-loop")
        },
        get("read-hold-ref"),
        cmpxchg("read-ref-if-waiters"),
        Kernel {
            looks: Looks::NotDrops,
            hugetlb_has_reference: true,
            ..stock("read-waker-looks")
        },
        Kernel {
            unlock: Unlock::UnderLock,
            ..k("read-clear-under-lock", &[&[Cmpxchg], &under_lock])
        },
        Kernel {
            covers: &[Source::Readahead, Source::ReadFolio],
            read_has_reference: true,
            ..k("readahead-holds-ref", &[&[Xor], &WAKE, &[Put]])
        },
        Kernel {
            waits: ReadWait::Locks,
            ..stock("read-lock")
        },
        Kernel {
            readers_keep: true,
            ..stock("read-waiter-keeps-ref")
        },
        // Without the twin of folio_unlock().
        Kernel {
            covers: &[Source::Readahead, Source::ReadFolio],
            ..get("read-hold-ref-without-twin")
        },
        Kernel {
            unlock: Unlock::Get,
            ..get("read-hold-ref-in-unlock")
        },
        Kernel {
            unlock: Unlock::GetIfWaiters,
            ..cmpxchg("read-ref-if-waiters-in-unlock")
        },
        // The reference and the clear are two looks at PG_waiters.
        k("read-ref-if-waiters-xor", &[&[TestGet, Xor], &WAKE, &[Put]]),
        Kernel {
            looks: Looks::NotDrops,
            ..stock("read-waker-looks-without-hugetlb")
        },
        Kernel {
            looks: Looks::All,
            ..stock("read-waker-looks-at-all")
        },
        // The clear and the look at PG_waiters are two.
        Kernel {
            unlock: Unlock::UnderLock,
            ..k(
                "read-clear-under-lock-test",
                &[&[TestOrXor], &under_lock, &[Done, Xor]],
            )
        },
        Kernel {
            unlock: Unlock::UnderLock,
            ..k(
                "read-clear-under-lock-xor",
                &[&[TestOrXor], &under_lock, &[Done, Xor], &WAKE],
            )
        },
    ]
}

/// Who has the folio locked, takes the queue's lock, or sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The read of the first life, and its end.
    End,
    /// The waiters of the first life.
    A,
    B,
    /// The waiter of the next.
    Victim,
    /// The victim's read.
    Second,
    Dropper,
    Reclaim,
}

/// What kind of waiter somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Absent,
    /// folio_put_wait_locked(), of filemap_update_page(): DROP
    Drops,
    /// The same, if it kept its reference.
    Keeps,
    /// folio_lock(): EXCLUSIVE
    Exclusive,
    /// hugetlb_fault(): folio_wait_locked() without a reference. It may come at any time.
    Hugetlb,
    /// Who has the page read and waits for that: filemap_read_folio()
    Reads,
    /// The same by a folio_wait_locked() of its own: btrfs, f2fs, gfs2
    OwnWait,
}

/// folio_wait_bit_common() for PG_locked, and what is around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    NotYet,
    Test,
    SetWaiters,
    TestAgain,
    /// The same of a waiter without a reference, and the page has been freed since it has set PG_waiters
    StrayTestAgain,
    /// folio_put(), queued and before the sleep
    Put,
    /// The same, and has been woken
    PutWoken,
    Sleep,
    StraySleep,
    /// Has seen a signal, and no wake-up
    Killed,
    /// The same, and is woken before finish_wait()
    KilledWoken,
    Woken,
    /// Takes the read to be over
    Returned,
    /// Has the lock
    Locked,
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
    pub locked: Option<Who>,
    pub uptodate: bool,
    pub waiters: bool,
    pub life: Life,
    pub cached: bool,
    /// Without those of the page cache.
    pub refs: u8,
    /// The refcount is frozen at 0: neither cached nor free.
    pub frozen: bool,
    pub queue_lock: Option<Who>,
    pub queue: Vec<Who>,
    /// How many of the queue the walk of the end of the read has left there.
    pub left: u8,
    /// Of the end of the read: the next step, what it read and saw, what it holds.
    pub step: u8,
    pub read: bool,
    pub seen: bool,
    pub held: bool,
    pub a: (Kind, Wait),
    pub b: (Kind, Wait),
    pub victim: (Kind, Wait),
    /// Those who have cleared PG_locked and seen PG_waiters, and have yet to wake.
    pub waking: Vec<Who>,
    pub dropped: bool,
    pub reclaimed: bool,
    /// Who was killed has taken a wake-up with it.
    pub swallowed: bool,
    /// Of the last step only, or there would be a state for every set of them.
    pub faults: u16,
}

/// What can be lost.
///
/// - `read-eio`: filemap_read_folio() of the page's next life is woken while its read goes on, and says EIO.
/// - `own-wait`: who has a folio_wait_locked() of its own there takes its read to be over in the same way.
/// - `late-wake`: the end of a read looks at or changes the flags of a page that is free or somebody else's.
/// - `tail`: the same, of a tail page.
/// - `lost-wake`: a waiter sleeps for ever.
/// - `killed-wake`: the same, since filemap_read_folio() was killed and has taken its wake-up with it.
/// - `frozen`: a reference is taken of a refcount that is frozen at 0.
/// - `stray-wait`: a waiter without a reference sets PG_waiters of a page that is free or somebody else's.
/// - `stray-sleep`: or it sets PG_waiters, the page is freed and locked by somebody else, and only then it looks and
///   sleeps: for ever.
///
/// The last three are a price and no loss:
///
/// - `waits-on`: who has been waited for is done, and the waiter has to wait for a later owner of the lock.
/// - `gives-up`: eviction or reclaim meets the reference of an end of a read, and lets the folio be.
/// - `last-put`: the end of a read has the last reference, and frees the folio.
pub const FAULTS: [&str; 12] = [
    "read-eio",
    "own-wait",
    "late-wake",
    "tail",
    "lost-wake",
    "killed-wake",
    "frozen",
    "stray-wait",
    "stray-sleep",
    "waits-on",
    "gives-up",
    "last-put",
];
const READ_EIO: u16 = 1;
const OWN_WAIT: u16 = 2;
const LATE_WAKE: u16 = 4;
const TAIL: u16 = 8;
const FROZEN: u16 = 32;
const STRAY_WAIT: u16 = 64;
const WAITS_ON: u16 = 1024;
const GIVES_UP: u16 = 256;
const LAST_PUT: u16 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    End(Op),
    Comes(Who, Kind),
    Waits(Who, Kind, Wait),
    Unlocks(Who),
    Wakes(Who),
    Drops,
    Truncates,
    Evicts,
    Reclaims,
    Freezes,
    BecomesTail,
    BecomesOrder0(Kind),
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Get => "folio_get()",
            Self::TestGet => "folio_test_waiters(), and folio_get() if they are",
            Self::Read => "READ_ONCE() of the flags",
            Self::GetIfRead => "folio_get(), if PG_waiters was read",
            Self::CmpxchgRead => {
                "try_cmpxchg_release(): PG_locked is clear, unless PG_waiters has changed"
            }
            Self::Xor => "folio_xor_flags_has_waiters(): PG_locked is clear",
            Self::Cmpxchg => "try_cmpxchg_release() of the flags, unless PG_waiters is set",
            Self::TestOrXor => "folio_test_waiters()",
            Self::LockIfSeen => "folio_wake_bit(), if PG_waiters was seen: the queue's lock",
            Self::Lock => "folio_wake_bit(): the queue's lock",
            Self::UnlockAndWaiters => {
                "try_cmpxchg_release(): PG_locked is clear, and PG_waiters if all waiters go"
            }
            Self::Wake => "__wake_up_locked_key() comes to the next waiter, if there is one",
            Self::ClearWaiters => {
                "folio_clear_waiters(), if the queue is empty; the queue's lock is dropped"
            }
            Self::Release => "the queue's lock is dropped",
            Self::Done => "is over",
            Self::Put => "folio_put(), if it has a reference",
        })
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |kind: &Kind| match kind {
            Kind::Drops => "reader without a reference",
            Kind::Keeps => "reader that keeps its reference",
            Kind::Exclusive => "folio_lock()",
            Kind::Hugetlb => "hugetlb_fault()",
            Kind::Reads => "filemap_read_folio()",
            Kind::OwnWait | Kind::Absent => "folio_wait_locked()",
        };
        let of = |who: &Who| match who {
            Who::End => "end of the read",
            Who::A | Who::B => "waiter",
            Who::Victim | Who::Second => "the other file",
            Who::Dropper => "another task",
            Who::Reclaim => "reclaim",
        };
        match self {
            Self::End(op) => write!(f, "end of the read: {op}"),
            Self::Comes(_, kind) => write!(f, "{}: folio_try_get()", name(kind)),
            Self::Waits(who, kind, step) => {
                if *who == Who::Victim {
                    write!(f, "the other file's ")?;
                }
                let step = match step {
                    Wait::NotYet | Wait::Test => "looks at PG_locked",
                    Wait::SetWaiters => "folio_wait_bit_common(): the queue's lock, folio_set_waiters()",
                    Wait::TestAgain | Wait::StrayTestAgain => {
                        "folio_trylock_flag() looks at PG_locked again, and queues itself if it is set"
                    }
                    Wait::Put | Wait::PutWoken => "folio_put(), and sleeps",
                    Wait::Sleep | Wait::StraySleep => "signal_pending_state(), and no wake-up yet",
                    Wait::Killed | Wait::KilledWoken => "finish_wait(), folio_put()",
                    Wait::Woken => "has been woken, and runs",
                    Wait::Returned => "looks at PG_uptodate, folio_put()",
                    Wait::Locked | Wait::Gone => "is done",
                };
                write!(f, "{}: {step}", name(kind))
            }
            Self::Unlocks(Who::Second) => write!(f, "the other file's read ends"),
            Self::Unlocks(who) => write!(f, "{}: folio_unlock()", of(who)),
            Self::Wakes(who) => write!(f, "{}: folio_wake_bit()", of(who)),
            Self::Drops => write!(f, "another task: folio_try_get(), folio_trylock()"),
            Self::Truncates => write!(f, "another task: truncate_inode_folio(), folio_unlock()"),
            Self::Evicts => write!(
                f,
                "another task: mapping_evict_folio(), if nobody else has a reference; folio_unlock()"
            ),
            Self::Reclaims => write!(f, "reclaim: folio_trylock()"),
            Self::Freezes => write!(
                f,
                "reclaim: folio_ref_freeze(), __filemap_remove_folio(), if nobody else has a reference"
            ),
            Self::BecomesTail => write!(f, "another task: the page is a tail of a huge page"),
            Self::BecomesOrder0(_) => write!(f, "another task: the page is another file's, locked and being read"),
        }
    }
}

/// A kernel's machine.
pub struct Machine {
    kernel: Kernel,
    source: Source,
    end: Vec<Op>,
    from: fn(&State) -> bool,
    /// The one fault that is looked for, or all of them.
    only: Option<&'static str>,
}

/// Looks at every interleaving.
pub fn check(kernel: &Kernel, source: Source) -> Found {
    check_from(kernel, source, |_| true)
}

/// The same from some of the states that it may begin with.
fn check_from(kernel: &Kernel, source: Source, from: fn(&State) -> bool) -> Found {
    let machine = |only| Machine {
        kernel: kernel.clone(),
        source,
        end: kernel.end_of(source),
        from,
        only,
    };
    search(machine, |state: &State| {
        let stale = "PG_waiters is set, of a wait that is over";
        state.waiters.then(|| stale.to_string())
    })
}

/// What the kernel of that key loses where readahead has begun the read, and how; nothing if there is no
/// such kernel.
pub fn lost(key: &str) -> Option<Found> {
    let all = kernels();
    let kernel = all.iter().find(|kernel| kernel.key == key)?;
    Some(check(kernel, Source::Readahead))
}

impl Kernel {
    /// The end of such a read.
    fn end_of(&self, source: Source) -> Vec<Op> {
        use Op::*;
        match (source, self.unlock) {
            (Source::Held, Unlock::UnderLock) => {
                vec![Cmpxchg, Lock, UnlockAndWaiters, Wake, Release, Put]
            }
            (Source::Held, _) => vec![Xor, LockIfSeen, Wake, ClearWaiters, Put],
            _ if self.covers.contains(&source) => self.end.clone(),
            _ => vec![Xor, LockIfSeen, Wake, ClearWaiters],
        }
    }
}

impl State {
    fn of(&mut self, who: Who) -> &mut (Kind, Wait) {
        match who {
            Who::A => &mut self.a,
            Who::B => &mut self.b,
            _ => &mut self.victim,
        }
    }

    fn kind(&self, who: Who) -> Kind {
        match who {
            Who::A => self.a.0,
            Who::B => self.b.0,
            _ => self.victim.0,
        }
    }

    /// In the page cache, for the first time, and nobody has it locked.
    fn lockable(&self) -> bool {
        self.life == Life::First && self.cached && self.locked.is_none()
    }

    /// An access of the end of the read to the flags.
    fn touch(&mut self) {
        match self.life {
            Life::First => {}
            Life::Tail => self.faults |= TAIL | LATE_WAKE,
            _ => self.faults |= LATE_WAKE,
        }
    }
}

impl Machine {
    fn init(&self, a: Kind, b: Kind, stale: bool) -> State {
        let kernel = &self.kernel;
        let covered = kernel.covers.contains(&self.source);
        let held = self.source == Source::Held || kernel.read_has_reference && covered;
        let waiter = |kind| match kind {
            Kind::Drops if kernel.readers_keep => (Kind::Keeps, Wait::NotYet),
            Kind::Hugetlb if kernel.hugetlb_has_reference => (Kind::Drops, Wait::NotYet),
            Kind::Reads | Kind::OwnWait => (kind, Wait::Test),
            _ => (kind, Wait::NotYet),
        };
        State {
            locked: Some(Who::End),
            uptodate: false,
            waiters: stale,
            life: Life::First,
            cached: true,
            refs: u8::from(held) + u8::from(matches!(a, Kind::Reads | Kind::OwnWait)),
            frozen: false,
            queue_lock: None,
            queue: Vec::new(),
            left: 0,
            step: 0,
            read: false,
            seen: false,
            held,
            a: waiter(a),
            b: waiter(b),
            victim: (Kind::Absent, Wait::NotYet),
            waking: Vec::new(),
            dropped: false,
            reclaimed: false,
            swallowed: false,
            faults: 0,
        }
    }

    /// If not, filemap_read_folio() stands for all who wait for a read of their own.
    fn waits_differ(&self) -> bool {
        self.kernel.waits == ReadWait::Locks
    }

    /// Does it queue itself as an exclusive waiter?
    fn exclusive(&self, kind: Kind) -> bool {
        kind == Kind::Exclusive || kind == Kind::Reads && self.waits_differ()
    }

    /// wake_page_function() for the next in the queue. Does the walk go on?
    fn wake_next(&self, s: &mut State, left: &mut u8, late: bool) -> bool {
        let Some(&who) = s.queue.get(usize::from(*left)) else {
            return false;
        };
        let kind = s.kind(who);
        let exclusive = self.exclusive(kind);
        let looks = exclusive
            || match self.kernel.looks {
                Looks::Exclusive => false,
                Looks::NotDrops => kind != Kind::Drops,
                Looks::All => true,
            };
        if looks && late {
            s.touch();
        }
        if looks && s.locked.is_some() {
            *left += 1;
            self.waits_on(s, kind);
            return !exclusive;
        }
        s.queue.remove(usize::from(*left));
        let wait = &mut s.of(who).1;
        *wait = match (*wait, kind) {
            (Wait::Put, _) => Wait::PutWoken,
            (Wait::Killed, _) => Wait::KilledWoken,
            // They look the page up again.
            (_, Kind::Drops | Kind::Hugetlb) => Wait::Gone,
            _ => Wait::Woken,
        };
        !exclusive
    }

    /// folio_wake_bit() of who has a reference.
    fn wake(&self, s: &mut State) {
        let mut left = 0;
        while self.wake_next(s, &mut left, false) {}
    }

    /// folio_unlock() of all but the end of the first read. False if it has to wait for the queue's lock.
    fn unlock(&self, s: &mut State, who: Who) -> bool {
        let unlock = self.kernel.unlock;
        let gets = match unlock {
            Unlock::Get => true,
            Unlock::GetIfWaiters => s.waiters,
            _ => false,
        };
        if gets && s.frozen {
            s.faults |= FROZEN;
        }
        if s.waiters && unlock == Unlock::UnderLock {
            if s.queue_lock.is_some() {
                return false;
            }
            s.locked = None;
            self.clear_waiters_if_all_go(s);
            self.wake(s);
            self.unlocked(s, who);
            return true;
        }
        s.locked = None;
        if s.waiters {
            s.waking.push(who);
        } else {
            self.unlocked(s, who);
        }
        true
    }

    /// Its reference is dropped.
    fn unlocked(&self, s: &mut State, who: Who) {
        match who {
            Who::Second | Who::Victim => {}
            Who::Reclaim if s.frozen => s.frozen = false,
            _ => s.refs -= 1,
        }
    }

    /// folio_waiters_all_go() of read-clear-under-lock: only an exclusive waiter may stay.
    fn clear_waiters_if_all_go(&self, s: &mut State) {
        if !s.queue.iter().any(|who| self.exclusive(s.kind(*who))) {
            s.waiters = false;
        }
    }

    /// There is another reference than the page cache's and one's own. Is it that of an end of a read?
    fn meets_reference(&self, s: &mut State) {
        if s.held && self.source != Source::Held {
            s.faults |= GIVES_UP;
        }
    }

    /// Is the read over that it has been woken for, or is not?
    fn waits_on(&self, s: &mut State, kind: Kind) {
        if s.uptodate && matches!(kind, Kind::Reads | Kind::OwnWait) {
            s.faults |= WAITS_ON;
        }
    }

    /// filemap_read_folio() says EINTR.
    fn killed(&self, s: &mut State, who: Who) -> Wait {
        if who != Who::Victim {
            s.refs -= 1;
        }
        Wait::Gone
    }

    /// Unless somebody comes who need not.
    fn sleeps_for_ever(&self, s: &State, sleep: Wait) -> bool {
        let mut actions = Vec::new();
        self.actions(s, &mut actions);
        actions.retain(|action| {
            !matches!(
                action,
                Action::Comes(..)
                    | Action::Waits(_, _, Wait::NotYet | Wait::Sleep)
                    | Action::Drops
                    | Action::Reclaims
                    | Action::BecomesTail
                    | Action::BecomesOrder0(_)
            )
        });
        actions.is_empty() && [s.a.1, s.b.1, s.victim.1].contains(&sleep)
    }

    fn wait(&self, s: &mut State, who: Who) -> bool {
        let (kind, wait) = *s.of(who);
        let exclusive = self.exclusive(kind);
        let next = match wait {
            // hugetlb_fault() has found the page by its page table, and may be late.
            Wait::NotYet if kind == Kind::Hugetlb && s.locked.is_some() => Wait::SetWaiters,
            Wait::NotYet if kind == Kind::Hugetlb => Wait::Gone,
            Wait::Test if s.locked.is_none() && exclusive => {
                s.locked = Some(who);
                Wait::Locked
            }
            Wait::Test if s.locked.is_none() => Wait::Returned,
            Wait::Test
                if self.kernel.waits == ReadWait::Loops && kind == Kind::Reads && s.uptodate =>
            {
                Wait::Returned
            }
            Wait::Test => Wait::SetWaiters,
            Wait::SetWaiters if s.queue_lock.is_none() => {
                if kind == Kind::Hugetlb && s.life != Life::First {
                    s.faults |= STRAY_WAIT;
                }
                s.queue_lock = Some(who);
                s.waiters = true;
                Wait::TestAgain
            }
            Wait::TestAgain | Wait::StrayTestAgain => {
                s.queue_lock = None;
                match (s.locked, kind) {
                    (None, _) if exclusive => {
                        s.locked = Some(who);
                        Wait::Locked
                    }
                    (None, Kind::Hugetlb) => Wait::Gone,
                    (None, Kind::Drops) => Wait::PutWoken,
                    (None, _) => Wait::Woken,
                    (Some(_), _) => {
                        s.queue.push(who);
                        match kind {
                            Kind::Drops => Wait::Put,
                            _ if wait == Wait::StrayTestAgain => Wait::StraySleep,
                            _ => Wait::Sleep,
                        }
                    }
                }
            }
            Wait::Put => {
                s.refs -= 1;
                Wait::Sleep
            }
            Wait::PutWoken => {
                s.refs -= 1;
                Wait::Gone
            }
            Wait::Sleep if exclusive && kind == Kind::Reads => Wait::Killed,
            Wait::Killed if s.queue_lock.is_none() => {
                s.queue.retain(|other| *other != who);
                self.killed(s, who)
            }
            Wait::KilledWoken => {
                s.swallowed = true;
                self.killed(s, who)
            }
            Wait::Woken if exclusive => {
                if s.locked.is_some() {
                    self.waits_on(s, kind);
                    Wait::SetWaiters
                } else {
                    s.locked = Some(who);
                    Wait::Locked
                }
            }
            Wait::Woken if kind == Kind::Keeps => {
                s.refs -= 1;
                Wait::Gone
            }
            Wait::Woken if self.kernel.waits == ReadWait::Loops && s.locked.is_some() => {
                if kind == Kind::Reads && s.uptodate {
                    Wait::Returned
                } else {
                    self.waits_on(s, kind);
                    Wait::SetWaiters
                }
            }
            Wait::Woken => Wait::Returned,
            Wait::Returned => {
                if !s.uptodate {
                    s.faults |= match kind {
                        Kind::OwnWait => OWN_WAIT,
                        _ if self.waits_differ() => READ_EIO,
                        _ => READ_EIO | OWN_WAIT,
                    };
                }
                if who != Who::Victim {
                    s.refs -= 1;
                }
                Wait::Gone
            }
            _ => return false,
        };
        s.of(who).1 = next;
        true
    }

    fn end(&self, s: &mut State, op: Op) -> bool {
        let to = |op: Op| {
            let at = self.end.iter().position(|other| *other == op);
            at.unwrap_or(self.end.len()) as u8
        };
        let unlocks = |s: &mut State| {
            s.touch();
            s.locked = None;
            s.uptodate = true;
        };
        let get = |s: &mut State| {
            if s.frozen {
                s.faults |= FROZEN;
            }
            s.refs += 1;
            s.held = true;
        };
        match op {
            Op::Get => get(s),
            Op::TestGet => {
                s.touch();
                if s.waiters {
                    get(s);
                }
            }
            Op::Read => {
                s.touch();
                s.read = s.waiters;
            }
            Op::GetIfRead => {
                if s.read && !s.held {
                    get(s);
                }
            }
            Op::CmpxchgRead => {
                if s.read != s.waiters {
                    s.touch();
                    s.read = s.waiters;
                    s.step = to(Op::GetIfRead);
                    return true;
                }
                unlocks(s);
                s.seen = s.held;
            }
            Op::Xor => {
                unlocks(s);
                s.seen = s.waiters;
            }
            Op::Cmpxchg => {
                if !s.waiters {
                    unlocks(s);
                    s.step = to(Op::Put);
                    return true;
                }
            }
            Op::TestOrXor => {
                s.touch();
                if !s.waiters {
                    s.step = to(Op::Xor);
                    return true;
                }
            }
            Op::LockIfSeen if !s.seen => {
                s.step = to(Op::Put);
                return true;
            }
            Op::LockIfSeen | Op::Lock => {
                if s.queue_lock.is_some() {
                    return false;
                }
                s.queue_lock = Some(Who::End);
            }
            Op::UnlockAndWaiters => {
                unlocks(s);
                self.clear_waiters_if_all_go(s);
            }
            Op::Wake => {
                let mut left = s.left;
                let on = self.wake_next(s, &mut left, true);
                s.left = if on { left } else { 0 };
                if on {
                    return true;
                }
            }
            Op::ClearWaiters => {
                if s.queue.is_empty() {
                    s.touch();
                    s.waiters = false;
                }
                s.queue_lock = None;
            }
            Op::Release => s.queue_lock = None,
            Op::Done => {
                s.step = self.end.len() as u8;
                return true;
            }
            Op::Put => {
                if s.held {
                    s.held = false;
                    s.refs -= 1;
                    let last = s.refs == 0 && !s.cached && !s.frozen;
                    if last && self.source != Source::Held {
                        s.faults |= LAST_PUT;
                    }
                }
            }
        }
        s.step += 1;
        true
    }
}

impl Model for Machine {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        use Kind::*;
        let mut waiters = match self.source {
            Source::ReadFolio => vec![(Reads, Exclusive), (Reads, Drops)],
            Source::Held => vec![(Drops, Hugetlb), (Exclusive, Hugetlb)],
            _ => vec![(Drops, Hugetlb), (Drops, Exclusive)],
        };
        // On the others who waits by itself waits as filemap_read_folio() does.
        if self.source == Source::ReadFolio && self.kernel.waits != ReadWait::Once {
            waiters.insert(0, (OwnWait, Exclusive));
        }
        // The checker begins with the last.
        let mut states = Vec::new();
        for stale in [true, false] {
            states.extend(waiters.iter().map(|(a, b)| self.init(*a, *b, stale)));
        }
        states.retain(self.from);
        states
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let mut candidates = vec![
            Action::Comes(Who::A, s.a.0),
            Action::Comes(Who::B, s.b.0),
            Action::Waits(Who::A, s.a.0, s.a.1),
            Action::Waits(Who::B, s.b.0, s.b.1),
            Action::Waits(Who::Victim, s.victim.0, s.victim.1),
            Action::Unlocks(Who::A),
            Action::Unlocks(Who::B),
            Action::Unlocks(Who::Victim),
            Action::Unlocks(Who::Second),
            Action::Unlocks(Who::Reclaim),
            Action::Drops,
            Action::Truncates,
            Action::Evicts,
            Action::Reclaims,
            Action::Freezes,
            Action::BecomesTail,
            Action::BecomesOrder0(Kind::Reads),
        ];
        if self.waits_differ() {
            candidates.push(Action::BecomesOrder0(Kind::OwnWait));
        }
        if let Some(op) = self.end.get(usize::from(s.step)) {
            candidates.push(Action::End(*op));
        }
        candidates.extend(s.waking.iter().map(|who| Action::Wakes(*who)));
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
            Action::Comes(who, kind) => {
                let first = s.life == Life::First && s.cached;
                let comes = match kind {
                    Kind::Drops | Kind::Keeps => s.locked.is_some(),
                    Kind::Exclusive => true,
                    _ => false,
                };
                let ok = first && comes && s.of(who).1 == Wait::NotYet;
                s.refs += 1;
                s.of(who).1 = if s.locked.is_some() {
                    Wait::SetWaiters
                } else {
                    s.locked = Some(who);
                    Wait::Locked
                };
                ok
            }
            Action::Waits(who, ..) => self.wait(s, who),
            Action::Unlocks(who) => {
                let has = s.locked == Some(who);
                let ok = match who {
                    Who::Second => has,
                    Who::Reclaim => has && s.frozen,
                    _ => has && s.of(who).1 == Wait::Locked,
                };
                if ok && who == Who::Second {
                    s.uptodate = true;
                } else if ok && who != Who::Reclaim {
                    s.of(who).1 = Wait::Gone;
                }
                ok && self.unlock(s, who)
            }
            Action::Wakes(who) => {
                let ok = s.queue_lock.is_none();
                if ok {
                    s.waking.retain(|waking| *waking != who);
                    self.wake(s);
                    if s.queue.is_empty() {
                        s.waiters = false;
                    }
                    self.unlocked(s, who);
                }
                ok
            }
            Action::Drops => {
                let ok = s.lockable() && !s.dropped && !s.reclaimed;
                s.dropped = true;
                s.locked = Some(Who::Dropper);
                s.refs += 1;
                ok
            }
            Action::Truncates => {
                let ok = s.locked == Some(Who::Dropper);
                s.cached = false;
                ok && self.unlock(s, Who::Dropper)
            }
            Action::Evicts => {
                let ok = s.locked == Some(Who::Dropper);
                if s.refs == 1 {
                    s.cached = false;
                } else {
                    self.meets_reference(s);
                }
                ok && self.unlock(s, Who::Dropper)
            }
            Action::Reclaims => {
                let ok = s.lockable() && !s.reclaimed && !s.dropped;
                s.reclaimed = true;
                s.locked = Some(Who::Reclaim);
                ok
            }
            Action::Freezes => {
                let ok = s.locked == Some(Who::Reclaim) && !s.frozen;
                if s.refs == 0 {
                    s.frozen = true;
                    s.cached = false;
                    ok
                } else {
                    self.meets_reference(s);
                    // It gives up; its own reference is from the LRU.
                    s.refs += 1;
                    ok && self.unlock(s, Who::Reclaim)
                }
            }
            Action::BecomesTail => {
                let ok = s.life == Life::Free;
                s.life = Life::Tail;
                ok
            }
            Action::BecomesOrder0(kind) => {
                let ok = s.life == Life::Free;
                s.life = Life::Order0;
                s.cached = true;
                s.uptodate = false;
                s.locked = Some(Who::Second);
                s.refs = 1;
                s.victim = (kind, Wait::Test);
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
            for (kind, wait) in [&mut s.a, &mut s.b] {
                if *kind == Kind::Hugetlb && *wait == Wait::TestAgain {
                    *wait = Wait::StrayTestAgain;
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("read-eio", |_, s: &State| s.faults & READ_EIO == 0),
            Property::always("own-wait", |_, s: &State| s.faults & OWN_WAIT == 0),
            Property::always("late-wake", |_, s: &State| s.faults & LATE_WAKE == 0),
            Property::always("tail", |_, s: &State| s.faults & TAIL == 0),
            Property::always("lost-wake", |m: &Self, s: &State| {
                s.swallowed || !m.sleeps_for_ever(s, Wait::Sleep)
            }),
            Property::always("killed-wake", |m: &Self, s: &State| {
                !s.swallowed || !m.sleeps_for_ever(s, Wait::Sleep)
            }),
            Property::always("frozen", |_, s: &State| s.faults & FROZEN == 0),
            Property::always("stray-wait", |_, s: &State| s.faults & STRAY_WAIT == 0),
            Property::always("stray-sleep", |m: &Self, s: &State| {
                !m.sleeps_for_ever(s, Wait::StraySleep)
            }),
            Property::always("waits-on", |_, s: &State| s.faults & WAITS_ON == 0),
            Property::always("gives-up", |_, s: &State| s.faults & GIVES_UP == 0),
            Property::always("last-put", |_, s: &State| s.faults & LAST_PUT == 0),
        ];
        all.retain(|property| self.only.is_none_or(|only| only == property.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where readahead has begun the read.
    const READAHEAD: &[(&str, &str)] = &[
        (
            "stock",
            "read-eio own-wait late-wake tail stray-wait stray-sleep",
        ),
        ("read-wait-loop", "late-wake tail stray-wait stray-sleep"),
        ("read-hold-ref", "stray-wait stray-sleep gives-up last-put"),
        (
            "read-ref-if-waiters",
            "stray-wait stray-sleep gives-up last-put",
        ),
        ("read-waker-looks", "late-wake tail"),
        ("read-clear-under-lock", "stray-wait stray-sleep"),
        (
            "readahead-holds-ref",
            "stray-wait stray-sleep gives-up last-put",
        ),
        (
            "read-lock",
            "own-wait late-wake tail killed-wake stray-wait stray-sleep",
        ),
        // The dropper's own wake-up comes first, and the reader's reference goes with it.
        (
            "read-waiter-keeps-ref",
            "read-eio own-wait late-wake tail stray-wait stray-sleep",
        ),
        (
            "read-hold-ref-without-twin",
            "stray-wait stray-sleep gives-up last-put",
        ),
        (
            "read-hold-ref-in-unlock",
            "frozen stray-wait stray-sleep gives-up last-put",
        ),
        (
            "read-ref-if-waiters-in-unlock",
            "frozen stray-wait stray-sleep gives-up last-put",
        ),
        (
            "read-ref-if-waiters-xor",
            "read-eio own-wait late-wake tail stray-wait stray-sleep gives-up last-put",
        ),
        // Nobody is forgotten: who takes the folio out of its cache unlocks it, and wakes, with a reference.
        (
            "read-waker-looks-without-hugetlb",
            "late-wake tail stray-wait stray-sleep",
        ),
        (
            "read-waker-looks-at-all",
            "late-wake tail stray-wait stray-sleep",
        ),
        (
            "read-clear-under-lock-test",
            "lost-wake stray-wait stray-sleep",
        ),
        (
            "read-clear-under-lock-xor",
            "read-eio own-wait late-wake tail stray-wait stray-sleep",
        ),
    ];

    /// Where it ends in folio_unlock(). All others end it as if readahead had begun it.
    const SWAP: &[(&str, &str)] = &[
        (
            "readahead-holds-ref",
            "read-eio own-wait late-wake tail stray-wait stray-sleep",
        ),
        (
            "read-hold-ref-without-twin",
            "read-eio own-wait late-wake tail stray-wait stray-sleep",
        ),
    ];

    /// Where who waits has begun it. Its reference covers nothing: it goes as soon as PG_locked is seen clear.
    const READ_FOLIO: &[(&str, &str)] = &[
        ("stock", "read-eio own-wait late-wake tail"),
        // It waits on by a folio_wait_locked() of its own: filemap_read_folio() looks at PG_uptodate.
        ("read-wait-loop", "late-wake tail waits-on"),
        ("read-hold-ref", "gives-up last-put"),
        ("read-ref-if-waiters", "gives-up last-put"),
        ("read-waker-looks", "late-wake tail waits-on"),
        ("read-clear-under-lock", ""),
        ("readahead-holds-ref", "gives-up last-put"),
        ("read-lock", "own-wait late-wake tail killed-wake waits-on"),
        ("read-waiter-keeps-ref", "read-eio own-wait late-wake tail"),
    ];

    /// Where there is no read, and hugetlb_fault() waits for who has a reference.
    const HELD: &[(&str, &str)] = &[
        ("stock", "stray-wait stray-sleep"),
        ("read-waker-looks", ""),
        ("read-clear-under-lock", "stray-wait stray-sleep"),
        ("read-waker-looks-without-hugetlb", "stray-wait stray-sleep"),
        ("read-waker-looks-at-all", "stray-wait stray-sleep"),
    ];

    fn kernel(key: &str) -> Kernel {
        let mut all = kernels().into_iter();
        all.find(|kernel| kernel.key == key).unwrap()
    }

    fn agrees(source: Source, table: &[(&str, &str)]) {
        let mut wrong = Vec::new();
        for (key, want) in table {
            let found = check(&kernel(key), source).lost;
            let lost: Vec<&str> = FAULTS
                .into_iter()
                .filter(|f| found.contains_key(f))
                .collect();
            let lost = lost.join(" ");
            if lost != *want {
                wrong.push(format!("{key}: {lost}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn readahead() {
        agrees(Source::Readahead, READAHEAD);
        assert_eq!(kernels().len(), READAHEAD.len(), "none is left out");
    }

    #[test]
    fn swap() {
        agrees(Source::Swap, SWAP);
    }

    #[test]
    fn read_folio() {
        agrees(Source::ReadFolio, READ_FOLIO);
    }

    #[test]
    fn held() {
        agrees(Source::Held, HELD);
    }

    /// Each fault is one that a kernel has and another has not.
    #[test]
    fn each_can_be_lost() {
        for fault in FAULTS {
            let mut cells = READAHEAD
                .iter()
                .chain(READ_FOLIO)
                .map(|(_, lost)| lost.split(' '));
            assert!(
                cells.clone().any(|mut lost| lost.any(|l| l == fault)),
                "{fault}"
            );
            assert!(cells.any(|mut lost| lost.all(|l| l != fault)), "{fault}");
        }
    }

    #[test]
    fn keys() {
        let found = lost("read-ref-if-waiters").unwrap().lost;
        assert!(!found.contains_key("read-eio") && found.contains_key("gives-up"));
        assert!(lost("read-of-tea-leaves").is_none());
    }

    #[test]
    fn the_eio_as_a_story() {
        let readers = |s: &State| !s.waiters && s.b.0 == Kind::Exclusive;
        let found = check_from(&kernel("stock"), Source::Readahead, readers);
        let want = [
            "reader without a reference: folio_try_get()",
            "reader without a reference: folio_wait_bit_common(): the queue's lock, folio_set_waiters()",
            "reader without a reference: folio_trylock_flag() looks at PG_locked again, and queues itself if it is set",
            "reader without a reference: folio_put(), and sleeps",
            "end of the read: folio_xor_flags_has_waiters(): PG_locked is clear",
            "another task: folio_try_get(), folio_trylock()",
            "another task: truncate_inode_folio(), folio_unlock()",
            "another task: folio_wake_bit()",
            "another task: the page is another file's, locked and being read",
            "the other file's filemap_read_folio(): looks at PG_locked",
            "the other file's filemap_read_folio(): folio_wait_bit_common(): the queue's lock, folio_set_waiters()",
            "the other file's filemap_read_folio(): folio_trylock_flag() looks at PG_locked again, and queues itself if it is set",
            "end of the read: folio_wake_bit(), if PG_waiters was seen: the queue's lock",
            "end of the read: __wake_up_locked_key() comes to the next waiter, if there is one",
            "the other file's filemap_read_folio(): has been woken, and runs",
            "the other file's filemap_read_folio(): looks at PG_uptodate, folio_put()",
        ];
        assert_eq!(found.lost["read-eio"], want);
    }

    /// The reader behind it sleeps until somebody else has the folio locked.
    #[test]
    fn a_wake_up_that_dies() {
        let readers = |s: &State| !s.waiters && s.b.0 == Kind::Drops;
        let found = check_from(&kernel("read-lock"), Source::ReadFolio, readers);
        let want = [
            "filemap_read_folio(): signal_pending_state(), and no wake-up yet",
            "reader without a reference: folio_wait_bit_common(): the queue's lock, folio_set_waiters()",
            "reader without a reference: folio_trylock_flag() looks at PG_locked again, and queues itself if it is set",
            "reader without a reference: folio_put(), and sleeps",
            "end of the read: folio_xor_flags_has_waiters(): PG_locked is clear",
            "end of the read: folio_wake_bit(), if PG_waiters was seen: the queue's lock",
            "end of the read: __wake_up_locked_key() comes to the next waiter, if there is one",
            "filemap_read_folio(): finish_wait(), folio_put()",
            "end of the read: folio_clear_waiters(), if the queue is empty; the queue's lock is dropped",
        ];
        assert_eq!(found.lost["killed-wake"][4..], want);
    }

    /// The waiter has kept its reference until it was woken, and that was too early for the end of the read.
    #[test]
    fn a_reference_of_the_waiter() {
        let readers = |s: &State| !s.waiters && s.b.0 == Kind::Exclusive;
        let found = check_from(&kernel("read-waiter-keeps-ref"), Source::Readahead, readers);
        let want = [
            "end of the read: folio_xor_flags_has_waiters(): PG_locked is clear",
            "another task: folio_try_get(), folio_trylock()",
            "another task: truncate_inode_folio(), folio_unlock()",
            "another task: folio_wake_bit()",
            "reader that keeps its reference: has been woken, and runs",
            "end of the read: folio_wake_bit(), if PG_waiters was seen: the queue's lock",
        ];
        assert_eq!(found.lost["late-wake"][3..9], want);
    }
}
