//! The notifications of `notify_get_notifications`: what happened to bdevs and to sessions, the newest 1024 of it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

/// Notifications kept; older ones are forgotten, as in SPDK.
pub(crate) const KEPT: usize = 1024;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationKind {
    /// A bdev was registered.
    BdevRegister,
    /// A bdev was removed.
    BdevUnregister,
    /// A bdev has another size.
    BdevResize,
    /// A session to a peer is up.
    RtrsSessionUp,
    /// It is down.
    RtrsSessionDown,
    /// A path of a session is up.
    RtrsPathUp,
    /// It is down, or cannot come up for another reason than before.
    RtrsPathDown,
}

impl NotificationKind {
    /// All of them, in the order in which they are listed.
    pub const ALL: [NotificationKind; 7] = [
        NotificationKind::BdevRegister,
        NotificationKind::BdevUnregister,
        NotificationKind::BdevResize,
        NotificationKind::RtrsSessionUp,
        NotificationKind::RtrsSessionDown,
        NotificationKind::RtrsPathUp,
        NotificationKind::RtrsPathDown,
    ];

    /// Its name: SPDK's for what happens to bdevs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            NotificationKind::BdevRegister => "bdev_register",
            NotificationKind::BdevUnregister => "bdev_unregister",
            NotificationKind::BdevResize => "bdev_resize",
            NotificationKind::RtrsSessionUp => "rtrs_session_up",
            NotificationKind::RtrsSessionDown => "rtrs_session_down",
            NotificationKind::RtrsPathUp => "rtrs_path_up",
            NotificationKind::RtrsPathDown => "rtrs_path_down",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its number, counted from 0 since the process started.
    pub id: u64,
    /// What happened.
    pub kind: NotificationKind,
    /// To whom: the bdev's name; the session's UUID, then its peer or path, then the reason.
    pub name: String,
}

/// The newest notifications. Any thread but a reactor's.
#[derive(Debug, Default)]
pub struct Notifications {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Number of the first in `events`.
    first: u64,
    events: VecDeque<(NotificationKind, String)>,
}

impl Notifications {
    /// Adds one.
    pub fn push(&self, kind: NotificationKind, name: &str) {
        let mut kept = self.lock();
        if kept.events.len() == KEPT {
            kept.events.pop_front();
            kept.first += 1;
        }
        kept.events.push_back((kind, name.to_owned()));
    }

    /// At most `max` of them from number `id` on, oldest first; from the oldest kept if `id` is forgotten.
    #[must_use]
    pub fn since(&self, id: u64, max: u64) -> Vec<Notification> {
        let kept = self.lock();
        let skip = usize::try_from(id.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let numbered = (kept.first..).zip(&kept.events).skip(skip).take(max);
        numbered.map(|(id, (kind, name))| Notification { id, kind: *kind, name: name.clone() }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no thread panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_keep_their_numbers() {
        let notifications = Notifications::default();
        assert!(notifications.since(0, u64::MAX).is_empty());
        for number in 0..KEPT as u64 + 3 {
            notifications.push(NotificationKind::BdevRegister, &number.to_string());
        }
        let all = notifications.since(0, u64::MAX);
        assert_eq!(all.len(), KEPT);
        assert!(all.iter().all(|one| one.id.to_string() == one.name));
        assert_eq!((all[0].id, all[KEPT - 1].id), (3, KEPT as u64 + 2));
        let some = notifications.since(100, 2);
        assert_eq!(some.iter().map(|one| one.id).collect::<Vec<_>>(), [100, 101]);
        assert!(notifications.since(KEPT as u64 + 3, 9).is_empty());
        assert!(notifications.since(u64::MAX, u64::MAX).is_empty());
    }
}
