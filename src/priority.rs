//! The system's scheduler: who goes first where no core is free.

/// How far below others a thread stands that nobody waits for, on Linux's scale from 0 to 19: it gets a tenth of a core
/// that is wanted by others, and all of one that is not.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Puts the calling thread behind all others of the process, for good. Does nothing where that cannot be asked for one
/// thread.
pub(crate) fn lower() {
    // On other systems the call would be about the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the background has the same priority as everything else");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn it_is_about_one_thread() {
        let of_this_thread = || rustix::process::getpriority_process(None).unwrap();
        let before = of_this_thread();
        let lowered = std::thread::spawn(move || {
            super::lower();
            of_this_thread()
        });
        assert_eq!((lowered.join().unwrap(), of_this_thread()), (super::NICENESS, before));
    }
}
