//! The wire protocol between the store's daemon and its clients: a header of four 32-bit numbers and a payload, as
//! `xen/include/public/io/xs_wire.h` has it.

/// Bytes of a header (`struct xsd_sockmsg`).
pub const HEADER: usize = 16;
/// The longest payload (`XENSTORE_PAYLOAD_MAX`).
pub const PAYLOAD_MAX: usize = 4096;
/// What a daemon sends unasked (`XS_WATCH_EVENT`).
pub const WATCH_EVENT: u32 = 15;
/// An answer that says what went wrong (`XS_ERROR`).
pub const ERROR: u32 = 16;

/// Types of messages (`enum xsd_sockmsg_type`), as docs/misc/xenstore.txt names them.
const TYPES: [(&str, u32); 26] = [
    ("CONTROL", 0),
    ("DIRECTORY", 1),
    ("READ", 2),
    ("GET_PERMS", 3),
    ("WATCH", 4),
    ("UNWATCH", 5),
    ("TRANSACTION_START", 6),
    ("TRANSACTION_END", 7),
    ("INTRODUCE", 8),
    ("RELEASE", 9),
    ("GET_DOMAIN_PATH", 10),
    ("WRITE", 11),
    ("MKDIR", 12),
    ("RM", 13),
    ("SET_PERMS", 14),
    ("WATCH_EVENT", WATCH_EVENT),
    ("ERROR", ERROR),
    ("IS_DOMAIN_INTRODUCED", 17),
    ("RESUME", 18),
    ("SET_TARGET", 19),
    ("RESET_WATCHES", 21),
    ("DIRECTORY_PART", 22),
    ("GET_FEATURE", 23),
    ("SET_FEATURE", 24),
    ("GET_QUOTA", 25),
    ("SET_QUOTA", 26),
];

/// Names of errors that may be in an answer (`xsd_errors`).
pub const ERRORS: [&str; 16] = [
    "EINVAL",
    "EACCES",
    "EEXIST",
    "EISDIR",
    "ENOENT",
    "ENOMEM",
    "ENOSPC",
    "EIO",
    "ENOTEMPTY",
    "ENOSYS",
    "EROFS",
    "EBUSY",
    "EAGAIN",
    "EISCONN",
    "E2BIG",
    "EPERM",
];

/// The number of a type: by its name, or written as a number.
pub fn number(name: &str) -> Option<u32> {
    TYPES.iter().find(|(n, _)| *n == name).map(|(_, n)| *n).or_else(|| name.parse().ok())
}

/// What a type is called; its number where the protocol has none of it.
pub fn name(number: u32) -> String {
    TYPES.iter().find(|(_, n)| *n == number).map_or_else(|| number.to_string(), |(n, _)| (*n).to_owned())
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `XS_…`; any number, since a client may send one that does not exist.
    pub kind: u32,
    /// Which request it is, or answers.
    pub request: u32,
    /// The transaction that it belongs to; 0 for none.
    pub transaction: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A payload longer than any may be.
    #[error("a message whose payload has {0} bytes, more than the {PAYLOAD_MAX} that the protocol allows")]
    TooLong(u32),
}

impl Message {
    /// The bytes of it. `length` is what the header says of the payload's length where that is to be a lie.
    pub fn encode(&self, length: Option<u32>) -> Vec<u8> {
        let length = length.unwrap_or(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        for number in [self.kind, self.request, self.transaction, length] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// Takes the first message off `bytes`; none where it is not whole yet.
    ///
    /// # Errors
    /// [`WireError`]: nothing that follows can be made sense of.
    pub fn decode(bytes: &mut Vec<u8>) -> Result<Option<Message>, WireError> {
        let Some(header) = bytes.get(..HEADER) else { return Ok(None) };
        let field = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&header[at * 4..at * 4 + 4]);
            u32::from_le_bytes(four)
        };
        let (kind, request, transaction, length) = (field(0), field(1), field(2), field(3));
        if length as usize > PAYLOAD_MAX {
            return Err(WireError::TooLong(length));
        }
        let end = HEADER + length as usize;
        let Some(payload) = bytes.get(HEADER..end) else { return Ok(None) };
        let message = Message { kind, request, transaction, payload: payload.to_vec() };
        bytes.drain(..end);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_what_the_header_file_says() {
        let m = Message { kind: 2, request: 7, transaction: 0x0102, payload: b"/x\0".to_vec() };
        assert_eq!(m.encode(None), b"\x02\0\0\0\x07\0\0\0\x02\x01\0\0\x03\0\0\0/x\0");
        assert_eq!(m.encode(Some(9))[12..16], [9, 0, 0, 0]);
    }

    #[test]
    fn types_have_the_names_and_numbers_of_the_document() {
        for (text, n) in [("CONTROL", 0), ("RM", 13), ("ERROR", 16), ("SET_TARGET", 19), ("999", 999)] {
            assert_eq!(number(text), Some(n));
            assert_eq!(name(n), text);
        }
        assert_eq!(number("FROB"), None);
        assert_eq!(name(20), "20");
    }

    #[test]
    fn a_length_that_none_may_have_is_refused() {
        let m = Message { kind: 2, request: 7, transaction: 0, payload: Vec::new() };
        let mut bytes = m.encode(Some(4097));
        assert_eq!(Message::decode(&mut bytes), Err(WireError::TooLong(4097)));
    }

    fn message() -> impl Strategy<Value = Message> {
        (any::<u32>(), any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(kind, request, transaction, payload)| Message { kind, request, transaction, payload })
    }

    proptest! {
        /// However a stream is cut, the same messages come out of it, and what is not whole stays.
        #[test]
        fn cutting_changes_nothing(messages in prop::collection::vec(message(), 0..6), size in 1usize..64, rest in 0usize..16) {
            let mut stream: Vec<u8> = messages.iter().flat_map(|m| m.encode(None)).collect();
            stream.extend(vec![0; rest]);
            let (mut held, mut seen) = (Vec::new(), Vec::new());
            for part in stream.chunks(size) {
                held.extend(part);
                while let Some(m) = Message::decode(&mut held).unwrap() {
                    seen.push(m);
                }
            }
            prop_assert_eq!(seen, messages);
            prop_assert_eq!(held.len(), rest);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            while let Ok(Some(_)) = Message::decode(&mut bytes) {}
        }
    }
}
