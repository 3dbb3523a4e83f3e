// SPDX-License-Identifier: GPL-2.0

//! What a CPU counts of a call site: an interrupt may come in the middle of a task's.

use super::*;
use crate::detect::callers::{Row, Sum};

#[test]
fn an_interrupt_loses_nothing() {
    all(|| {
        let row = Arc::new(Row::new());
        let interrupt = thread::spawn({
            let row = row.clone();
            move || {
                row.audit(0);
                row.length(5);
            }
        });
        row.audit(2);
        row.audit(-1);
        row.length(4);
        interrupt.join().unwrap();
        let sum = Sum::of([&*row].into_iter());
        assert_eq!((sum.calls, sum.none), (3, 2));
        assert_eq!((sum.least, sum.most), (-1, 2));
        assert_eq!(sum.windows(), 2);
    });
}
