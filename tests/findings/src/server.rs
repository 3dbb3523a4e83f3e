// SPDX-License-Identifier: GPL-2.0

//! The scheduler's own warning, on a machine that hardly runs the guest.
//!
//! Since 6.12 each CPU has a fair server, a deadline entity whose timer pushes itself on: `dl_server_timer()` calls
//! `hrtimer_forward_now()`. While the timer's callback waits for the run queue's lock, `start_dl_timer()` of another
//! CPU may start the timer again (kernel/sched/deadline.c, 6.12.117), and if the callback then goes on only after that
//! time is over too, `hrtimer_forward()` finds a timer that is in the queue, and warns. That is told of a guest
//! whose CPU has stood still for longer than the server's period, a second, and says nothing of any page.

use crate::{Findings, Splat};

impl Splat {
    /// Is it that warning? Any other one of `hrtimer_forward()`, and of the scheduler, is a finding.
    pub fn is_late_server(&self) -> bool {
        let caller = self.callers.first().map_or("", String::as_str);
        self.text.starts_with("WARNING: ")
            && self.text.contains(" hrtimer_forward+0x")
            // The second is inlined into the first.
            && ["dl_task_timer", "dl_server_timer"].contains(&caller)
    }
}

impl Findings {
    pub fn late_servers(&self) -> impl Iterator<Item = &Splat> {
        self.splats.iter().filter(|splat| splat.is_late_server())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: &str = "\
[  503.599175] ------------[ cut here ]------------
[  503.599470] WARNING: CPU: 0 PID: 15 at kernel/time/hrtimer.c:1056 hrtimer_forward+0x85/0xd0
[  503.602749] RIP: 0010:hrtimer_forward+0x85/0xd0
[  503.602749] Call Trace:
[  503.602749]  <IRQ>
[  503.602749]  dl_task_timer+0x223/0x380
[  503.602749]  ? update_process_times+0x8d/0xa0
[  503.602749]  __hrtimer_run_queues+0x112/0x200
[  503.602749]  </IRQ>
[  503.602749] ---[ end trace 0000000000000000 ]---
";

    #[test]
    fn by_function_and_caller() {
        let all = Findings::of_text(LATE);
        assert_eq!(all.late_servers().count(), 1);
        assert!(!all.splats[0].is_live());
        assert!(all.others().splats.is_empty());
        for (from, to) in [
            (" dl_task_timer+", " sched_rt_period_timer+"),
            (" dl_task_timer+", " ? dl_task_timer+"),
            (" hrtimer_forward+", " start_dl_timer+"),
            ("WARNING: ", "kernel BUG at "),
        ] {
            let all = Findings::of_text(&LATE.replace(from, to));
            assert_eq!(all.late_servers().count(), 0, "{to}");
            assert_eq!(all.others().splats.len(), 1, "{to}");
        }
    }
}
