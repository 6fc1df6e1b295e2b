//! Listeners that wait for the client's first bytes before they take a connection in (`TCP_DEFER_ACCEPT`, tcp(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Lets a listener take connections in as soon as they are there; whether it did not. Every copy of the socket has the
/// option in common.
pub fn accept_at_once(socket: impl AsFd) -> io::Result<bool> {
    let waits = defers(&socket)?;
    if waits {
        defer(socket, 0)?;
    }
    Ok(waits)
}

#[expect(unsafe_code, reason = "an option that no crate in use knows")]
fn defers(socket: impl AsFd) -> io::Result<bool> {
    let mut seconds: libc::c_int = 0;
    let mut length = size_of_val(&seconds) as libc::socklen_t;
    // SAFETY: the descriptor is open for the call, and the option is a number that is written into this frame.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw mut seconds).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(seconds != 0),
        _ => Err(io::Error::last_os_error()),
    }
}

#[expect(unsafe_code, reason = "an option that no crate in use knows")]
fn defer(socket: impl AsFd, seconds: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call, and the option is a number that is read from this frame.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_without_bytes_is_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        defer(&listener, 30).expect("an option of Linux");
        listener.set_nonblocking(true).expect("a socket");
        let mut silent = TcpStream::connect(address).expect("listening");
        assert_eq!(
            listener.accept().map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::WouldBlock)
        );
        assert!(accept_at_once(&listener).expect("an option of Linux"));
        assert!(!accept_at_once(&listener).expect("an option of Linux"));
        let _other = TcpStream::connect(address).expect("listening");
        listener.set_nonblocking(false).expect("a socket");
        listener.accept().expect("the other one");
        silent.write_all(b"x").expect("connected");
        listener.accept().expect("the silent one");
    }
}
