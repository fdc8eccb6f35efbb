//! One SSH connection: TCP, key exchange, the server's key, the user's key. Everything without blocking, under a deadline.

use super::{SshConfig, SshError};
use crate::Deadline;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, Channel, ErrorCode, MethodType, Session};
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// libssh2's "would block" (`LIBSSH2_ERROR_EAGAIN` in libssh2.h).
const EAGAIN: ErrorCode = ErrorCode::Session(-37);
/// libssh2's authentication failures (`LIBSSH2_ERROR_AUTHENTICATION_FAILED`, `…_PUBLICKEY_UNVERIFIED` in libssh2.h).
const AUTH_REFUSED: [ErrorCode; 2] = [ErrorCode::Session(-18), ErrorCode::Session(-19)];
/// libssh2 could not read a key (`LIBSSH2_ERROR_FILE` in libssh2.h).
const KEY_UNREADABLE: ErrorCode = ErrorCode::Session(-16);

/// Bytes the server may send ahead on one channel: bounds what libssh2 keeps of a flood that nobody has read yet.
const WINDOW: u32 = 256 * 1024;
/// The largest packet, as OpenSSH uses it.
const PACKET: u32 = 32 * 1024;
/// The longest time one `poll` takes before clocks are looked at again.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Why an operation on a connection did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// The deadline passed.
    Late,
    /// The connection broke, or the server said no.
    Broken(String),
}

/// What one attempt to connect came to.
pub(super) enum Attempt {
    /// Try again: refused, reset, silent.
    Again(String),
    /// No use trying again.
    Final(SshError),
}

/// A connection that is logged in.
pub(super) struct Connection {
    session: Session,
    tcp: TcpStream,
}

/// Waits until the socket is ready for what libssh2 wants, or another descriptor is readable, or `limit` passed.
pub(super) fn wait(tcp: Option<(&TcpStream, PollFlags)>, bell: Option<&dyn AsFdDyn>, limit: Duration) {
    let mut fds = Vec::with_capacity(2);
    if let Some((tcp, flags)) = tcp {
        fds.push(PollFd::from_borrowed_fd(tcp.as_fd(), flags));
    }
    if let Some(bell) = bell {
        fds.push(PollFd::from_borrowed_fd(bell.fd(), PollFlags::IN));
    }
    // Rounded up: waiting a hair too long is better than spinning.
    let limit = limit.min(TICK) + Duration::from_micros(500);
    let timeout = Timespec { tv_sec: 0, tv_nsec: limit.as_nanos() as _ };
    // An interrupted poll is a poll that came back early.
    let _ = poll(&mut fds, Some(&timeout));
}

