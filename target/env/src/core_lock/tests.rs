//! The protocol between real processes: the test binary starts itself again as the other target.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::*;
use crate::testing::alone;

const CORE: u32 = 7;
const ROLE: &str = "RMR_CORE_LOCK_ROLE";
const PLACE: &str = "RMR_CORE_LOCK_DIR";
const BOUND: Duration = Duration::from_secs(10);

/// A directory of its own, gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("rmr-core-lock-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("a new directory");
        Self(path)
    }
    fn claim(&self, core_use: CoreUse) -> Result<CoreLock, CoreLockError> {
        CoreLock::claim(&self.0, CORE, core_use)
    }
    fn file(&self) -> PathBuf {
        self.0.join("spdk_cpu_lock_007")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the test's directory");
    }
}

/// Another process that holds a lock until it is let go.
struct Other {
    child: Child,
    /// Its end is the sign to let go.
    leash: Option<ChildStdin>,
}

impl Other {
    fn start(place: &Place, role: &str) -> Self {
        let mut child = Command::new(env::current_exe().expect("the test binary"))
            .args(["--exact", "core_lock::tests::the_other_target", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(PLACE, &place.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the test binary again");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let held = lines.any(|line| line.expect("text").contains("HELD"));
        assert!(held, "{role} did not get its lock");
        // Whatever it still prints goes nowhere, without a broken pipe.
        thread::spawn(move || lines.for_each(drop));
        Self { leash: child.stdin.take(), child }
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn leave(mut self) {
        drop(self.leash.take());
        assert!(self.child.wait().expect("its end").success());
    }

    fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("its end");
    }
}

#[test]
#[ignore = "the other process of the tests below, started by them"]
fn the_other_target() {
    let Ok(role) = env::var(ROLE) else { panic!("{ROLE} is not set: this is not for running by hand") };
    let place = PathBuf::from(env::var_os(PLACE).expect("a directory"));
    let lock = match role.as_str() {
        "spdk" => Err(lock_as_spdk_does(&place)),
        "polling" => Ok(CoreLock::claim(&place, CORE, CoreUse::Polling).expect("free")),
        _ => Ok(CoreLock::claim(&place, CORE, CoreUse::Adaptive).expect("never fails")),
    };
    println!("HELD");
    std::io::stdin().lines().for_each(drop);
    drop(lock);
}

/// A POSIX write lock on the whole file, and the process id in it.
fn lock_as_spdk_does(place: &Path) -> fs::File {
    let path = place.join("spdk_cpu_lock_007");
    let file =
        fs::File::options().read(true).write(true).create(true).truncate(false).open(path).expect("the file");
    file.set_len(4).expect("room for an int");
    let request = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open and the request outlives the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const request) }, 0);
    file.write_all_at(&std::process::id().to_ne_bytes(), 0).expect("its number");
    file
}

#[test]
fn a_poller_is_refused_by_another_poller_and_by_spdk_with_number_and_remedy() {
    for role in ["polling", "spdk"] {
        let place = Place::new(&format!("refused-{role}"));
        let other = Other::start(&place, role);
        let error = place.claim(CoreUse::Polling).expect_err("taken");
        assert!(
            matches!(error, CoreLockError::Taken { core: CORE, pid: Some(pid), .. } if pid == other.pid()),
            "{error}"
        );
        let text = error.to_string();
        for part in ["core 7", &format!("process {}", other.pid()), "-m", "--disable-cpumask-locks"] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        other.leave();
        place.claim(CoreUse::Polling).expect("free again");
    }
}

#[test]
fn a_poller_starts_among_sleepers_with_a_warning_and_they_notice() {
    let place = Place::new("among-sleepers");
    let sleeper = place.claim(CoreUse::Adaptive).expect("never fails");
    assert!(sleeper.warning().is_none() && !sleeper.is_shared());
    let other = Other::start(&place, "polling");
    assert!(sleeper.is_shared());
    other.leave();
    assert!(!sleeper.is_shared());
    let poller = place.claim(CoreUse::Polling).expect("byte 0 is free");
    assert!(matches!(poller.warning(), Some(CoreLockWarning::PollingAmongSleepers { core: CORE })));
    assert!(poller.is_shared());
    drop(sleeper);
    assert!(!poller.is_shared());
}

#[test]
fn an_adaptive_target_starts_beside_anybody_and_says_who() {
    for role in ["polling", "spdk", "adaptive"] {
        let place = Place::new(&format!("beside-{role}"));
        let other = Other::start(&place, role);
        let lock = place.claim(CoreUse::Adaptive).expect("never fails");
        match (role, lock.warning()) {
            ("adaptive", Some(CoreLockWarning::SharedWithSleeper { core: CORE })) => {}
            ("polling" | "spdk", Some(CoreLockWarning::SharedWithPoller { core: CORE, pid })) => {
                assert_eq!(*pid, Some(other.pid()));
            }
            unexpected => panic!("{unexpected:?}"),
        }
        assert!(lock.is_shared());
        other.leave();
        assert!(!lock.is_shared(), "{role} has left");
        // Refused at first or not, our own lock is held now and seen by others.
        let poller = place.claim(CoreUse::Polling).expect("byte 0 is free");
        assert!(poller.warning().is_some(), "after {role}");
    }
}

