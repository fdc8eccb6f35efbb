//! Messages between two labs of one user over a socket, with open files in them (`SCM_RIGHTS`, unix(7)).
//!
//! A message is its length in four bytes, least first, and so many bytes. Whoever sits at the other end may be anybody: what is
//! longer than the reader's limit, comes with more files than it asked for, or ends in the middle is an error, and files that were sent along are
//! closed.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Files that one message may carry.
pub const MOST_FILES: usize = 8;

/// The socket's other end is a process of this user's own.
pub fn is_own(stream: &UnixStream) -> bool {
    sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::getuid())
}

/// Sends a message with these files.
///
/// # Errors
/// When the other end is gone, or there are more than [`MOST_FILES`].
pub async fn send(stream: &UnixStream, message: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::other("the message is too long"))?;
    // The space for them is rounded up, and would hold more.
    if files.len() > MOST_FILES {
        return Err(io::Error::other("too many files for one message"));
    }
    let mut left = [&length.to_le_bytes()[..], message].concat();
    let mut files = files;
    while !left.is_empty() {
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
                    return Err(io::Error::other("the files do not fit into one message"));
                }
                Ok(sendmsg(stream, &[IoSlice::new(&left)], &mut control, SendFlags::NOSIGNAL)?)
            })
            .await?;
        left.drain(..sent);
        // They went with the first byte.
        files = &[];
    }
    Ok(())
}

/// Reads a message of at most `limit` bytes, and the files that came with it.
///
/// # Errors
/// When there is no such message: see the module.
pub async fn receive(stream: &UnixStream, limit: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut files = Vec::new();
    let mut length = [0; 4];
    fill(stream, &mut length, &mut files).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::Error::other(format!("a message of {length} bytes, more than {limit}")));
    }
    let mut message = vec![0; length];
    fill(stream, &mut message, &mut files).await?;
    Ok((message, files))
}

/// Reads until the buffer is full and no byte more: what follows may be another message.
async fn fill(stream: &UnixStream, mut buffer: &mut [u8], files: &mut Vec<OwnedFd>) -> io::Result<()> {
    while !buffer.is_empty() {
        let got = stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let got =
                    recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
                // The kernel has closed what did not fit.
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(more) = message {
                        files.extend(more);
                    }
                }
                Ok(got.bytes)
            })
            .await?;
        if files.len() > MOST_FILES {
            return Err(io::Error::other("more files than any message has"));
        }
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[got..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn a_message_arrives_with_its_files_and_what_follows_stays() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let long = vec![7; 300_000];
        let sent = async {
            send(&a, &long, &[theirs.as_fd()]).await.unwrap();
            send(&a, b"next", &[]).await.unwrap();
        };
        let ((), first) = tokio::join!(sent, receive(&b, 1 << 20));
        let (message, mut files) = first.unwrap();
        assert_eq!((message, files.len()), (long, 1));
        drop(theirs);
        let mut file = std::fs::File::from(files.remove(0));
        file.write_all(b"x").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let (message, files) = receive(&b, 1 << 20).await.unwrap();
        assert_eq!((&message[..], files.len()), (&b"next"[..], 0));
        assert!(is_own(&a));
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let (a, b) = UnixStream::pair().unwrap();
        a.try_write(&[255, 255, 255, 127, 1]).unwrap();
        assert!(receive(&b, 1 << 20).await.unwrap_err().to_string().contains("more than"));
        let (a, b) = UnixStream::pair().unwrap();
        a.try_write(&[9, 0, 0, 0, 1]).unwrap();
        drop(a);
        assert_eq!(receive(&b, 100).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (a, b) = UnixStream::pair().unwrap();
        let many: Vec<_> = (0..=MOST_FILES).map(|_| b.as_fd()).collect();
        assert!(send(&a, b"x", &many).await.is_err());
    }
}