/// A descriptor as a trait object.
pub(super) trait AsFdDyn {
    /// The descriptor.
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Connection {
    /// One attempt to connect and log in: the server has to say something by `first_word`, and all be done by
    /// `deadline`; ends early when `stop` says so.
    pub(super) fn open(
        config: &SshConfig,
        host_key: &[u8],
        first_word: &Deadline,
        deadline: &Deadline,
        stop: &dyn Fn() -> bool,
    ) -> Result<Connection, Attempt> {
        let lab = |e: String| Attempt::Final(SshError::Lab(e));
        let limit = deadline.remaining().max(Duration::from_millis(1));
        let tcp =
            TcpStream::connect_timeout(&config.addr, limit).map_err(|e| Attempt::Again(e.to_string()))?;
        tcp.set_nodelay(true)
            .and_then(|()| tcp.set_nonblocking(true))
            .map_err(|e| Attempt::Again(e.to_string()))?;
        spoken(&tcp, first_word, stop).map_err(Attempt::Again)?;
        let mut session = Session::new().map_err(|e| lab(e.to_string()))?;
        session.set_tcp_stream(tcp.try_clone().map_err(|e| lab(e.to_string()))?);
        session.set_blocking(false);
        // The cheapest for an emulated processor: no big integers, no AES without its instructions, one signature.
        // What follows is for servers that lack them.
        for (what, methods) in [
            (MethodType::Kex, "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"),
            (MethodType::HostKey, "ssh-ed25519"),
            (MethodType::CryptCs, "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr"),
            (MethodType::CryptSc, "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr"),
        ] {
            session.method_pref(what, methods).map_err(|e| lab(e.to_string()))?;
        }
        let mut connection = Connection { session, tcp };
        let again = |f: Failure| {
            Attempt::Again(match f {
                Failure::Late => "it accepted a connection and said nothing".into(),
                Failure::Broken(why) => why,
            })
        };
        connection.drive(deadline, stop, |c| c.session.handshake()).map_err(again)?;
        match connection.session.host_key() {
            Some((seen, _)) if seen == host_key => {}
            seen => {
                return Err(Attempt::Final(SshError::HostKey {
                    addr: config.addr,
                    expected: show_key(host_key),
                    seen: seen.map_or_else(|| "none".into(), |(k, _)| show_key(k)),
                }));
            }
        }
        connection.log_in(config, deadline, stop)?;
        Ok(connection)
    }

    fn log_in(
        &mut self,
        config: &SshConfig,
        deadline: &Deadline,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Attempt> {
        loop {
            match self.session.userauth_pubkey_memory(&config.user, None, &config.private_key, None) {
                Ok(()) => return Ok(()),
                Err(e) if e.code() == EAGAIN => {
                    if deadline.expired() || stop() {
                        return Err(Attempt::Again("it did not answer the log-in".into()));
                    }
                    self.wait_io(deadline.remaining(), None);
                }
                Err(e) if e.code() == KEY_UNREADABLE => {
                    let reason = e.message().to_owned();
                    return Err(Attempt::Final(SshError::Key { what: "user's key", reason }));
                }
                Err(e) if AUTH_REFUSED.contains(&e.code()) => {
                    let reason = e.message().to_owned();
                    return Err(Attempt::Final(SshError::Refused { user: config.user.clone(), reason }));
                }
                Err(e) => return Err(Attempt::Again(e.message().to_owned())),
            }
        }
    }

    /// Repeats an operation until it does not want to wait any more. libssh2 wants one that was cut short by a full socket
    /// repeated before any other, so these are never interleaved.
    fn drive<T>(
        &mut self,
        deadline: &Deadline,
        stop: &dyn Fn() -> bool,
        mut op: impl FnMut(&mut Self) -> Result<T, ssh2::Error>,
    ) -> Result<T, Failure> {
        loop {
            match op(self) {
                Ok(done) => return Ok(done),
                Err(e) if e.code() == EAGAIN => {}
                Err(e) => return Err(Failure::Broken(e.message().to_owned())),
            }
            if deadline.expired() || stop() {
                return Err(Failure::Late);
            }
            self.wait_io(deadline.remaining(), None);
        }
    }

    /// Opens a channel and starts a command on it.
    pub(super) fn exec(
        &mut self,
        command: &str,
        input: &[u8],
        deadline: &Deadline,
    ) -> Result<Channel, Failure> {
        use std::io::Write;
        let mut channel =
            self.drive(deadline, &|| false, |c| c.session.channel_open("session", WINDOW, PACKET, None))?;
        self.drive(deadline, &|| false, |_| channel.exec(command))?;
        let mut rest = input;
        while !rest.is_empty() {
            match channel.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && deadline.expired() => {
                    return Err(Failure::Late);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait_io(deadline.remaining(), None),
                Err(e) => return Err(Failure::Broken(e.to_string())),
            }
        }
        if !input.is_empty() {
            self.drive(deadline, &|| false, |_| channel.send_eof())?;
        }
        Ok(channel)
    }

    /// Waits until the socket can make progress, or `bell` rings, or `limit` passed.
    pub(super) fn wait_io(&self, limit: Duration, bell: Option<&dyn AsFdDyn>) {
        let flags = match self.session.block_directions() {
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
            BlockDirections::Inbound | BlockDirections::None => PollFlags::IN,
        };
        wait(Some((&self.tcp, flags)), bell, limit);
    }
}

/// Waits for the first byte of the server, which speaks first.
fn spoken(tcp: &TcpStream, deadline: &Deadline, stop: &dyn Fn() -> bool) -> Result<(), String> {
    loop {
        match tcp.peek(&mut [0]) {
            Ok(0) => return Err("it accepted a connection and closed it".into()),
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.to_string()),
        }
        if deadline.expired() || stop() {
            return Err("it accepted a connection and said nothing".into());
        }
        wait(Some((tcp, PollFlags::IN)), None, deadline.remaining());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // libssh2 frees a session only when it need not wait for the socket: without one it never waits.
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

/// Whether the server closed this channel, both its outputs having been read to the end.
/// Its close, not merely the end of the TCP stream: without one the exit status is not known.
pub(super) fn closed(channel: &mut Channel) -> Result<bool, Failure> {
    if !channel.eof() {
        return Ok(false);
    }
    match channel.wait_close() {
        Ok(()) => Ok(true),
        Err(e) if e.code() == EAGAIN => Ok(false),
        Err(e) => Err(Failure::Broken(e.message().to_owned())),
    }
}

fn show_key(blob: &[u8]) -> String {
    match ssh_key::PublicKey::from_bytes(blob) {
        Ok(key) => format!("{} {}", key.algorithm(), key.fingerprint(ssh_key::HashAlg::Sha256)),
        Err(_) => format!("of {} bytes that cannot be read", blob.len()),
    }
}