#[test]
fn spdk_does_not_get_a_core_that_one_of_ours_holds() {
    for core_use in [CoreUse::Polling, CoreUse::Adaptive] {
        let place = Place::new(&format!("spdk-{core_use:?}"));
        let _ours = place.claim(core_use).expect("free");
        let refused = std::panic::catch_unwind(|| lock_as_spdk_does(&place.0));
        assert!(refused.is_err(), "{core_use:?}");
    }
}

#[test]
fn the_lock_of_a_killed_process_is_gone() {
    let place = Place::new("killed");
    Other::start(&place, "polling").kill();
    let start = Instant::now();
    // The kernel may take a moment to close the files of the dead.
    while let Err(error) = place.claim(CoreUse::Polling) {
        assert!(start.elapsed() < BOUND, "{error}");
    }
}

#[test]
fn the_last_one_out_removes_the_file_and_nobody_else() {
    let place = Place::new("last-out");
    let (first, second) =
        (place.claim(CoreUse::Adaptive).expect("free"), place.claim(CoreUse::Adaptive).expect("free"));
    drop(first);
    assert!(place.file().exists() && !second.is_shared());
    drop(second);
    assert!(!place.file().exists());
}

#[test]
fn a_file_removed_by_hand_is_made_again_by_those_who_share() {
    let place = Place::new("removed");
    let lock = place.claim(CoreUse::Adaptive).expect("free");
    fs::remove_file(place.file()).expect("by hand");
    assert!(!lock.is_shared());
    let poller = place.claim(CoreUse::Polling).expect("free");
    assert!(poller.warning().is_some() && lock.is_shared(), "they see each other again");
}

#[test]
fn cores_are_claimed_all_or_none_and_released_together() {
    let place = Place::new("all-or-none");
    let mask = "[5-8]".parse().expect("a mask");
    let taken = place.claim(CoreUse::Polling).expect("free");
    assert!(matches!(
        CoreLocks::claim(&place.0, &mask, CoreUse::Polling),
        Err(CoreLockError::Taken { core: CORE, .. })
    ));
    assert_eq!(fs::read_dir(&place.0).expect("the directory").count(), 1, "5 and 6 were given back");
    let shared = CoreLocks::claim(&place.0, &mask, CoreUse::Adaptive).expect("never fails");
    assert_eq!((shared.warnings().count(), shared.is_shared(CORE), shared.is_shared(5)), (1, true, false));
    drop((taken, shared));
    let all = CoreLocks::claim(&place.0, &mask, CoreUse::Polling).expect("free again");
    assert_eq!(all.warnings().count(), 0);
    drop(all);
    assert_eq!(fs::read_dir(&place.0).expect("the directory").count(), 0);
}

#[test]
fn a_link_in_place_of_the_file_is_not_followed() {
    let place = Place::new("link");
    let elsewhere = place.0.join("precious");
    fs::write(&elsewhere, "precious").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, place.file()).expect("a link");
    assert!(matches!(place.claim(CoreUse::Polling), Err(CoreLockError::File { .. })));
    assert!(matches!(
        place.claim(CoreUse::Adaptive).expect("never fails").warning(),
        Some(CoreLockWarning::Unlocked { .. })
    ));
    assert_eq!(fs::read_to_string(&elsewhere).expect("the file"), "precious");
}

#[test]
fn a_plain_user_before_roots_file_polls_not_and_shares_as_far_as_it_can_read() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root, to become another user");
        return;
    }
    alone(
        module_path!(),
        "a_plain_user_before_roots_file_polls_not_and_shares_as_far_as_it_can_read",
        || {
            let (open, shut) = (Place::new("readable"), Place::new("unreadable"));
            let roots = [&open, &shut].map(|place| place.claim(CoreUse::Polling).expect("free"));
            fs::set_permissions(shut.file(), fs::Permissions::from_mode(0o600)).expect("as SPDK makes it");
            become_user(65534);
            let error = shut.claim(CoreUse::Polling).expect_err("another user's file").to_string();
            assert!(
                error.contains("spdk_cpu_lock_007")
                    && error.contains("Permission denied")
                    && error.contains("remove"),
                "{error}"
            );
            let unlocked = shut.claim(CoreUse::Adaptive).expect("never fails");
            assert!(
                matches!(unlocked.warning(), Some(CoreLockWarning::Unlocked { .. })) && !unlocked.is_shared()
            );
            let sharing = open.claim(CoreUse::Adaptive).expect("never fails");
            assert!(matches!(sharing.warning(), Some(CoreLockWarning::SharedWithPoller { .. })));
            assert!(sharing.is_shared());
            drop((sharing, unlocked));
            let missing = CoreLock::claim(Path::new("/proc/no-such-directory"), CORE, CoreUse::Adaptive)
                .expect("never fails");
            assert!(missing.warning().is_some());
            become_user(0);
            drop(roots);
        },
    );
}

/// Changes the effective user only, so that the way back is open.
fn become_user(uid: u32) {
    // SAFETY: a plain system call.
    assert_eq!(unsafe { libc::seteuid(uid) }, 0);
}
