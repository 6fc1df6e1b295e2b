//! How many descriptors this process may have: the probes at a library take one for each kind of them, or two each where the
//! kernel has no links to many places (before Linux 6.6), and shells and service managers give 1,024 unless they are asked for
//! more.

use std::fs::File;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Enough for some 150 libraries, and everything else.
const WANTED: u64 = 4_096;

/// Takes all that this process may have. An error says how many that are, if they are few.
pub fn raise() -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // What cannot be had is seen below.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    enough(getrlimit(Resource::Nofile).current)
}

/// Whether it is enough for the libraries of a large host, without taking more than there is.
pub fn enough(limit: Option<u64>) -> Result<(), String> {
    match limit {
        Some(limit) if limit < WANTED => Err(format!(
            "{limit} descriptors at most, and a TLS library may take 25: raise the hard limit to {WANTED} or more \
             (LimitNOFILE= of the service, `ulimit -Hn`)"
        )),
        _ => Ok(()),
    }
}

/// What this process could have.
pub(super) fn hard() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// Where a descriptor was denied for want of more: that, and what helps.
fn ran_out(error: &std::io::Error) -> Option<String> {
    let of = match error.raw_os_error()? {
        libc::EMFILE => "LimitNOFILE= of the service (`ulimit -Hn`)",
        libc::ENFILE => "fs.file-max of the host",
        _ => return None,
    };
    Some(format!("{error}: raise {of}, and start the agent anew"))
}

/// Opens a file; where it is gone, or may not be read, without a word of it.
pub fn open(path: &Path) -> Result<File, Option<String>> {
    File::open(path).map_err(|error| ran_out(&error))
}

/// What an error says, and what helps where descriptors have run out.
pub(super) fn why(error: &std::io::Error) -> String {
    ran_out(error).unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_had_is_taken() {
        let _ = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(enough(limit.maximum), raise());
    }

    #[test]
    fn few_are_told() {
        assert!(enough(None).is_ok() && enough(Some(1 << 20)).is_ok());
        let told = enough(Some(1024));
        let denied = std::io::Error::from_raw_os_error(libc::EMFILE);
        assert!(why(&denied).contains("LimitNOFILE") && ran_out(&std::io::Error::other("x")).is_none());
        assert!(
            told.as_ref()
                .is_err_and(|why| why.contains("1024") && why.contains("LimitNOFILE")),
            "{told:?}"
        );
    }
}
